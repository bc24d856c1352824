// A web site over HTTP/2, and somebody who asks it: Go's own resolver, TLS and HTTP, in a program without a library.
//
//	h2 serve ADDRESS CERTIFICATE KEY    says "up", then answers every request with the protocol that it came by
//	h2 get URL                          prints the answer
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3], os.Args[4])
	}
	response, err := http.Get(os.Args[2])
	check(err)
	_, err = io.Copy(os.Stdout, response.Body)
	check(err)
}

func serve(address, certificate, key string) {
	listener, err := net.Listen("tcp", address)
	check(err)
	fmt.Println("up")
	answer := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s %s\n", r.Proto, r.Host, strings.Repeat("x", 100000))
	}
	check(http.ServeTLS(listener, http.HandlerFunc(answer), certificate, key))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
