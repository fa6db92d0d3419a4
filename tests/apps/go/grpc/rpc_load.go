// Makes unary calls of `shop.Cart/Get` by grpc-go. Arguments: URL, how many, how many at once, over how many connections. Prints how
// many nanoseconds each took.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Messages are bytes. Servers know the name.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error)      { return *message.(*[]byte), nil }
func (raw) Unmarshal(data []byte, message any) error { *message.(*[]byte) = data; return nil }
func (raw) Name() string                             { return "proto" }

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	address := strings.TrimPrefix(os.Args[1], "http://")
	requests, streams, connections := must(strconv.Atoi(os.Args[2])), must(strconv.Atoi(os.Args[3])), must(strconv.Atoi(os.Args[4]))
	numbers := make(chan int)
	took := make(chan time.Duration, requests)
	var workers sync.WaitGroup
	for range connections {
		connection := must(grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}))))
		for range streams / connections {
			workers.Go(func() {
				for number := range numbers {
					request, response := []byte(strconv.Itoa(number)), []byte(nil)
					begin := time.Now()
					if err := connection.Invoke(context.Background(), "/shop.Cart/Get", &request, &response); err != nil {
						log.Fatal(err)
					}
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
