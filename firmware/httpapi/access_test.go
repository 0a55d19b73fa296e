package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// tenants is an authorizer: an Authorization that names an endpoint may do everything with that
// device and with images, and "all" may do everything. It records each Access.
type tenants struct {
	mu    sync.Mutex
	asked []Access
}

func (t *tenants) ask(r *http.Request, access Access) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = append(t.asked, access)
	switch who := r.Header.Get("Authorization"); {
	case who == "":
		return fmt.Errorf("who: %w", ErrUnauthenticated)
	case who == "all", access.Endpoint == who, access.Endpoint == "" && strings.HasPrefix(string(access.Action), "images"):
		return nil
	default:
		return errors.New("secret reason")
	}
}

func (t *tenants) take() []Access {
	t.mu.Lock()
	defer t.mu.Unlock()
	asked := t.asked
	t.asked = nil
	return asked
}

// fleet is an API with two devices, each of which has an update.
type fleet struct {
	t *testing.T
	*api
	tenants   tenants
	image     string
	mine, his string // updates of the endpoints "mine" and "his"
	rollout   string // of the endpoint "his"
	recorded  http.Handler
}

// ServeHTTP records what the API does.
func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.recorded.ServeHTTP(w, r) }

func newFleet(t *testing.T, options Config) *fleet {
	t.Helper()
	db := memory.New()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(t, err)
	manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	require.NoError(t, err)
	image, err := images.Add(t.Context(), firmware.Image{Version: "1"}, strings.NewReader("image"))
	require.NoError(t, err)
	f := &fleet{t: t, image: image.ID}
	for endpoint, id := range map[string]*string{"mine": &f.mine, "his": &f.his} {
		update, err := manager.Start(t.Context(), firmware.Request{Endpoint: endpoint, Image: image.ID})
		require.NoError(t, err)
		*id = update.ID
	}
	options.Rollouts, err = rollout.NewManager(srv, manager, db, rollout.Config{})
	require.NoError(t, err)
	r, err := options.Rollouts.Create(t.Context(), rollout.Request{Image: image.ID, Targets: rollout.Endpoints("his")})
	require.NoError(t, err)
	f.rollout = r.ID
	f.api = newAPI(manager, images, f.tenants.ask, options)
	f.recorded = Recorded(t, f.api)
	return f
}

