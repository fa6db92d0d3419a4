// Calls another service twice for each request, over fewer connections than there are requests in flight. With HTTP2 all calls
// are streams of one connection.
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

var backend = http.Client{Transport: &http.Transport{MaxConnsPerHost: 10, MaxIdleConnsPerHost: 10}}

func call(path string) error {
	response, err := backend.Get(os.Getenv("BACKEND_URL") + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func serve(w http.ResponseWriter, r *http.Request) {
	number := path.Base(r.URL.Path)
	for _, which := range []string{"a", "b"} {
		if err := call("/" + which + "/" + number); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
	}
	fmt.Fprintln(w, number)
}

func main() {
	if os.Getenv("HTTP2") != "" {
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		backend.Transport = &http.Transport{Protocols: &protocols}
	}
	http.HandleFunc("/r/", serve)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	server := http.Server{}
	if os.Getenv("HTTP2") != "" {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	log.Fatal(server.Serve(listener))
}
