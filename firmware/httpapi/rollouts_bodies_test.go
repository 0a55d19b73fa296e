package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// TestRolloutBodies has bodies that no rollout can be made of: each answer names the field, and
// nothing is stored.
func TestRolloutBodies(t *testing.T) {
	inFleet(t, rollout.Config{}, httpapi.Config{}, func(m *many) {
		t := m.t
		targets := `"targets":{"endpoints":["a","b"]}`
		with := func(field string) string { return `{"image":"` + m.image + `",` + targets + `,` + field + `}` }
		stage := func(fields string) string { return with(`"stages":[{` + fields + `},{"size":"100%"}]`) }
		window := func(fields string) string { return with(`"window":{` + fields + `}`) }
		for _, tt := range []struct{ name, body, field string }{
			{"nothing", ``, ""}, {"null", `null`, "image"}, {"a list", `[]`, ""}, {"cut short", `{"image":"x"`, ""}, {"deep", strings.Repeat("[", 60_000), ""},
			{"two", with(`"name":"x"`) + "{}", ""}, {"not UTF-8", "{\"name\":\"\xff\"}", ""}, {"unknown field", with(`"stage":[]`), "stage"},
			{"id", with(`"id":"my-rollout"`), "id"}, {"no image", `{` + targets + `}`, "image"}, {"long image", `{"image":"` + strings.Repeat("x", 65) + `"}`, "image"},
			{"name", with(`"name":"a\u0007"`), "name"}, {"long name", with(`"name":"` + strings.Repeat("n", 256) + `"`), "name"},
			{"no targets", `{"image":"` + m.image + `"}`, "targets"}, {"empty targets", `{"image":"x","targets":{}}`, "targets"},
			{"no endpoints", `{"image":"x","targets":{"endpoints":[]}}`, "targets"},
			{"both", `{"image":"x","targets":{"endpoints":["a"],"select":{}}}`, "targets"},
			{"unknown target", `{"image":"x","targets":{"all":true}}`, "all"}, {"unknown selector", `{"image":"x","targets":{"select":{"models":"x"}}}`, "models"},
			{"wrong selector", `{"image":"` + m.image + `","targets":{"select":{"labels":{"Ä":"x"}}}}`, "targets.select.labels"},
			{"wrong version", `{"image":"` + m.image + `","targets":{"select":{"version_below":"new"}}}`, "targets.select.version_below"},
			{"twice", `{"image":"x","targets":{"endpoints":["a","b","a"]}}`, "targets.endpoints[2]"},
			{"empty endpoint", `{"image":"x","targets":{"endpoints":["a",""]}}`, "targets.endpoints[1]"},
			{"long endpoint", `{"image":"x","targets":{"endpoints":["` + strings.Repeat("e", 256) + `"]}}`, "targets.endpoints[0]"},
			{"control in endpoint", `{"image":"x","targets":{"endpoints":["\u0000"]}}`, "targets.endpoints[0]"},
			{"half a pair", `{"image":"x","targets":{"endpoints":["\ud800"]}}`, "targets.endpoints[0]"},
			{"numbers", `{"image":"x","targets":{"endpoints":[1]}}`, "targets.endpoints"}, {"an object", `{"image":"x","targets":{"endpoints":{}}}`, "targets.endpoints"},
			{"endpoints as text", `{"image":"x","targets":{"endpoints":"a"}}`, "targets.endpoints"},
			{"too many", `{"image":"x","targets":{"endpoints":[` + strings.Repeat(`"a",`, 100_000) + `"b"]}}`, "targets.endpoints"},

			{"empty stages", with(`"stages":[]`), "stages"}, {"many stages", with(`"stages":[` + strings.Repeat(`{"size":1},`, 20) + `{"size":"100%"}]`), "stages"},
			{"many more stages", with(`"stages":[` + strings.Repeat(`{},`, 20_000) + `{}]`), "stages"},
			{"no size", stage(`"soak":"10m"`), "stages[0].size"}, {"size 0", stage(`"size":0`), "stages[0].size"}, {"size -1", stage(`"size":-1`), "stages[0].size"},
			{"size 1.5", stage(`"size":1.5`), "stages[0].size"}, {"huge size", stage(`"size":99999999999999999999`), "stages[0].size"}, {"size 1e309", stage(`"size":1e309`), "stages[0].size"},
			{"size null", stage(`"size":null`), "stages[0].size"}, {"size text", stage(`"size":"10"`), "stages[0].size"}, {"0 %", stage(`"size":"0%"`), "stages[0].size"},
			{"101 %", stage(`"size":"101%"`), "stages[0].size"}, {"-1 %", stage(`"size":"-1%"`), "stages[0].size"}, {"NaN %", stage(`"size":"NaN%"`), "stages[0].size"},
			{"Inf %", stage(`"size":"Inf%"`), "stages[0].size"}, {"hex %", stage(`"size":"0x1p-2%"`), "stages[0].size"}, {"1e1 %", stage(`"size":"1e1%"`), "stages[0].size"},
			{"soak -1m", stage(`"size":1,"soak":"-1m"`), "stages[0].soak"}, {"soak 11 years", stage(`"size":1,"soak":"100000h"`), "stages[0].soak"},
			{"soak 1e309", stage(`"size":1,"soak":1e309`), "stages[0].soak"}, {"soak true", stage(`"size":1,"soak":true`), "stages[0].soak"},
			{"only without devices", stage(`"size":1,"only":{}`), "stages[0].only"}, {"only twice", stage(`"size":1,"only":{"endpoints":["a","a"]}`), "stages[0].only.endpoints[1]"},
			{"only an odd label", stage(`"size":1,"only":{"labels":{"Bad Key!":"x"}}`), "stages[0].only.labels"},
			{"only unknown", stage(`"size":1,"only":{"endpoint":"a"}`), "endpoint"},
			{"the last is not all", with(`"stages":[{"size":1}]`), "stages"},
			{"shrinking", with(`"stages":[{"size":"50%"},{"size":"10%"},{"size":"100%"}]`), "stages[1].size"},
			{"unknown in stage", stage(`"size":1,"sizes":1`), "sizes"},

			{"concurrency 0", with(`"concurrency":0`), "concurrency"}, {"concurrency -1", with(`"concurrency":-1`), "concurrency"},
			{"huge concurrency", with(`"concurrency":100001`), "concurrency"}, {"concurrency 1.5", with(`"concurrency":1.5`), "concurrency"}, {"concurrency text", with(`"concurrency":"1"`), "concurrency"},
			{"rate 0", with(`"rate":0`), "rate"}, {"rate -1", with(`"rate":-1`), "rate"}, {"rate 1e309", with(`"rate":1e309`), "rate"}, {"rate 1e300", with(`"rate":1e300`), "rate"},
			{"rate 1e-300", with(`"rate":1e-300`), "rate"}, {"rate NaN", with(`"rate":NaN`), ""},
			{"max_failure -0.1", with(`"max_failure":-0.1`), "max_failure"}, {"max_failure 5", with(`"max_failure":5`), "max_failure"}, {"max_failure 1e309", with(`"max_failure":1e309`), "max_failure"},
			{"missing_after 0", with(`"missing_after":"0s"`), "missing_after"}, {"missing_after soon", with(`"missing_after":"soon"`), "missing_after"},
			{"missing_after too long", with(`"missing_after":"90000h"`), "missing_after"},

			{"empty window", window(``), "window.from"}, {"from 24:00", window(`"from":"24:00","to":"04:00","zone":"UTC"`), "window.from"}, {"to 7", window(`"from":"22:00","to":"7","zone":"UTC"`), "window.to"},
			{"from is to", window(`"from":"22:00","to":"22:00","zone":"UTC"`), "window.to"}, {"no zone", window(`"from":"22:00","to":"04:00"`), "window.zone"},
			{"unknown zone", window(`"from":"22:00","to":"04:00","zone":"Europe/Atlantis"`), "window.zone"}, {"a path", window(`"from":"22:00","to":"04:00","zone":"../../etc/passwd"`), "window.zone"},
			{"local", window(`"from":"22:00","to":"04:00","zone":"Local"`), "window.zone"}, {"no fallback", window(`"from":"22:00","to":"04:00","zone":"device"`), "window.fallback_zone"},
			{"unknown fallback", window(`"from":"22:00","to":"04:00","zone":"device","fallback_zone":"Moon"`), "window.fallback_zone"},
			{"covers", window(`"from":"22:00","to":"04:00","zone":"UTC","covers":"reboot"`), "window.covers"}, {"days", window(`"days":["monday"],"from":"22:00","to":"04:00","zone":"UTC"`), "window.days[0]"},
			{"a day twice", window(`"days":["mon","mon"],"from":"22:00","to":"04:00","zone":"UTC"`), "window.days[1]"},
			{"start_at", with(`"start_at":"tomorrow"`), "start_at"}, {"end_at has passed", with(`"end_at":"1999-01-01T00:00:00Z"`), "end_at"},
			{"end before start", with(`"start_at":"2999-01-01T00:00:00Z","end_at":"2998-01-01T00:00:00Z"`), "end_at"}, {"end without a zone", with(`"end_at":"2999-01-01T00:00:00"`), "end_at"},
			{"an end after the year 9999", with(`"start_at":"9999-12-31T00:00:00Z"`), "end_at"},
			{"notes", with(`"notes":"` + strings.Repeat("n", 5000) + `"`), "notes"},

			{"update's endpoint", with(`"update":{"endpoint":"a"}`), "endpoint"}, {"update's hold", with(`"update":{"hold":{"holder":"x"}}`), "hold"},
			{"update's delivery", with(`"update":{"delivery":"drone"}`), "update.delivery"}, {"update's deadline", with(`"update":{"deadline":"-1h"}`), "update.deadline"},
			{"update's attempts", with(`"update":{"attempts":0}`), "update.attempts"}, {"update's profile", with(`"update":{"profile":"not-known"}`), "update.profile"},
			{"update's labels", with(`"update":{"labels":{"":"x"}}`), "update.labels"},
		} {
			for _, call := range []string{"/api/v1/rollouts", "/api/v1/rollouts?dry_run=true"} {
				a := m.post(call, tt.body)
				kind := "invalid-field"
				if tt.field == "" {
					kind = "bad-request"
				}
				require.Equal(t, http.StatusBadRequest, a.StatusCode, "%s: %s", tt.name, a.body)
				p := requireProblem(t, a, http.StatusBadRequest, kind)
				require.Equal(t, tt.field, p.Field, "%s: %s", tt.name, a.body)
				require.Less(t, len(p.Detail), 400, tt.name)
			}
		}
		p := requireProblem(t, m.post("/api/v1/rollouts", strings.Replace(with(`"name":"x"`), m.image, "nope", 1)), http.StatusNotFound, "not-found")
		require.Equal(t, "image", p.Field)
		requireProblem(t, m.post("/api/v1/rollouts?dry_run=yes", with(`"name":"x"`)), http.StatusBadRequest, "invalid-query")
		requireProblem(t, m.post("/api/v1/rollouts", with(`"name":"x"`), "Content-Type", "text/plain"), http.StatusUnsupportedMediaType, "unsupported-media-type")
		for _, body := range []string{
			with(`"stages":[` + strings.Repeat(`{},`, 200_000) + `{}]`), with(`"update":{"labels":{"a":"` + strings.Repeat("x", 70_000) + `"}}`),
			`{"image":"x","targets":{"select":{"labels":{"a":"` + strings.Repeat("x", 70_000) + `"}}}}`,
		} {
			requireProblem(t, m.post("/api/v1/rollouts", body), http.StatusRequestEntityTooLarge, "too-large")
		}
		// Ten million endpoints, without a length.
		endless := io.MultiReader(strings.NewReader(`{"image":"x","targets":{"endpoints":["a"`), &repeated{`,"endpoint"`, 10_000_000})
		requireProblem(t, m.do(http.MethodPost, "/api/v1/rollouts", endless, "Content-Type", jsonType), http.StatusRequestEntityTooLarge, "too-large")
		require.Empty(t, decode[struct{ Items []aRollout }](t, m.get("/api/v1/rollouts")).Items, "a refused request stores nothing")

		r := m.rollout(with(`"name":"good"`))
		for _, tt := range []struct{ body, field string }{
			{`{"stages":[]}`, "stages"}, {`{"concurrency":0}`, "concurrency"}, {`{"rate":-1}`, "rate"}, {`{"rate":"fast"}`, "rate"}, {`{"max_failure":2}`, "max_failure"},
			{`{"window":{"from":"22:00","to":"04:00","zone":"Moon"}}`, "window.zone"}, {`{"window":7}`, "window"}, {`{"window":{"hours":3}}`, "hours"},
			{`{"end_at":"1999-01-01T00:00:00Z"}`, "end_at"}, {`{"end_at":7}`, "end_at"}, {`{"notes":"` + strings.Repeat("n", 5000) + `"}`, "notes"},
		} {
			a := m.do(http.MethodPatch, "/api/v1/rollouts/"+r.ID, strings.NewReader(tt.body), "Content-Type", jsonType)
			require.Equal(t, tt.field, requireProblem(t, a, http.StatusBadRequest, "invalid-field").Field, "%s", a.body)
		}
		for _, body := range []string{`{}`, `{"concurrency":100,"rate":null,"window":null,"reason":"sure"}`} {
			a := m.do(http.MethodPatch, "/api/v1/rollouts/"+r.ID, strings.NewReader(body), "Content-Type", jsonType)
			require.Equal(t, http.StatusOK, a.StatusCode, "it is so already: %s", a.body)
			require.Equal(t, r.ID, decode[aRollout](t, a).ID)
		}
		for query, field := range map[string]string{
			"members?state=lost": "state", "members?reason=lazy": "reason", "members?state=failed&reason=offline": "reason", "members?cursor=x": "cursor",
			"members?limit=0": "limit", "events?cursor=x": "cursor", "events?after=-1": "after", "members?place=ready": "place",
		} {
			require.Equal(t, field, requireProblem(t, m.get("/api/v1/rollouts/"+r.ID+"/"+query), http.StatusBadRequest, "invalid-query").Field, query)
		}
		requireProblem(t, m.do(http.MethodGet, "/api/v1/rollouts/"+r.ID+"/events", nil, "Accept", "text/event-stream", "Last-Event-ID", "99"), http.StatusConflict, "position")
		for _, path := range []string{"/api/v1/events", "/api/v1/rollouts/" + r.ID + "/events"} { // the header counts, and hides no wrong parameter
			a := m.do(http.MethodGet, path+"?after=x", nil, "Accept", "text/event-stream", "Last-Event-ID", "0")
			require.Equal(t, "after", requireProblem(t, a, http.StatusBadRequest, "invalid-query").Field, path)
		}
		require.Equal(t, "endpoint", requireProblem(t, m.post("/api/v1/rollouts/"+r.ID+"/members", `{"endpoint":""}`), http.StatusBadRequest, "invalid-field").Field)
		require.Equal(t, http.StatusOK, m.post("/api/v1/rollouts/"+r.ID+"/members", `{"endpoint":"a"}`).StatusCode, "it is a member already")
		require.Equal(t, 2, m.seen(r.ID).Members["waiting"])
	})
}

