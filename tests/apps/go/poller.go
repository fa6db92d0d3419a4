// The first request starts a goroutine that calls another service from time to time. Every request makes a call of its own.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path"
	"sync"
	"time"
)

const polls = 40

var once sync.Once

func call(path string) error {
	response, err := http.Get(os.Getenv("BACKEND_URL") + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func poll() {
	for range polls {
		if err := call("/poll/x"); err != nil {
			log.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	log.Println("done")
}

func serve(w http.ResponseWriter, r *http.Request) {
	number := path.Base(r.URL.Path)
	once.Do(func() { go poll() })
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
