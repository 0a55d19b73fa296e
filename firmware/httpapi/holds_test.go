package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/store"
)

// hold is a hold as clients see it.
type hold struct {
	Holder, Reason string
	Since          time.Time
	Until          *time.Time
}

type heldUpdate struct {
	ID, Outcome string
	Updated     time.Time
	Holds       []hold
	MayStill    *string `json:"may_still"`
	Journal     []struct{ Event, Detail string }
}

func (u heldUpdate) events() (names []string) {
	for _, line := range u.Journal {
		names = append(names, line.Event)
	}
	return names
}

func TestHoldAndRelease(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	id := s.start("dev", image)
	a := s.get("/api/v1/updates/" + id)
	require.Contains(t, string(a.body), `"holds":[]`)
	require.Contains(t, string(a.body), `"may_still":null`)

	order := func(call, body string) heldUpdate {
		t.Helper()
		a := s.post("/api/v1/updates/"+id+"/"+call, body)
		require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
		u := decode[heldUpdate](t, a)
		require.Equal(t, u, decode[heldUpdate](t, s.get("/api/v1/updates/"+id)))
		return u
	}
	u := order("hold", `{"holder":"shift","reason":"until the line is idle"}`)
	require.Len(t, u.Holds, 1)
	require.Equal(t, "until the line is idle", u.Holds[0].Reason)
	require.Equal(t, u.Updated, u.Holds[0].Since)
	require.Nil(t, u.Holds[0].Until)
	require.Equal(t, []string{"created", "held"}, u.events())

	until := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	east := until.In(time.FixedZone("", 2*60*60)).Format(time.RFC3339Nano)
	require.Contains(t, east, "+02:00")
	u = order("hold", `{"holder":"café","until":"`+east+`"}`)
	require.Len(t, u.Holds, 2)
	require.Equal(t, "café", u.Holds[1].Holder)
	require.True(t, u.Holds[1].Until.Equal(until), "%s %s", u.Holds[1].Until, until)
	require.True(t, strings.HasSuffix(u.Holds[1].Until.Format(time.RFC3339), "Z"), "times are in UTC")

	u = order("hold", `{"holder":"café","reason":"for good","until":null}`)
	require.Len(t, u.Holds, 2, "the same holder's hold is replaced")
	require.Equal(t, "for good", u.Holds[1].Reason)
	require.Nil(t, u.Holds[1].Until)

	u = order("release", `{"holder":"nobody"}`)
	require.Len(t, u.Holds, 2, "what is not held is released already")
	u = order("release", `{"holder":"shift"}`)
	require.Len(t, u.Holds, 1)
	require.Equal(t, "café", u.Holds[0].Holder)
	u = order("release", `{"holder":"café"}`)
	require.Empty(t, u.Holds)
	require.NotNil(t, u.Holds)

	for n := range fsm.MaxHolds {
		order("hold", fmt.Sprintf(`{"holder":"holder %d"}`, n))
	}
	p := requireProblem(t, s.post("/api/v1/updates/"+id+"/hold", `{"holder":"late"}`), http.StatusBadRequest, "invalid-field")
	require.Equal(t, "holder", p.Field)
	require.Contains(t, p.Detail, "one too many")
}

func TestHoldFromTheStart(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	body := `{"endpoint":"dev","image":"` + image + `","hold":{"holder":"shift","reason":"night only","until":"` + until + `"}}`
	a := s.post("/api/v1/updates", body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusCreated, a.StatusCode, "%s", a.body)
	u := decode[heldUpdate](t, a)
	require.Len(t, u.Holds, 1)
	require.Equal(t, []string{"shift", "night only"}, []string{u.Holds[0].Holder, u.Holds[0].Reason})
	require.Equal(t, until, u.Holds[0].Until.Format(time.RFC3339))

	again := s.post("/api/v1/updates", body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusCreated, again.StatusCode, "%s", again.body)
	require.Equal(t, u.ID, decode[heldUpdate](t, again).ID)

	a = s.post("/api/v1/updates", `{"endpoint":"other","image":"`+image+`","hold":null}`)
	require.Equal(t, http.StatusCreated, a.StatusCode, "%s", a.body)
	require.Empty(t, decode[heldUpdate](t, a).Holds)
}

