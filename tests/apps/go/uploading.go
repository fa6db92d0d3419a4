// Makes requests, each on a connection of its own. Argument: a URL without a path.
package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func send(method, path string, header http.Header, body io.Reader) {
	request, err := http.NewRequest(method, os.Args[1]+path, body)
	if err != nil {
		log.Fatal(err)
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		log.Fatal(err)
	}
}

func main() {
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = byte(i)
	}
	parts := io.MultiReader(strings.NewReader("one"), strings.NewReader(strings.Repeat("two", 1000)), strings.NewReader("three"))
	own := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	send("GET", "/get", http.Header{}, nil)
	send("POST", "/post", http.Header{}, bytes.NewReader(body))
	send("POST", "/chunked", http.Header{}, io.NopCloser(parts))
	send("GET", "/own", own, nil)
}
