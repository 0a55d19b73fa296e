package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/memory"
)

const jsonType = "application/json"

// many is a server with rollouts and devices, in virtual time; clients use HTTP over pipes.
type many struct {
	*service
	network *simnet.Network
	ctx     context.Context
	devices sync.WaitGroup
	image   string
}

// inFleet calls fn with a server, in virtual time.
func inFleet(t *testing.T, rollouts rollout.Config, config httpapi.Config, fn func(m *many)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		db, network := memory.New(), simnet.New(1)
		images, err := firmware.OpenRepository(dir, db, firmware.RepositoryConfig{})
		require.NoError(t, err)
		srv := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
		delivery, err := firmware.NewDelivery(images, firmware.DeliveryConfig{})
		require.NoError(t, err)
		srv.HandleFunc("/", delivery.ServeCoAP)
		manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{Delivery: delivery, Inventory: true})
		require.NoError(t, err)
		all, err := rollout.NewManager(srv, manager, db, rollouts)
		require.NoError(t, err)
		config.Rollouts = all
		l := newPipes()
		server := httptest.NewUnstartedServer(handler(t, manager, httpapi.AllowAll, config))
		server.Listener.Close()
		server.Listener = l
		server.Start()
		server.Client().Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil }
		m := &many{service: &service{t: t, db: db, manager: manager, Server: server}, network: network, ctx: ctx}
		var run sync.WaitGroup
		run.Go(func() { require.NoError(t, manager.Run(ctx)) })
		run.Go(func() { require.NoError(t, all.Run(ctx)) })
		defer func() {
			server.CloseClientConnections()
			server.Close()
			cancel()
			m.devices.Wait()
			run.Wait()
		}()
		m.image = m.service.image("1.1.0")
		fn(m)
	})
}

// fleet registers devices dev-0, dev-1, ... that install, except those that are odd.
func (m *many) fleet(n int, odd map[int]firmwaretest.Install) (list []string) {
	for i := range n {
		in, ok := odd[i]
		if !ok {
			in = firmwaretest.Install{Version: "1.1.0", Time: time.Minute, BootTime: 10 * time.Second}
		}
		d := firmwaretest.NewDevice(lwm2m.ClientConfig{
			Endpoint: fmt.Sprintf("dev-%d", i), Server: "coap://10.0.0.1:5683", Listen: listen(m.network, fmt.Sprintf("10.1.0.%d:0", i+1)),
		}, firmwaretest.Script{Version: "1.0.0", Install: in})
		m.devices.Go(func() { _ = d.Run(m.ctx) })
		list = append(list, fmt.Sprintf("dev-%d", i))
	}
	time.Sleep(time.Minute)
	return list
}

// aRollout is a rollout as clients see it.
type aRollout struct {
	ID, Name, Image, State, Reason, Cause string
	Until                                 *time.Time
	Stage                                 int
	Stages                                []struct {
		Size               any
		Only               any
		Manual             bool
		Soak               string
		Admitted, Active   int
		Succeeded, Skipped int
		Failed             int
		RolledBack         int `json:"rolled_back"`
		Opened             *time.Time
		Ceiling            int
	}
	Lines       int
	Members     map[string]int
	Waiting     struct{ Reasons map[string]int }
	Concurrency int
	Rate        *float64
	MaxFailure  float64 `json:"max_failure"`
	Missing     string  `json:"missing_after"`
	Window      map[string]any
	StartAt     *time.Time `json:"start_at"`
	EndAt       time.Time  `json:"end_at"`
	Notes       string
	Downgrade   bool
	Update      map[string]any
	Created     time.Time
	Started     *time.Time
	Ended       *time.Time
}

type aMember struct {
	Endpoint, State, Reason, Place, Update string
	Stage, Attempt                         int
	Until                                  *time.Time
}

func (s *service) rollout(body string, header ...string) aRollout {
	s.t.Helper()
	a := s.post("/api/v1/rollouts", body, header...)
	require.Equal(s.t, http.StatusCreated, a.StatusCode, "%s", a.body)
	r := decode[aRollout](s.t, a)
	require.Equal(s.t, "rollouts/"+r.ID, a.Header.Get("Location"))
	return r
}

