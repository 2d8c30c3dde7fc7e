// Command go-x509 measures Go's crypto/x509 as the peer of `courser-benches trust`.
//
//	go-x509 ROOTS HOST CHAIN...
//
// It prints one line of JSON: nanoseconds to read ROOTS into a pool and to parse every certificate of it, and for each
// CHAIN (PEM, leaf first) nanoseconds to parse and verify it for HOST, as a TLS client does for each handshake.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"time"
)

type figures struct {
	Load   float64   `json:"load"`
	Verify []float64 `json:"verify"`
}

func main() {
	if len(os.Args) < 4 {
		fail(fmt.Errorf("usage: go-x509 ROOTS HOST CHAIN..."))
	}
	text := read(os.Args[1])
	host := os.Args[2]
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		fail(fmt.Errorf("%s: no certificate", os.Args[1]))
	}
	var found figures
	found.Load = mean(5, func() { load(text) })
	for _, path := range os.Args[3:] {
		chain := blocks(read(path))
		found.Verify = append(found.Verify, mean(201, func() { verify(chain, roots, host) }))
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fail(err)
	}
}

// load parses every certificate; a pool alone would put that off until it is asked for the subject.
func load(text []byte) {
	for _, der := range blocks(text) {
		if _, err := x509.ParseCertificate(der); err != nil {
			fail(err)
		}
	}
}

func verify(chain [][]byte, roots *x509.CertPool, host string) {
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), DNSName: host}
	var leaf *x509.Certificate
	for position, der := range chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			fail(err)
		}
		if position == 0 {
			leaf = certificate
		} else {
			options.Intermediates.AddCert(certificate)
		}
	}
	if _, err := leaf.Verify(options); err != nil {
		fail(err)
	}
}

func blocks(text []byte) [][]byte {
	var found [][]byte
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		found = append(found, block.Bytes)
	}
	return found
}

// mean is nanoseconds of one call, what the garbage collector takes included.
func mean(runs int, work func()) float64 {
	start := time.Now()
	for range runs {
		work()
	}
	return float64(time.Since(start).Nanoseconds()) / float64(runs)
}

func read(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		fail(err)
	}
	return text
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "go-x509:", err)
	os.Exit(1)
}