// do sends a request with who as Authorization, if not empty.
func (f *fleet) do(method, target, body, contentType, who string) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequestWithContext(f.t.Context(), method, target, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if who != "" {
		r.Header.Set("Authorization", who)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// TestAccess makes every call of the table as a user with rights on one device: for that device,
// for another one, and for one that does not exist. It fails if the list lacks a call.
func TestAccess(t *testing.T) {
	const holder, start, values = `{"holder":"h"}`, `{"endpoint":"%s","image":"%s"}`, `{"values":[{"path":"/3/0/3","value":""}]}`
	const many = `{"image":"x","targets":{"endpoints":["mine"]}}`
	for key, call := range map[string]struct {
		body  string
		query string
		open  bool // concerns images only
	}{
		"GET images": {open: true}, "POST images": {open: true, body: "bytes"},
		"GET images/{image}": {open: true}, "DELETE images/{image}": {open: true},
		"GET devices": {}, "GET devices/{endpoint}": {}, "DELETE devices/{endpoint}": {},
		"PUT devices/{endpoint}/labels": {body: `{"site":"oslo"}`}, "GET fleet": {},
		"GET devices/{endpoint}/resources": {query: "?path=/3/0/3"}, "PUT devices/{endpoint}/resources": {body: values},
		"GET devices/{endpoint}/resources/...": {}, "PUT devices/{endpoint}/resources/...": {body: values},
		"POST devices/{endpoint}/resources/...": {}, "DELETE devices/{endpoint}/resources/...": {},
		"GET devices/{endpoint}/requests/{request}": {}, "GET devices/{endpoint}/trace": {}, "POST devices/{endpoint}/trace": {body: "{}"}, "DELETE devices/{endpoint}/trace": {}, "DELETE devices/{endpoint}/requests/{request}": {},
		"GET updates": {}, "GET counts": {}, "POST updates": {body: start}, "GET updates/{update}": {}, "DELETE updates/{update}": {},
		"POST updates/{update}/cancel": {}, "POST updates/{update}/hold": {body: holder}, "POST updates/{update}/release": {body: holder},
		"POST updates/{update}/served": {}, "GET events": {}, "GET status": {},
		"GET rollouts": {}, "POST rollouts": {body: many}, "GET rollouts/{rollout}": {}, "PATCH rollouts/{rollout}": {body: "{}"},
		"DELETE rollouts/{rollout}": {}, "GET rollouts/{rollout}/members": {}, "POST rollouts/{rollout}/members": {body: `{"endpoint":"mine"}`},
		"GET rollouts/{rollout}/events": {}, "GET rollouts/{rollout}/failures": {}, "POST rollouts/{rollout}/start": {}, "POST rollouts/{rollout}/pause": {},
		"POST rollouts/{rollout}/resume": {}, "POST rollouts/{rollout}/open": {}, "POST rollouts/{rollout}/stop": {}, "POST rollouts/{rollout}/retry": {},
	} {
		t.Run(key, func(t *testing.T) {
			f := newFleet(t, Config{})
			method, pattern, _ := strings.Cut(key, " ")
			if key == "GET events" {
				method = http.MethodHead // GET would not end
			}
			contentType := f.lookUp(t, key)
			send := func(endpoint, update, query, who string) (*httptest.ResponseRecorder, Access) {
				t.Helper()
				of := f.rollout
				if update == "nothing" {
					of = update
				}
				below := "3/0/3"
				if method == http.MethodDelete {
					below = "3/0"
				}
				path := strings.NewReplacer("{image}", f.image, "{update}", update, "{rollout}", of, "{endpoint}", endpoint, "...", below).Replace(pattern)
				body := call.body
				if body == start {
					body = fmt.Sprintf(start, endpoint, f.image)
				}
				if call.query != "" {
					query = call.query
				}
				if key == "POST images" {
					query = "?version=2"
				}
				w := f.do(method, "/api/v1/"+path+query, body, contentType, who)
				asked := f.tenants.take()
				require.Len(t, asked, 1, "asked once: %d %s", w.Code, w.Body)
				return w, asked[0]
			}
			// Without credentials every call is refused.
			w, access := send("his", f.his, "", "")
			require.Equal(t, http.StatusUnauthorized, w.Code)
			require.NotContains(t, w.Body.String(), f.his)
			require.NotEmpty(t, access.Action)
			require.Equal(t, method == http.MethodGet || method == http.MethodHead, strings.HasSuffix(string(access.Action), ":read"))
			if strings.Contains(pattern, "{image}") {
				require.Equal(t, f.image, access.Image)
			}
			if call.open {
				require.Empty(t, access.Endpoint)
				w, _ = send("", "", "", "mine")
				require.NotContains(t, []int{401, 403}, w.Code)
				return
			}
			// A refusal does not even show that the other device's update exists.
			refused, _ := send("his", f.his, "", "mine")
			require.Equal(t, http.StatusForbidden, refused.Code, refused.Body)
			unknown, _ := send("nowhere", "nothing", "", "mine")
			require.Equal(t, unknown.Code, refused.Code)
			require.Equal(t, unknown.Body.String(), refused.Body.String())
			require.Equal(t, unknown.Header(), refused.Header())
			require.NotContains(t, refused.Body.String(), "secret")
			// The user's own device is served, if the call can concern one device.
			query := ""
			if key == "GET updates" || key == "GET events" {
				query = "?endpoint=mine"
			}
			w, access = send("mine", f.mine, query, "mine")
			if key == "GET devices" || key == "GET fleet" || key == "GET counts" || key == "GET status" || strings.Contains(pattern, "rollouts") {
				require.Empty(t, access.Endpoint)
				require.Equal(t, http.StatusForbidden, w.Code)
				if strings.Contains(pattern, "{rollout}") {
					require.Equal(t, []string{f.rollout, f.image}, []string{access.Rollout, access.Image})
					w, access = send("", "nothing", "", "all")
					require.Equal(t, Access{Action: access.Action, Rollout: "nothing"}, access)
					if w.Code != http.StatusBadRequest { // the body of a retry
						require.Equal(t, http.StatusNotFound, w.Code, w.Body)
					}
				}
				return
			}
			require.Equal(t, "mine", access.Endpoint)
			require.NotContains(t, []int{401, 403}, w.Code, w.Body)
			require.NotContains(t, w.Body.String(), f.his)
			if strings.Contains(pattern, "{update}") {
				require.Equal(t, f.mine, access.Update)
				require.Equal(t, f.image, access.Image)
			}
			if key == "POST updates" {
				require.Equal(t, f.image, access.Image)
			}
			// A user with all rights learns that the update does not exist.
			if strings.Contains(pattern, "{update}") {
				w, access = send("", "nothing", "", "all")
				require.Equal(t, http.StatusNotFound, w.Code)
				require.Equal(t, Access{Action: access.Action, Update: "nothing"}, access)
			}
		})
	}
	// The list above has every call of the table, except those that need no credentials.
	require.Equal(t, 46, func() (n int) {
		for _, route := range newFleet(t, Config{}).routes {
			for _, call := range route.calls {
				if !call.public {
					n++
				}
			}
		}
		return n
	}())
}

// lookUp returns the type of the body of a call.
func (f *fleet) lookUp(t *testing.T, key string) string {
	t.Helper()
	for _, route := range f.routes {
		for method, call := range route.calls {
			if key == method+" "+route.path {
				require.NotEmpty(t, call.action)
				return call.contentType
			}
		}
	}
	require.Fail(t, "there is no such call", key)
	return ""
}

// TestStrangersBody: nothing is read of the body of a rollout, which may be large, before the
// request is authorized.
func TestStrangersBody(t *testing.T) {
	f := newFleet(t, Config{})
	for _, path := range []string{"rollouts", "rollouts/" + f.rollout + "/members", "rollouts/" + f.rollout + "/stop"} {
		body := &countingReader{r: strings.NewReader(strings.Repeat("x", 1<<20))}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/"+path, body)
		r.Header.Set("Content-Type", applicationJSON)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		require.Equal(t, http.StatusUnauthorized, w.Code)
		require.LessOrEqual(t, body.n, 256<<10, "the body of a stranger was read")
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestAccessByQuery: the Access has what the query names, and the answer shows only that.
func TestAccessByQuery(t *testing.T) {
	f := newFleet(t, Config{})
	for _, tt := range []struct {
		query string
		want  Access
		code  int
	}{
		{"updates?endpoint=mine", Access{Action: ReadUpdates, Endpoint: "mine"}, 200},
		{"updates?endpoint=mine&image=" + f.image, Access{Action: ReadUpdates, Endpoint: "mine", Image: f.image}, 200},
		{"updates?image=" + f.image, Access{Action: ReadUpdates, Image: f.image}, 403},
		{"updates", Access{Action: ReadUpdates}, 403},
		{"updates?endpoint=his", Access{Action: ReadUpdates, Endpoint: "his"}, 403},
		{"events", Access{Action: ReadEvents}, 403},
		{"events?endpoint=mine", Access{Action: ReadEvents, Endpoint: "mine"}, 200},
		{"events?update=" + f.mine, Access{Action: ReadEvents, Endpoint: "mine", Update: f.mine, Image: f.image}, 200},
		{"events?update=" + f.his, Access{Action: ReadEvents, Endpoint: "his", Update: f.his, Image: f.image}, 403},
		{"events?update=nothing", Access{Action: ReadEvents, Update: "nothing"}, 403},
		// The answer does not show whether an update of another endpoint exists.
		{"events?endpoint=mine&update=" + f.his, Access{Action: ReadEvents, Endpoint: "mine", Update: f.his}, 200},
		{"events?endpoint=mine&update=nothing", Access{Action: ReadEvents, Endpoint: "mine", Update: "nothing"}, 200},
	} {
		w := f.do(http.MethodHead, "/api/v1/"+tt.query, "", "", "mine")
		require.Equal(t, tt.code, w.Code, tt.query)
		require.Equal(t, []Access{tt.want}, f.tenants.take(), tt.query)
	}
	w := f.do(http.MethodGet, "/api/v1/updates?endpoint=mine", "", "", "mine")
	var list struct{ Items []struct{ ID string } }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list))
	require.Len(t, list.Items, 1)
	require.Equal(t, f.mine, list.Items[0].ID)
}

// TestRefusedChangesNothing: a refused call has no effect.
func TestRefusedChangesNothing(t *testing.T) {
	f := newFleet(t, Config{})
	f.do(http.MethodPost, "/api/v1/updates/"+f.his+"/cancel", "", "", "mine")
	f.do(http.MethodPost, "/api/v1/updates/"+f.his+"/hold", `{"holder":"h"}`, applicationJSON, "mine")
	f.do(http.MethodPost, "/api/v1/updates", `{"endpoint":"third","image":"`+f.image+`"}`, applicationJSON, "mine")
	w := f.do(http.MethodGet, "/api/v1/updates?outcome=", "", "", "all")
	require.Equal(t, 2, strings.Count(w.Body.String(), `"holds":[]`))
	require.NotContains(t, w.Body.String(), "third")
}

// TestAuthorizersThatMisbehave has authorizers that panic, or return too late or never.
func TestAuthorizersThatMisbehave(t *testing.T) {
	serve := func(t *testing.T, ask func(*http.Request, Access) error) *httptest.ResponseRecorder {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/images?version=1", iotest.ErrReader(errors.New("somebody reads")))
		r.Header.Set("Content-Type", octetStream)
		Recorded(t, newAPI(nil, nil, ask, Config{})).ServeHTTP(w, r)
		return w
	}
	require.Equal(t, 500, serve(t, func(*http.Request, Access) error { panic("no") }).Code)
	require.Equal(t, 500, serve(t, func(*http.Request, Access) error { panic(http.ErrAbortHandler) }).Code)
	require.Equal(t, 500, serve(t, func(*http.Request, Access) error { var none *os.PathError; return none }).Code)
	_, err := New(&firmware.Manager{}, nil, Config{})
	require.ErrorContains(t, err, "authorize")
	_, err = New(nil, AllowAll, Config{})
	require.ErrorContains(t, err, "manager")
	for _, wrong := range []Config{{MaxImage: -1}, {MaxStreams: -1}, {MaxRequests: -1}, {Heartbeat: -1}} {
		_, err = New(&firmware.Manager{}, AllowAll, wrong)
		require.ErrorContains(t, err, "is negative")
	}

	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		late := make(chan error, 2)
		w := serve(t, func(r *http.Request, _ Access) error {
			time.Sleep(time.Minute)
			_, err := io.ReadAll(r.Body) // another request uses the connection now
			late <- err
			late <- r.Context().Err()
			return nil
		})
		require.Equal(t, 503, w.Code)
		require.Equal(t, authorizeTime, time.Since(begin))
		require.NoError(t, <-late)
		require.Error(t, <-late, "it could have known")
	})
	synctest.Test(t, func(t *testing.T) { // calls that do not return delay no other request, and their number is bounded
		release := make(chan struct{})
		a := Recorded(t, newAPI(nil, nil, func(*http.Request, Access) error { <-release; return errors.New("no") }, Config{}))
		serve := func() int {
			w := httptest.NewRecorder()
			a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/devices", nil))
			return w.Code
		}
		for range maxAsked {
			go serve()
		}
		synctest.Wait()
		begin := time.Now()
		require.Equal(t, 503, serve())
		require.Zero(t, time.Since(begin))
		close(release)
		synctest.Wait()
		require.Equal(t, 403, serve(), "there is room again")
	})
}

