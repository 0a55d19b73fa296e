package httpapi_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/store"
)

func TestImages(t *testing.T) {
	s := newService(t, httpapi.Config{})
	a := s.upload("/api/v1/images?version=1.1.0&name=sensor", []byte("firmware"))
	require.Equal(t, http.StatusCreated, a.StatusCode, "%s", a.body)
	type image struct {
		ID, Name, Version, SHA256 string
		Size                      int64
		Created                   time.Time
	}
	first := decode[image](t, a)
	require.Equal(t, "images/"+first.ID, a.Header.Get("Location"))
	require.Equal(t, "sensor", first.Name)
	require.Equal(t, "1.1.0", first.Version)
	require.EqualValues(t, 8, first.Size)
	require.Equal(t, fmt.Sprintf("%x", sha256.Sum256([]byte("firmware"))), first.SHA256)
	require.WithinDuration(t, time.Now(), first.Created, time.Minute)

	again := decode[image](t, s.upload("/api/v1/images?version=1.1.0&name=sensor", []byte("firmware")))
	require.Equal(t, first, again, "the same bytes under the same name are the same image")

	// Without a length: a chunked body.
	a = s.do(http.MethodPost, "/api/v1/images?version=2", struct{ *strings.Reader }{strings.NewReader("other")},
		"Content-Type", "application/octet-stream")
	require.Equal(t, http.StatusCreated, a.StatusCode, "%s", a.body)
	second := decode[image](t, a)

	require.Equal(t, first, decode[image](t, s.get("/api/v1/images/"+first.ID)))
	list := decode[struct{ Items []image }](t, s.get("/api/v1/images"))
	require.ElementsMatch(t, []image{first, second}, list.Items)

	update := s.start("dev", first.ID)
	requireProblem(t, s.do(http.MethodDelete, "/api/v1/images/"+first.ID, nil), http.StatusConflict, "image-in-use")
	require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/api/v1/updates/"+update+"/cancel", nil).StatusCode)
	require.Equal(t, http.StatusNoContent, s.do(http.MethodDelete, "/api/v1/images/"+first.ID, nil).StatusCode)
	requireProblem(t, s.get("/api/v1/images/"+first.ID), http.StatusNotFound, "not-found")
}

// update is an update as clients see it.
type update struct {
	ID, Endpoint, Image, Version, Phase, State, Outcome, Reason string
	Result                                                      struct {
		Code int
		Name string
	}
	ReportedResult any `json:"reported_result"`
	Progress       struct{ Bytes, Total int64 }
	WaitingFor     *struct {
		Reason string
		Until  time.Time
	} `json:"waiting_for"`
	Created, Updated time.Time
	Ended            *time.Time
	Journal          []struct {
		Time          time.Time
		Event, Detail string
	}
}

func TestUpdateFromRequestToCancel(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	a := s.post("/api/v1/updates", `{"endpoint":"dev","image":"`+image+`","delivery":"pull","protocol":"http","verify":"result",
		"deadline":"2h","attempts":3,"force":true}`)
	require.Equal(t, http.StatusCreated, a.StatusCode, "%s", a.body)
	u := decode[update](t, a)
	require.Equal(t, "updates/"+u.ID, a.Header.Get("Location"))
	require.Equal(t, "dev", u.Endpoint)
	require.Equal(t, image, u.Image)
	require.Equal(t, "1.1.0", u.Version)
	require.Equal(t, "waiting", u.Phase)
	require.Equal(t, "idle", u.State)
	require.Equal(t, "default", u.Result.Name)
	require.Empty(t, u.Outcome)
	require.Nil(t, u.ReportedResult)
	require.Nil(t, u.Ended)
	require.EqualValues(t, len("image 1.1.0"), u.Progress.Total)
	require.NotEmpty(t, u.WaitingFor.Reason)
	require.WithinDuration(t, time.Now().Add(2*time.Hour), u.WaitingFor.Until, time.Minute)

	p := requireProblem(t, s.post("/api/v1/updates", `{"endpoint":"dev","image":"`+image+`"}`), http.StatusConflict, "update-active")
	require.Equal(t, u.ID, p.Update)

	a = s.do(http.MethodPost, "/api/v1/updates/"+u.ID+"/cancel", nil)
	require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
	a = s.get("/api/v1/updates/" + u.ID)
	u = decode[update](t, a)
	require.Equal(t, "cancelled", u.Outcome)
	require.Equal(t, "cancelled", u.Result.Name)
	require.Equal(t, 10, u.Result.Code)
	require.Equal(t, "idle", u.State)
	require.Equal(t, "ended", u.Phase)
	require.Nil(t, u.WaitingFor)
	require.NotNil(t, u.Ended)
	require.NotEmpty(t, u.Journal)
	require.NotEmpty(t, u.Journal[0].Event)

	a = s.do(http.MethodPost, "/api/v1/updates/"+u.ID+"/cancel", strings.NewReader("{}"), "Content-Type", "application/json")
	require.Equal(t, http.StatusOK, a.StatusCode, "cancelling twice is harmless")
	s.start("dev", image) // the endpoint is free again
}

