//go:build linux || darwin

package firmware

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestSlowDevice downloads slowly over a real connection, for twice as long as Stall; then it stops
// reading.
func TestSlowDevice(t *testing.T) {
	const stall = 2 * time.Second // a busy machine may halt the test for a while
	f := newDelivery(t, 64<<20, DeliveryConfig{Stall: stall})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	server := NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		f.d.ServeHTTP(w, r)
	}))
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	// Set before connecting, as TCP announces the buffer's size in the handshake.
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	c, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = fmt.Fprintf(c, "GET /fw/%s HTTP/1.0\r\n\r\n", f.token)
	require.NoError(t, err)
	buf := make([]byte, 1<<10)
	ticks := time.NewTicker(20 * time.Millisecond) // 50 KB/s with a Stall of 2 s is like 800 bytes/s with 2 minutes
	defer ticks.Stop()
	for begin := time.Now(); time.Since(begin) < 2*stall; <-ticks.C {
		_, err := io.ReadFull(c, buf)
		require.NoError(t, err, "after %v", time.Since(begin))
	}
	select {
	case <-ended:
		t.Fatal("it was given up")
	default:
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler waits for ever")
	}
}
