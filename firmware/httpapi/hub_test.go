package httpapi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// busy is a manager with a batch of events, whose devices change when the test says so.
type busy struct {
	manager
	events  []firmware.Event
	watcher func(lwm2m.RegistrationEvent)
	fleets  int
}

func (b *busy) EventBatches(ctx context.Context, _ uint64) iter.Seq2[[]firmware.Event, error] {
	return func(yield func([]firmware.Event, error) bool) {
		if len(b.events) == 0 || yield(b.events, nil) {
			<-ctx.Done()
		}
	}
}

func (b *busy) Span(context.Context) (store.Span, error) { return store.Span{}, nil }

func (b *busy) Get(_ context.Context, id string) (firmware.Update, error) {
	return firmware.Update{ID: id, Endpoint: "e"}, nil
}

func (b *busy) Watch(fn func(lwm2m.RegistrationEvent)) (stop func()) {
	b.watcher = fn
	return func() { b.watcher = nil }
}

func (b *busy) Counts(context.Context, string) ([]store.Count, error) { return nil, nil }

func (b *busy) Fleet(context.Context) (firmware.Fleet, error) {
	b.fleets++
	return firmware.Fleet{Listening: 7}, nil
}

// flow is an answer that a test reads before it has ended.
type flow struct{ *httptest.ResponseRecorder }

// openStream runs an event stream until the test ends, or stop is called.
func openStream(t *testing.T, a *api, query string) (w flow, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	w = flow{httptest.NewRecorder()}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/events"+query, nil)
	r.RemoteAddr = fmt.Sprintf("10.0.%d.%d:1", len(query)%256, time.Now().Nanosecond()%256)
	done := make(chan struct{})
	go func() {
		defer close(done)
		Recorded(t, a).ServeHTTP(w, r)
	}()
	return w, func() {
		cancel()
		<-done
	}
}

// TestEachEventIsEncodedOnce: a hundred followers, with and without filters, get a batch that was
// encoded once.
func TestEachEventIsEncodedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &busy{}
		for i := range 100 {
			b.events = append(b.events, firmware.Event{Event: store.Event{Seq: uint64(i + 1), Update: fmt.Sprint("u", i%2), Endpoint: fmt.Sprint("e", i%4)}})
		}
		a := newAPI(b, nil, AllowAll, Config{MaxStreams: 1000})
		before := encoded.Load()
		want := map[string]int{"": 100, "?update=u1": 50, "?endpoint=e3": 25, "?update=u0&endpoint=e3": 0}
		got := map[string][]flow{}
		for query := range want {
			for range 25 {
				w, stop := openStream(t, a, query)
				defer stop()
				got[query] = append(got[query], w)
			}
		}
		synctest.Wait()
		require.EqualValues(t, 100, encoded.Load()-before)
		for query, flows := range got {
			for _, w := range flows {
				require.Equal(t, want[query], strings.Count(w.Body.String(), `"seq":`), query)
			}
		}
	})
}

// TestHub: changes of devices are bounded; a stream gets those that it wants; without followers
// nothing is watched; and a client that does not read is dropped.
func TestHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &busy{}
		a := newAPI(b, nil, AllowAll, Config{})
		all, leaveAll := openStream(t, a, "?kinds=device,counts")
		one, leaveOne := openStream(t, a, "?kinds=device&endpoint=e7")
		time.Sleep(hubPause)
		synctest.Wait()
		for i := range 250 {
			b.watcher(lwm2m.RegistrationEvent{Kind: lwm2m.EventRegistered, Registration: lwm2m.Registration{Endpoint: fmt.Sprint("e", i)}})
			b.watcher(lwm2m.RegistrationEvent{Kind: lwm2m.EventUpdated, Registration: lwm2m.Registration{Endpoint: fmt.Sprint("e", i)}})
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		text := all.Body.String()
		require.Equal(t, maxChanges, strings.Count(text, `"change":"registered"`))
		require.Equal(t, 1, strings.Count(text, `"more":150`))
		require.Equal(t, 1, strings.Count(text, "event: counts"), "counts that stay the same are sent once")
		require.Contains(t, text, `"registered":7`)
		require.LessOrEqual(t, b.fleets, 7)
		require.Equal(t, 2, strings.Count(one.Body.String(), "event: device"), "its own, and that there were more: %s", one.Body)
		require.Contains(t, one.Body.String(), `"endpoint":"e7"`)
		leaveAll()
		require.NotNil(t, b.watcher)
		leaveOne()
		require.Nil(t, b.watcher)

		w := &wants{kinds: map[string]bool{kindDevice: true}}
		chunks, stop := a.hub.join(w)
		defer stop()
		for range maxUnread + 3 {
			time.Sleep(2 * hubPause)
			if b.watcher != nil {
				b.watcher(lwm2m.RegistrationEvent{Kind: lwm2m.EventExpired, Registration: lwm2m.Registration{Endpoint: "e"}})
			}
		}
		n := 0
		for c := range chunks {
			require.Contains(t, string(c.text), `"change":"gone"`)
			n++
		}
		require.Equal(t, maxUnread, n)
	})
}

// TestKindsAskForTheirRights: each kind of events needs the right to read what it is about, at the
// beginning and at each heartbeat.
func TestKindsAskForTheirRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for query, needs := range map[string][]Access{
			"?kinds=update":              nil,
			"?kinds=device&endpoint=dev": {{Action: ReadDevices, Endpoint: "dev"}},
			"?kinds=rollout":             {{Action: ReadRollouts}},
			"?kinds=update&rollout=r":    {{Action: ReadRollouts, Rollout: "r"}},
			"?kinds=counts,update":       {{Action: ReadDevices}, {Action: ReadUpdates}, {Action: ReadRollouts}},
		} {
			var mu sync.Mutex // guards the next two
			var refused *Access
			var asked []Access
			a := newAPI(&busy{}, nil, func(_ *http.Request, access Access) error {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, access)
				if refused != nil && *refused == access {
					return errors.New("no")
				}
				return nil
			}, Config{})
			w, stop := openStream(t, a, query)
			synctest.Wait()
			require.Equal(t, http.StatusOK, w.Code)
			require.Equal(t, needs, append([]Access(nil), asked[1:]...), query)
			for _, need := range needs {
				mu.Lock()
				refused = &need
				mu.Unlock()
				late, leave := openStream(t, a, query)
				synctest.Wait()
				require.Equal(t, http.StatusForbidden, late.Code)
				leave()
			}
			if len(needs) > 0 {
				time.Sleep(16 * time.Second) // a heartbeat ends the first one
				synctest.Wait()
				require.Zero(t, a.streams.open)
			}
			stop()
		}
	})
}
