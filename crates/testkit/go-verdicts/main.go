// Command go-verdicts says what Go's crypto/x509 makes of certificate chains.
//
// Standard input has one JSON object a line: id, ca (PEM of the roots), chain (PEM, leaf first), host, at (RFC 3339),
// purpose ("server" or "client"; a client has no host). Standard output has one a line: id, accepted, error.
// A chain is judged as crypto/tls judges what a peer serves.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

type question struct {
	ID      string `json:"id"`
	CA      string `json:"ca"`
	Chain   string `json:"chain"`
	Host    string `json:"host"`
	At      string `json:"at"`
	Purpose string `json:"purpose"`
}

type answer struct {
	ID       string `json:"id"`
	Accepted bool   `json:"accepted"`
	Error    string `json:"error,omitempty"`
}

// The largest RSA key that crypto/tls takes.
const maxBits = 8192

func main() {
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	output.SetEscapeHTML(false)
	decoder := json.NewDecoder(input)
	for {
		var asked question
		if err := decoder.Decode(&asked); err == io.EOF {
			return
		} else if err != nil {
			fail(err)
		}
		said := answer{ID: asked.ID, Accepted: true}
		if err := judge(asked); err != nil {
			said.Accepted, said.Error = false, err.Error()
		}
		if err := output.Encode(said); err != nil {
			fail(err)
		}
	}
}

func judge(asked question) error {
	at, err := time.Parse(time.RFC3339, asked.At)
	if err != nil {
		fail(fmt.Errorf("%s: %w", asked.ID, err))
	}
	chain, err := parse(asked.Chain)
	if err != nil {
		return err
	}
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   at,
		DNSName:       asked.Host,
	}
	options.Roots.AppendCertsFromPEM([]byte(asked.CA))
	for _, certificate := range chain[1:] {
		options.Intermediates.AddCert(certificate)
	}
	switch asked.Purpose {
	case "server":
	case "client":
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	default:
		fail(fmt.Errorf("%s: purpose %q", asked.ID, asked.Purpose))
	}
	if _, err := chain[0].Verify(options); err != nil {
		return err
	}
	switch chain[0].PublicKey.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	}
	return errors.New("tls: the certificate contains an unsupported type of public key")
}

// parse reads what a peer serves; a certificate that cannot be parsed ends the handshake, needed or not.
func parse(text string) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("tls: failed to parse certificate from server: %w", err)
		}
		if key, ok := certificate.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxBits {
			return nil, fmt.Errorf("tls: an RSA key is larger than %d bits", maxBits)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("tls: no certificate")
	}
	return chain, nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "go-verdicts:", err)
	os.Exit(1)
}