// TestRefusedHolds sends invalid holds in each of the calls that take one.
func TestRefusedHolds(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	id := s.start("dev", image)
	past := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	for _, tt := range []struct{ name, body, field string }{
		{"no holder", `{"reason":"x"}`, "holder"},
		{"empty holder", `{"holder":""}`, "holder"},
		{"long holder", `{"holder":"` + strings.Repeat("h", fsm.MaxHolder+1) + `"}`, "holder"},
		{"control in holder", `{"holder":"a\u0007"}`, "holder"},
		{"C1 control in holder", `{"holder":"a\u0085"}`, "holder"},
		{"half a surrogate pair", `{"holder":"a\ud800"}`, "holder"},
		{"holder of another type", `{"holder":7}`, "holder"},
		{"long reason", `{"holder":"h","reason":"` + strings.Repeat("r", fsm.MaxHoldReason+1) + `"}`, "reason"},
		{"line break in reason", `{"holder":"h","reason":"a\nb"}`, "reason"},
		{"reason of another type", `{"holder":"h","reason":["x"]}`, "reason"},
		{"until that has passed", `{"holder":"h","until":"` + past + `"}`, "until"},
		{"until without zone", `{"holder":"h","until":"2099-01-02T15:04:05"}`, "until"},
		{"until that is a date", `{"holder":"h","until":"2099-01-02"}`, "until"},
		{"until that is no day", `{"holder":"h","until":"2099-02-30T00:00:00Z"}`, "until"},
		{"until as time.Parse takes it", `{"holder":"h","until":"2099-01-02T5:04:05Z"}`, "until"},
		{"until with a comma", `{"holder":"h","until":"2099-01-02T05:04:05,5Z"}`, "until"},
		{"until a day east", `{"holder":"h","until":"2099-01-02T05:04:05+24:00"}`, "until"},
		{"until with a zone that is none", `{"holder":"h","until":"2099-01-02T15:04:05+99:00"}`, "until"},
		{"empty until", `{"holder":"h","until":""}`, "until"},
		{"until as a number", `{"holder":"h","until":4070908800}`, "until"},
		{"until that would mean never", `{"holder":"h","until":"0001-01-01T00:00:00Z"}`, "until"},
		{"until after the last year", `{"holder":"h","until":"9999-12-31T23:59:59-01:00"}`, "until"},
		{"unknown field", `{"holder":"h","till":"2099-01-02T15:04:05Z"}`, "till"},
		{"since is the server's", `{"holder":"h","since":"2099-01-02T15:04:05Z"}`, "since"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := requireProblem(t, s.post("/api/v1/updates/"+id+"/hold", tt.body), http.StatusBadRequest, "invalid-field")
			require.Equal(t, tt.field, p.Field)
			require.Less(t, len(p.Detail), 400)
			p = requireProblem(t, s.post("/api/v1/updates", `{"endpoint":"new","image":"`+image+`","hold":`+tt.body+`}`),
				http.StatusBadRequest, "invalid-field")
			require.Contains(t, []string{"hold." + tt.field, tt.field}, p.Field)
			require.Equal(t, strings.HasPrefix(tt.name, "unknown") || strings.HasPrefix(tt.name, "since"), p.Field == tt.field,
				"only the decoder, which knows no better, leaves out the object: %s", p.Field)
			if tt.field == "holder" && tt.name != "no holder" {
				p = requireProblem(t, s.post("/api/v1/updates/"+id+"/release", tt.body), http.StatusBadRequest, "invalid-field")
				require.Equal(t, "holder", p.Field)
			}
		})
	}
	for _, body := range []string{`"shift"`, `[]`, `true`} {
		p := requireProblem(t, s.post("/api/v1/updates", `{"endpoint":"new","image":"`+image+`","hold":`+body+`}`),
			http.StatusBadRequest, "invalid-field")
		require.Equal(t, "hold", p.Field, body)
	}
	p := requireProblem(t, s.post("/api/v1/updates/"+id+"/release", `{"holder":"h","reason":"x"}`), http.StatusBadRequest, "invalid-field")
	require.Equal(t, "reason", p.Field)
	p = requireProblem(t, s.post("/api/v1/updates/"+id+"/release", `{}`), http.StatusBadRequest, "invalid-field")
	require.Equal(t, "holder", p.Field)
	for _, call := range []string{"hold", "release"} {
		path := "/api/v1/updates/" + id + "/" + call
		requireProblem(t, s.post(path, ``), http.StatusBadRequest, "bad-request")
		requireProblem(t, s.post(path, `{"holder":"h"}{}`), http.StatusBadRequest, "bad-request")
		requireProblem(t, s.do(http.MethodPost, path, nil), http.StatusUnsupportedMediaType, "unsupported-media-type")
		requireProblem(t, s.post(path+"?holder=h", `{"holder":"h"}`), http.StatusBadRequest, "invalid-query")
		requireProblem(t, s.post(path, `{"holder":"h"}`, "Origin", "https://evil.example"), http.StatusForbidden, "foreign-origin")
		requireProblem(t, s.post("/api/v1/updates/nothing/"+call, `{"holder":"h"}`), http.StatusNotFound, "not-found")
	}
	path := "/api/v1/updates/" + id + "/served"
	requireProblem(t, s.post(path, `{"holder":"h"}`), http.StatusBadRequest, "invalid-field")
	requireProblem(t, s.do(http.MethodPost, path, nil, "Content-Type", "text/plain"), http.StatusUnsupportedMediaType, "unsupported-media-type")
	requireProblem(t, s.do(http.MethodPost, "/api/v1/updates/nothing/served", nil), http.StatusNotFound, "not-found")

	u := decode[heldUpdate](t, s.get("/api/v1/updates/"+id))
	require.Empty(t, u.Holds)
	require.Equal(t, []string{"created"}, u.events(), "a refused request changes nothing")
	require.Len(t, decode[struct{ Items []struct{} }](t, s.get("/api/v1/updates")).Items, 1)
}

