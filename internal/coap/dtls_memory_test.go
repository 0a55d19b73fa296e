package coap

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// A DTLS peer that made a request costs some KB, and no goroutine.
func TestIdleDTLSPeersAreSmall(t *testing.T) {
	e := New(Config{Handler: HandlerFunc(func(context.Context, *IncomingRequest) *Response { return &Response{Code: Changed} })})
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	key := []byte("secret")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- e.ServeDTLS(ctx, conn, DTLSConfig{PSK: func([]byte) ([]byte, error) { return key, nil }})
	}()
	const peers = 1000
	dial := func(i int) {
		own, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		client := New(Config{})
		to := netip.MustParseAddrPort(conn.LocalAddr().String())
		p, err := client.DialDTLS(ctx, own, to, DTLSConfig{Identity: []byte{byte(i >> 8), byte(i)}, Key: key})
		require.NoError(t, err)
		_, err = client.Do(ctx, p, &Request{Code: POST})
		require.NoError(t, err)
		// The server is not told, and keeps the association.
		ss := client.table.get(p).link.(*dtlsSession)
		ss.mu.Lock()
		ss.over = true
		ss.mu.Unlock()
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
