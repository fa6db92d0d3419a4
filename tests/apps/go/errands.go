// Asks another service twice on behalf of each request, over fewer connections than there are requests in flight.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path"
)

var elsewhere = http.Client{Transport: &http.Transport{MaxConnsPerHost: 10, MaxIdleConnsPerHost: 10}}

func ask(path string) error {
	answer, err := elsewhere.Get(os.Getenv("ELSEWHERE_URL") + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func errands(w http.ResponseWriter, r *http.Request) {
	number := path.Base(r.URL.Path)
	for _, which := range []string{"a", "b"} {
		if err := ask("/" + which + "/" + number); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
	}
	fmt.Fprintln(w, number)
}

func main() {
	http.HandleFunc("/r/", errands)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	log.Fatal(http.Serve(listener, nil))
}
