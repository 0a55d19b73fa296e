package dtls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testIdentity = "device-1"

var testKey = []byte("secret")

// pskOf returns a server's credentials with one identity.
func pskOf(identity string, key []byte) Credentials {
	return Credentials{PSK: func(id []byte) ([]byte, error) {
		if string(id) != identity {
			return nil, ErrUnknownIdentity
		}
		return key, nil
	}}
}

func pskClient() Credentials { return Credentials{Identity: []byte(testIdentity), Key: testKey} }

// end is one end of sessions, and the Handler of its socket. A server echoes what it receives.
type end struct {
	*Socket
	addr   netip.AddrPort
	logged *logLines
	opened chan *user
	closed chan *user
	failed chan error
	stop   func() // closes the socket and waits
}

// user is the Receiver of a session.
type user struct {
	end    *end
	ss     *Session
	proven *Identity
	in     chan []byte
}

func (e *end) Open(ss *Session, proven *Identity) (Receiver, error) {
	u := &user{e, ss, proven, make(chan []byte, 100)}
	e.opened <- u
	return u, nil
}

func (e *end) Failed(_ netip.AddrPort, _ string, err error) { e.failed <- err }

func (u *user) Receive(content []byte) {
	if !u.end.client() {
		_ = u.ss.Write(content)
	}
	select {
	case u.in <- bytes.Clone(content):
	default:
	}
}

func (u *user) Closed() { u.end.closed <- u }

// newEnd serves a socket until the test ends.
func newEnd(t *testing.T, conn net.PacketConn, cfg Config) *end {
	t.Helper()
	e := &end{
		addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), logged: new(logLines),
		opened: make(chan *user, 10_000), closed: make(chan *user, 10_000), failed: make(chan error, 10_000),
	}
	cfg.Logger = slog.New(slog.NewTextHandler(e.logged, nil))
	var err error
	e.Socket, err = New(t.Context(), conn, cfg, e)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- e.Serve() }()
	e.stop = sync.OnceFunc(func() {
		e.Close()
		require.NoError(t, <-served)
	})
	t.Cleanup(e.stop)
	return e
}

func listen(t *testing.T) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	return conn
}

// serve makes a server on a loopback socket.
func serve(t *testing.T, cfg Credentials) *end { return newEnd(t, listen(t), Config{Credentials: cfg}) }

// dial makes a client with a session.
func dial(t *testing.T, to netip.AddrPort, cfg Credentials) (*user, error) {
	t.Helper()
	return dialOver(t, listen(t), to, cfg)
}

func dialOver(t *testing.T, conn net.PacketConn, to netip.AddrPort, cfg Credentials) (*user, error) {
	t.Helper()
	client := newEnd(t, conn, Config{Credentials: cfg, Server: to})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	u, err := client.Dial(ctx)
	if err != nil {
		client.stop()
		return nil, err
	}
	return u.(*user), nil
}

// ask sends text until the peer echoes it.
func (u *user) ask(t *testing.T, text string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		require.NoError(t, u.ss.Write([]byte(text)))
		select {
		case got := <-u.in:
			if string(got) == text {
				return
			}
		case <-time.After(500 * time.Millisecond):
		case <-limit:
			require.FailNow(t, "no answer")
		}
	}
}

// logLines collects log lines.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// certificates is a CA with certificates of a server and of a device.
type certificates struct {
	roots                   *x509.CertPool
	server, device, expired tls.Certificate
	key                     *ecdsa.PrivateKey
	ca                      *x509.Certificate
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{roots: x509.NewCertPool()}
	var err error
	c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().Add(-2 * time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	require.NoError(t, err)
	c.ca, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	c.roots.AddCert(c.ca)
	c.server = c.issue(t, "server", time.Hour)
	c.device = c.issue(t, testIdentity, time.Hour)
	c.expired = c.issue(t, testIdentity, -time.Hour)
	return c
}

func (c *certificates) issue(t *testing.T, name string, valid time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.ca, key.Public(), c.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
