// pki writes the certificates and keys of one local cluster: a certificate authority, and certificates signed by it.
//
// It reads a JSON request from standard input (see Request). Every key is ECDSA P-256, written with mode 0600. Certificates live
// for a year, as a local cluster is thrown away long before.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Request names what is wanted: an authority called CA, certificates signed by it, and bare key pairs (NAME.key, NAME.pub).
type Request struct {
	Dir          string        `json:"dir"`
	CA           string        `json:"ca"`
	Certificates []Certificate `json:"certificates"`
	KeyPairs     []string      `json:"keyPairs"`
}

// Certificate is written as NAME.crt and NAME.key; it serves both ends of a TLS connection.
type Certificate struct {
	Name          string   `json:"name"`
	CommonName    string   `json:"commonName"`
	Organizations []string `json:"organizations"`
	DNSNames      []string `json:"dnsNames"`
	IPs           []string `json:"ips"`
}

const lifetime = 365 * 24 * time.Hour

func main() {
	var request Request
	if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
		fail(err)
	}
	if err := issue(request); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "pki:", err)
	os.Exit(1)
}

func issue(request Request) error {
	if err := os.MkdirAll(request.Dir, 0o700); err != nil {
		return err
	}
	authority := template(Certificate{CommonName: request.CA})
	authority.IsCA = true
	authority.BasicConstraintsValid = true
	authority.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	authority.ExtKeyUsage = nil
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := sign(request.Dir, "ca", authority, authorityKey, authority, authorityKey); err != nil {
		return err
	}
	for _, wanted := range request.Certificates {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		if err := sign(request.Dir, wanted.Name, template(wanted), key, authority, authorityKey); err != nil {
			return err
		}
	}
	for _, name := range request.KeyPairs {
		if err := keyPair(request.Dir, name); err != nil {
			return err
		}
	}
	return nil
}

func template(wanted Certificate) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		fail(err)
	}
	certificate := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: wanted.CommonName, Organization: wanted.Organizations},
		DNSNames:     wanted.DNSNames,
		NotBefore:    time.Now().Add(-5 * time.Minute), // a clock that is set back a little must not break the cluster
		NotAfter:     time.Now().Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, ip := range wanted.IPs {
		certificate.IPAddresses = append(certificate.IPAddresses, net.ParseIP(ip))
	}
	return certificate
}

func sign(dir, name string, certificate *x509.Certificate, key *ecdsa.PrivateKey,
	parent *x509.Certificate, parentKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, &key.PublicKey, parentKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	return writeKey(dir, name, key)
}

func keyPair(dir, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".pub"), "PUBLIC KEY", der, 0o644); err != nil {
		return err
	}
	return writeKey(dir, name, key)
}

func writeKey(dir, name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+".key"), "EC PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
