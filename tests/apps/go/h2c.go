// A server of HTTP/2 in clear text. For /chain/ID it calls /items/ID of itself. Responses have trailers.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: &protocols}}
	base := "http://127.0.0.1:" + os.Args[1]

	http.HandleFunc("/items/{id}", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintln(w, "item", r.PathValue("id"))
		w.Header().Set("X-Sum", "1")
	})
	http.HandleFunc("/chain/{id}", func(w http.ResponseWriter, r *http.Request) {
		response, err := client.Get(base + "/items/" + r.PathValue("id"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		io.Copy(w, response.Body)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	server := http.Server{Protocols: &protocols}
	log.Fatal(server.Serve(listener))
}
