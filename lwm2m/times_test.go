package lwm2m_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// shifted returns a store whose times are later by d, as after a restart with a clock that is
// behind by d.
func (m *memoryStore) shifted(d time.Duration) *memoryStore {
	later := &memoryStore{records: make(map[string]lwm2m.Registration)}
	for endpoint, r := range m.records {
		r.Registered, r.Updated, r.LastSeen = r.Registered.Add(d), r.Updated.Add(d), r.LastSeen.Add(d)
		later.records[endpoint] = r
	}
	return later
}

// TestClockBehindAfterRestart restarts the server with a clock that is two days behind what is
// stored: no time goes back, and the registration lasts no longer than its lifetime.
func TestClockBehindAfterRestart(t *testing.T) {
	store := &memoryStore{}
	inWorld(t, lwm2m.ServerConfig{Registrations: store}, func(t *testing.T, w *world) {
		w.device(nil)
		w.stop()
		later := store.shifted(48 * time.Hour)
		before := later.get(endpointName)
		w.start(lwm2m.ServerConfig{Registrations: later})
		require.True(t, w.server.Registered(endpointName))
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
		r, _ := w.server.Registration(endpointName)
		require.False(t, r.LastSeen.Before(before.LastSeen))
		time.Sleep(5 * time.Minute)
		r, _ = w.server.Registration(endpointName)
		require.True(t, r.Updated.After(before.Updated))
		require.WithinDuration(t, before.Updated.Add(5*time.Minute), r.Updated, 2*time.Minute)

		require.NoError(t, w.server.Execute(t.Context(), endpointName, lwm2m.NewPath(1, 0, 8), "")) // an Update
		time.Sleep(time.Second)
		w.cut(true)
		w.stop()
		w.start(lwm2m.ServerConfig{Registrations: later})
		time.Sleep(301 * time.Second)
		require.False(t, w.server.Registered(endpointName))
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventExpired}, w.events.kinds())
		r, _ = w.server.Registration(endpointName)
		require.True(t, r.Ended.After(r.Updated))
	})
}

// TestClockAheadAfterRestart restarts the server with a clock that is days ahead: registrations
// that seem to be over have ended, and a device that still runs registers.
func TestClockAheadAfterRestart(t *testing.T) {
	store := &memoryStore{}
	inWorld(t, lwm2m.ServerConfig{Registrations: store}, func(t *testing.T, w *world) {
		w.device(nil)
		first, _ := w.server.Registration(endpointName)
		w.stop()
		earlier := store.shifted(-48 * time.Hour)
		w.start(lwm2m.ServerConfig{Registrations: earlier})
		require.False(t, w.server.Registered(endpointName))
		time.Sleep(10 * time.Minute)
		require.True(t, w.server.Registered(endpointName))
		again, _ := w.server.Registration(endpointName)
		require.NotEqual(t, first.ID, again.ID)
		require.True(t, again.Updated.After(first.Updated))
	})
}

// TestOneTimeCounts loads a registration of last week together with a recent one, with a clock that
// is behind both: the earlier one has ended.
func TestOneTimeCounts(t *testing.T) {
	store := &memoryStore{}
	inWorld(t, lwm2m.ServerConfig{Registrations: store}, func(t *testing.T, w *world) {
		w.device(nil)
		w.stop()
		later := store.shifted(14 * 24 * time.Hour)
		old := store.shifted(7 * 24 * time.Hour).get(endpointName)
		old.Endpoint, old.ID = "old", "old"
		later.records["old"] = old
		w.start(lwm2m.ServerConfig{Registrations: later})
		require.True(t, w.server.Registered(endpointName))
		require.False(t, w.server.Registered("old"))
		require.False(t, w.server.Registered("nobody"))
	})
}

// TestLinksChanged sends Updates with and without a list of objects, some of which are merged
// behind a slow watcher.
func TestLinksChanged(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		changed := make(chan bool, 10)
		var slow atomic.Bool
		w.server.Watch(func(e lwm2m.RegistrationEvent) {
			if slow.Load() {
				time.Sleep(time.Minute)
			}
			if e.Kind == lwm2m.EventUpdated {
				changed <- e.LinksChanged
			} else if e.LinksChanged {
				t.Errorf("an event of kind %s", e.Kind)
			}
		})
		take := func(n int) (all []bool) {
			for range n {
				all = append(all, <-changed)
			}
			time.Sleep(10 * time.Minute)
			require.Empty(t, changed)
			return all
		}
		d := w.foreign("</3/0>", nil, func(*coap.IncomingRequest) *coap.Response { return content(0, "1") })
		r, _ := w.server.Registration(endpointName)
		update := func(links string) {
			m := &coap.Request{Code: coap.POST, Path: []string{"rd", r.ID}, Payload: []byte(links)}
			if links != "" {
				m.ContentFormat = coap.FormatOf(40)
			}
			resp, err := d.endpoint.Do(t.Context(), d.server, m)
			require.NoError(t, err)
			require.Equal(t, coap.Changed, resp.Code)
			synctest.Wait()
		}
		update("")
		update("</3/0>,</9/0>")
		update("</3/0>,</9/0>")
		require.Equal(t, []bool{false, true, false}, take(3))

		slow.Store(true)
		update("")
		update("") // waits behind the first; the next ones are merged with it
		update("</3/0>")
		update("")
		require.Equal(t, []bool{false, true}, take(2))
	})
}
