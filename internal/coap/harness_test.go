package coap_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

var (
	serverHost = netip.MustParseAddr("10.0.0.1")
	deviceHost = netip.MustParseAddr("10.0.0.2")
	serverAddr = netip.MustParseAddrPort("10.0.0.1:5683")
)

// world is a server and a device on a simulated network.
type world struct {
	net    *simnet.Network
	server *coap.Endpoint
	device *coap.Endpoint
	conn   *simnet.Conn // of the device
	// toServer is the device's Peer for the server, toDevice the reverse.
	toServer, toDevice coap.Peer
	stop               func()
	endServing         func() // returns when the server's ServePacket has returned
}

// inWorld runs f in a bubble with virtual time.
func inWorld(t *testing.T, serverCfg, deviceCfg coap.Config, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, serverCfg, deviceCfg)
		defer w.stop()
		f(t, w)
	})
}

func newWorld(t *testing.T, serverCfg, deviceCfg coap.Config) *world {
	t.Helper()
	w := &world{net: simnet.New(1)}
	for _, c := range []*coap.Config{&serverCfg, &deviceCfg} {
		if c.Rand == nil {
			c.Rand = rand.NewChaCha8([32]byte{1})
		}
	}
	w.server, w.device = coap.New(serverCfg), coap.New(deviceCfg)
	conn, err := w.net.Listen(serverAddr.String())
	require.NoError(t, err)
	w.conn, err = w.net.Listen(deviceHost.String() + ":0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := w.server.ServePacket(ctx, conn); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("serve: %v", err)
		}
	})
	w.toServer, err = w.device.DialPacket(w.conn, serverAddr)
	require.NoError(t, err)
	w.toDevice = coap.Peer{Transport: coap.UDP, Addr: w.conn.AddrPort()}
	w.endServing = func() {
		cancel()
		group.Wait()
	}
	w.stop = sync.OnceFunc(func() {
		w.endServing()
		require.NoError(t, w.device.Close())
		require.NoError(t, w.server.Close())
	})
	synctest.Wait() // until both are listening
	return w
}

// handler makes a handler from a function without context.
func handler(f func(r *coap.IncomingRequest) *coap.Response) coap.Handler {
	return coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response { return f(r) })
}

// bodyOf returns n bytes that differ from block to block.
func bodyOf(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}

// recorder is a Sink that keeps what it gets.
type recorder struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	aborted error
	fail    error
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return 0, r.fail
	}
	return r.buf.Write(p)
}

func (r *recorder) Abort(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aborted = err
}

func (r *recorder) abortedWith() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.aborted
}

func (r *recorder) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.buf.Bytes())
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

func elapsed(start time.Time) time.Duration { return time.Since(start) }
