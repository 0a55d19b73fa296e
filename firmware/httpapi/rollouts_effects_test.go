package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
)

type anOrder struct {
	Order, Mode, Effect string
	Outcomes            []string
}

// orders returns what may be ordered of a rollout, by order and mode. What is not among it
// changes nothing.
func (s *service) orders(id string) map[string]anOrder {
	s.t.Helper()
	got := decode[struct{ Orders []anOrder }](s.t, s.get("/api/v1/rollouts/"+id))
	list := map[string]anOrder{}
	for _, o := range got.Orders {
		name := strings.TrimSpace(o.Order + " " + o.Mode)
		if o.Order == "retry" {
			name += " " + o.Outcomes[0]
		}
		list[name] = o
	}
	for name, body := range map[string]string{
		"start": "", "pause": "", "resume": "", "open": "", "stop finish": `{"mode":"finish"}`, "stop cancel": `{"mode":"cancel"}`,
		"retry failed": `{"outcomes":["failed","timed_out"]}`, "retry rolled_back": `{"outcomes":["rolled_back"]}`,
	} {
		if _, ok := list[name]; !ok {
			order, _, _ := strings.Cut(name, " ")
			before := s.seen(id).Lines
			if a := s.post("/api/v1/rollouts/"+id+"/"+order, body); a.StatusCode != http.StatusOK { // else it is so already
				requireProblem(s.t, a, http.StatusConflict, "rollout-state")
			}
			require.Equal(s.t, before, s.seen(id).Lines, "%s has changed it", name)
		}
	}
	if _, ok := list["delete"]; !ok {
		requireProblem(s.t, s.do(http.MethodDelete, "/api/v1/rollouts/"+id, nil), http.StatusConflict, "rollout-state")
	}
	return list
}

// TestRolloutEffects: in each state a rollout says which orders would change it and how,
// and groups what failed.
func TestRolloutEffects(t *testing.T) {
	inFleet(t, rollout.Config{}, httpapi.Config{}, func(m *many) {
		t := m.t
		list := m.fleet(4, map[int]firmwaretest.Install{0: {Result: 5, Time: time.Minute, NoReboot: true}})
		body := `{"image":"` + m.image + `","targets":{"endpoints":["` + strings.Join(list, `","`) + `"]},
			"stages":[{"size":2,"only":{"endpoints":["dev-0","dev-1"]}},{"size":"100%","manual":true}]`
		dry := decode[struct {
			Plan struct {
				Stages []struct {
					Size any
					Soak string
				}
				Concurrency int
				MaxFailure  float64 `json:"max_failure"`
				Missing     string  `json:"missing_after"`
				EndAt       time.Time
			}
		}](t, m.post("/api/v1/rollouts?dry_run=true", body+"}"))
		require.Equal(t, []any{100, 0.05, "30m"}, []any{dry.Plan.Concurrency, dry.Plan.MaxFailure, dry.Plan.Missing}, "the defaults")
		require.Equal(t, "100%", dry.Plan.Stages[1].Size)

		r := m.rollout(body + "}")
		can := m.orders(r.ID)
		require.Equal(t, "2 may start, 2 wait for the next stages", can["start"].Effect)
		require.Equal(t, "none finishes, 4 never start, it cannot be undone", can["stop finish"].Effect)
		m.order(r.ID, "start", "")
		m.until(r.ID, func(r aRollout) bool { return r.Members["active"] == 2 })
		can = m.orders(r.ID)
		require.Regexp(t, `2 never start until you resume$`, can["pause"].Effect)
		m.until(r.ID, func(r aRollout) bool { return r.State == "paused" })
		can = m.orders(r.ID)
		require.Equal(t, "2 may start in their turn, 1 bad until now does not count any more", strings.TrimPrefix(can["resume"].Effect, "1 that waits may install, "))
		require.Equal(t, []string{"failed", "timed_out"}, can["retry failed"].Outcomes)
		require.Equal(t, "1 that failed or timed out tries again", can["retry failed"].Effect)
		bad := decode[map[string]any](t, m.get("/api/v1/rollouts/"+r.ID+"/failures"))
		update := bad["groups"].([]any)[0].(map[string]any)["examples"].([]any)[0].(map[string]any)["update"]
		require.Equal(t, map[string]any{"devices": 1., "examined": 1., "groups": []any{map[string]any{
			"outcome": "failed", "reason": "device_result", "result": "integrity_failed", "phase": "restarting", "devices": 1.,
			"examples": []any{map[string]any{"endpoint": "dev-0", "update": update}},
		}}}, bad)

		m.order(r.ID, "resume", "")
		m.until(r.ID, func(r aRollout) bool { return strings.Contains(r.Reason, "an operator opens stage 2") })
		require.Equal(t, "stage 2 of 2 opens, up to 4 devices in all", m.orders(r.ID)["open"].Effect)
		m.order(r.ID, "open", "")
		m.until(r.ID, func(r aRollout) bool { return r.State == "ended" })
		can = m.orders(r.ID)
		require.Equal(t, "its 4 members and its journal go; their updates stay; it cannot be undone", can["delete"].Effect)
		require.Contains(t, can, "retry failed", "its time is not over")
		require.Len(t, can, 2)
	})
}

// TestImageCheckDelete: a dry run of a delete answers as the delete would, and deletes nothing.
func TestImageCheckDelete(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	path := "/api/v1/images/" + image
	dry := func() answer { return s.do(http.MethodDelete, path+"?dry_run=true", nil) }
	require.Equal(t, http.StatusNoContent, dry().StatusCode)
	update := s.start("dev", image)
	requireProblem(t, dry(), http.StatusConflict, "image-in-use")
	requireProblem(t, s.do(http.MethodDelete, path, nil), http.StatusConflict, "image-in-use")
	s.post("/api/v1/updates/"+update+"/cancel", "")
	require.Equal(t, http.StatusNoContent, dry().StatusCode)
	require.Equal(t, http.StatusNoContent, s.do(http.MethodDelete, path, nil).StatusCode)
	requireProblem(t, dry(), http.StatusNotFound, "not-found")
}
