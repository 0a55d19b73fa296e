package lwm2m_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// secureWorld is a network in memory with a server on DTLS, in virtual time.
type secureWorld struct {
	t      *testing.T
	net    *simnet.Network
	server *lwm2m.Server
	stop   func()
	device *simnet.Conn // the device's present socket
	client *lwm2m.Client
}

func inSecureWorld(t *testing.T, f func(t *testing.T, w *secureWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := &secureWorld{t: t, net: simnet.New(1)}
		w.start()
		defer func() { w.stop() }()
		f(t, w)
	})
}

func (w *secureWorld) start() {
	w.server = lwm2m.MustServer(lwm2m.ServerConfig{Credentials: keys(w.t, endpointName+" 01")})
	conn, err := w.net.Listen(serverAddress)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.ServeDTLS(ctx, conn) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
}

// run starts the device, which is registered on return, and returns what stops it.
func (w *secureWorld) run(queue bool) (stop func()) {
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: endpointName, Server: "coaps://" + serverAddress, PSK: []byte{1}, Queue: queue, Lifetime: 24 * time.Hour,
		Listen: func(context.Context) (net.PacketConn, error) {
			conn, err := w.net.Listen(deviceAddress)
			w.device = conn
			return conn, err
		},
	})
	require.NoError(w.t, err)
	w.client = client
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.client.Run(ctx) }()
	require.NoError(w.t, w.client.WaitRegistered(ctx))
	synctest.Wait()
	return func() {
		cancel()
		require.NoError(w.t, <-done)
	}
}

func (w *secureWorld) read() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := w.server.Read(ctx, endpointName, lwm2m.NewPath(1, 0, 1))
	return err
}

// TestDTLSServerCrashes has a server come back without its associations, and without a word to the device: its next Update
// is not answered, and so it makes a handshake and registers.
func TestDTLSServerCrashes(t *testing.T) {
	inSecureWorld(t, func(t *testing.T, w *secureWorld) {
		defer w.run(false)()
		require.NoError(t, w.read())
		w.net.Partition(serverIP, deviceIP, true)
		w.stop()
		w.start()
		w.net.Partition(serverIP, deviceIP, false)
		require.ErrorIs(t, w.read(), lwm2m.ErrNotRegistered)
		<-time.After(24*time.Hour + 5*time.Minute) // the Update before the lifetime ends is sent for 93 s
		synctest.Wait()
		require.NoError(t, w.read())
	})
}

// TestDTLSDeviceWakesElsewhere has a device in queue mode sleep for most of a day and wake up at another address, with the
// association of before, by its Connection ID.
func TestDTLSDeviceWakesElsewhere(t *testing.T) {
	inSecureWorld(t, func(t *testing.T, w *secureWorld) {
		defer w.run(true)()
		before, _ := w.server.Registration(endpointName)
		w.device.Rebind(netip.MustParseAddrPort("10.0.0.3:1234"))
		read := make(chan error, 1)
		<-time.After(time.Hour)
		go func() {
			_, err := w.server.Read(context.Background(), endpointName, lwm2m.NewPath(1, 0, 1))
			read <- err
		}()
		<-time.After(24 * time.Hour)
		require.NoError(t, <-read)
		after, _ := w.server.Registration(endpointName)
		require.Equal(t, before.ID, after.ID)
		require.Equal(t, netip.MustParseAddrPort("10.0.0.3:1234"), after.Address)
		require.NotEqual(t, before.Address, after.Address)
	})
}