// TestLabelsAndDelete: an update shows its labels, a list finds it by them, and DELETE removes it
// with its journal.
func TestLabelsAndDelete(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	type labelled struct {
		ID     string
		Labels map[string]string
	}
	start := func(endpoint, labels string) labelled {
		a := s.post("/api/v1/updates", `{"endpoint":"`+endpoint+`","image":"`+image+`","labels":`+labels+`}`)
		require.Equal(t, http.StatusCreated, a.StatusCode, "%s", a.body)
		return decode[labelled](t, a)
	}
	north := start("a", `{"site":"north","of":"a=b & c"}`)
	require.Equal(t, map[string]string{"site": "north", "of": "a=b & c"}, north.Labels)
	south, bare := start("b", `{"site":"south"}`), start("c", `null`)
	require.Contains(t, string(s.get("/api/v1/updates/"+bare.ID).body), `"labels":{}`)
	for query, want := range map[string][]string{
		"":                                      {bare.ID, south.ID, north.ID},
		"label=site=north":                      {north.ID},
		"label=site%3Dnorth":                    {north.ID},
		"label=site=north&label=of=a%3Db+%26+c": {north.ID},
		"label=site=south&label=of=":            {},
		"label=none=":                           {},
		"label=site=south&outcome=":             {south.ID},
		"label=site=south&state=updating":       {},
	} {
		got := []string{}
		for _, u := range decode[struct{ Items []labelled }](t, s.get("/api/v1/updates?"+query)).Items {
			got = append(got, u.ID)
		}
		require.Equal(t, want, got, query)
	}

	p := requireProblem(t, s.do(http.MethodDelete, "/api/v1/updates/"+north.ID, nil), http.StatusConflict, "update-active")
	require.Equal(t, north.ID, p.Update)
	require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/api/v1/updates/"+north.ID+"/cancel", nil).StatusCode)
	require.Equal(t, http.StatusNoContent, s.do(http.MethodDelete, "/api/v1/updates/"+north.ID, nil).StatusCode)
	requireProblem(t, s.get("/api/v1/updates/"+north.ID), http.StatusNotFound, "not-found")
	requireProblem(t, s.do(http.MethodDelete, "/api/v1/updates/"+north.ID, nil), http.StatusNotFound, "not-found")
	require.NotContains(t, string(s.get("/api/v1/updates").body), north.ID)
}

func TestIdempotencyKey(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image, other := s.image("1.1.0"), s.image("1.2.0")
	body := `{"endpoint":"dev","image":"` + image + `"}`
	first := s.post("/api/v1/updates", body, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusCreated, first.StatusCode, "%s", first.body)
	again := s.post("/api/v1/updates", body, "Idempotency-Key", "k1")
	require.Equal(t, http.StatusCreated, again.StatusCode, "%s", again.body)
	require.Equal(t, decode[update](t, first).ID, decode[update](t, again).ID)

	requireProblem(t, s.post("/api/v1/updates", `{"endpoint":"dev","image":"`+other+`"}`, "Idempotency-Key", "k1"),
		http.StatusUnprocessableEntity, "key-reused")
	requireProblem(t, s.post("/api/v1/updates", body, "Idempotency-Key", "k2"), http.StatusConflict, "update-active")
}

