package coap_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/internal/udp"
)

// serveUDP serves e on a real socket until the test ends.
func serveUDP(t *testing.T, e *coap.Endpoint, address string, config coap.ListenConfig) netip.AddrPort {
	t.Helper()
	conn, err := coap.ListenUDP(t.Context(), address, config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if err := e.ServePacket(ctx, conn); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		group.Wait()
		e.Close()
	})
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	listening := func() bool { return e.LocalAddr(coap.Peer{Transport: coap.UDP, Addr: at}).IsValid() }
	require.Eventually(t, listening, 20*time.Second, time.Millisecond)
	return at
}

func dial(t *testing.T, to netip.AddrPort, config coap.Config) (*coap.Endpoint, coap.Peer) {
	t.Helper()
	e := coap.New(config)
	t.Cleanup(func() { e.Close() })
	p, err := e.Dial(t.Context(), coap.UDP, to.String())
	require.NoError(t, err)
	return e, p
}

// limit returns a context that limits tests on real sockets.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestUDP(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			if conn, err := net.ListenPacket("udp", address); err != nil {
				t.Skip("no such address here: ", err)
			} else {
				conn.Close()
			}
			body := bodyOf(100 << 10)
			peers := make(chan coap.Peer, 1)
			server := coap.New(coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				peers <- r.Peer
				return &coap.Response{Code: coap.Content, Payload: []byte(r.LocalAddr().String())}
			})})
			at := serveUDP(t, server, address, coap.ListenConfig{})
			device, to := dial(t, at, coap.Config{MaxBody: 1 << 20, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				if !bytes.Equal(body, r.Payload) {
					return &coap.Response{Code: coap.BadRequest}
				}
				return &coap.Response{Code: coap.Changed}
			})})
			resp, err := device.Do(limit(t), to, &coap.Request{Code: coap.GET})
			require.NoError(t, err)
			require.Equal(t, at.String(), string(resp.Payload))

			resp, err = server.Do(limit(t), <-peers, &coap.Request{Code: coap.PUT, Body: bytes.NewReader(body), Size: int64(len(body))})
			require.NoError(t, err)
			require.Equal(t, coap.Changed, resp.Code)
		})
	}
}

// On a wildcard socket, the local address is the one that the peer used.
func TestLocalAddrOfWildcard(t *testing.T) {
	server := coap.New(coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Payload: []byte(r.LocalAddr().String())}
	})})
	at := serveUDP(t, server, ":0", coap.ListenConfig{})
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
	device, peer := dial(t, to, coap.Config{})
	resp, err := device.Do(limit(t), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
	require.Equal(t, to.String(), string(resp.Payload))
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), device.LocalAddr(peer).Addr())
}

// A UDP peer is an address: another process on another port can use a stored Peer.
func TestStoredPeer(t *testing.T) {
	answers := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response { return &coap.Response{Code: coap.Content} })}
	at := serveUDP(t, coap.New(answers), "127.0.0.1:0", coap.ListenConfig{})
	server := coap.New(coap.Config{})
	serveUDP(t, server, "127.0.0.1:0", coap.ListenConfig{})
	for _, id := range []uint64{0, 1} {
		resp, err := server.Do(limit(t), coap.Peer{Transport: coap.UDP, Addr: at, ID: id}, &coap.Request{Code: coap.GET})
		require.NoError(t, err)
		require.Equal(t, coap.Content, resp.Code)
	}
	_, err := server.Do(limit(t), coap.Peer{Transport: coap.DTLS, Addr: at, ID: 5}, &coap.Request{Code: coap.GET})
	require.ErrorIs(t, err, coap.ErrNoPeer)
}

// A dialled socket drops datagrams of other peers.
func TestDialledSocketHearsItsPeerOnly(t *testing.T) {
	var called atomic.Bool
	server := coap.New(coap.Config{})
	at := serveUDP(t, server, "127.0.0.1:0", coap.ListenConfig{})
	device, peer := dial(t, at, coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		called.Store(true)
		return &coap.Response{Code: coap.Content}
	})})
	other := coap.New(coap.Config{Transmission: coap.Transmission{ACKTimeout: 10 * time.Millisecond}})
	serveUDP(t, other, "127.0.0.1:0", coap.ListenConfig{})
	_, err := other.Do(limit(t), coap.Peer{Transport: coap.UDP, Addr: device.LocalAddr(peer)}, &coap.Request{Code: coap.GET})
	require.ErrorIs(t, err, coap.ErrTimeout)
	require.False(t, called.Load())

	_, err = server.Do(limit(t), coap.Peer{Transport: coap.UDP, Addr: device.LocalAddr(peer)}, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
}

func TestHangup(t *testing.T) {
	e, p := dial(t, netip.MustParseAddrPort("127.0.0.1:9"), coap.Config{})
	errs := make(chan error, 1)
	go func() {
		_, err := e.Do(context.Background(), p, &coap.Request{Code: coap.GET})
		errs <- err
	}()
	require.Eventually(t, func() bool { return coap.Holds(e).Timers > 1 }, 20*time.Second, time.Millisecond)
	e.Hangup(p)
	require.ErrorIs(t, <-errs, coap.ErrPeerGone)
	_, err := e.Do(limit(t), p, &coap.Request{Code: coap.GET})
	require.ErrorIs(t, err, coap.ErrNoPeer)
}

// Several sockets share a port, each with a reader.
func TestReusePort(t *testing.T) {
	e := coap.New(hello())
	config := coap.ListenConfig{ReusePort: true}
	first, err := coap.ListenUDP(t.Context(), "127.0.0.1:0", config)
	if err != nil {
		t.Skip("no SO_REUSEPORT here: ", err)
	}
	at := first.LocalAddr().(*net.UDPAddr).AddrPort()
	first.Close()
	for range 2 {
		serveUDP(t, e, at.String(), config)
	}
	for range 16 {
		device, to := dial(t, at, coap.Config{})
		resp, err := device.Do(limit(t), to, &coap.Request{Code: coap.GET})
		require.NoError(t, err)
		require.Equal(t, "hello", string(resp.Payload))
	}
}

func TestClosed(t *testing.T) {
	e := coap.New(coap.Config{})
	require.NoError(t, e.Close())
	_, err := e.Do(t.Context(), coap.Peer{}, &coap.Request{})
	require.ErrorIs(t, err, coap.ErrClosed)
	conn, err := coap.ListenUDP(t.Context(), "127.0.0.1:0", coap.ListenConfig{})
	require.NoError(t, err)
	require.ErrorIs(t, e.ServePacket(t.Context(), conn), coap.ErrClosed)
	require.ErrorIs(t, conn.Close(), net.ErrClosed, "it was closed")
}

// TestSmallBufferIsSaid checks that a socket whose receive buffer stays smaller than wanted is in
// the log, with the setting that limits it.
func TestSmallBufferIsSaid(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems do not tell the size of a buffer")
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	enough := udp.Enlarge(conn, 32<<20) >= 4<<20
	conn.Close()
	for wanted, quiet := range map[int]bool{1: true, 0: enough, 1 << 30: enough} {
		log := new(testkit.Log)
		e := coap.New(coap.Config{SocketBuffer: wanted, Logger: slog.New(slog.NewTextHandler(log, nil))})
		serveUDP(t, e, "127.0.0.1:0", coap.ListenConfig{})
		require.NotEqual(t, quiet, strings.Contains(log.String(), "sysctl=net.core.rmem_max"), log.String())
	}
}
