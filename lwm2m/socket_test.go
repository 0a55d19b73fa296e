package lwm2m_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestRealSockets registers and reads over UDP on loopback, through the public API.
func TestRealSockets(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	server := lwm2m.MustServer(lwm2m.ServerConfig{})
	conn, uri := listen()
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- server.ServePacket(serving, conn) }()
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{Endpoint: "a", Server: uri})
	require.NoError(t, err)
	running, end := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- client.Run(running) }()
	require.NoError(t, client.WaitRegistered(ctx))
	entries, err := server.Read(ctx, "a", lwm2m.NewPath(1, 0, 1))
	require.NoError(t, err)
	require.Equal(t, lwm2m.Integer(300), entries[0].Value)
	r, ok := server.Registration("a")
	require.True(t, ok)
	require.Equal(t, conn.LocalAddr().String(), r.Local.String())
	end()
	require.NoError(t, <-ran)
	r, _ = server.Registration("a")
	require.False(t, r.Ended.IsZero())
	stop()
	require.NoError(t, <-served)
}

func TestListenRefuses(t *testing.T) {
	server := lwm2m.MustServer(lwm2m.ServerConfig{})
	for _, test := range []struct {
		uri  string
		want error
	}{
		{"coap://:5683", lwm2m.ErrNoSec},
		{"coap://0.0.0.0:5683", lwm2m.ErrNoSec},
		{"coap://192.0.2.1:5683", lwm2m.ErrNoSec},
		{"coap+tcp://192.0.2.1:5683", lwm2m.ErrNoSec},
		{"http://127.0.0.1", lwm2m.ErrUnsupportedScheme},
		{"coap://127.0.0.1/path", lwm2m.ErrPath},
		{"127.0.0.1:5683", lwm2m.ErrUnsupportedScheme},
		{"localhost:5683", lwm2m.ErrUnsupportedScheme},
		{"coap://127.0.0.1:65536", lwm2m.ErrPath},
	} {
		require.ErrorIs(t, server.ListenAndServe(t.Context(), test.uri), test.want, test.uri)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = server.ListenAndServe(ctx, "coap://127.0.0.1:0") // returns at once, without an error or with that of ctx
}
