package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	pollInterval = 50 * time.Millisecond
	pollTimeout  = 2 * time.Second
)

// waitFor returns when every address answers, or when stop is done.
func waitFor(stop context.Context, addresses []string, ca string) error {
	for _, address := range addresses {
		for {
			if err := probe(address, ca); err == nil {
				break
			}
			select {
			case <-stop.Done():
				return stop.Err()
			case <-time.After(pollInterval):
			}
		}
	}
	return nil
}

func probe(address, ca string) error {
	scheme, rest, _ := strings.Cut(address, ":")
	switch scheme {
	case "unix", "tcp":
		connection, err := net.DialTimeout(scheme, rest, pollTimeout)
		if err != nil {
			return err
		}
		return connection.Close()
	case "https":
		return probeHTTPS("https://"+rest, ca)
	}
	return fmt.Errorf("%q: an address begins with unix:, tcp: or https:", address)
}

func probeHTTPS(url, ca string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{
		Timeout:   pollTimeout,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true},
	}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}
