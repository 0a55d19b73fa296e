package lwm2m

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// recordingStore is a RegistrationStore in memory that can fail.
type recordingStore struct {
	mu      sync.Mutex
	records map[string]Registration
	puts    int
	err     error
}

func (r *recordingStore) PutRegistration(_ context.Context, reg Registration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	if r.records == nil {
		r.records = make(map[string]Registration)
	}
	r.records[reg.Endpoint] = reg
	r.puts++
	return nil
}

func (r *recordingStore) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *recordingStore) get(endpoint string) Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records[endpoint]
}

func (r *recordingStore) DeleteRegistration(_ context.Context, endpoint string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		delete(r.records, endpoint)
	}
	return r.err
}

func (r *recordingStore) Registrations(context.Context) iter.Seq2[Registration, error] {
	return func(yield func(Registration, error) bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, reg := range r.records {
			if !yield(reg, nil) {
				return
			}
		}
	}
}

func TestRegisterIsDurable(t *testing.T) {
	store := &recordingStore{}
	s := MustServer(ServerConfig{Registrations: store})
	store.err = errors.New("disk full")
	resp := register(s, "ep=a")
	require.Equal(t, CodeUnavailable, ResponseCode(resp.Code))
	_, ok := s.Registration("a")
	require.False(t, ok, "what is not durable has not happened")
	store.err = nil
	path := location(register(s, "ep=a", "lt=300"))
	require.Equal(t, 1, store.puts)
	require.Equal(t, 300.0, store.records["a"].Lifetime.Seconds())

	// A renewal is stored some time later, a change at once.
	serve(s, incoming{code: coap.POST, path: path, format: -1})
	require.Equal(t, 1, store.puts)
	serve(s, incoming{code: coap.POST, path: path, format: -1, queries: []string{"lt=400"}})
	require.Equal(t, 2, store.puts)
	require.Equal(t, 400.0, store.records["a"].Lifetime.Seconds())
	serve(s, incoming{code: coap.POST, path: path, format: -1, peer: coap.Peer{Transport: coap.UDP, Addr: netip.MustParseAddrPort("192.0.2.9:9"), ID: 5683}})
	require.Equal(t, "192.0.2.9:9", store.records["a"].Address.String())

	// Another server on the same store knows the registration.
	s2 := MustServer(ServerConfig{Registrations: store})
	reg, ok := s2.Registration("a")
	require.True(t, ok)
	require.Equal(t, "/rd/"+reg.ID, path)
	require.Equal(t, coap.Changed, serve(s2, incoming{code: coap.POST, path: path, format: -1}).Code)
}

// TestDeregisterIsDurable: the store fails during a De-register, and the device gets an error.
func TestDeregisterIsDurable(t *testing.T) {
	store := &recordingStore{}
	s := MustServer(ServerConfig{Registrations: store})
	path := location(register(s, "ep=a"))
	leave := func() ResponseCode {
		return ResponseCode(serve(s, incoming{code: coap.DELETE, path: path, format: -1}).Code)
	}
	store.err = errors.New("disk full")
	require.Equal(t, CodeUnavailable, leave())
	require.True(t, s.Registered("a"))
	require.Equal(t, ResponseCode(coap.Changed), ResponseCode(serve(s, incoming{code: coap.POST, path: path, format: -1}).Code), "it is still there")
	store.err = nil
	require.Equal(t, ResponseCode(coap.Deleted), leave())
	require.False(t, s.Registered("a"))
	ended := store.records["a"]
	require.Empty(t, ended.ID)
	require.False(t, ended.Ended.IsZero())
	now, _ := s.Registration("a")
	require.Equal(t, now, ended)
	require.Equal(t, CodeNotFound, leave())
}