func TestPagingIsStable(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	var want []string
	for i := range 7 {
		want = append(want, s.start(fmt.Sprintf("dev-%d", i), image))
	}
	slices.Reverse(want) // newest first

	type list struct {
		Items []update
		Next  string
	}
	var got []string
	path := "/api/v1/updates?limit=3"
	for page := 0; ; page++ {
		l := decode[list](t, s.get(path))
		for _, u := range l.Items {
			got = append(got, u.ID)
			require.Nil(t, u.Journal, "a list has no journals")
		}
		if l.Next == "" {
			require.Len(t, l.Items, 1)
			break
		}
		require.Len(t, l.Items, 3)
		requireProblem(t, s.get("/api/v1/devices?cursor="+l.Next), http.StatusBadRequest, "invalid-query")
		s.start(fmt.Sprintf("late-%d", page), image) // a later update neither hides nor repeats another
		path = "/api/v1/updates?limit=3&cursor=" + l.Next
	}
	require.Equal(t, want, got)

	full := decode[list](t, s.get("/api/v1/updates?limit=9"))
	require.Len(t, full.Items, 9)
	require.Empty(t, full.Next, "no page follows a full last one")
}

func TestFilters(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image, other := s.image("1.1.0"), s.image("1.2.0")
	a, b := s.start("a/b c", image), s.start("b", other)
	require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/api/v1/updates/"+b+"/cancel", nil).StatusCode)

	for query, want := range map[string][]string{
		"":                                     {b, a},
		"endpoint=" + url.QueryEscape("a/b c"): {a},
		"endpoint=x":                           {},
		"image=" + other:                       {b},
		"outcome=":                             {a},
		"outcome=cancelled":                    {b},
		"outcome=cancelled&endpoint=b&limit=1": {b},
		"outcome=failed":                       {},
		"state=idle":                           {b, a},
		"state=downloading":                    {},
		"state=idle&outcome=&image=" + image:   {a},
		"state=idle&outcome=cancelled&endpoint=zz": {},
		"reason=operator":                          {b},
		"reason=deadline":                          {},
		"whose=operator":                           {},
		"contains=B+C":                             {a},
		"contains=" + strings.ToLower(b[8:]):       {b},
		"contains=nothing":                         {},
	} {
		got := []string{}
		for _, u := range decode[struct{ Items []update }](t, s.get("/api/v1/updates?"+query)).Items {
			got = append(got, u.ID)
		}
		require.Equal(t, want, got, query)
	}
}

// TestShortPages follows the cursors of pages over more updates than one page reads.
func TestShortPages(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	var changes []store.Change
	for i := range 3 * store.MaxSkipped {
		now := time.Now()
		m := fsm.NewUpdate(fsm.Plan{Target: "1.1.0"}, now)
		m.Phase, m.Outcome, m.State, m.Ended = fsm.PhaseEnded, fsm.OutcomeSucceeded, fsm.Idle, now.Add(-time.Duration(i)*time.Second)
		if i == 2*store.MaxSkipped {
			m.Outcome = fsm.OutcomeFailed
		}
		changes = append(changes, store.CreateUpdate{Update: store.Update{
			ID: fmt.Sprintf("%026d", i), Endpoint: "dev", Image: image, Machine: m, Created: now, Changed: now,
		}})
	}
	_, err := s.db.Commit(t.Context(), changes...)
	require.NoError(t, err)
	pages := func(query string) (items, pages int) {
		for path := "/api/v1/updates?" + query; path != ""; {
			l := decode[struct {
				Items []update
				Next  string
			}](t, s.get(path))
			items += len(l.Items)
			pages++
			require.Less(t, pages, 100)
			if path = ""; l.Next != "" {
				path = "/api/v1/updates?" + query + "&cursor=" + l.Next
			}
		}
		return items, pages
	}
	items, n := pages("outcome=failed")
	require.Equal(t, []int{1, 1}, []int{items, n})
	items, n = pages("outcome=succeeded&limit=1000")
	require.Equal(t, []int{3*store.MaxSkipped - 1, 3}, []int{items, n})
	items, n = pages("outcome=succeeded&order=ended&limit=1000")
	require.Equal(t, []int{3*store.MaxSkipped - 1, 3}, []int{items, n})
	items, n = pages("outcome=succeeded&order=ended&label=site=none")
	require.Equal(t, []int{0, 3}, []int{items, n}, "pages without items lead on to the next")
	latest := decode[struct{ Items []update }](t, s.get("/api/v1/updates?outcome=succeeded&order=ended&limit=2")).Items
	require.Equal(t, []string{fmt.Sprintf("%026d", 0), fmt.Sprintf("%026d", 1)}, []string{latest[0].ID, latest[1].ID}, "the latest end first")
	items, n = pages("state=updating&outcome=succeeded&endpoint=dev")
	require.Zero(t, items)
	require.LessOrEqual(t, n, 1)
	items, n = pages("state=idle&outcome=failed&endpoint=dev")
	require.Equal(t, 1, items)
	require.Equal(t, 3, n, "pages without items lead on to the next")

	require.JSONEq(t, `{"items":[{"image":"`+image+`","outcome":"failed","updates":1},{"image":"`+image+`","outcome":"succeeded","updates":2999}]}`,
		string(s.get("/api/v1/counts?image="+image).body))
	require.JSONEq(t, `{"items":[]}`, string(s.get("/api/v1/counts?image=x").body))
}

