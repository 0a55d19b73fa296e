package lwm2m_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func TestRegistrationLifeCycle(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		client, stop := w.deviceStop(nil)
		require.NoError(t, client.WaitRegistered(t.Context()))
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventRegistered}, w.events.kinds())

		r, ok := w.server.Registration(endpointName)
		require.True(t, ok)
		require.Equal(t, endpointName, r.Endpoint)
		require.Equal(t, deviceIP, r.Address.Addr())
		require.Equal(t, lwm2m.TransportUDP, r.Transport)
		require.Equal(t, lwm2m.Version{Major: 1, Minor: 1}, r.Version)
		require.Equal(t, 300*time.Second, r.Lifetime)
		require.Equal(t, "U", r.Binding)
		require.False(t, r.Queue)
		require.True(t, r.Objects().Has(lwm2m.NewPath(3, 0)))
		require.True(t, r.Objects().Has(lwm2m.NewPath(1, 0)))
		require.False(t, r.Objects().Has(lwm2m.NewPath(0)))
		require.Equal(t, "1.0.0", w.read("/3/0/3"))

		// Updates keep it alive for far longer than its lifetime.
		time.Sleep(time.Hour)
		require.Subset(t, w.events.kinds(), []lwm2m.EventKind{lwm2m.EventUpdated})
		r2, _ := w.server.Registration(endpointName)
		require.Equal(t, r.ID, r2.ID)
		require.True(t, r2.Ended.IsZero())

		stop()
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventDeregistered}, w.events.kinds())
		r3, ok := w.server.Registration(endpointName)
		require.True(t, ok)
		require.Empty(t, r3.ID)
		require.False(t, r3.Ended.IsZero())
		_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0))
		require.ErrorIs(t, err, lwm2m.ErrNotRegistered)
	})
}

func TestRegistrationExpires(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Lifetime = 60 * time.Second })
		w.events.kinds()
		r, _ := w.server.Registration(endpointName)
		w.cut(true)
		time.Sleep(time.Until(r.Expires()) - time.Second)
		require.Empty(t, w.events.kinds())
		time.Sleep(2 * time.Second)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventExpired}, w.events.kinds())
		time.Sleep(12 * time.Hour) // the device tries and tries
		w.cut(false)
		time.Sleep(6 * time.Minute) // its longest pause
		require.Equal(t, lwm2m.EventRegistered, w.events.kinds()[0])
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}

func TestDeviceComesBackFromAnotherPort(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		first, _ := w.server.Registration(endpointName)
		// Another client with the same name replaces the first.
		w.device(nil)
		second, _ := w.server.Registration(endpointName)
		require.NotEqual(t, first.ID, second.ID)
		require.NotEqual(t, first.Address, second.Address)
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}

func TestServerForgetsDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		w.stop()
		w.start(lwm2m.ServerConfig{}) // without a store
		time.Sleep(10 * time.Minute)
		require.Equal(t, lwm2m.EventRegistered, w.events.kinds()[0])
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}

func TestServerOrdersUpdate(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		w.events.kinds()
		require.NoError(t, w.server.Execute(t.Context(), endpointName, lwm2m.NewPath(1, 0, 8), ""))
		time.Sleep(10 * time.Second)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventUpdated}, w.events.kinds())

		require.NoError(t, w.server.WriteValue(t.Context(), endpointName, lwm2m.NewPath(1, 0, 1), lwm2m.Integer(600)))
		time.Sleep(10 * time.Second)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventUpdated}, w.events.kinds())
		r, _ := w.server.Registration(endpointName)
		require.Equal(t, 600*time.Second, r.Lifetime)
	})
}

func TestVersions(t *testing.T) {
	for _, version := range []string{"1.0", "1.1", "1.2"} {
		t.Run(version, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
				s := &sensor{unit: "Cel"}
				w.device(func(c *lwm2m.ClientConfig) {
					c.Version, c.Queue, c.Models = version, true, sensorModels(t)
					c.Objects = append(c.Objects, s)
				})
				r, _ := w.server.Registration(endpointName)
				require.Equal(t, version, r.Version.String())
				require.True(t, r.Queue)
				entries, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3303, 0))
				require.NoError(t, err)
				require.Len(t, entries, 4)
				require.Equal(t, lwm2m.Entry{Path: lwm2m.NewPath(3303, 0, 5701), Value: lwm2m.String("Cel")}, entries[1])
				require.NoError(t, w.server.Write(t.Context(), endpointName, lwm2m.NewPath(3303, 0), []lwm2m.Entry{
					{Path: lwm2m.NewPath(3303, 0, 5701), Value: lwm2m.String("K")},
					{Path: lwm2m.NewPath(3303, 0, 5850), Value: lwm2m.Boolean(true)},
				}))
				require.Equal(t, "K", w.read("/3303/0/5701"))
				require.Equal(t, "1", w.read("/3303/0/5850"))
			})
		})
	}
}

func TestLossyRegistration(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.net.SetDefault(lossy)
		w.device(nil)
		for range 20 {
			require.Equal(t, "1.0.0", w.read("/3/0/3"))
		}
	})
}

// TestEventsAreOrdered delivers events to a slow watcher in order.
func TestEventsAreOrdered(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var kinds []lwm2m.EventKind // guarded by the order of calls
		stop := w.server.Watch(func(e lwm2m.RegistrationEvent) {
			time.Sleep(time.Minute)
			kinds = append(kinds, e.Kind)
		})
		client, end := w.deviceStop(nil)
		require.NoError(t, client.WaitRegistered(t.Context()))
		require.NoError(t, client.Send(t.Context(), []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 3), Value: lwm2m.String("2")}}))
		end()
		time.Sleep(time.Hour)
		stop()
		synctest.Wait()
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventRegistered, lwm2m.EventSent, lwm2m.EventDeregistered}, kinds)
	})
}

func TestSend(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		got := make(chan lwm2m.RegistrationEvent, 1)
		w.server.Watch(func(e lwm2m.RegistrationEvent) {
			if e.Kind == lwm2m.EventSent {
				got <- e
			}
		})
		client := w.device(nil)
		want := []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 3), Value: lwm2m.String("2.0.0")}}
		require.NoError(t, client.Send(t.Context(), want))
		e := <-got
		require.Equal(t, want, e.Entries)
		require.Equal(t, endpointName, e.Registration.Endpoint)

		require.NoError(t, w.server.WriteValue(t.Context(), endpointName, lwm2m.NewPath(1, 0, 23), lwm2m.Boolean(true)))
		require.ErrorIs(t, client.Send(t.Context(), want), lwm2m.ErrForbidden)
	})
}

func TestClosedServerRefuses(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Queue = true })
		time.Sleep(100 * time.Second) // asleep
		errs := make(chan error, 1)
		go func() {
			_, err := w.server.Read(context.Background(), endpointName, lwm2m.NewPath(3, 0))
			errs <- err
		}()
		synctest.Wait()
		w.stop()
		require.ErrorIs(t, <-errs, lwm2m.ErrClosed)
	})
}

// TestChangesDoNotDelayUpdates: frequent changes of values must not delay the next Update.
func TestChangesDoNotDelayUpdates(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		client := w.device(nil)
		w.events.kinds()
		for range 100 {
			time.Sleep(37 * time.Second)
			client.Notify(lwm2m.NewPath(3))
		}
		kinds := w.events.kinds()
		require.NotContains(t, kinds, lwm2m.EventExpired)
		require.NotContains(t, kinds, lwm2m.EventRegistered)
	})
}
