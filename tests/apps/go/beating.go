// Calls another service every 50 ms in the background, and once for each of its own requests, which last 40 ms.
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

func call(path string) {
	response, err := http.Get(os.Getenv("BACKEND_URL") + path)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
}

func main() {
	http.HandleFunc("/r/", func(w http.ResponseWriter, r *http.Request) {
		call("/a/" + path.Base(r.URL.Path))
		time.Sleep(40 * time.Millisecond)
		fmt.Fprintln(w, "served")
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			call("/beat")
			time.Sleep(50 * time.Millisecond)
		}
	}()
	log.Println("listening")
	log.Fatal(http.Serve(listener, nil))
}
