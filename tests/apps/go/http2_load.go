// Sends requests for /items/N over HTTP/2 in clear text. Arguments: URL, how many, how many at once, over how many connections.
// Prints how many nanoseconds each took.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func number(argument string) int {
	number, err := strconv.Atoi(argument)
	if err != nil {
		log.Fatal(err)
	}
	return number
}

func main() {
	url, requests, streams, connections := os.Args[1], number(os.Args[2]), number(os.Args[3]), number(os.Args[4])
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	numbers := make(chan int)
	took := make(chan time.Duration, requests)
	var workers sync.WaitGroup
	for range connections {
		transport := &http.Transport{Protocols: &protocols}
		client := http.Client{Transport: transport}
		for range streams / connections {
			workers.Go(func() {
				for number := range numbers {
					begin := time.Now()
					response, err := client.Get(fmt.Sprintf("%s/items/%d", url, number))
					if err != nil {
						log.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != 200 {
						log.Fatal(response.Status, err)
					}
					response.Body.Close()
					took <- time.Since(begin)
				}
			})
		}
	}
	for number := range requests {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	close(took)
	for duration := range took {
		fmt.Println(duration.Nanoseconds())
	}
}
