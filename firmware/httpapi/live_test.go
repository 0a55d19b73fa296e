package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
)

// typed is an event with its type.
type typed struct {
	kind, id string
	data     map[string]any
}

// follow opens an event stream. next returns its next event of a type, and skips others.
func (s *service) follow(path string) (next func(kind string) typed, end func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	require.NoError(s.t, err)
	response, err := s.Client().Do(r)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, response.StatusCode)
	events := make(chan typed, 10_000)
	go func() { // reads, also while the test does something else
		defer close(events)
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		event := typed{kind: "message"}
		for lines.Scan() {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); {
			case name == "event":
				event.kind = value
			case name == "id":
				event.id = value
			case name == "data" && json.Unmarshal([]byte(value), &event.data) != nil:
				return
			case lines.Text() == "":
				if event.data != nil {
					events <- event
				}
				event = typed{kind: "message"}
			}
		}
	}()
	next = func(kind string) typed {
		s.t.Helper()
		for event := range events {
			if event.kind == kind {
				return event
			}
		}
		require.FailNow(s.t, "the stream has ended")
		return typed{}
	}
	return next, func() {
		cancel()
		response.Body.Close()
		for range events {
		}
	}
}

// TestStreamBegins: a stream says where it begins, and a client that reconnects with the id of that
// event begins there again.
func TestStreamBegins(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	s.start("a", image)
	span, err := s.db.Span(t.Context())
	require.NoError(t, err)
	last := float64(span.Last)

	next, end := s.follow("/api/v1/events")
	begin := next("begin")
	require.Equal(t, map[string]any{"after": 0.0, "last": last, "deleted": 0.0, "at_end": false, "heartbeat_seconds": 15.0}, begin.data)
	require.Equal(t, "0", begin.id)
	end()
	next, end = s.follow("/api/v1/events?after=end")
	begin = next("begin")
	require.Equal(t, map[string]any{"after": last, "last": last, "deleted": 0.0, "at_end": true, "heartbeat_seconds": 15.0}, begin.data)
	s.start("b", image)
	require.Equal(t, "b", next("message").data["endpoint"], "what was there before is left out")
	end()
	next, end = s.follow("/api/v1/events?after=" + begin.id)
	require.Equal(t, "b", next("message").data["endpoint"])
	end()
	requireProblem(t, s.get("/api/v1/events?after=middle"), http.StatusBadRequest, "invalid-query")
	requireProblem(t, s.get("/api/v1/events?kinds=update,other"), http.StatusBadRequest, "invalid-query")
}

// TestStreamOfEverything follows devices, rollouts and counts while a rollout runs.
func TestStreamOfEverything(t *testing.T) {
	inFleet(t, rollout.Config{}, httpapi.Config{}, func(m *many) {
		t := m.t
		next, end := m.follow("/api/v1/events?kinds=device,rollout,counts&after=end")
		defer end()
		counts := next("counts").data
		require.Equal(t, map[string]any{"all": 0.0, "registered": 0.0, "asleep": 0.0, "silent": 0.0, "not_registered": 0.0}, counts["devices"])
		list := m.fleet(3, nil)
		for range list {
			require.Equal(t, "registered", next("device").data["change"])
		}
		for next("counts").data["devices"].(map[string]any)["registered"] != 3.0 {
		}
		one := m.rollout(`{"image":"` + m.image + `","targets":{"endpoints":["` + strings.Join(list, `","`) + `"]},"stages":[{"size":1,"soak":"10m"},{"size":"100%"}],"start":true}`)
		other := m.rollout(`{"image":"` + m.image + `","targets":{"endpoints":["absent"]}}`)
		mine, leave := m.follow("/api/v1/events?kinds=update,rollout&rollout=" + one.ID)
		defer leave()
		require.Equal(t, one.ID, mine("rollout").data["id"], "what there is comes first")
		single := m.start("alone", m.image)

		states := map[string]bool{}
		for began := time.Now(); ; {
			e := next("rollout")
			if e.data["id"] == other.ID {
				continue
			}
			require.Equal(t, one.ID, e.data["id"])
			state := e.data["rollout"].(map[string]any)["state"].(string)
			states[state] = true
			if state == "ended" {
				t.Logf("it took %v", time.Since(began))
				break
			}
		}
		require.True(t, states["running"])
		for next("counts").data["updates"].(map[string]any)["succeeded"] != 3.0 {
		}
		of := map[string]bool{} // devices of the lines
		for ended := 0; ended < 3; {
			e := mine("message").data
			require.NotEqual(t, single, e["update"])
			of[e["endpoint"].(string)] = true
			if e["outcome"] == "succeeded" {
				ended++
			}
		}
		require.Len(t, of, 3)

		time.Sleep(time.Minute) // it ended long ago
		require.Equal(t, http.StatusNoContent, m.do(http.MethodDelete, "/api/v1/rollouts/"+one.ID, nil).StatusCode)
		e := next("rollout")
		for e.data["deleted"] != true {
			e = next("rollout")
		}
		require.Equal(t, map[string]any{"id": one.ID, "deleted": true, "rollout": nil}, e.data)
	})
}
