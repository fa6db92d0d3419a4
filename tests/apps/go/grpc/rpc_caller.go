// A service of a chain of gRPC. For each request it calls BACKEND twice, over one connection. Without BACKEND it answers after a
// random delay, so that responses overtake each other. Serves gRPC, and HTTP/1 if FRONT is set. With WORKERS, handlers run on so many
// goroutines, as long as these suffice. Arguments: port.
//
// A request has a number: `/r/7` over HTTP/1. Its calls are `calls.A/7` and `calls.B/7`, and those of `calls.A/7` are `calls.A.A/7` and
// `calls.A.B/7`.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const maxDelay = 20 * time.Millisecond

// Messages are bytes.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error)      { return *message.(*[]byte), nil }
func (raw) Unmarshal(data []byte, message any) error { *message.(*[]byte) = data; return nil }
func (raw) Name() string                             { return "raw" }

var backend *grpc.ClientConn

// Does the work of a request with this number, and makes calls of services below this one.
func work(ctx context.Context, service, number string) error {
	if backend == nil {
		time.Sleep(time.Duration(rand.Int63n(int64(maxDelay))))
		return nil
	}
	for _, which := range []string{"A", "B"} {
		request, response := []byte(number), []byte(nil)
		if err := backend.Invoke(ctx, "/"+service+"."+which+"/"+number, &request, &response); err != nil {
			return err
		}
	}
	return nil
}

func serveHTTP(w http.ResponseWriter, r *http.Request) {
	number := path.Base(r.URL.Path)
	if err := work(r.Context(), "calls", number); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, number)
}

func serveGRPC(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	log.Println("received", method)
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	if err := work(stream.Context(), path.Dir(method)[1:], path.Base(method)); err != nil {
		return err
	}
	return stream.SendMsg(&message)
}

func main() {
	log.SetFlags(0)
	if address := os.Getenv("BACKEND"); address != "" {
		var err error
		backend, err = grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
		if err != nil {
			log.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	if os.Getenv("FRONT") != "" {
		http.HandleFunc("/r/", serveHTTP)
		log.Fatal(http.Serve(listener, nil))
	}
	workers, _ := strconv.ParseUint(os.Getenv("WORKERS"), 10, 32)
	server := grpc.NewServer(grpc.UnknownServiceHandler(serveGRPC), grpc.ForceServerCodec(raw{}), grpc.NumStreamWorkers(uint32(workers)))
	log.Fatal(server.Serve(listener))
}
