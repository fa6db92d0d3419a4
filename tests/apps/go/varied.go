// Sends requests of many sizes, always the same ones. Arguments: URL without a path, number of requests, and the most bytes of a body. Prints
// a digest of all responses.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/bits"
	"net/http"
	"os"
	"strconv"
)

var state uint64 = 6

// As in the other languages.
func number() int {
	state = (state*1103515245 + 12345) & 0x7fffffff
	return int(state >> 8)
}

// As many of each order of magnitude.
func size(most int) int {
	power := 1 << (number() % (bits.Len(uint(most)) - 1))
	return power + number()%power
}

func main() {
	count, _ := strconv.Atoi(os.Args[2])
	most, _ := strconv.Atoi(os.Args[3])
	pattern := make([]byte, 2*most)
	for index := range pattern {
		pattern[index] = byte(index % 251)
	}
	digest := sha256.New()
	for index := range count {
		if index%25 == 0 {
			http.DefaultClient.CloseIdleConnections()
		}
		sent, answer := size(most), size(most)
		kind := number() % 8
		method, body := "GET", io.Reader(nil)
		if kind > 2 {
			method, body = "POST", bytes.NewReader(pattern[:sent])
		}
		if kind == 6 {
			body = io.NopCloser(body)
		}
		request, err := http.NewRequest(method, fmt.Sprintf("%s/%d?answer=%d", os.Args[1], index, answer), body)
		if err != nil {
			log.Fatal(err)
		}
		if kind == 2 || kind == 7 {
			request.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(digest, response.Body); err != nil {
			log.Fatal(err)
		}
		response.Body.Close()
	}
	fmt.Printf("%x\n", digest.Sum(nil))
}
