// Both ends of a connection of crypto/tls, on one goroutine.
//
// For each line of standard input it exchanges requests and responses, and prints the nanoseconds of one call of Write or Read in the best
// window. Arguments: the certificate and its key.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"
)

const (
	request  = "GET /products/7 HTTP/1.1\r\nHost: localhost\r\n\r\n"
	response = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world"
	// A window is short enough to fit between two interrupts.
	windows            = 150
	exchangesPerWindow = 25
	callsPerExchange   = 4
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func pass(from, to *tls.Conn, message string, bytes []byte) {
	must(from.Write([]byte(message)))
	if length := must(to.Read(bytes)); length != len(message) {
		panic("a part of a message")
	}
}

func main() {
	runtime.GOMAXPROCS(1)
	certificate := must(tls.LoadX509KeyPair(os.Args[1], os.Args[2]))
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	accepted := make(chan *tls.Conn)
	go func() {
		server := tls.Server(must(listener.Accept()), &tls.Config{
			Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true,
		})
		must(0, server.Handshake())
		accepted <- server
	}()
	client := must(tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}))
	server := <-accepted
	bytes := make([]byte, 256)
	fmt.Println("listening")
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		least := time.Hour
		for range windows {
			start := time.Now()
			for range exchangesPerWindow {
				pass(client, server, request, bytes)
				pass(server, client, response, bytes)
			}
			least = min(least, time.Since(start))
		}
		fmt.Println(float64(least.Nanoseconds()) / (exchangesPerWindow * callsPerExchange))
	}
}
