package lwm2m_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestServerRestart restarts the server on its store: the device notices nothing and is reachable
// at once.
func TestServerRestart(t *testing.T) {
	config := lwm2m.ServerConfig{Registrations: &memoryStore{}}
	inWorld(t, config, func(t *testing.T, w *world) {
		w.device(nil)
		before, _ := w.server.Registration(endpointName)
		time.Sleep(250 * time.Second)
		w.stop()
		w.start(config)
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
		time.Sleep(time.Hour)
		after, _ := w.server.Registration(endpointName)
		require.Equal(t, before.ID, after.ID)
		require.NotContains(t, w.events.kinds(), lwm2m.EventRegistered)
	})
}

// TestServerRestartWithSleepers restarts the server while a device sleeps: it still counts as
// asleep, and a request waits for it.
func TestServerRestartWithSleepers(t *testing.T) {
	config := lwm2m.ServerConfig{Registrations: &memoryStore{}}
	inWorld(t, config, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Queue = true })
		time.Sleep(100 * time.Second)
		w.stop()
		w.start(config)
		_, err := w.server.Do(t.Context(), lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(3, 0, 3), NoWait: true,
		})
		require.ErrorIs(t, err, lwm2m.ErrAsleep)
		require.Equal(t, "1.0.0", w.read("/3/0/3")) // with its next Update
	})
}

// TestSoftStateIsFlushed checks what a killed server would find in its store.
func TestSoftStateIsFlushed(t *testing.T) {
	store := &memoryStore{}
	inWorld(t, lwm2m.ServerConfig{Registrations: store}, func(t *testing.T, w *world) {
		_, stop := w.deviceStop(func(c *lwm2m.ClientConfig) { c.Lifetime = 30 * time.Second })
		for range 20 {
			time.Sleep(30 * time.Second)
			r, _ := w.server.Registration(endpointName)
			require.Less(t, r.Updated.Sub(store.get(endpointName).Updated), 31*time.Second)
		}
		require.Less(t, store.puts, 60)
		stop()
		time.Sleep(31 * time.Second)
		require.False(t, store.get(endpointName).Ended.IsZero())
	})
	// An ended registration is loaded as such.
	s := lwm2m.MustServer(lwm2m.ServerConfig{Registrations: store})
	r, ok := s.Registration(endpointName)
	require.True(t, ok)
	require.Empty(t, r.ID)
}

// TestRestoredRegistrationExpires: the device fails while the server is down.
func TestRestoredRegistrationExpires(t *testing.T) {
	config := lwm2m.ServerConfig{Registrations: &memoryStore{}}
	inWorld(t, config, func(t *testing.T, w *world) {
		w.device(nil)
		w.cut(true)
		w.stop()
		time.Sleep(time.Hour)
		w.start(config)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventExpired}, w.events.kinds())
	})
}

func TestStoreThatCannotBeRead(t *testing.T) {
	s := lwm2m.MustServer(lwm2m.ServerConfig{Registrations: brokenStore{}, NoSec: true})
	err := s.ListenAndServe(t.Context(), "coap://127.0.0.1:0")
	require.ErrorIs(t, err, errBroken)
}

// TestStoreThatPanics: a store panics while the server stores renewed lifetimes. The server
// survives, and stores them later.
func TestStoreThatPanics(t *testing.T) {
	store := &panickingStore{}
	inWorld(t, lwm2m.ServerConfig{Registrations: store}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Lifetime = 60 * time.Second })
		store.written.Store(true)
		time.Sleep(10 * time.Minute)
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
		store.written.Store(false)
		time.Sleep(2 * time.Minute)
		r, _ := w.server.Registration(endpointName)
		require.Less(t, r.Updated.Sub(store.get(endpointName).Updated), time.Minute)
	})
	s := lwm2m.MustServer(lwm2m.ServerConfig{Registrations: &panickingStore{read: true}, NoSec: true})
	require.ErrorIs(t, s.ListenAndServe(t.Context(), "coap://127.0.0.1:0"), lwm2m.ErrInternal)
}

// TestFleet registers many devices over a bad network and reads from all of them, at once.
func TestFleet(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.net.SetDefault(simnet.Conditions{Loss: 0.05, Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond})
		const n = 200
		for i := range n {
			w.deviceStop(func(c *lwm2m.ClientConfig) {
				c.Endpoint = fmt.Sprintf("dev-%d", i)
				c.Objects = []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{FirmwareVersion: c.Endpoint})}
				c.Listen = func(context.Context) (net.PacketConn, error) {
					return w.net.Listen(fmt.Sprintf("10.1.%d.%d:0", i/250, i%250+1))
				}
			})
		}
		time.Sleep(20 * time.Minute)
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() {
				endpoint := fmt.Sprintf("dev-%d", i)
				for range 5 {
					entries, err := w.server.Read(t.Context(), endpoint, lwm2m.NewPath(3, 0, 3))
					if errors.Is(err, lwm2m.ErrTimeout) { // so many losses in a row are possible
						entries, err = w.server.Read(t.Context(), endpoint, lwm2m.NewPath(3, 0, 3))
					}
					if err != nil || entries[0].Value != lwm2m.String(endpoint) {
						t.Errorf("%s: %v %v", endpoint, entries, err)
					}
				}
			})
		}
		group.Wait()
		synctest.Wait()
	})
}

