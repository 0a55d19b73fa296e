package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// stated is a manager that says how it is.
type stated struct {
	manager
	is     firmware.Status
	asked  int
	counts error
}

func (s *stated) Status(context.Context) firmware.Status {
	s.asked++
	return s.is
}

func (s *stated) Counts(context.Context, string) ([]store.Count, error) {
	return []store.Count{
		{Image: "a", Outcome: fsm.OutcomeNone, Updates: 2}, {Image: "b", Outcome: fsm.OutcomeNone, Updates: 3},
		{Image: "b", Outcome: fsm.OutcomeFailed, Updates: 4},
	}, s.counts
}

// status asks for the status, and for the health of a program whose monitor is that of the API.
func status(t *testing.T, a *api) (view statusView, ready healthView, code int) {
	t.Helper()
	time.Sleep(2 * statusAge)
	w := httptest.NewRecorder()
	Recorded(t, a).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/status", nil))
	require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &view))
	w = httptest.NewRecorder()
	a.monitor.serveHealth(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &ready))
	return view, ready, w.Code
}

// TestStatusSaysWhatIsWrong: each thing that does not work is in the list of what is degraded, with
// what to do; those that keep the server from serving are the reasons of readyz too, word for word.
func TestStatusSaysWhatIsWrong(t *testing.T) {
	const node = "host-7/1234"
	for what, wrong := range map[string]struct {
		make func(*firmware.Status, *Program, *api)
		why  string
		stop bool
	}{
		"program/1": {func(_ *firmware.Status, p *Program, _ *api) { p.NotReady = "It drains." }, "It drains.", true},
		"program/2": {func(_ *firmware.Status, p *Program, _ *api) {
			p.Degraded = []Degradation{{What: "program", Why: "The fan is loud.", ToDo: "Listen."}}
		}, "The fan is loud.", false},
		"lease/1": {func(s *firmware.Status, _ *Program, _ *api) { s.Store.Lease = &store.Lease{Node: node, Lost: true} }, "taken over", true},
		"lease/2": {func(s *firmware.Status, _ *Program, _ *api) { s.Store.Lease = &store.Lease{Node: node} }, "The lease", true},
		"store/1": {func(s *firmware.Status, _ *Program, _ *api) { s.Away = errors.New("dial 10.0.0.9: secret") }, "does not answer", true},
		"store/2": {func(s *firmware.Status, _ *Program, _ *api) {
			s.Store.FailingSince, s.Store.Err = time.Now(), fmt.Errorf("secret: %w", store.ErrNoSpace)
		}, "disk is full", true},
		"store/3": {func(s *firmware.Status, _ *Program, _ *api) {
			s.Store.FailingSince, s.Store.Err = time.Now(), errors.New("secret")
		}, "refuses", true},
		"manager":          {func(s *firmware.Status, _ *Program, _ *api) { s.Running = false }, "does not run", true},
		"credentials":      {func(s *firmware.Status, _ *Program, _ *api) { s.Server.Asking = lwm2m.Trouble{Since: time.Now()} }, "asked", false},
		"credentials_file": {func(s *firmware.Status, _ *Program, _ *api) { s.Server.Reading = lwm2m.Trouble{Since: time.Now()} }, "read", false},
		"registrations/1":  {func(s *firmware.Status, _ *Program, _ *api) { s.Server.Storing = lwm2m.Trouble{Since: time.Now()} }, "stored", false},
		"registrations/2": {func(s *firmware.Status, _ *Program, _ *api) {
			s.Server.Registrations = lwm2m.Use{Now: 5, Most: 5}
		}, "limit is reached: endpoints that are known", false},
		"certificate/1": {func(s *firmware.Status, _ *Program, _ *api) {
			s.Server.CertificateEnds = time.Now().Add(certificateTime - time.Hour)
		}, "certificate ends at 20", false},
		"certificate/2": {func(s *firmware.Status, _ *Program, _ *api) { s.Server.CertificateEnds = time.Now() }, "has ended", false},
		"images":        {func(s *firmware.Status, _ *Program, _ *api) { s.Missing = []string{"id1", "id2"} }, "id1, id2", false},
		"followers": {func(_ *firmware.Status, _ *Program, a *api) {
			for i := range 4 {
				r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
				r.RemoteAddr = fmt.Sprintf("10.0.0.%d:1", i)
				_, _ = a.streams.enter(r, "")
			}
		}, "event streams", false},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, p := &stated{is: firmware.Status{Running: true}}, Program{}
				a := newAPI(m, nil, AllowAll, Config{MaxStreams: 4, Status: func() Program { return p }})
				view, ready, code := status(t, a)
				require.Empty(t, view.Degraded)
				require.True(t, view.Ready)
				require.Equal(t, healthView{"ok", []string{}}, ready)
				require.Equal(t, http.StatusOK, code)

				wrong.make(&m.is, &p, a)
				began := time.Now().Add(2 * statusAge)
				view, ready, code = status(t, a)
				require.Len(t, view.Degraded, 1)
				d := view.Degraded[0]
				require.Equal(t, strings.Split(what, "/")[0], d.What)
				require.Contains(t, d.Why, wrong.why)
				require.Contains(t, ".", d.Why[len(d.Why)-1:])
				require.NotEmpty(t, d.ToDo)
				require.False(t, d.Since.IsZero())
				require.False(t, d.Since.After(began))
				require.Equal(t, !wrong.stop, view.Ready)
				if wrong.stop {
					require.Equal(t, http.StatusServiceUnavailable, code)
					require.Equal(t, healthView{"unavailable", []string{d.Why}}, ready)
					require.NotContains(t, d.Why, "secret")
					require.NotContains(t, d.Why, node)
				} else {
					require.Equal(t, http.StatusOK, code)
				}
				since := d.Since
				view, _, _ = status(t, a)
				require.Equal(t, since, view.Degraded[0].Since)
			})
		})
	}
}