func TestDevices(t *testing.T) {
	s := newService(t, httpapi.Config{})
	endpoints := []string{
		"urn:imei:490154203237518", "a/b", "a//b", "/", "..", ".", "%2F", "a b?c#d", "ä", "+", strings.Repeat("e", 255), "api", "a/api/b",
	}
	for _, endpoint := range endpoints {
		s.register(endpoint, store.RegistrationRecord{
			ID: "r1", Address: "192.0.2.1:56830", Transport: "coap", Version: "1.1", Lifetime: 5 * time.Minute, Queue: true,
			Registered: time.Now(), LastSeen: time.Now(), Attributes: "site=north&n=a%26b",
			Links: "</1/0>,</3>;ver=1.1,</3/0>,</30000>",
		})
	}
	for _, endpoint := range endpoints {
		escaped := url.PathEscape(endpoint)
		if strings.Trim(escaped, ".") == "" { // Go's client does not escape dots, and would send a relative path
			escaped = strings.ReplaceAll(escaped, ".", "%2E")
		}
		a := s.get("/api/v1/devices/" + escaped)
		require.Equal(t, http.StatusOK, a.StatusCode, "%q: %s", endpoint, a.body)
		d := decode[map[string]any](t, a)
		require.Equal(t, endpoint, d["endpoint"])
		require.Equal(t, "192.0.2.1:56830", d["address"])
		require.Equal(t, "coap", d["transport"])
		require.Equal(t, "1.1", d["lwm2m_version"])
		require.EqualValues(t, 300, d["lifetime"])
		require.Equal(t, true, d["queue_mode"])
		require.Equal(t, []any{
			map[string]any{"id": 1.0, "name": "LwM2M Server", "version": "1.0", "instances": []any{0.0}},
			map[string]any{"id": 3.0, "name": "Device", "version": "1.1", "instances": []any{0.0}},
			map[string]any{"id": 30000.0, "name": "", "version": "1.0", "instances": []any{}},
		}, d["objects"])
		require.Equal(t, map[string]any{"site": "north", "n": "a&b"}, d["attributes"])
		require.Equal(t, map[string]any{
			"state": nil, "result": nil, "version": nil, "protocols": nil, "delivery": nil, "holds_package": nil,
		}, d["firmware"], "nobody has read it")
	}
	_, err := s.db.Commit(t.Context(), store.PutFirmware{Endpoint: "a/b", Firmware: store.Firmware{
		State: new(fsm.Idle), Result: new(fsm.ResultDefault), Version: "1.0.0", Delivery: new(fsm.PullOnly),
		Protocols: []int{0, 77}, Read: time.Unix(1, 0),
	}})
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"state": "idle", "result": map[string]any{"code": 0.0, "name": "default"}, "version": "1.0.0", "delivery": "pull",
		"protocols": []any{"coap", "77"}, "holds_package": nil, "read": "1970-01-01T00:00:01Z",
	}, decode[map[string]any](t, s.get("/api/v1/devices/a%2Fb"))["firmware"])
	digest := strings.Repeat("0a", 32)
	_, err = s.db.Commit(t.Context(),
		store.PutFirmware{Endpoint: "a/b", Firmware: store.Firmware{Component: "modem"}}, store.PutHolds{Endpoint: "a/b", Holds: digest})
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"state": nil, "result": nil, "version": nil, "protocols": nil, "delivery": nil, "component": "modem", "holds_package": digest,
	}, decode[map[string]any](t, s.get("/api/v1/devices/a%2Fb"))["firmware"])

	var got []string
	path := "/api/v1/devices?limit=5"
	for {
		l := decode[struct {
			Items []struct{ Endpoint string }
			Next  string
		}](t, s.get(path))
		for _, d := range l.Items {
			got = append(got, d.Endpoint)
		}
		if l.Next == "" {
			break
		}
		path = "/api/v1/devices?limit=5&cursor=" + l.Next
	}
	slices.Sort(endpoints)
	require.Equal(t, endpoints, got)
}

