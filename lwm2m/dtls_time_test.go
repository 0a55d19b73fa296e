package lwm2m_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
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
	config lwm2m.ServerConfig
	server *lwm2m.Server
	stop   func()
	device *simnet.Conn // the device's present socket
	client *lwm2m.Client
}

func inSecureWorld(t *testing.T, f func(t *testing.T, w *secureWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := &secureWorld{t: t, net: simnet.New(1), config: lwm2m.ServerConfig{Credentials: keys(t, endpointName+" 01")}}
		w.start()
		defer func() { w.stop() }()
		f(t, w)
	})
}

func (w *secureWorld) start() {
	w.server = lwm2m.MustServer(w.config)
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

// run starts the device, waits until it is registered, and returns a function that stops it.
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

// TestDTLSServerCrashes restarts a server without its associations. The device gets no answer to
// its next Update, so it makes a handshake and registers.
func TestDTLSServerCrashes(t *testing.T) {
	inSecureWorld(t, func(t *testing.T, w *secureWorld) {
		defer w.run(false)()
		require.NoError(t, w.read())
		w.net.Partition(serverIP, deviceIP, true)
		w.stop()
		w.start()
		w.net.Partition(serverIP, deviceIP, false)
		require.ErrorIs(t, w.read(), lwm2m.ErrNotRegistered)
		<-time.After(24*time.Hour + 5*time.Minute) // the Update before the lifetime ends is repeated for 93 s
		synctest.Wait()
		require.NoError(t, w.read())
	})
}

// TestDTLSDeviceWakesElsewhere: a device in queue mode sleeps for most of a day and wakes up at
// another address. Its association goes on, by the Connection ID.
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

// flakyCredentials have a key for each identity, unless they are down.
type flakyCredentials struct{ down atomic.Bool }

func (c *flakyCredentials) err() error {
	if c.down.Load() {
		return errors.New("no database")
	}
	return nil
}

func (c *flakyCredentials) PSK(context.Context, string) ([]byte, error) { return []byte{1}, c.err() }

func (c *flakyCredentials) Endpoint(_ context.Context, id lwm2m.Identity) (string, error) {
	return id.Name, c.err()
}

// TestCredentialsAreDown: the server drops handshakes while Credentials fail. The device gets no
// alert, and registers soon after they work again.
func TestCredentialsAreDown(t *testing.T) {
	inSecureWorld(t, func(t *testing.T, w *secureWorld) {
		credentials := new(flakyCredentials)
		credentials.down.Store(true)
		var mu sync.Mutex
		var ids []lwm2m.Identity
		var errs []error
		w.stop()
		w.config = lwm2m.ServerConfig{Credentials: credentials, Hooks: lwm2m.ServerHooks{
			Handshake: func(_ lwm2m.Transport, _ netip.AddrPort, id lwm2m.Identity, err error) {
				mu.Lock()
				defer mu.Unlock()
				ids, errs = append(ids, id), append(errs, err)
			},
		}}
		w.start()
		var alerts atomic.Int32
		w.net.Tap(func(p simnet.Packet) {
			if p.From == netip.MustParseAddrPort(serverAddress) && len(p.Data) > 0 && p.Data[0] == 21 {
				alerts.Add(1)
			}
		})
		began := time.Now()
		time.AfterFunc(10*time.Minute, func() { credentials.down.Store(false) })
		stop := w.run(false)
		require.Greater(t, time.Since(began), 10*time.Minute)
		require.Less(t, time.Since(began), 17*time.Minute, "the client's time-out and its longest pause")
		require.Zero(t, alerts.Load())
		require.NoError(t, w.read())
		stop()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, len(ids), 3)
		for i, id := range ids {
			require.Equal(t, pskIdentity(endpointName), id)
			if i < len(ids)-1 {
				require.ErrorContains(t, errs[i], "no database")
			}
		}
		require.NoError(t, errs[len(errs)-1])
	})
}