func (s *service) order(id, what, body string) aRollout {
	s.t.Helper()
	a := s.post("/api/v1/rollouts/"+id+"/"+what, body)
	require.Equal(s.t, http.StatusOK, a.StatusCode, "%s", a.body)
	return decode[aRollout](s.t, a)
}

func (s *service) seen(id string) aRollout {
	s.t.Helper()
	return decode[aRollout](s.t, s.get("/api/v1/rollouts/"+id))
}

// until waits until a rollout is as it should be.
func (s *service) until(id string, ok func(aRollout) bool) aRollout {
	s.t.Helper()
	for range 3000 {
		if r := s.seen(id); ok(r) {
			return r
		}
		time.Sleep(5 * time.Second)
	}
	require.Fail(s.t, "it does not get there", "%s", s.get("/api/v1/rollouts/"+id).body)
	return aRollout{}
}

// TestRollout follows a rollout from its draft to its end, through the calls that an operator
// makes.
func TestRollout(t *testing.T) {
	inFleet(t, rollout.Config{}, httpapi.Config{Actor: func(*http.Request) string { return "kim" }}, func(m *many) {
		t := m.t
		list := append(m.fleet(4, nil), "absent")
		body := `{"name":"spring","image":"` + m.image + `","targets":{"endpoints":["` + strings.Join(list, `","`) + `"]},
			"stages":[{"size":1,"only":{"endpoints":["dev-2"]},"soak":"10m"},{"size":"50%","manual":true},{"size":"100%"}],
			"concurrency":2,"rate":60,"max_failure":0.1,"missing_after":"20m","notes":"ask Sam","update":{"deadline":"12h","labels":{"ticket":"OPS-1"}}`
		dry := decode[struct {
			ID                string
			Targets           int
			First             []string
			Stages            []int
			Versions, Skipped []struct {
				Version string
				Devices int
			}
		}](t, m.post("/api/v1/rollouts?dry_run=true", body+"}"))
		daily := decode[struct{ Plan struct{ Rate float64 } }](t, m.post("/api/v1/rollouts?dry_run=true", strings.Replace(body, `"rate":60`, `"rate":0.0007`, 1)+"}"))
		require.Equal(t, 0.0007, daily.Plan.Rate, "one a day")
		require.Equal(t, 5, dry.Targets)
		require.Equal(t, []int{1, 3, 5}, dry.Stages)
		require.ElementsMatch(t, list, dry.First)
		require.Len(t, dry.Versions, 2)
		require.Empty(t, decode[struct{ Items []aRollout }](t, m.get("/api/v1/rollouts")).Items, "a dry run stores nothing")

		r := m.rollout(body + `,"id":"` + dry.ID + `"}`)
		require.Equal(t, dry.ID, r.ID)
		requireProblem(t, m.post("/api/v1/rollouts", body+`,"id":"`+dry.ID+`"}`), http.StatusConflict, "conflict")
		turns := decode[struct{ Items []aMember }](t, m.get("/api/v1/rollouts/"+r.ID+"/members?state=waiting"))
		for i, member := range turns.Items {
			require.Equal(t, dry.First[i], member.Endpoint, "the dry run has shown the turns")
		}
		listed := decode[struct{ Items []map[string]any }](t, m.get("/api/v1/rollouts?state=active"))
		require.Len(t, listed.Items, 1)
		require.NotContains(t, listed.Items[0], "update", "a list has nothing that may be large")
		require.Equal(t, "draft", r.State)
		require.Equal(t, "it waits for its start, with 5 devices", r.Reason)
		require.Zero(t, r.Stage)
		require.Nil(t, r.Started)
		require.Equal(t, map[string]int{"not_started": 5}, r.Waiting.Reasons)
		require.Equal(t, map[string]int{"waiting": 5, "active": 0, "succeeded": 0, "failed": 0, "rolled_back": 0, "skipped": 0}, r.Members)
		require.Equal(t, []any{1., "50%", "100%"}, []any{r.Stages[0].Size, r.Stages[1].Size, r.Stages[2].Size})
		require.Equal(t, map[string]any{"endpoints": []any{"dev-2"}}, r.Stages[0].Only)
		require.Equal(t, []int{1, 3, 5}, []int{r.Stages[0].Ceiling, r.Stages[1].Ceiling, r.Stages[2].Ceiling})
		require.Equal(t, []any{"10m", "0s", true}, []any{r.Stages[0].Soak, r.Stages[2].Soak, r.Stages[1].Manual})
		require.Equal(t, []any{2, 60., 0.1, "20m", "ask Sam"}, []any{r.Concurrency, *r.Rate, r.MaxFailure, r.Missing, r.Notes})
		require.Equal(t, "12h", r.Update["deadline"])

		p := requireProblem(t, m.post("/api/v1/rollouts/"+r.ID+"/pause", ""), http.StatusConflict, "rollout-state")
		require.Equal(t, "it is draft: it waits for its start, with 5 devices", p.Detail)
		requireProblem(t, m.do(http.MethodDelete, "/api/v1/rollouts/"+r.ID, nil), http.StatusConflict, "rollout-state")
		r = m.order(r.ID, "start", `{"reason":"as planned"}`)
		require.Equal(t, "running", r.State)
		r = m.until(r.ID, func(r aRollout) bool { return r.Members["active"] == 1 })
		require.Equal(t, 1, r.Stage)
		require.Contains(t, r.Reason, "stage 1 of 3")
		time.Sleep(time.Second)
		page := decode[struct{ Items []aMember }](t, m.get("/api/v1/rollouts/"+r.ID+"/members?state=active"))
		require.Len(t, page.Items, 1)
		require.Equal(t, "dev-2", page.Items[0].Endpoint)
		update := decode[struct {
			Labels map[string]string
			Holds  []struct{ Holder string }
		}](t, m.get("/api/v1/updates/"+page.Items[0].Update))
		require.Equal(t, "OPS-1", update.Labels["ticket"])

		r = m.order(r.ID, "pause", "")
		require.Equal(t, "paused", r.State)
		require.Equal(t, "paused", m.order(r.ID, "pause", "").State, "it is so already")
		require.Equal(t, "operator", r.Cause)
		r = m.order(r.ID, "resume", "")
		r = m.until(r.ID, func(r aRollout) bool { return strings.Contains(r.Reason, "are watched") })
		require.WithinDuration(t, time.Now().Add(10*time.Minute), *r.Until, time.Minute)
		r = m.until(r.ID, func(r aRollout) bool { return strings.Contains(r.Reason, "an operator opens stage 2 of 3") })
		require.Equal(t, map[string]int{"gate": 4}, r.Waiting.Reasons)

		a := m.do(http.MethodPatch, "/api/v1/rollouts/"+r.ID, strings.NewReader(`{"concurrency":7,"rate":null,"notes":"","reason":"faster"}`), "Content-Type", jsonType)
		require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
		r = decode[aRollout](t, a)
		require.Equal(t, 7, r.Concurrency)
		require.Nil(t, r.Rate)
		m.order(r.ID, "open", "")
		r = m.until(r.ID, func(r aRollout) bool { return r.Members["succeeded"] == 4 })
		time.Sleep(time.Minute)
		r = m.seen(r.ID)
		require.Equal(t, map[string]int{"offline": 1}, r.Waiting.Reasons)
		members := decode[struct{ Items []aMember }](t, m.get("/api/v1/rollouts/"+r.ID+"/members?reason=offline"))
		require.Len(t, members.Items, 1)
		require.Equal(t, "absent", members.Items[0].Endpoint)

		r = m.order(r.ID, "members", `{"endpoint":"late"}`)
		require.Equal(t, 2, r.Members["waiting"])
		a = m.post("/api/v1/rollouts/"+r.ID+"/stop?dry_run=true", `{"mode":"cancel"}`)
		require.JSONEq(t, `{"finish":0,"never_start":2}`, string(a.body))
		require.Equal(t, "running", m.seen(r.ID).State, "a dry run changes nothing")
		m.order(r.ID, "stop", `{"mode":"finish","reason":"enough"}`)
		r = m.until(r.ID, func(r aRollout) bool { return r.State == "ended" })
		require.Equal(t, map[string]int{"waiting": 0, "active": 0, "succeeded": 4, "failed": 0, "rolled_back": 0, "skipped": 2}, r.Members)
		require.NotNil(t, r.Ended)
		members = decode[struct{ Items []aMember }](t, m.get("/api/v1/rollouts/"+r.ID+"/members?reason=cancelled"))
		require.Len(t, members.Items, 2)
		requireProblem(t, m.post("/api/v1/rollouts/"+r.ID+"/start", ""), http.StatusConflict, "rollout-state")

		// Its journal, in pages of one line, and as a stream.
		var names []string
		actors := map[string]bool{}
		for next := ""; ; {
			page := decode[struct {
				Items []struct{ Event, Actor string }
				Next  string
			}](t, m.get("/api/v1/rollouts/"+r.ID+"/events?limit=1"+next))
			for _, line := range page.Items {
				names = append(names, line.Event)
				actors[line.Actor] = true
			}
			if page.Next == "" {
				break
			}
			next = "&cursor=" + page.Next
		}
		require.Equal(t, "started", names[0])
		last := decode[struct{ Items []struct{ Event string } }](t, m.get(fmt.Sprintf("/api/v1/rollouts/%s/events?after=%d", r.ID, m.seen(r.ID).Lines-1)))
		require.Len(t, last.Items, 1)
		require.Equal(t, "ended", last.Items[0].Event)
		requireProblem(t, m.get("/api/v1/rollouts/"+r.ID+"/events?after=x"), http.StatusBadRequest, "invalid-query")
		require.Equal(t, "ended", names[len(names)-1])
		require.Contains(t, names, "edited")
		require.Equal(t, map[string]bool{"kim": true, "": true}, actors)
		names = append(append([]string{"begin"}, names...), "end")
		deleted := time.AfterFunc(time.Minute, func() {
			require.Equal(t, http.StatusNoContent, m.do(http.MethodDelete, "/api/v1/rollouts/"+r.ID, nil).StatusCode)
		})
		require.Equal(t, names, m.stream(r.ID), "the stream ends when the rollout is deleted")
		require.False(t, deleted.Stop())
		requireProblem(t, m.get("/api/v1/rollouts/"+r.ID), http.StatusNotFound, "not-found")
		requireProblem(t, m.get("/api/v1/rollouts/"+r.ID+"/members"), http.StatusNotFound, "not-found")
		requireProblem(t, m.get("/api/v1/rollouts/"+r.ID+"/events"), http.StatusNotFound, "not-found")
	})
}