// repeated is a text, n times.
type repeated struct {
	text string
	n    int
}

func (r *repeated) Read(p []byte) (n int, err error) {
	for r.n > 0 && len(p)-n >= len(r.text) {
		n += copy(p[n:], r.text)
		r.n--
	}
	if r.n == 0 {
		err = io.EOF
	}
	return n, err
}

// TestLargeBodiesAtOnce: the server reads two large bodies at once; a third one has to come again.
func TestLargeBodiesAtOnce(t *testing.T) {
	s, _ := rolloutService(t)
	body := `{"image":"` + s.image("1.1.0") + `","targets":{"endpoints":["dev"]}}`
	// The server says 100 Continue when it begins to read the body: it holds the place then.
	large := func() (end func() answer) {
		r, w := io.Pipe()
		reads, answered := make(chan struct{}), make(chan answer, 1)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(reads) }})
		go func() {
			answered <- s.doContext(ctx, http.MethodPost, "/api/v1/rollouts", r, "Content-Type", jsonType, "Expect", "100-continue")
		}()
		<-reads
		return func() answer {
			_, _ = w.Write([]byte(body))
			_ = w.Close()
			return <-answered
		}
	}
	first, second := large(), large()
	third := s.do(http.MethodPost, "/api/v1/rollouts", io.MultiReader(strings.NewReader(body)), "Content-Type", jsonType)
	require.Equal(t, http.StatusServiceUnavailable, third.StatusCode)
	require.Equal(t, http.StatusCreated, s.post("/api/v1/rollouts", body).StatusCode, "a small one is served")
	require.Equal(t, http.StatusCreated, first().StatusCode)
	require.Equal(t, http.StatusCreated, second().StatusCode)
}