// TestStatusFields: sockets get the names of the program, and what is counted is there.
func TestStatusFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := netip.MustParseAddrPort("127.0.0.1:5683")
		m := &stated{is: firmware.Status{
			Running: true, Store: store.Report{Kind: "bolt", Format: 3, Bytes: 4096, LastCommit: time.Now()},
			Server: lwm2m.ServerStatus{
				Sockets:     []lwm2m.SocketStatus{{Transport: lwm2m.TransportUDP, Addr: at, Open: 3}, {Transport: lwm2m.TransportTCP, Addr: at, Open: 2}},
				Connections: lwm2m.Use{Now: 2, Most: 10}, Counts: lwm2m.ServerCounts{Retransmissions: 7},
				Refusals: []lwm2m.Refusal{{
					What: "handshake", Identity: lwm2m.Identity{Kind: lwm2m.IdentityPSK, Name: "a"}, Address: at, Transport: lwm2m.TransportDTLS,
					Reason: "keys differ", Count: 2, First: time.Now(), Last: time.Now(),
				}},
			},
		}}
		a := newAPI(m, nil, AllowAll, Config{Status: func() Program {
			return Program{Version: "v7", Sockets: []Socket{
				{Door: "coaps-tcp", Address: "127.0.0.1:5683", Protocol: "coaps+tcp"}, {Door: "http", Address: "127.0.0.1:8080", Protocol: "http", Open: 1},
			}}
		}})
		v, _, _ := status(t, a)
		require.Equal(t, []socketView{
			{"", "127.0.0.1:5683", "coap", 3, nil}, {"coaps-tcp", "127.0.0.1:5683", "coaps+tcp", 2, new(int64(10))},
			{"http", "127.0.0.1:8080", "http", 1, nil},
		}, v.Sockets)
		require.Equal(t, "v7", v.Version.Program)
		require.NotEmpty(t, v.Version.Go)
		require.EqualValues(t, 2, v.Uptime)
		require.Equal(t, map[string]uint64{"active": 5, "failed": 4, "succeeded": 0, "rolled_back": 0, "cancelled": 0, "timed_out": 0}, v.Updates)
		require.Nil(t, v.Rollouts)
		require.EqualValues(t, 4096, *v.Store.Bytes)
		require.InDelta(t, 2, *v.Store.Age, 0.1)
		require.Contains(t, v.Counters, counterView{"retransmissions", 7, "messages that the server sent again"})
		require.Len(t, v.Refusals, 1)
		refusal := v.Refusals[0]
		require.Equal(t, refusalView{"handshake", "", "a", at.String(), "coaps", "keys differ", 2, refusal.First, refusal.First}, refusal)
		names := map[string]bool{}
		for _, q := range v.Queues {
			require.False(t, names[q.Name], q.Name)
			names[q.Name] = true
			require.NotEmpty(t, q.Text)
		}

		m.is.Away, m.counts = errors.New("away"), errors.New("away")
		v, _, _ = status(t, a) // it answers while the store does not
		require.Nil(t, v.Updates)
		require.Equal(t, "away", v.Store.Error)
	})
}

// TestHealthIsCheap: readyz looks once a second however often it is asked, also if the program's
// function hangs, and both paths take GET and HEAD only.
func TestHealthIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang, end := make(chan struct{}), make(chan struct{})
		var calls atomic.Int32
		m := &stated{is: firmware.Status{Running: true}}
		watch := &monitor{manager: m, log: slog.New(slog.DiscardHandler), program: func() Program {
			if calls.Add(1) == 1 {
				panic("at the first call")
			}
			<-hang
			close(end)
			return Program{}
		}}
		ask := func(method, path string) int {
			w := httptest.NewRecorder()
			watch.serveHealth(w, httptest.NewRequestWithContext(t.Context(), method, "/x"+path, nil))
			return w.Code
		}
		began := time.Now()
		for range 1000 {
			require.Equal(t, http.StatusOK, ask(http.MethodGet, "/readyz"))
			require.Equal(t, http.StatusOK, ask(http.MethodHead, "/healthz"))
		}
		require.Equal(t, 1, m.asked)
		require.Zero(t, time.Since(began))
		require.Equal(t, "program", watch.is.degraded[0].What)
		for range 3 { // a call that hangs costs a second once
			time.Sleep(2 * statusAge)
			require.Equal(t, http.StatusOK, ask(http.MethodGet, "/readyz"))
			require.Equal(t, "program", watch.is.degraded[0].What)
		}
		require.EqualValues(t, 2, calls.Load())
		require.Equal(t, http.StatusMethodNotAllowed, ask(http.MethodPost, "/healthz"))
		require.Equal(t, http.StatusNotFound, ask(http.MethodGet, "/statusz"))
		close(hang)
		<-end
	})
}