func TestOrdersForAnUpdateThatHasEnded(t *testing.T) {
	s := newService(t, httpapi.Config{})
	id := s.start("dev", s.image("1.1.0"))
	require.Equal(t, http.StatusOK, s.post("/api/v1/updates/"+id+"/hold", `{"holder":"h"}`).StatusCode)
	a := s.do(http.MethodPost, "/api/v1/updates/"+id+"/cancel", nil)
	require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
	u := decode[heldUpdate](t, a)
	require.Equal(t, "cancelled", u.Outcome)
	require.Equal(t, "none", *u.MayStill, "the device was never reached")
	require.NotNil(t, u.Holds)
	require.Empty(t, u.Holds, "what has ended is not held")
	for call, body := range map[string]string{"hold": `{"holder":"h"}`, "release": `{"holder":"h"}`, "served": `{}`} {
		p := requireProblem(t, s.post("/api/v1/updates/"+id+"/"+call, body), http.StatusConflict, "update-ended")
		require.Equal(t, id, p.Update)
		require.Contains(t, p.Detail, "cancelled")
	}
}

// stored stores an update that has written the Package URI and, if executed, sent Execute.
func (s *service) stored(id, image string, executed bool) {
	s.t.Helper()
	now := time.Now().Add(-time.Minute).UTC().Truncate(time.Microsecond)
	machine := fsm.NewUpdate(fsm.Plan{Target: "1.1.0", Size: 4096}, now)
	step := func(o fsm.Observation) {
		now = now.Add(time.Second)
		o.At = now
		machine, _ = machine.Step(o)
	}
	done := func(code fsm.Code, r fsm.Reading) {
		step(fsm.Observation{Kind: fsm.ObserveDone, Action: machine.Doing().ID, Code: code, Reading: r})
	}
	reading := func(state fsm.State) fsm.Reading {
		return fsm.Reading{
			State: fsm.Known(state), Result: fsm.Known(fsm.ResultDefault), Version: fsm.Known("1.0.0"),
			Protocols: fsm.Known([]fsm.Protocol{fsm.ProtocolHTTP}), Delivery: fsm.Known(fsm.PullOnly),
			Offers: []fsm.Protocol{fsm.ProtocolHTTP},
		}
	}
	step(fsm.Observation{Kind: fsm.ObserveStarted, Online: true})
	done(fsm.CodeContent, reading(fsm.Idle))
	require.Equal(s.t, fsm.ActionWriteURI, machine.Doing().Kind)
	done(fsm.CodeChanged, fsm.Reading{})
	if executed {
		step(fsm.Observation{Kind: fsm.ObservePackageFetched})
		step(fsm.Observation{Kind: fsm.ObserveTimer})
		done(fsm.CodeContent, reading(fsm.Downloaded))
		require.Equal(s.t, fsm.ActionExecute, machine.Doing().Kind, "%+v", machine.Wait)
	}
	_, err := s.db.Commit(s.t.Context(), store.CreateUpdate{Update: store.Update{
		ID: id, Endpoint: id, Image: image, Machine: machine, Created: now, Changed: now,
	}})
	require.NoError(s.t, err)
}

