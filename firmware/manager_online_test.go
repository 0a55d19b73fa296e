package firmware_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// kept is a listener whose last connection a test may cut.
type kept struct {
	net.Listener
	mu   sync.Mutex
	last net.Conn
	shut bool
}

func (k *kept) Accept() (net.Conn, error) {
	conn, err := k.Listener.Accept()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && k.shut {
		return conn, conn.Close()
	}
	k.last = conn
	return conn, err
}

// TestOnlineEndsWithConnection cuts the connection of a device: the device is no longer online,
// though it is registered.
func TestOnlineEndsWithConnection(t *testing.T) {
	db := memory.New()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	server, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	require.NoError(t, err)
	manager, err := firmware.NewManager(server, db, images, firmware.ManagerConfig{})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	door := &kept{Listener: l}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- server.Serve(ctx, door) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
	}()
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: endpoint, Server: "coap+tcp://" + l.Addr().String(), MinRetry: time.Hour,
	})
	require.NoError(t, err)
	go func() { done <- client.Run(ctx) }()
	online := func() bool {
		d, err := manager.Device(ctx, endpoint)
		return err == nil && d.Online
	}
	require.Eventually(t, online, 20*time.Second, time.Millisecond)
	door.mu.Lock()
	door.shut = true
	require.NoError(t, door.last.Close())
	door.mu.Unlock()
	require.Eventually(t, func() bool { return !online() }, 20*time.Second, time.Millisecond)
	require.True(t, server.Registered(endpoint))
}
