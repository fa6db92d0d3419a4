// Makes calls of each kind by connect-go, some of which fail. Arguments: URL, `connect` or `grpc-web`, `1` or `2` for the version of
// HTTP, and how many plain calls.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

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

func request(body string) *connect.Request[text] {
	request := connect.NewRequest(&text{[]byte(body)})
	request.Header().Set("Authorization", "Bearer s3cret")
	return request
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	url, protocol, version := os.Args[1], os.Args[2], os.Args[3]
	calls, err := strconv.Atoi(os.Args[4])
	must(err)
	var protocols http.Protocols
	protocols.SetHTTP1(version == "1")
	protocols.SetUnencryptedHTTP2(version == "2")
	transport := &http.Transport{Protocols: &protocols}
	options := []connect.ClientOption{connect.WithCodec(raw{})}
	if protocol == "grpc-web" {
		options = append(options, connect.WithGRPCWeb())
	} else {
		options = append(options, connect.WithHTTPGet(), connect.WithIdempotency(connect.IdempotencyNoSideEffects))
	}
	client := func(method string) *connect.Client[text, text] {
		// Only `Look` may be a GET.
		chosen := options
		if protocol == "connect" && method != "Look" {
			chosen = options[:1]
		}
		return connect.NewClient[text, text](&http.Client{Transport: transport}, url+"/shop.Cart/"+method, chosen...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for number := range calls {
		_, err := client("Get").CallUnary(ctx, request(strconv.Itoa(number)))
		must(err)
	}
	_, err = client("Look").CallUnary(ctx, request("s3cret"))
	must(err)
	_, err = client("Missing").CallUnary(ctx, request(""))
	fmt.Println("Missing", connect.CodeOf(err))
	for _, method := range []string{"Watch", "Breaks"} {
		stream, err := client(method).CallServerStream(ctx, request(""))
		must(err)
		messages := 0
		for stream.Receive() {
			messages++
		}
		fmt.Println(method, messages, stream.Err() != nil)
		stream.Close()
	}
	adding := client("Add").CallClientStream(ctx)
	adding.RequestHeader().Set("Authorization", "Bearer s3cret")
	for range 2 {
		must(adding.Send(&text{[]byte("a")}))
	}
	_, err = adding.CloseAndReceive()
	must(err)
	transport.CloseIdleConnections()
}
