// The request 100 starts two goroutines that call another service from time to time. The first call of one is made during that request,
// the first call of the other during the request 110 on the same connection. Every request makes a call of its own.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path"
	"time"
)

const polls = 20

// What one of the goroutines calls, and what it waits for.
type poller struct {
	path string
	// Its first call begins during a request, which waits for it.
	begin, begun chan struct{}
	// The others begin when that is over.
	proceed chan struct{}
}

func newPoller(path string) poller {
	return poller{path, make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

var early, late = newPoller("/poll/x"), newPoller("/late/x")

func call(path string) error {
	response, err := http.Get(os.Getenv("BACKEND_URL") + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func (p poller) run() {
	<-p.begin
	for number := range polls {
		if err := call(p.path); err != nil {
			log.Fatal(err)
		}
		if number == 0 {
			close(p.begun)
			<-p.proceed
		}
		time.Sleep(5 * time.Millisecond)
	}
	log.Println("done")
}

func (p poller) beginNow() {
	close(p.begin)
	<-p.begun
}

func serve(w http.ResponseWriter, r *http.Request) {
	number := path.Base(r.URL.Path)
	switch number {
	case "100":
		// The ids that this processor had taken before are used up.
		for range 64 {
			go func() {}()
		}
		go early.run()
		go late.run()
		early.beginNow()
	case "101":
		close(early.proceed)
	case "110":
		late.beginNow()
	case "111":
		close(late.proceed)
	}
	if err := call("/a/" + number); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, number)
}

func main() {
	http.HandleFunc("/r/", serve)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	log.Fatal(http.Serve(listener, nil))
}
