package interop_test

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/peers"
)

// Our client pushes to and pulls from libcoap's server over TCP.
func TestLibcoapServerTCP(t *testing.T) {
	peers.Mark(t, "libcoap", "server", "coap+tcp", "block-wise PUT and GET")
	at := serveLibcoap(t)
	e := coap.New(coap.Config{MaxBody: 1 << 21})
	t.Cleanup(func() { e.Close() })
	to, err := e.Dial(t.Context(), coap.TCP, at.String())
	require.NoError(t, err)
	for _, size := range append(sizes, 300_000) {
		body := bodyOf(size)
		put(t, e, to, &coap.Request{Path: []string{"r1"}, Payload: body})
		require.True(t, bytes.Equal(body, get(t, e, to, &coap.Request{Path: []string{"r1"}})), "%d bytes", size)
	}
}

// libcoap's client pushes to our server and pulls from it over TCP.
func TestLibcoapClientTCP(t *testing.T) {
	peers.Mark(t, "libcoap", "client", "coap+tcp", "block-wise PUT and GET")
	s := newShelf()
	e := coap.New(coap.Config{MaxBody: 1 << 21, Handler: s})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- e.ServeListener(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		e.Close()
		require.NoError(t, <-done)
	})
	at := l.Addr().(*net.TCPAddr).AddrPort()
	for _, client := range libcoapClients {
		for _, size := range append(sizes, 300_000) {
			body := bodyOf(size)
			libcoapPut(t, client, "coap+tcp", at, "r1", body, 0)
			require.True(t, bytes.Equal(body, libcoapGet(t, client, "coap+tcp", at, "r1", 0)), "%d bytes", size)
		}
	}
}

// libcoap's server notifies us of its clock every second.
func TestLibcoapClock(t *testing.T) {
	peers.Mark(t, "libcoap", "server", "coap", "observation")
	at := serveLibcoap(t)
	e, to := dial(t, at, coap.Config{})
	ticks := make(chan string, 10)
	o, _, err := e.Observe(limit(t), to, &coap.Request{Code: coap.GET, Path: []string{"time"}}, func(r *coap.Response) {
		if r != nil {
			ticks <- string(r.Payload)
		}
	})
	require.NoError(t, err)
	require.NotNil(t, o)
	for range 2 {
		select {
		case text := <-ticks:
			require.NotEmpty(t, text)
		case <-time.After(20 * time.Second):
			t.Fatal("no notification")
		}
	}
	require.NoError(t, o.Cancel(limit(t)))
}
