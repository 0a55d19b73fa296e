package coap

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/dtls"
)

// mutable is a socket that can be muted: it then drops what it should send.
type mutable struct {
	net.PacketConn
	muted atomic.Bool
}

func (c *mutable) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.muted.Load() {
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

// A DTLS peer that has made a request takes some KB, and no goroutine.
func TestIdleDTLSPeersAreSmall(t *testing.T) {
	e := New(Config{Handler: HandlerFunc(func(context.Context, *IncomingRequest) *Response { return &Response{Code: Changed} })})
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	key := []byte("secret")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- e.ServeDTLS(ctx, conn, dtls.Credentials{PSK: func([]byte) ([]byte, error) { return key, nil }})
	}()
	to := netip.MustParseAddrPort(conn.LocalAddr().String())
	const peers = 1000
	dial := func(i int) {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		own := &mutable{PacketConn: conn}
		client := New(Config{})
		p, err := client.DialDTLS(ctx, own, to, dtls.Credentials{Identity: []byte{byte(i >> 8), byte(i)}, Key: key})
		require.NoError(t, err)
		_, err = client.Do(ctx, p, &Request{Code: POST})
		require.NoError(t, err)
		own.muted.Store(true) // the server gets no closure alert, and keeps the association
		require.NoError(t, client.Close())
	}
	dial(0)
	goroutines, before := runtime.NumGoroutine(), heap()
	for i := range peers {
		dial(i + 1)
	}
	each := (heap() - before) / peers
	t.Logf("%d bytes each", each)
	require.Less(t, each, int64(4<<10))
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+20)
	require.Len(t, e.table.all(func(*association) bool { return true }), peers+1)
	cancel()
	require.NoError(t, <-served)
	require.NoError(t, e.Close())
}
