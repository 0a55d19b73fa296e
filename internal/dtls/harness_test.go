package dtls

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/otago-iot/otago/internal/testkit"
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
	logged *testkit.Log
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
func newEnd(t *testing.T, conn net.PacketConn, config Config) *end {
	t.Helper()
	e := &end{
		addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), logged: new(testkit.Log),
		opened: make(chan *user, 10_000), closed: make(chan *user, 10_000), failed: make(chan error, 10_000),
	}
	config.Logger = slog.New(slog.NewTextHandler(e.logged, nil))
	var err error
	e.Socket, err = New(t.Context(), conn, config, e)
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
func serve(t *testing.T, config Credentials) *end {
	return newEnd(t, listen(t), Config{Credentials: config})
}

// dial makes a client with a session.
func dial(t *testing.T, to netip.AddrPort, config Credentials) (*user, error) {
	t.Helper()
	return dialOver(t, listen(t), to, config)
}

func dialOver(t *testing.T, conn net.PacketConn, to netip.AddrPort, config Credentials) (*user, error) {
	t.Helper()
	client := newEnd(t, conn, Config{Credentials: config, Server: to})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	u, err := client.Dial(ctx)
	if err != nil {
		client.stop()
		return nil, err
	}
	return u.(*user), nil
}

// ask sends text until the peer echoes it. On a busy machine the echo may take a while: a second
// copy would surprise tests that count.
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
		case <-time.After(3 * time.Second):
		case <-limit:
			require.FailNow(t, "no answer")
		}
	}
}