// TestDeleteDeviceIsDurable: the store fails during DeleteDevice, and the device stays.
func TestDeleteDeviceIsDurable(t *testing.T) {
	store := &recordingStore{}
	s := MustServer(ServerConfig{Registrations: store})
	path := location(register(s, "ep=a"))
	require.ErrorIs(t, s.DeleteDevice(t.Context(), "b"), ErrNotFound)
	store.err = errors.New("disk full")
	require.ErrorIs(t, s.DeleteDevice(t.Context(), "a"), store.err)
	require.True(t, s.Registered("a"))
	store.err = nil
	serve(s, incoming{code: coap.POST, path: path, format: -1}) // a renewal to store later, which DeleteDevice drops
	require.NoError(t, s.DeleteDevice(t.Context(), "a"))
	s.flush()
	require.Empty(t, store.records)
	_, ok := s.Registration("a")
	require.False(t, ok)
	require.Equal(t, CodeNotFound, ResponseCode(serve(s, incoming{code: coap.POST, path: path, format: -1}).Code))
}

// TestNoRequestBeforeTheAnswer: a request waits until the device has the answer to its Register.
func TestNoRequestBeforeTheAnswer(t *testing.T) {
	s := MustServer(ServerConfig{})
	_, err := s.accept(t.Context(), Registration{
		Endpoint: "a", ID: "x", Links: objects, Lifetime: time.Hour, Transport: TransportUDP, Address: peerA.Addr,
	}, peerA)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = s.Read(ctx, "a", NewPath(3, 0, 3))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	s.settled("x", RegistrationEvent{Kind: EventRegistered})
	_, err = s.Read(t.Context(), "a", NewPath(3, 0, 3))
	require.ErrorIs(t, err, ErrUnreachable, "its turn came, though there is no socket")
	require.Nil(t, s.table.byEndpoint.Get("a").activity, "nothing is left behind")
}

// togetherStore takes renewals together, 10 ms for each call.
type togetherStore struct {
	recordingStore
	calls, most int
}

func (b *togetherStore) PutRegistrations(ctx context.Context, list []Registration) error {
	time.Sleep(10 * time.Millisecond)
	b.mu.Lock()
	b.calls++
	b.most = max(b.most, len(list))
	b.mu.Unlock()
	for _, r := range list {
		if err := b.PutRegistration(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// TestManyRenewals renews 30,000 lifetimes, and stores them within a second although each commit
// takes 10 ms. A store that fails is not asked for each of them, and gets all of them later.
func TestManyRenewals(t *testing.T) {
	const fleet = 30_000
	synctest.Test(t, func(t *testing.T) {
		store := &togetherStore{}
		s := MustServer(ServerConfig{Registrations: store})
		renew := make([]func() uint8, fleet)
		for i := range fleet {
			path := location(register(s, "ep="+strconv.Itoa(i), "lt=300"))
			renew[i] = func() uint8 { return uint8(serve(s, incoming{code: coap.POST, path: path, format: -1}).Code) }
		}
		time.Sleep(time.Minute)
		for _, renewed := range renew {
			require.EqualValues(t, coap.Changed, renewed())
		}
		now, puts := time.Now(), store.puts
		store.fail(errors.New("disk full"))
		s.flush()
		require.LessOrEqual(t, store.calls, flushBatches)
		require.Less(t, time.Since(now), time.Second)

		store.fail(nil)
		now = time.Now()
		s.flush()
		require.Equal(t, fleet, store.puts-puts, "each once")
		require.LessOrEqual(t, store.most, 1024)
		require.Less(t, time.Since(now), time.Second)
		for endpoint, r := range store.records {
			require.WithinDuration(t, now, r.Updated, time.Second, endpoint)
		}
		s.flush()
		require.Equal(t, fleet, store.puts-puts, "nothing is left")
	})
}

// TestRenewalsOfBusyDevices stores renewals while one of the devices registers: it waits for
// nothing, and its renewal is stored later.
func TestRenewalsOfBusyDevices(t *testing.T) {
	store := &togetherStore{}
	s := MustServer(ServerConfig{Registrations: store})
	for _, name := range []string{"a", "b"} {
		path := location(register(s, "ep="+name, "lt=300"))
		serve(s, incoming{code: coap.POST, path: path, format: -1})
	}
	unlock := s.keys.Lock("a")
	s.flush()
	require.Equal(t, 3, store.puts)
	unlock()
	s.flush()
	require.Equal(t, 4, store.puts)
}
