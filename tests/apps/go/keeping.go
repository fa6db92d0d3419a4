// Makes requests one after another on one connection. Arguments: a URL without a path, and how many times it makes them. Before, it makes
// two requests on new connections until the second one arrives with a trace context: the agent has to know the program.
package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var client = http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}

func send(method, path string, header http.Header, body io.Reader) string {
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
	received, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(received)
}

func main() {
	times, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = byte(i)
	}
	parts := io.MultiReader(strings.NewReader("one"), strings.NewReader(strings.Repeat("two", 1000)), strings.NewReader("three"))
	own := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	for begun, known := time.Now(), false; !known && time.Since(begun) < 20*time.Second; client.CloseIdleConnections() {
		send("GET", "/first", http.Header{}, nil)
		known = strings.Contains(send("GET", "/second", http.Header{}, nil), "traceparent")
	}
	for range times {
		send("GET", "/get", http.Header{}, nil)
		send("POST", "/post", http.Header{}, bytes.NewReader(body))
		send("GET", "/own", own, nil)
	}
	send("POST", "/chunked", http.Header{}, io.NopCloser(parts))
	send("GET", "/after", http.Header{}, nil)
}
