package lwm2m

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
)

// linksOf returns a list of objects of n bytes, different for each i.
func linksOf(i, n int) string {
	return fmt.Sprintf("</3/0>;x=%0*d", n-9, i)
}

func registerLinks(s *Server, endpoint, links string, id *dtls.Identity) *coap.Response {
	peer := peerA
	if id != nil {
		peer = coap.Peer{Transport: coap.DTLS, Addr: peerA.Addr, ID: 7}
	}
	return serve(s, incoming{
		code: coap.POST, path: "/rd", queries: []string{"ep=" + endpoint}, format: 40, payload: links, peer: peer, identity: id,
	})
}

func leave(t *testing.T, s *Server, endpoint string, id *dtls.Identity) {
	t.Helper()
	r, _ := s.Registration(endpoint)
	require.Equal(t, coap.Deleted, serve(s, incoming{code: coap.DELETE, path: "/rd/" + r.ID, format: -1, identity: id}).Code)
}

func TestLinksAreBounded(t *testing.T) {
	s := MustServer(ServerConfig{})
	require.Equal(t, CodeTooLarge, ResponseCode(registerLinks(s, "a", linksOf(1, 4097), nil).Code))
	_, ok := s.Registration("a")
	require.False(t, ok)
	path := location(registerLinks(s, "a", linksOf(1, 4096), nil))
	resp := serve(s, incoming{code: coap.POST, path: path, format: 40, payload: linksOf(2, 4097)})
	require.Equal(t, CodeTooLarge, ResponseCode(resp.Code))
	require.Contains(t, string(resp.Payload), "4096")
	r, _ := s.Registration("a")
	require.Equal(t, linksOf(1, 4096), r.Links)
	s = MustServer(ServerConfig{MaxLinks: 100})
	require.Equal(t, CodeTooLarge, ResponseCode(registerLinks(s, "a", linksOf(1, 101), nil).Code))
}

// TestTextIsBounded fills the room for text: the server refuses further devices, and Updates with
// more text. It removes ended registrations, but not the fact that an endpoint has used
// credentials.
func TestTextIsBounded(t *testing.T) {
	store := &recordingStore{}
	s := MustServer(ServerConfig{
		MaxRegistrationBytes: 13_333, Registrations: store, Credentials: staticCredentials{"id": "secured"},
	})
	const n = 1000
	require.Equal(t, coap.Created, registerLinks(s, "secured", linksOf(99, n), psk("id")).Code)
	var last int
	for i := range 20 {
		if registerLinks(s, fmt.Sprint("d", i), linksOf(i, n), nil).Code != coap.Created {
			require.Equal(t, CodeUnavailable, ResponseCode(registerLinks(s, fmt.Sprint("d", i), linksOf(i, n), nil).Code))
			break
		}
		last = i
	}
	require.Equal(t, 6, last)
	require.Equal(t, coap.Created, registerLinks(s, "same", linksOf(last, n), nil).Code, "a list that is there costs nothing")
	require.Equal(t, coap.Created, registerLinks(s, "d1", linksOf(100, n), nil).Code, "one list in place of another")
	for range 3 {
		require.Equal(t, coap.Created, registerLinks(s, "d1", linksOf(100, n), nil).Code)
	}
	r, _ := s.Registration("same")
	resp := serve(s, incoming{code: coap.POST, path: "/rd/" + r.ID, format: 40, payload: linksOf(101, n+1000)})
	require.Equal(t, CodeUnavailable, ResponseCode(resp.Code), "an Update that says more")
	require.Equal(t, coap.Changed, serve(s, incoming{code: coap.POST, path: "/rd/" + r.ID, format: -1}).Code)

	leave(t, s, "secured", psk("id"))
	require.Equal(t, coap.Created, registerLinks(s, "d20", linksOf(20, n), nil).Code)
	secured, ok := s.Registration("secured")
	require.True(t, ok)
	require.True(t, secured.Secured)
	require.Empty(t, secured.Links)
	require.Equal(t, CodeForbidden, ResponseCode(registerLinks(s, "secured", objects, nil).Code))

	leave(t, s, "d0", nil)
	require.Contains(t, store.records, "d0")
	require.Equal(t, coap.Created, registerLinks(s, "d21", linksOf(21, n), nil).Code)
	_, ok = s.Registration("d0")
	require.False(t, ok)
	require.NotContains(t, store.records, "d0", "nor does the store grow without end")
	require.Contains(t, store.records, "secured")
	require.LessOrEqual(t, s.table.size, int64(13_333))
}

// TestRoomForEndpoints: at the bound of endpoints the server removes ended ones that never used
// credentials, from the store too.
func TestRoomForEndpoints(t *testing.T) {
	store := &recordingStore{}
	creds := staticCredentials{}
	for i := range 8 {
		creds[fmt.Sprint("id", i)] = fmt.Sprint("secured", i)
	}
	s := MustServer(ServerConfig{MaxRegistrations: 10, Registrations: store, Credentials: creds})
	for i := range 8 {
		id := psk(fmt.Sprint("id", i))
		require.Equal(t, coap.Created, registerLinks(s, fmt.Sprint("secured", i), objects, id).Code)
		leave(t, s, fmt.Sprint("secured", i), id)
	}
	for i := range 100 {
		require.Equal(t, coap.Created, registerLinks(s, fmt.Sprint("d", i), objects, nil).Code)
		if i > 0 {
			leave(t, s, fmt.Sprint("d", i), nil)
		}
	}
	require.Len(t, store.records, 10)
	for i := range 8 {
		require.Equal(t, CodeForbidden, ResponseCode(registerLinks(s, fmt.Sprint("secured", i), objects, nil).Code))
	}
	require.Equal(t, coap.Created, registerLinks(s, "d100", objects, nil).Code)
	require.Equal(t, CodeUnavailable, ResponseCode(registerLinks(s, "d101", objects, nil).Code))
	// Another server on the same store knows as many.
	s = MustServer(ServerConfig{MaxRegistrations: 10, Registrations: store, Credentials: creds})
	s.ensureLoaded()
	for i := range 8 {
		require.Equal(t, CodeForbidden, ResponseCode(registerLinks(s, fmt.Sprint("secured", i), objects, nil).Code))
	}
}

