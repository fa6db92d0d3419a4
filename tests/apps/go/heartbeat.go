// A server that calls itself from time to time, without a request that causes it.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

const beats = 20

func beat(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func main() {
	http.HandleFunc("/beat", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond)
		fmt.Fprintln(w, "alive")
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening")
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		for range beats {
			<-ticker.C
			if err := beat("http://" + listener.Addr().String() + "/beat"); err != nil {
				log.Fatal(err)
			}
		}
		log.Println("done")
	}()
	log.Fatal(http.Serve(listener, nil))
}
