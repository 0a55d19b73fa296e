package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// slowStore is a slow store that counts the running calls, of each endpoint and of all.
type slowStore struct {
	recordingStore
	running map[string]int
	all     int
	calls   int
	most    int // of one endpoint
	mostAll int
}

// enter takes less time with each call, so that calls that do not wait for each other end in
// another order.
func (s *slowStore) enter(endpoint string) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running = make(map[string]int)
	}
	s.running[endpoint]++
	s.all++
	s.most, s.mostAll = max(s.most, s.running[endpoint]), max(s.mostAll, s.all)
	s.calls++
	pause := 200*time.Millisecond - time.Duration(s.calls)*10*time.Millisecond
	s.mu.Unlock()
	time.Sleep(max(pause, 0))
	s.mu.Lock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running[endpoint]--
		s.all--
	}
}

func (s *slowStore) PutRegistration(ctx context.Context, r Registration) error {
	defer s.enter(r.Endpoint)()
	return s.recordingStore.PutRegistration(ctx, r)
}

func (s *slowStore) DeleteRegistration(ctx context.Context, endpoint string) error {
	defer s.enter(endpoint)()
	return s.recordingStore.DeleteRegistration(ctx, endpoint)
}

// TestOneAtATime changes a registration in all ways at once: each change waits for the one before,
// and in the end the store has the registration that the server has. Changes of other endpoints do
// not wait.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{}
		s := MustServer(ServerConfig{Registrations: store})
		path := location(register(s, "ep=a"))
		var group sync.WaitGroup
		begin := func(f func()) {
			group.Go(f)
			time.Sleep(5 * time.Millisecond) // they come in this order
		}
		begin(func() { register(s, "ep=a", "lt=100") })
		begin(func() { register(s, "ep=a", "lt=101") })
		begin(func() { serve(s, incoming{code: coap.POST, path: path, format: -1, queries: []string{"lt=99"}}) })
		begin(func() { serve(s, incoming{code: coap.DELETE, path: path, format: -1}) })
		begin(func() { _ = s.DeleteDevice(t.Context(), "a") })
		begin(func() { register(s, "ep=a", "lt=102") })
		begin(func() {
			s.mu.Lock()
			if d := s.table.byEndpoint.Get("a"); d != nil {
				s.touchStore(d)
			}
			s.mu.Unlock()
			s.flush()
		})
		for i := range 5 {
			begin(func() { register(s, fmt.Sprint("ep=other", i)) })
		}
		begin(func() { register(s, "ep=a", "lt=103") })
		group.Wait()
		require.Equal(t, 1, store.most)
		require.Greater(t, store.mostAll, 1)
		known, ok := s.Registration("a")
		require.True(t, ok)
		require.Equal(t, known.ID, store.records["a"].ID)
		require.Equal(t, known.Lifetime, store.records["a"].Lifetime)
	})
}

// TestWhatIsNotStoredIsStoredLater: the store fails after a renewal. The server stores the renewal
// once the store works again.
func TestWhatIsNotStoredIsStoredLater(t *testing.T) {
	for name, then := range map[string]func(s *Server, path string){
		"flush": func(s *Server, _ string) { s.flush() },
		"update": func(s *Server, path string) {
			serve(s, incoming{code: coap.POST, path: path, format: -1, queries: []string{"lt=400"}})
		},
		"register":    func(s *Server, _ string) { register(s, "ep=a") },
		"de-register": func(s *Server, path string) { serve(s, incoming{code: coap.DELETE, path: path, format: -1}) },
		"delete":      func(s *Server, _ string) { _ = s.DeleteDevice(context.Background(), "a") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &recordingStore{}
				s := MustServer(ServerConfig{Registrations: store})
				require.NoError(t, s.enter(t.Context()))
				path := location(register(s, "ep=a"))
				time.Sleep(time.Hour)
				require.Equal(t, coap.Changed, serve(s, incoming{code: coap.POST, path: path, format: -1}).Code)
				known, _ := s.Registration("a")
				store.fail(errors.New("disk full"))
				then(s, path)
				time.Sleep(time.Second)
				store.fail(nil)
				time.Sleep(time.Minute)
				stored := store.get("a")
				require.Equal(t, known.Updated, stored.Updated)
				require.Equal(t, known.ID, stored.ID)
				s.leave()
			})
		})
	}
}