// stream returns the names of the lines of a rollout's event stream, until that ends.
func (s *service) stream(id string) (names []string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+"/api/v1/rollouts/"+id+"/events", nil)
	require.NoError(s.t, err)
	r.Header.Set("Accept", "text/event-stream")
	response, err := s.Client().Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	require.Equal(s.t, "text/event-stream", response.Header.Get("Content-Type"))
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		if _, event, ok := strings.Cut(scanner.Text(), `"event":"`); ok {
			name, _, _ := strings.Cut(event, `"`)
			names = append(names, name)
		} else if name, ok := strings.CutPrefix(scanner.Text(), "event: "); ok {
			names = append(names, name)
		}
	}
	return names
}

// TestRolloutTrips: a device of the first stage fails; the rollout stops by itself, says why, and
// goes on after a retry.
func TestRolloutTrips(t *testing.T) {
	inFleet(t, rollout.Config{}, httpapi.Config{}, func(m *many) {
		t := m.t
		list := m.fleet(3, map[int]firmwaretest.Install{0: {Result: 5, Time: time.Minute, NoReboot: true}})
		r := m.rollout(`{"image":"` + m.image + `","start":true,"targets":{"endpoints":["` + strings.Join(list, `","`) + `"]},
			"stages":[{"size":1,"only":{"endpoints":["dev-0"]}},{"size":"100%"}]}`)
		r = m.until(r.ID, func(r aRollout) bool { return r.State == "paused" })
		require.Equal(t, "trip", r.Cause)
		require.Equal(t, "device dev-0 of the first stage failed", r.Reason)
		require.Equal(t, map[string]int{"paused": 2}, r.Waiting.Reasons)
		failed := decode[struct {
			Items []struct{ Endpoint, Reason, Detail string }
		}](t, m.get("/api/v1/rollouts/"+r.ID+"/members?state=failed"))
		require.Equal(t, "[{dev-0 device_result integrity_failed}]", fmt.Sprint(failed.Items))
		lines := m.get("/api/v1/rollouts/" + r.ID + "/events").body
		require.Contains(t, string(lines), `"endpoint":"dev-0"`)
		p := requireProblem(t, m.post("/api/v1/rollouts/"+r.ID+"/retry", `{"outcomes":["won"]}`), http.StatusBadRequest, "invalid-field")
		require.Equal(t, "outcomes[0]", p.Field)
		requireProblem(t, m.post("/api/v1/rollouts/"+r.ID+"/retry", ""), http.StatusBadRequest, "invalid-field")
		requireProblem(t, m.post("/api/v1/rollouts/"+r.ID+"/pause", `{"mode":"cancel"}`), http.StatusBadRequest, "invalid-field")
		r = m.order(r.ID, "retry", `{"outcomes":["failed"]}`)
		require.Equal(t, 3, r.Members["waiting"])
	})
}

