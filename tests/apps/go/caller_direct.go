// Calls another service twice for each request, from goroutines that write to its connections themselves: the first call
// from the request's own goroutine, the second from one that it starts.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
)

type connection struct {
	net.Conn
	*bufio.Reader
}

// Fewer connections than there are requests in flight.
var pool = make(chan *connection, 10)

func call(path string) error {
	c := <-pool
	defer func() { pool <- c }()
	host := strings.TrimPrefix(os.Getenv("BACKEND_URL"), "http://")
	if c.Conn == nil {
		dialed, err := net.Dial("tcp", host)
		if err != nil {
			return err
		}
		c.Conn, c.Reader = dialed, bufio.NewReader(dialed)
	}
	if _, err := fmt.Fprintf(c.Conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func serve(w http.ResponseWriter, r *http.Request) {
	number := path.Base(r.URL.Path)
	err := call("/a/" + number)
	if err == nil {
		second := make(chan error)
		go func() { second <- call("/b/" + number) }()
		err = <-second
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, number)
}

func main() {
	for range cap(pool) {
		pool <- &connection{}
	}
	http.HandleFunc("/r/", serve)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	log.Fatal(http.Serve(listener, nil))
}
