package coap_test

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestStreamGate: nothing leaves on a connection while the gate is closed; the connection ends, so
// that half of a message never counts as one.
func TestStreamGate(t *testing.T) {
	var open atomic.Bool
	open.Store(true)
	l := listenTCP(t)
	serveStream(t, coap.New(coap.Config{
		Gate: open.Load,
		Handler: handler(func(*coap.IncomingRequest) *coap.Response {
			open.Store(false) // a standby takes over while the request is served
			return &coap.Response{Code: coap.Changed}
		}),
	}), l)
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = conn.Write([]byte("\x00\xe1" + "\x01\x02\x07")) // CSM; POST with token 07
	require.NoError(t, err)
	var got []byte
	for buffer := make([]byte, 100); ; {
		n, err := conn.Read(buffer)
		got = append(got, buffer[:n]...)
		require.NotContains(t, string(got), "\x44\x07", "the gate is closed, and the answer left")
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err, "the connection ends")
	}
}