// TestRolloutKeys: a key makes the request repeatable; keys and holders of rollouts are not for
// others.
func TestRolloutKeys(t *testing.T) {
	inFleet(t, rollout.Config{}, httpapi.Config{}, func(m *many) {
		t := m.t
		body := `{"image":"` + m.image + `","targets":{"endpoints":["a"]}}`
		first := m.rollout(body, "Idempotency-Key", "k1")
		require.Equal(t, first.ID, m.rollout(body, "Idempotency-Key", "k1").ID)
		require.NotEqual(t, first.ID, m.rollout(body, "Idempotency-Key", "k2").ID)
		p := requireProblem(t, m.post("/api/v1/rollouts", body+" ", "Idempotency-Key", "k1"), http.StatusUnprocessableEntity, "key-reused")
		require.Contains(t, p.Detail, first.ID)
		update := `{"image":"` + m.image + `","endpoint":"a"`
		requireProblem(t, m.post("/api/v1/updates", update+"}", "Idempotency-Key", "rollout/"+first.ID+"/1/x"), http.StatusBadRequest, "bad-request")
		p = requireProblem(t, m.post("/api/v1/updates", update+`,"hold":{"holder":"rollout/x"}}`), http.StatusBadRequest, "invalid-field")
		require.Equal(t, "hold.holder", p.Field)
		id := m.start("a", m.image)
		for _, call := range []string{"hold", "release"} {
			p = requireProblem(t, m.post("/api/v1/updates/"+id+"/"+call, `{"holder":"rollout/`+first.ID+`"}`), http.StatusBadRequest, "invalid-field")
			require.Equal(t, "holder", p.Field)
		}
		// The image of a rollout that has not ended cannot be deleted, nor what it waits for.
		m.service.image("2")
	})
}

