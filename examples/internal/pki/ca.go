// Package pki makes the private public-key infrastructure of a self-signed deployment: a
// certificate authority, certificates for the server, and certificates for devices, with the
// endpoint as the subject's common name.
//
//	ca, fresh, err := pki.OpenCA("pki")                         // makes ca.crt and ca.key, or reads them
//	err = ca.IssueServer("server", []string{"localhost", "127.0.0.1"})
//	err = ca.IssueDevice("urn:imei:490154203237518")
//
// Keys are ECDSA on P-256, which LwM2M's mandatory cipher suites and small devices support. Files
// are PEM; keys are readable by their owner only. Existing files are never overwritten.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Validity of certificates.
const (
	caYears   = 20
	leafYears = 5
)

// A CA is a private certificate authority in a folder.
type CA struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// OpenCA reads ca.crt and ca.key from dir. If neither exists, it makes them and the folder, and
// fresh is true.
func OpenCA(dir string) (ca *CA, fresh bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, false, err
	}
	ca = &CA{dir: dir}
	cert, key, err := readPair(ca.CertFile(), ca.path("ca.key"))
	switch {
	case err == nil:
		if !cert.IsCA {
			return nil, false, fmt.Errorf("%s: not a certificate authority", ca.CertFile())
		}
		ca.cert, ca.key = cert, key
		return ca, false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	}

	template, err := newTemplate("otago private CA", caYears)
	if err != nil {
		return nil, false, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	ca.cert = template
	ca.cert, ca.key, err = ca.issue(template, "ca")
	return ca, true, err
}

// CertFile returns the path of the authority's certificate, which peers have to trust.
func (ca *CA) CertFile() string { return ca.path("ca.crt") }

func (ca *CA) path(name string) string { return filepath.Join(ca.dir, name) }

// issue makes a key and signs the template for it, with the authority's key or, for the authority
// itself, with the new key. It writes name.key and then name.crt.
func (ca *CA) issue(template *x509.Certificate, name string) (*x509.Certificate, crypto.Signer, error) {
	for _, file := range []string{ca.path(name + ".crt"), ca.path(name + ".key")} {
		if _, err := os.Lstat(file); err == nil {
			return nil, nil, fmt.Errorf("%w: %s; keys are never overwritten: move it away, or choose another folder", fs.ErrExist, file)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	var signer crypto.Signer = key
	if ca.key != nil {
		signer = ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	if err := writeKey(ca.path(name+".key"), key); err != nil {
		return nil, nil, err
	}
	return cert, key, writePEM(ca.path(name+".crt"), "CERTIFICATE", der, 0o644)
}

func newTemplate(commonName string, years int) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	// Many devices lack a good clock: the certificate is valid from a day before it was made.
	now := time.Now().UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.AddDate(0, 0, -1),
		NotAfter:     now.AddDate(years, 0, 0),
	}, nil
}