// TestKeysOfOthers: the keys of one user neither affect nor show those of another.
func TestKeysOfOthers(t *testing.T) {
	f := newFleet(t, Config{})
	start := func(who, endpoint, key string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/updates",
			strings.NewReader(`{"endpoint":"`+endpoint+`","image":"`+f.image+`"}`))
		r.Header.Set("Content-Type", applicationJSON)
		r.Header.Set("Authorization", who)
		r.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		var u updateView
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &u))
		return w.Code, u.ID
	}
	code, first := start("a", "a", "key")
	require.Equal(t, http.StatusCreated, code)
	code, second := start("b", "b", "key")
	require.Equal(t, http.StatusCreated, code)
	require.NotEqual(t, first, second)
	for who, id := range map[string]string{"a": first, "b": second, "all": first} {
		endpoint := who
		if who == "all" {
			endpoint = "a"
		}
		code, again := start(who, endpoint, "key")
		require.Equal(t, http.StatusCreated, code)
		require.Equal(t, id, again)
	}
	code, _ = start("b", "a", "key")
	require.Equal(t, http.StatusForbidden, code)
	longest := strings.Repeat("k", maxKey) // with the longest endpoint
	code, _ = start("all", strings.Repeat("e", maxEndpoint), longest)
	require.Equal(t, http.StatusCreated, code)
}