// TestRolloutsAreRefused: a company's approvals decide, and their text reaches the operator.
func TestRolloutsAreRefused(t *testing.T) {
	allow := func(_ context.Context, actor string, action rollout.Action, r rollout.Rollout) error {
		if action == rollout.ActionStart && actor != "boss" {
			return errors.New("ask the boss about " + r.Name)
		}
		return nil
	}
	config := httpapi.Config{Actor: func(r *http.Request) string {
		if r.Header.Get("X-Who") == "panic" {
			panic("no")
		}
		return r.Header.Get("X-Who")
	}}
	inFleet(t, rollout.Config{Allow: allow}, config, func(m *many) {
		t := m.t
		r := m.rollout(`{"name":"spring","image":"` + m.image + `","targets":{"endpoints":["a"]}}`)
		for _, who := range []string{"", "kim", "panic", strings.Repeat("x", 300)} {
			p := requireProblem(t, m.post("/api/v1/rollouts/"+r.ID+"/start", "", "X-Who", who), http.StatusForbidden, "refused")
			require.Equal(t, "ask the boss about spring", p.Detail)
			require.Equal(t, "draft", m.seen(r.ID).State)
		}
		require.Equal(t, http.StatusOK, m.post("/api/v1/rollouts/"+r.ID+"/start", "", "X-Who", "boss").StatusCode)
	})
}

// TestNoRollouts: without a manager of rollouts their calls answer 404.
func TestNoRollouts(t *testing.T) {
	s := newService(t, httpapi.Config{})
	p := requireProblem(t, s.get("/api/v1/rollouts"), http.StatusNotFound, "not-found")
	require.Equal(t, "this server has no rollouts", p.Detail)
	requireProblem(t, s.post("/api/v1/rollouts", `{}`), http.StatusNotFound, "not-found")
	requireProblem(t, s.get("/api/v1/rollouts/x/events"), http.StatusNotFound, "not-found")
}