func (s *service) register(endpoint string, r store.RegistrationRecord) {
	s.t.Helper()
	_, err := s.db.Commit(context.Background(), store.PutRegistration{Endpoint: endpoint, Registration: r})
	require.NoError(s.t, err)
}

func TestMountedAnywhere(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"root": func(h http.Handler) http.Handler { return h },
		"mux": func(h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/ota/", h)
			return mux
		},
		"stripped": func(h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/ota/", http.StripPrefix("/ota", h))
			return mux
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mount(t, httpapi.Config{}, wrap)
			prefix := "/ota"
			if name == "root" {
				prefix = ""
			}
			s.register("a//b", store.RegistrationRecord{Address: "192.0.2.1:1"})
			a := s.get(prefix + "/api/v1/devices/a%2F%2Fb")
			require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)

			a = s.upload(prefix+"/api/v1/images?version=1", []byte("x"))
			require.Equal(t, http.StatusCreated, a.StatusCode)
			location, err := a.Location()
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, s.get(location.EscapedPath()).StatusCode, "Location leads to the image")
		})
	}
}

func TestMethods(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.0.0")
	for path, allow := range map[string]string{
		"/api/v1/images":                                "GET, HEAD, OPTIONS, POST",
		"/api/v1/images/" + image:                       "DELETE, GET, HEAD, OPTIONS",
		"/api/v1/devices":                               "GET, HEAD, OPTIONS",
		"/api/v1/devices/x":                             "DELETE, GET, HEAD, OPTIONS",
		"/api/v1/devices/x/resources":                   "GET, HEAD, OPTIONS, PUT",
		"/api/v1/devices/x/resources/3":                 "GET, HEAD, OPTIONS, POST",
		"/api/v1/devices/x/resources/3/0":               "DELETE, GET, HEAD, OPTIONS, POST, PUT",
		"/api/v1/devices/x/resources/3/0/3":             "GET, HEAD, OPTIONS, POST, PUT",
		"/api/v1/devices/x/resources/3/0/6/0":           "DELETE, GET, HEAD, OPTIONS, PUT",
		"/api/v1/devices/x/resources/3?attributes=true": "GET, HEAD, OPTIONS, POST, PUT",
		"/api/v1/updates":                               "GET, HEAD, OPTIONS, POST",
		"/api/v1/updates/x":                             "DELETE, GET, HEAD, OPTIONS",
		"/api/v1/updates/x/cancel":                      "OPTIONS, POST",
		"/api/v1/updates/x/hold":                        "OPTIONS, POST",
		"/api/v1/updates/x/release":                     "OPTIONS, POST",
		"/api/v1/updates/x/served":                      "OPTIONS, POST",
		"/api/v1/events":                                "GET, HEAD, OPTIONS",
	} {
		a := s.do(http.MethodOptions, path, nil)
		require.Equal(t, http.StatusNoContent, a.StatusCode, path)
		require.Equal(t, allow, a.Header.Get("Allow"), path)
		a = s.do(http.MethodPatch, path, nil)
		requireProblem(t, a, http.StatusMethodNotAllowed, "method-not-allowed")
		require.Equal(t, allow, a.Header.Get("Allow"), path)
	}
	for _, path := range []string{"/api/v1/images", "/api/v1/images/" + image, "/api/v1/devices", "/api/v1/updates", "/api/v1/events"} {
		a := s.do(http.MethodHead, path, nil)
		require.Equal(t, http.StatusOK, a.StatusCode, path)
		require.Empty(t, a.body)
	}
}

