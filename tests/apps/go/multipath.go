// Listens as modules of Go 1.24 and later do: with MPTCP. Answers every request with the protocol of its connection.

//go:debug multipathtcp=2
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

type protocol struct{}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.Context().Value(protocol{}))
		}),
		ConnContext: func(ctx context.Context, connection net.Conn) context.Context {
			name := "tcp"
			if multipath, err := connection.(*net.TCPConn).MultipathTCP(); err == nil && multipath {
				name = "mptcp"
			}
			return context.WithValue(ctx, protocol{}, name)
		},
	}
	log.Println("listening")
	log.Fatal(server.Serve(listener))
}