// TestRoomForCredentials: devices without credentials take all the room that they can get. There is
// still room for devices with credentials. On a server without credentials they can take all of it.
func TestRoomForCredentials(t *testing.T) {
	for name, config := range map[string]ServerConfig{
		"endpoints": {MaxRegistrations: 40}, "bytes": {MaxRegistrationBytes: 40 * (1024 + textCost)},
	} {
		t.Run(name, func(t *testing.T) {
			creds := staticCredentials{}
			for i := range 10 {
				creds[fmt.Sprint("id", i)] = fmt.Sprint("secured", i)
			}
			fill := func(s *Server) (n int) {
				for n < 100 && registerLinks(s, fmt.Sprint("d", n), linksOf(n, 1000), nil).Code == coap.Created {
					n++
				}
				return n
			}
			require.InDelta(t, 40, fill(MustServer(config)), 2)
			config.Credentials = creds
			s := MustServer(config)
			require.InDelta(t, 30, fill(s), 2)
			for round := range 2 {
				for i := range 9 {
					id := psk(fmt.Sprint("id", i))
					require.Equal(t, coap.Created, registerLinks(s, fmt.Sprint("secured", i), linksOf(100+i, 1000), id).Code, "%d: %d", round, i)
				}
			}
			require.NoError(t, s.DeleteDevice(t.Context(), "secured0"))
			require.Equal(t, CodeUnavailable, ResponseCode(registerLinks(s, "one more", linksOf(200, 1000), nil).Code))
			leave(t, s, "d0", nil)
			if name == "endpoints" {
				require.Equal(t, coap.Created, registerLinks(s, "one more", linksOf(200, 1000), nil).Code)
			}
		})
	}
}

// TestTextIsCounted performs random operations, and compares the counts with a recount.
func TestTextIsCounted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := MustServer(ServerConfig{MaxRegistrationBytes: 5000, MaxRegistrations: 12, Credentials: staticCredentials{"e1": "e1", "e2": "e2"}})
	for range 3000 {
		endpoint := fmt.Sprint("e", rnd.IntN(20))
		var id *dtls.Identity
		if endpoint == "e1" || endpoint == "e2" {
			id = psk(endpoint)
		}
		r, _ := s.Registration(endpoint)
		links := linksOf(rnd.IntN(9), 100+rnd.IntN(3)*300)
		queries := []string{"sms=" + strings.Repeat("1", rnd.IntN(30)+1), "b=" + strings.Repeat("U", rnd.IntN(5)+1)}
		switch rnd.IntN(5) {
		case 0, 1:
			registerLinks(s, endpoint, links, id)
		case 2:
			serve(s, incoming{code: coap.POST, path: "/rd/" + r.ID, format: 40, payload: links, queries: queries, identity: id})
		case 3:
			serve(s, incoming{code: coap.DELETE, path: "/rd/" + r.ID, format: -1, identity: id})
		case 4:
			if rnd.IntN(4) == 0 {
				_ = s.DeleteDevice(t.Context(), endpoint)
			}
		}
		want, texts, ended, secured := int64(0), map[string]bool{}, 0, 0
		for r := range s.Registrations() {
			want += sizeOf(&r)
			if r.Links != "" && !texts[r.Links] {
				texts[r.Links] = true
				want += int64(len(r.Links)) + textCost
			}
			if r.ID == "" && !r.Secured {
				ended++
			}
			if r.Secured {
				secured++
			}
		}
		require.Equal(t, want, s.table.size)
		require.LessOrEqual(t, want, int64(5000))
		require.Len(t, s.table.texts, len(texts))
		require.Len(t, s.table.ended, ended)
		require.Equal(t, secured, s.table.secured)
	}
}

// TestLinksCostTheirBytes registers different lists of objects of the maximum length.
func TestLinksCostTheirBytes(t *testing.T) {
	const n = 2000
	s := MustServer(ServerConfig{})
	before := heapBytes()
	for i := range n {
		registerLinks(s, fmt.Sprint("d", i), linksOf(i, 4096), nil)
	}
	each := (heapBytes() - before) / n
	t.Logf("%d bytes each", each)
	require.Less(t, each, uint64(6000))
	require.True(t, s.Registered("d1"))
}

// TestEvictedWhileItRegisters: devices with ended registrations register again while others need
// their room.
func TestEvictedWhileItRegisters(t *testing.T) {
	store := &recordingStore{}
	s := MustServer(ServerConfig{MaxRegistrations: 4, Registrations: store})
	done := make(chan struct{})
	for w := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 200 {
				endpoint := fmt.Sprint("d", (w+i)%8)
				resp := serve(s, incoming{
					code: coap.POST, path: "/rd", queries: []string{"ep=" + endpoint}, format: 40, payload: objects,
					peer: coap.Peer{Transport: coap.TCP, ID: uint64(w)},
				})
				if resp.Code == coap.Created {
					serve(s, incoming{code: coap.DELETE, path: location(resp), format: -1})
				}
			}
		}()
	}
	for range 8 {
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("they wait for each other")
		}
	}
	for r := range s.Registrations() {
		require.Equal(t, r.ID, store.records[r.Endpoint].ID)
	}
}