// TestRolloutOfManyEndpoints makes a rollout of the largest list, with long names, and reads its
// members in pages.
func TestRolloutOfManyEndpoints(t *testing.T) {
	s, _ := rolloutService(t)
	image := s.image("1.1.0")
	var list strings.Builder
	for i := range 100_000 {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, `"%s-%06d"`, strings.Repeat("e", 200), i)
	}
	r := s.rollout(`{"image":"` + image + `","targets":{"endpoints":[` + list.String() + `]}}`)
	require.Equal(t, 100_000, r.Members["waiting"])
	for _, query := range []string{"", "&state=waiting", "&reason=not_started"} {
		n, next, last := 0, "", ""
		for n < 3000 {
			page := decode[struct {
				Items []aMember
				Next  string
			}](t, s.get("/api/v1/rollouts/"+r.ID+"/members?limit=1000"+query+next))
			require.NotEmpty(t, page.Items)
			require.NotEqual(t, last, page.Items[0].Endpoint)
			n, last, next = n+len(page.Items), page.Items[0].Endpoint, "&cursor="+page.Next
		}
	}
	require.Empty(t, decode[struct{ Items []aMember }](t, s.get("/api/v1/rollouts/"+r.ID+"/members?reason=busy")).Items)
}

// rolloutService is a service with rollouts, which do not run.
func rolloutService(t *testing.T) (*service, *rollout.Manager) {
	t.Helper()
	db := memory.New()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(t, err)
	manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	require.NoError(t, err)
	all, err := rollout.NewManager(srv, manager, db, rollout.Config{})
	require.NoError(t, err)
	server := httptest.NewServer(handler(t, manager, httpapi.AllowAll, httpapi.Config{Rollouts: all}))
	t.Cleanup(server.Close)
	return &service{t: t, db: db, manager: manager, Server: server}, all
}