// TestEndIsStored: the server stores the end of a lifetime.
func TestEndIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recordingStore{}
		s := MustServer(ServerConfig{Registrations: store})
		require.NoError(t, s.enter(t.Context()))
		register(s, "ep=a", "lt=60")
		time.Sleep(2 * time.Minute)
		require.False(t, store.get("a").Ended.IsZero())
		require.Empty(t, store.get("a").ID)
		s.leave()
	})
}

// TestObservationOfAnotherRegistration: the answer to an Observe arrives after the device has
// registered again, or is gone. It starts no observation then.
func TestObservationOfAnotherRegistration(t *testing.T) {
	for name, then := range map[string]func(s *Server, id string){
		"register":    func(s *Server, _ string) { register(s, "ep=a") },
		"de-register": func(s *Server, id string) { serve(s, incoming{code: coap.DELETE, path: "/rd/" + id, format: -1}) },
		"move": func(s *Server, id string) {
			peer := peerA
			peer.ID++
			serve(s, incoming{code: coap.POST, path: "/rd/" + id, format: -1, peer: peer})
		},
		"another device":         func(s *Server, _ string) { register(s, "ep=b") },
		"end of the association": func(s *Server, _ string) { s.associationClosed(peerA) },
	} {
		t.Run(name, func(t *testing.T) {
			s := MustServer(ServerConfig{})
			register(s, "ep=a")
			d := s.table.byEndpoint.Get("a")
			ss := &session{device: d, peer: d.peer, id: d.id}
			o := &Observation{server: s, done: make(chan struct{})}
			require.True(t, s.keep(&Observation{server: s, done: make(chan struct{})}, ss, &coap.Observation{}))
			d.activity.observations = nil // it has no remote to forget
			then(s, d.id)
			require.False(t, s.keep(o, ss, nil))
			require.True(t, d.activity == nil || len(d.activity.observations) == 0)
		})
	}
}

// TestManyRegistersOfOneEndpoint: more Registers of one endpoint arrive than the server can handle.
// Only a few of them wait, and none that must fail because the endpoint uses credentials.
func TestManyRegistersOfOneEndpoint(t *testing.T) {
	store := &slowStore{}
	s := MustServer(ServerConfig{Registrations: store, Credentials: staticCredentials{"id": "secured"}})
	require.Equal(t, coap.Created, registerLinks(s, "secured", objects, psk("id")).Code)
	codes := make(chan ResponseCode, 200)
	store.mu.Lock() // blocks the store
	for range 100 {
		for _, endpoint := range []string{"a", "secured"} {
			go func() { codes <- ResponseCode(registerLinks(s, endpoint, objects, nil).Code) }()
		}
	}
	count := make(map[ResponseCode]int)
	for range 192 {
		count[<-codes]++
	}
	require.Equal(t, map[ResponseCode]int{CodeForbidden: 100, CodeUnavailable: 92}, count)
	store.mu.Unlock()
	for range 8 {
		require.Equal(t, ResponseCode(coap.Created), <-codes)
	}
	require.Equal(t, coap.Created, registerLinks(s, "a", objects, nil).Code)
	require.Equal(t, coap.Created, registerLinks(s, "secured", objects, psk("id")).Code)
}

// TestDeleteDeviceDuringAClaim deletes a device whose Register from another's address is stored but
// not yet acknowledged. After the acknowledgement the device is registered, in the store too.
func TestDeleteDeviceDuringAClaim(t *testing.T) {
	store := &recordingStore{}
	s := MustServer(ServerConfig{Registrations: store})
	require.Equal(t, coap.Created, registerLinks(s, "b", objects, nil).Code)
	require.Equal(t, coap.Created, registerLinks(s, "a", objects, nil).Code)
	var options coap.Options
	options = coap.AppendString(options, coap.URIPath, "rd")
	options = coap.AppendUint(options, coap.ContentFormat, 40)
	options = coap.AppendString(options, coap.URIQuery, "ep=b")
	resp := s.serveCOAP(t.Context(), &coap.IncomingRequest{Peer: peerA, Code: coap.POST, Options: options, Payload: []byte(objects)})
	require.NotNil(t, resp.Confirm)
	require.NoError(t, s.DeleteDevice(t.Context(), "b"))
	require.Empty(t, store.get("b").ID)
	resp.Confirm(nil)
	r, _ := s.Registration("b")
	require.NotEmpty(t, r.ID)
	s.flush()
	require.Equal(t, r.ID, store.get("b").ID)
}
