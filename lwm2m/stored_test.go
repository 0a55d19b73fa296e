package lwm2m

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestStoredRegisterOfAnAddressThatIsClaimed changes or deletes the record of an endpoint while the
// server verifies the address of its stored Register. In the end the store has the registration
// that the server has.
func TestStoredRegisterOfAnAddressThatIsClaimed(t *testing.T) {
	peerB := peerA
	peerB.ID++
	for name, meanwhile := range map[string]func(s *Server, id string){
		"nothing":  func(*Server, string) {},
		"lifetime": func(*Server, string) { time.Sleep(2 * time.Minute) },
		"update": func(s *Server, id string) {
			serve(s, incoming{code: coap.POST, path: "/rd/" + id, format: -1, peer: peerB, queries: []string{"lt=200"}})
		},
		"de-register": func(s *Server, id string) {
			serve(s, incoming{code: coap.DELETE, path: "/rd/" + id, format: -1, peer: peerB})
		},
		"delete": func(s *Server, _ string) { _ = s.DeleteDevice(context.Background(), "b") },
	} {
		for confirmed, failure := range map[string]error{"confirmed": nil, "not confirmed": context.DeadlineExceeded} {
			t.Run(name+" "+confirmed, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := &recordingStore{}
					s := MustServer(ServerConfig{Registrations: store})
					require.NoError(t, s.enter(t.Context()))
					register(s, "ep=a", "lt=86400")
					before := serve(s, incoming{
						code: coap.POST, path: "/rd", queries: []string{"ep=b", "lt=100"}, format: 40, payload: objects, peer: peerB,
					})
					id := location(before)[len("/rd/"):]
					reg, err := s.newRegistration(t.Context(), request(incoming{
						code: coap.POST, path: "/rd", queries: []string{"ep=b", "lt=3600"}, format: 40, payload: objects,
					}))
					require.NoError(t, err)
					confirm, err := s.accept(t.Context(), reg, peerA)
					require.NoError(t, err)
					require.NotNil(t, confirm)
					meanwhile(s, id)
					confirm(failure)
					time.Sleep(time.Minute)
					known, _ := s.Registration("b")
					stored := store.get("b")
					require.Equal(t, failure == nil, known.ID == reg.ID)
					require.Equal(t, known.ID, stored.ID)
					require.Equal(t, known.Ended.IsZero(), stored.Ended.IsZero())
					require.Equal(t, known.Lifetime, stored.Lifetime)
					s.leave()
				})
			})
		}
	}
}

// TestLifetimeEndsDuringUpdate: a lifetime ends while the server makes room for an Update. The
// server stores the end.
func TestLifetimeEndsDuringUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &lingeringStore{}
		s := MustServer(ServerConfig{Registrations: store, MaxRegistrationBytes: 500})
		require.NoError(t, s.enter(t.Context()))
		links := func(id string) string { return "</" + id + ">;x=" + strings.Repeat("x", 150) }
		serve(s, incoming{code: coap.POST, path: "/rd", queries: []string{"ep=b", "lt=10"}, format: 40, payload: links("1")})
		path := location(register(s, "ep=a", "lt=60"))
		time.Sleep(59 * time.Second)
		resp := serve(s, incoming{code: coap.POST, path: path, format: 40, payload: links("3")})
		require.Equal(t, coap.NotFound, resp.Code)
		require.Empty(t, store.get("b").Endpoint)
		time.Sleep(time.Minute)
		require.False(t, s.Registered("a"))
		require.False(t, store.get("a").Ended.IsZero())
		s.leave()
	})
}

// lingeringStore is slow in DeleteRegistration.
type lingeringStore struct{ recordingStore }

func (l *lingeringStore) DeleteRegistration(ctx context.Context, endpoint string) error {
	time.Sleep(2 * time.Second)
	return l.recordingStore.DeleteRegistration(ctx, endpoint)
}

// TestStoredWithoutLifetime restores a registration without a lifetime: the stored LastSeen may be
// too old by a thirtieth of MaxSilence and half a minute.
func TestStoredWithoutLifetime(t *testing.T) {
	const bound, late = 30 * 24 * time.Hour, 24*time.Hour + 30*time.Second
	for silent, holds := range map[time.Duration]bool{bound + late - time.Second: true, bound + late + time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			now := time.Now()
			store := &recordingStore{records: map[string]Registration{"a": {
				Endpoint: "a", ID: "x", Address: peerA.Addr, Transport: TransportUDP, Binding: "U", Links: objects,
				Registered: now.Add(-1000 * time.Hour), Updated: now.Add(-1000 * time.Hour), LastSeen: now.Add(-silent),
			}}}
			require.Equal(t, holds, MustServer(ServerConfig{Registrations: store}).Registered("a"), silent)
		})
	}
}

// TestQueueModeEnds: a device of LwM2M 1.0 leaves queue mode by an Update.
func TestQueueModeEnds(t *testing.T) {
	s := MustServer(ServerConfig{})
	path := location(register(s, "ep=a", "b=UQ"))
	for binding, queue := range map[string]bool{"": true, "b=UQ": true, "b=U": false} {
		serve(s, incoming{code: coap.POST, path: path, format: -1, queries: []string{"b=UQ"}})
		if binding != "" {
			serve(s, incoming{code: coap.POST, path: path, format: -1, queries: []string{binding}})
		}
		r, _ := s.Registration("a")
		require.Equal(t, queue, r.Queue, binding)
	}
}

// TestStrippedOnce: the text of an ended registration with credentials makes room once.
func TestStrippedOnce(t *testing.T) {
	s := MustServer(ServerConfig{})
	d := s.table.add("a")
	s.table.set(d, Registration{Endpoint: "a", Secured: true, Binding: "U", Links: objects, Ended: time.Now()})
	require.Len(t, s.table.worn, 1)
	s.table.strip(d)
	require.Empty(t, s.table.worn)
	require.True(t, d.secured)
}
