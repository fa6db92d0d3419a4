// A service with calls of each kind, by connect-go: it speaks Connect, gRPC and gRPC-Web, over HTTP/1 and HTTP/2. Arguments: port.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"connectrpc.com/connect"
)

type text struct{ body []byte }

// Messages are bytes. It takes the place of the codec of protocol buffers.
type raw struct{}

func (raw) Name() string                             { return "proto" }
func (raw) IsBinary() bool                           { return true }
func (raw) Marshal(message any) ([]byte, error)      { return message.(*text).body, nil }
func (raw) MarshalStable(m any) ([]byte, error)      { return m.(*text).body, nil }
func (raw) Unmarshal(data []byte, message any) error { message.(*text).body = data; return nil }

type (
	request  = connect.Request[text]
	response = connect.Response[text]
	stream   = connect.ServerStream[text]
)

var secret = errors.New("s3cret")

func get(_ context.Context, request *request) (*response, error) {
	return connect.NewResponse(&text{append([]byte("cart of "), request.Msg.body...)}), nil
}

func missing(context.Context, *request) (*response, error) {
	return nil, connect.NewError(connect.CodeNotFound, secret)
}

func send(stream *stream, messages int) error {
	for number := range messages {
		if err := stream.Send(&text{fmt.Appendf(nil, "item %d", number)}); err != nil {
			return err
		}
	}
	return nil
}

func watch(_ context.Context, _ *request, stream *stream) error {
	return send(stream, 3)
}

func breaks(_ context.Context, _ *request, stream *stream) error {
	if err := send(stream, 2); err != nil {
		return err
	}
	return connect.NewError(connect.CodeAborted, secret)
}

func add(_ context.Context, stream *connect.ClientStream[text]) (*response, error) {
	messages := 0
	for stream.Receive() {
		messages++
	}
	return connect.NewResponse(&text{fmt.Append(nil, messages)}), stream.Err()
}

func main() {
	codec := connect.WithCodec(raw{})
	// Connect allows a GET then.
	safe := connect.WithIdempotency(connect.IdempotencyNoSideEffects)
	mux := http.NewServeMux()
	handle := func(path string, handler http.Handler) { mux.Handle(path, handler) }
	handle("/shop.Cart/Get", connect.NewUnaryHandler("/shop.Cart/Get", get, codec))
	handle("/shop.Cart/Look", connect.NewUnaryHandler("/shop.Cart/Look", get, codec, safe))
	handle("/shop.Cart/Missing", connect.NewUnaryHandler("/shop.Cart/Missing", missing, codec))
	handle("/shop.Cart/Watch", connect.NewServerStreamHandler("/shop.Cart/Watch", watch, codec))
	handle("/shop.Cart/Breaks", connect.NewServerStreamHandler("/shop.Cart/Breaks", breaks, codec))
	handle("/shop.Cart/Add", connect.NewClientStreamHandler("/shop.Cart/Add", add, codec))
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{Handler: mux, Protocols: &protocols}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening")
	log.Fatal(server.Serve(listener))
}
