// Package testkit has what tests of several packages need: certificates, free ports, and a log in
// memory.
package testkit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Certificates are those of an authority of their own. All are valid for localhost and 127.0.0.1.
type Certificates struct {
	Roots  *x509.CertPool // has only CA
	CA     *x509.Certificate
	Server tls.Certificate // its name is "server"
	// Device and Expired have the name of the device.
	Device, Expired tls.Certificate
}

// NewCertificates makes certificates for a server and for a device.
func NewCertificates(t testing.TB, device string) *Certificates {
	t.Helper()
	key := newKey(t)
	root := template("CA", time.Hour)
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	ca, err := x509.ParseCertificate(issue(t, root, root, key.Public(), key))
	if err != nil {
		t.Fatal(err)
	}
	c := &Certificates{Roots: x509.NewCertPool(), CA: ca}
	c.Roots.AddCert(ca)
	leaf := func(name string, valid time.Duration) tls.Certificate {
		own := newKey(t)
		about := template(name, valid)
		about.DNSNames = append(about.DNSNames, name)
		return tls.Certificate{Certificate: [][]byte{issue(t, about, ca, own.Public(), key)}, PrivateKey: own}
	}
	c.Server, c.Device, c.Expired = leaf("server", time.Hour), leaf(device, time.Hour), leaf(device, -time.Hour)
	return c
}

// SelfSigned returns a certificate for both ends, which is valid for 100 days, and a pool with it.
func SelfSigned(t testing.TB, name string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key := newKey(t)
	about := template(name, 100*24*time.Hour)
	about.IsCA, about.BasicConstraintsValid = true, true
	about.KeyUsage |= x509.KeyUsageCertSign
	der := issue(t, about, about, key.Public(), key)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func template(name string, valid time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t testing.TB, about, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, about, parent, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Log is a log that can be read while it is written.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns the log until now.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// FreePorts returns an address on loopback. Its port and the n-1 after it are free for UDP and TCP,
// and below those that systems assign by themselves, so that no socket of another test takes them
// before the program for which they are.
func FreePorts(t testing.TB, n int) netip.AddrPort {
	t.Helper()
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for range 100 {
		first := netip.AddrPortFrom(loopback, uint16(10_000+mathrand.IntN(20_000)))
		if allFree(first, n) {
			return first
		}
	}
	t.Fatal("no free ports")
	return netip.AddrPort{}
}

func allFree(first netip.AddrPort, n int) bool {
	for i := range n {
		at := netip.AddrPortFrom(first.Addr(), first.Port()+uint16(i)).String()
		tcp, err := net.Listen("tcp", at)
		if err != nil {
			return false
		}
		defer tcp.Close()
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			return false
		}
		defer udp.Close()
	}
	return true
}
