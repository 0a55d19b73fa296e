package lwm2m_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// TestConnectionEndsDuringRegister ends the connection while Authorize runs: the device is
// registered, but not reachable.
func TestConnectionEndsDuringRegister(t *testing.T) {
	looking, goOn := make(chan struct{}), make(chan struct{})
	server := lwm2m.MustServer(lwm2m.ServerConfig{Authorize: func(context.Context, lwm2m.Registration) error {
		close(looking)
		<-goOn
		return nil
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	device := coap.New(coap.Config{})
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	peer, err := device.DialStream(ctx, conn)
	require.NoError(t, err)
	go func() {
		_, _ = device.Do(ctx, peer, &coap.Request{
			Code: coap.POST, Path: []string{"rd"}, Queries: []string{"ep=a"}, ContentFormat: coap.FormatOf(40), Payload: []byte("</3/0>"),
		})
	}()
	<-looking
	require.NoError(t, device.Close())
	time.Sleep(50 * time.Millisecond) // usually enough for the server to see the end
	close(goOn)
	require.Eventually(t, func() bool { return server.Registered("a") }, 20*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return !server.Reachable("a") }, 20*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}
