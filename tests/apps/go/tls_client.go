// Sends requests over TLS when it is asked to: /COUNT/IN_FLIGHT/keep|churn/FIRST. Answers with the number of each and the local
// port of its connection.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
)

// Bytes of the responses, in turn.
var sizes = []int{16, 1000, 20_000, 16, 100_000}

func get(client *http.Client, url string, number int) (string, error) {
	port := ""
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		_, port, _ = net.SplitHostPort(got.Conn.LocalAddr().String())
	}}
	size := sizes[number%len(sizes)]
	request, err := http.NewRequest("GET", fmt.Sprintf("%s/%d?size=%d", url, number, size), nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	read, err := io.Copy(io.Discard, response.Body)
	if err == nil && read != int64(size) {
		err = fmt.Errorf("%d bytes of %d", read, size)
	}
	return port, err
}

func run(w http.ResponseWriter, r *http.Request) {
	var count, inFlight, first int
	var mode string
	asked := strings.ReplaceAll(r.URL.Path, "/", " ")
	if _, err := fmt.Sscan(asked, &count, &inFlight, &mode, &first); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	client := kept
	if mode == "churn" {
		client = newClient()
		client.Transport.(*http.Transport).DisableKeepAlives = true
	}
	numbers := make(chan int)
	answers := make(chan string, count)
	var workers sync.WaitGroup
	for worker := 0; worker < inFlight; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for number := range numbers {
				port, err := get(client, os.Args[2], number)
				if err != nil {
					log.Fatal(err)
				}
				answers <- fmt.Sprintf("%d %s\n", number, port)
			}
		}()
	}
	for number := first; number < first+count; number++ {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	close(answers)
	for answer := range answers {
		io.WriteString(w, answer)
	}
}

var kept = newClient()

func newClient() *http.Client {
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "shop.test"}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 50}}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	log.Fatal(http.Serve(listener, http.HandlerFunc(run)))
}