// TestOneActiveUpdate sends a hundred requests at once: one starts an update, the others get its
// id.
func TestOneActiveUpdate(t *testing.T) {
	s := newService(t, httpapi.Config{})
	body := `{"endpoint":"dev","image":"` + s.image("1.1.0") + `"}`
	answers := make(chan answer)
	for range 100 {
		go func() { answers <- s.post("/api/v1/updates", body) }()
	}
	var started string
	inTheWay := map[string]int{}
	for range 100 {
		if a := <-answers; a.StatusCode == http.StatusCreated {
			require.Empty(t, started, "a second one was started")
			started = decode[update](t, a).ID
		} else {
			inTheWay[requireProblem(t, a, http.StatusConflict, "update-active").Update]++
		}
	}
	require.Equal(t, map[string]int{started: 99}, inTheWay)
}

// TestDeleteDevice deletes a device once it has no active update.
func TestDeleteDevice(t *testing.T) {
	s := newService(t, httpapi.Config{})
	_, err := s.db.Commit(t.Context(), store.PutRegistration{Endpoint: "a/b", Registration: store.RegistrationRecord{Secured: true}})
	require.NoError(t, err)
	const device = "/api/v1/devices/a%2Fb"
	id := s.start("a/b", s.image("1.0.0"))
	require.Equal(t, id, requireProblem(t, s.do(http.MethodDelete, device, nil), http.StatusConflict, "update-active").Update)
	require.Equal(t, http.StatusOK, s.get(device).StatusCode)
	require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/api/v1/updates/"+id+"/cancel", nil).StatusCode)
	require.Equal(t, http.StatusNoContent, s.do(http.MethodDelete, device, nil).StatusCode)
	requireProblem(t, s.get(device), http.StatusNotFound, "not-found")
	requireProblem(t, s.do(http.MethodDelete, device, nil), http.StatusNotFound, "not-found")
	require.Equal(t, http.StatusOK, s.get("/api/v1/updates/"+id).StatusCode)
}

// TestPartsOfNames searches images and rollouts by a part of a name, over pages.
func TestPartsOfNames(t *testing.T) {
	inFleet(t, rollout.Config{}, httpapi.Config{}, func(m *many) {
		m.fleet(1, nil)
		for _, name := range []string{"spring 1", "spring 2"} {
			a := m.post("/api/v1/rollouts", `{"name": "`+name+`", "image": "`+m.image+`", "targets": {"select": {}}}`, "Content-Type", jsonType)
			require.Equal(t, http.StatusCreated, a.StatusCode, "%s", a.body)
		}
		for path, want := range map[string]int{
			"images?contains=" + m.image[:6]: 1, "images?contains=1.1": 1, "images?contains=9.9": 0,
			"rollouts?contains=SPR": 2, "rollouts?contains=spring+1&limit=1": 1, "rollouts?contains=autumn": 0,
		} {
			require.Len(t, decode[struct{ Items []any }](t, m.get("/api/v1/"+path)).Items, want, path)
		}
		for _, list := range []string{"images", "devices", "updates", "rollouts"} {
			wrong := requireProblem(t, m.get("/api/v1/"+list+"?contains="), http.StatusBadRequest, "invalid-query")
			require.Equal(t, "contains", wrong.Field)
		}
		for _, query := range []string{"reason=", "whose=", "whose=mine"} {
			requireProblem(t, m.get("/api/v1/updates?"+query), http.StatusBadRequest, "invalid-query")
		}
	})
}