func TestServed(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	s.stored("01", image, false)
	a := s.do(http.MethodPost, "/api/v1/updates/01/served", nil)
	require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
	require.Contains(t, decode[heldUpdate](t, a).events(), "package_fetched")
	a = s.post("/api/v1/updates/01/served", "{}")
	require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
	require.Len(t, decode[heldUpdate](t, a).Journal, 1, "to say it twice is harmless")
}

// TestWayAndWait checks what an active update shows besides its holds.
func TestWayAndWait(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	type view struct {
		Delivery, Protocol string
		Attempt            int
		Deadline, Created  time.Time
		WaitingFor         struct {
			Reason, Whose string
			Until         time.Time
		} `json:"waiting_for"`
	}
	s.stored("01", image, false)
	u := decode[view](t, s.get("/api/v1/updates/01"))
	require.Equal(t, []string{"pull", "http"}, []string{u.Delivery, u.Protocol})
	require.Equal(t, 1, u.Attempt)
	require.WithinDuration(t, u.Created.Add(fsm.DefaultDeadline), u.Deadline, time.Minute)
	require.Equal(t, "device", u.WaitingFor.Whose)
	require.NotEmpty(t, u.WaitingFor.Reason)
	require.False(t, u.WaitingFor.Until.IsZero())

	a := s.post("/api/v1/updates", `{"endpoint":"dev","image":"`+image+`","protocol":"coap","deadline":"2h"}`)
	u = decode[view](t, a)
	require.Equal(t, []string{"", ""}, []string{u.Delivery, u.Protocol}, "there was no attempt yet: what was asked for is no matter")
	require.Zero(t, u.Attempt)
	require.WithinDuration(t, time.Now().Add(2*time.Hour), u.Deadline, time.Minute)
}

func TestMayStill(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	s.stored("01", image, true)
	would := decode[struct {
		IfCancelled struct {
			MayStill string `json:"may_still"`
			Effect   string
		} `json:"if_cancelled"`
	}](t, s.get("/api/v1/updates/01")).IfCancelled
	require.Equal(t, "unknown", would.MayStill)
	require.Contains(t, would.Effect, "may still change to 1.1.0, or not")
	waits := s.get("/api/v1/updates/" + s.start("other", image))
	require.Contains(t, string(waits.body), `"if_cancelled":{"may_still":"none","effect":"the device installs nothing`)
	u := decode[heldUpdate](t, s.do(http.MethodPost, "/api/v1/updates/01/cancel", nil))
	require.Equal(t, "cancelled", u.Outcome)
	require.NotNil(t, u.MayStill)
	require.Equal(t, "unknown", *u.MayStill, "Execute was on its way")
	require.NotContains(t, string(s.get("/api/v1/updates/01").body), "if_cancelled")

	now := time.Now().UTC()
	for outcome, want := range map[fsm.Outcome]fsm.MayStill{
		fsm.OutcomeSucceeded: "", fsm.OutcomeFailed: "", fsm.OutcomeCancelled: fsm.MayStillNone, fsm.OutcomeTimedOut: fsm.MayStillInstall,
	} {
		id := "x-" + string(outcome)
		_, err := s.db.Commit(t.Context(), store.CreateUpdate{Update: store.Update{
			ID: id, Endpoint: id, Image: image, Created: now, Changed: now,
			Machine: fsm.Update{Phase: fsm.PhaseEnded, Outcome: outcome, Result: fsm.ResultUpdateFailed, MayStill: want, Created: now, Ended: now},
		}})
		require.NoError(t, err)
		u := decode[heldUpdate](t, s.get("/api/v1/updates/"+id))
		if want == "" {
			require.Nil(t, u.MayStill, "%s", outcome)
		} else {
			require.Equal(t, string(want), *u.MayStill)
		}
	}
}