// TestServerKilled restarts the server on the store that a kill leaves, which lacks the last
// renewal: the registration still lasts.
func TestServerKilled(t *testing.T) {
	store := &memoryStore{}
	inWorld(t, lwm2m.ServerConfig{Registrations: store}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Lifetime = 30 * time.Second })
		time.Sleep(16 * time.Second) // the device has renewed it once
		left := &memoryStore{records: map[string]lwm2m.Registration{endpointName: store.get(endpointName)}}
		r, _ := w.server.Registration(endpointName)
		require.True(t, left.get(endpointName).Updated.Before(r.Updated.Add(-10*time.Second)))
		w.cut(true)
		w.stop()
		time.Sleep(15 * time.Second)
		w.cut(false)
		w.start(lwm2m.ServerConfig{Registrations: left})
		time.Sleep(time.Minute)
		after, _ := w.server.Registration(endpointName)
		require.Equal(t, r.ID, after.ID)
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}

// TestServeAgain serves with the same server again: its timers still work.
func TestServeAgain(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		w.cut(true)
		w.stop()
		conn, err := w.net.Listen(serverAddress)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.server.ServePacket(ctx, conn) }()
		w.events.kinds()
		time.Sleep(10 * time.Minute)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventExpired}, w.events.kinds())
		cancel()
		require.NoError(t, <-done)
	})
}

// TestServerRestartOnAnotherPort reaches a device through another socket than the one at which it
// registered.
func TestServerRestartOnAnotherPort(t *testing.T) {
	store := &memoryStore{}
	config := lwm2m.ServerConfig{Registrations: store}
	inWorld(t, config, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		serve := func(address string, serve func(context.Context, net.PacketConn) error) {
			conn, err := w.net.Listen(address)
			require.NoError(t, err)
			go func() { done <- serve(ctx, conn) }()
			synctest.Wait()
		}
		device := coap.New(coap.Config{Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
			r.Accept()
			return content(0, "1.0.0")
		})})
		serve("10.0.0.2:5683", device.ServePacket) // it accepts requests from any address
		_, err := device.Do(ctx, coap.Peer{Transport: coap.UDP, Addr: netip.MustParseAddrPort(serverAddress)}, &coap.Request{
			Code: coap.POST, Path: []string{"rd"}, Queries: []string{"ep=" + endpointName},
			ContentFormat: coap.FormatOf(40), Payload: []byte("</3/0>"),
		})
		require.NoError(t, err)
		w.stop()
		stored := store.get(endpointName)
		stored.Local = netip.MustParseAddrPort(serverAddress)
		require.NoError(t, store.PutRegistration(ctx, stored))
		w.server = lwm2m.MustServer(config)
		serve("10.0.0.1:5685", w.server.ServePacket)
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
		seen, _ := w.server.Registration(endpointName)
		time.Sleep(time.Minute)
		var got values
		_, err = w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3), got.add)
		require.NoError(t, err)
		require.Equal(t, []string{"1.0.0"}, got.texts())
		now, _ := w.server.Registration(endpointName)
		require.Equal(t, time.Minute, now.LastSeen.Sub(seen.LastSeen), "it was heard")
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
	})
}

// TestTransferKeepsRegistration: a push keeps the registration of a device that sends no Update for
// longer than its lifetime. A request that waits in a function of Before does not.
func TestTransferKeepsRegistration(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.foreign("</5/0>", nil, func(*coap.IncomingRequest) *coap.Response { return &coap.Response{Code: coap.Changed} })
		r, _ := w.server.Registration(endpointName)
		_, err := d.endpoint.Do(t.Context(), d.server, &coap.Request{
			Code: coap.POST, Path: []string{"rd", r.ID}, Queries: []string{"lt=300"},
		})
		require.NoError(t, err)
		w.net.SetDefault(simnetDelay(10 * time.Second))
		start := time.Now()
		body := randomBytes(60_000)
		require.NoError(t, w.server.WriteStream(t.Context(), endpointName, lwm2m.NewPath(5, 0, 0), bytes.NewReader(body), int64(len(body))))
		require.Greater(t, time.Since(start), 15*time.Minute)
		require.True(t, w.server.Registered(endpointName))

		w.server.Before(func(lwm2m.Request) func(context.Context) error {
			return func(ctx context.Context) error { <-ctx.Done(); return nil }
		})
		require.ErrorIs(t, w.server.Execute(t.Context(), endpointName, lwm2m.NewPath(5, 0, 2), ""), lwm2m.ErrNotRegistered)
	})
}
