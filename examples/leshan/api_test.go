package leshan_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/leshan"
	"github.com/otago-iot/otago/lwm2m"
)

// The answers are those of the recorded Leshan, to the byte. Leshan was recorded with the same
// device; the order of resources in a list, which is that of a hash table there, does not count,
// and neither does what its JSON library says of a text that is no JSON.
func TestAnswersAreLeshans(t *testing.T) {
	inWorld(t, func(c *leshan.Config) { c.Literal504 = true }, func(w *world) {
		d := w.register("urn:dev:example-1", "1.0.0")
		d.onUpdate = func() error { return &lwm2m.ResponseError{Code: lwm2m.CodeMethodNotAllowed} }
		n := 0
		for _, v := range vectors(t) {
			if v.Group != "answers of the real Leshan of flownexus" {
				continue
			}
			n++
			d.onURI = nil
			if strings.Contains(v.ID, "silent") {
				d.onURI = pause(4 * time.Second)
			}
			r := httptest.NewRequest(v.Method, v.Path, strings.NewReader(v.body()))
			r.Host = "127.0.0.1:8080"
			if !strings.HasSuffix(v.ID, "no-ct") {
				r.Header.Set("Content-Type", "application/json")
			}
			answer := httptest.NewRecorder()
			begin := time.Now()
			w.bridge.ServeHTTP(answer, r)
			if v.Status == http.StatusGatewayTimeout {
				require.Equal(t, 2*time.Second, time.Since(begin), v.ID)
				w.settle()
			}
			require.Equal(t, v.Status, answer.Code, "%s: %s", v.ID, answer.Body)
			if v.Status == http.StatusOK {
				require.Equal(t, "application/json", answer.Header().Get("Content-Type"), v.ID)
			}
			var want string
			require.NoError(t, json.Unmarshal(v.Response, &want))
			got := answer.Body.String()
			for _, end := range []string{`"resources":[`, `"registrationId"`, "unable to parse json to tlv:"} {
				if i := strings.Index(want, end); i >= 0 {
					require.Contains(t, got, end, v.ID)
					want, got = want[:i], got[:strings.Index(got, end)]
				}
			}
			require.Equal(t, want, got, v.ID)
		}
		require.Equal(t, 19, n)
	})
}

// A registration has the members of Leshan's, in their order.
func TestClients(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("urn:dev:example-1", "1.0.0")
		one := request(w.bridge, http.MethodGet, "/api/clients/urn:dev:example-1", "").Body.String()
		all := request(w.bridge, http.MethodGet, "/api/clients", "").Body.String()
		require.Equal(t, "["+one+"]", all)
		at := 0
		for _, name := range []string{"endpoint", "registrationId", "registrationDate", "lastUpdate", "address", "lwM2mVersion", "lifetime",
			"bindingMode", "rootPath", "objectLinks", "secure", "additionalRegistrationAttributes", "queuemode", "availableInstances"} {
			i := strings.Index(one, `"`+name+`":`)
			require.Greater(t, i, at-1, "%s in %s", name, one)
			at = i
		}
		require.Contains(t, one, `{"url":"/5/0","attributes":{}}`)
		require.Contains(t, one, `"attributes":{"rt":"\"oma.lwm2m\"",`)
		require.Equal(t, "no registered client with id 'x'", request(w.bridge, http.MethodGet, "/api/clients/x", "").Body.String())
	})
}

// Every operation of the REST API reaches the device.
func TestOperations(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a/b", "1.0.0") // Django does not escape a slash
		for _, tt := range []struct{ method, path, body, want string }{
			{"GET", "3303/0/5700?timeout=5", "", `"content":{"kind":"singleResource","id":5700,"type":"FLOAT","value":"21.5"}}`},
			{"GET", "3303", "", `"content":{"instances":[{"kind":"instance","resources":[{"kind":"singleResource","id":5700,"type":"FLOAT","value":"21.5"}],"id":0}],"kind":"obj","id":3303}}`},
			{"GET", "3/discover", "", `"objectLinks":[{"url":"/3","attributes":{}},{"url":"/3/0","attributes":{}}`},
			{"GET", "composite?paths=/3/0/3,/99/0/1", "", `"content":{"/3/0/3":{"kind":"singleResource","id":3,"type":"STRING","value":"1.0.0"}}}`},
			{"PUT", "1/0/1", `{"id":1,"kind":"singleResource","value":"61","type":"INTEGER"}`, `CHANGED(204)`},
			{"PUT", "1/0?replace=false", `{"id":0,"kind":"instance","resources":[{"id":1,"kind":"singleResource","value":"62","type":"INTEGER"}]}`, `CHANGED(204)`},
			{"GET", "1/0/1", "", `"value":"62"`},
			{"PUT", "composite", `{"/1/0/1":{"id":1,"kind":"singleResource","value":"63","type":"INTEGER"}}`, `CHANGED(204)`},
			{"PUT", "3303/0/5700/attributes?pmin=1&pmax=100", "", `CHANGED(204)`},
			{"POST", "5/0/2", "", `CHANGED(204)`},
			{"POST", "3303", `{"kind":"instance","resources":[]}`, `METHOD_NOT_ALLOWED(405)`},
			{"DELETE", "3303/0", "", `METHOD_NOT_ALLOWED(405)`},
			{"DELETE", "3303", "", "Invalid request: Invalid path /3303 : Only object instances can be delete"},
			{"PUT", "5/0/1", `{"id":1,"kind":"singleResource","value":"x","type":"NOPE"}`, "Unexpected exception: No enum constant"},
			{"PUT", "1/0/1", `{"id":1,"kind":"singleResource","value":"x","type":"INTEGER"}`, "Unexpected exception: \"x\" is not a valid Long."},
			{"PUT", "1/0/1", `{"id":1,"kind":"singleResource","value":"00ff","type":"OPAQUE"}`, "Invalid request: "},
			{"GET", "5/x", "", "Invalid request: Invalid elements in path 5/x"},
		} {
			answer := request(w.bridge, tt.method, "/api/clients/a/b/"+tt.path, tt.body).Body.String()
			require.Contains(t, answer, tt.want, "%s %s", tt.method, tt.path)
		}
		require.Equal(t, 1, d.executes())
		require.Equal(t, http.StatusMethodNotAllowed, request(w.bridge, http.MethodPatch, "/api/clients/a/b", "").Code)
		require.Equal(t, http.StatusNotFound, request(w.bridge, http.MethodGet, "/api/event", "").Code)
	})
}

// An observation that the REST API makes goes to Django, until it is cancelled.
func TestObserve(t *testing.T) {
	inWorld(t, func(c *leshan.Config) { c.Follow = []lwm2m.Path{lwm2m.NewPath(3304, 0, 5700)} }, func(w *world) {
		d := w.register("a", "1.0.0")
		answer := request(w.bridge, http.MethodPost, "/api/clients/a/3303/0/5700/observe?format=TLV", "").Body.String()
		require.Contains(t, answer, `"content":{"kind":"singleResource","id":5700,"type":"FLOAT","value":"21.5"}}`)
		w.django.forget()
		d.sensor.Set(temperature, lwm2m.Float(22))
		w.settle()
		require.Equal(t, []string{"3303/5700=22.0"}, w.django.list("a"))
		require.Equal(t, http.StatusOK, request(w.bridge, http.MethodDelete, "/api/clients/a/3303/0/5700/observe", "").Code)
		d.sensor.Set(temperature, lwm2m.Float(23))
		w.settle()
		require.Equal(t, []string{"3303/5700=22.0"}, w.django.list("a"))
		require.Equal(t, http.StatusNotFound, request(w.bridge, http.MethodDelete, "/api/clients/a/3303/0/5700/observe?active", "").Code)

		answer = request(w.bridge, http.MethodPost, "/api/clients/a/composite/observe?paths=/3303/0/5700,/3/0/9", "").Body.String()
		require.Contains(t, answer, `"content":{"/3303/0/5700":`)
		w.django.forget()
		d.about.Set(lwm2m.NewPath(3, 0, 9), lwm2m.Integer(80))
		w.settle()
		require.Equal(t, []string{"3/9=80", "3303/5700=23.0"}, slices.Sorted(slices.Values(w.django.list("a"))))
	})
}

// Values that a device sends by itself arrive too, and obey the same rules.
func TestSend(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		w.django.forget()
		require.NoError(t, d.client.Send(w.t.Context(), []lwm2m.Entry{
			{Path: temperature, Value: lwm2m.Float(1)},
			{Path: versionPath, Value: lwm2m.String("1.0")},
			{Path: lwm2m.NewPath(3, 0, 9), Value: lwm2m.Integer(90)},
		}))
		w.settle()
		require.Equal(t, []string{"3303/5700=1.0", "3/9=90"}, w.django.list("a"))
	})
}

// A page in a browser cannot reach the API, whatever name it uses.
func TestNoPages(t *testing.T) {
	b := newBridge(t, leshan.Config{Hosts: []string{"lwm2m.example.com"}})
	for _, tt := range []struct {
		host, name, value string
		want              int
	}{
		{"127.0.0.1:8080", "", "", 200},
		{"[::1]:8080", "", "", 200},
		{"leshan:8080", "", "", 200}, // the name in the compose file of flownexus
		{"lwm2m.example.com", "", "", 200},
		{"evil.example.com", "", "", 403},
		{"127.0.0.1:8080", "Origin", "http://127.0.0.1:8080", 403},
		{"127.0.0.1:8080", "Origin", "null", 403},
		{"127.0.0.1:8080", "Sec-Fetch-Site", "cross-site", 403},
		{"127.0.0.1:8080", "Sec-Fetch-Site", "same-origin", 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/clients", nil)
		r.Host = tt.host
		if tt.name != "" {
			r.Header.Set(tt.name, tt.value)
		}
		answer := httptest.NewRecorder()
		b.ServeHTTP(answer, r)
		require.Equal(t, tt.want, answer.Code, "%v", tt)
	}
}

// While the program drives an update of its own on a device, Django neither changes object 5 nor
// hears of it.
func TestUpdateOfThisServer(t *testing.T) {
	busy := ""
	inWorld(t, func(c *leshan.Config) { c.Busy = func(string) string { return busy } }, func(w *world) {
		d := w.register("a", "1.0")
		busy = "01K"
		u := w.django.update("a", "2.0")
		w.settle()
		require.Equal(t, []string{"PUT 5/1 -> 409"}, w.django.requests())
		w.django.forget()
		d.state(1)
		d.state(2)
		d.result(8)
		d.state(0)
		require.Empty(t, w.django.list("a"))
		require.Zero(t, u.result)
		require.Empty(t, d.written())
		busy = ""
		d.restart("") // Django tries again
		require.Equal(t, []string{"/binaries/2.0.bin"}, d.written())
		require.Zero(t, u.result)
	})
}

// A device that is gone costs a request its patience.
func TestSilentDevice(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.onURI = pause(time.Hour)
		begin := time.Now()
		w.django.update("a", "2.0")
		for len(w.django.requests()) == 0 && time.Since(begin) < time.Hour {
			time.Sleep(time.Second)
		}
		require.Equal(t, []string{"PUT 5/1 -> 504"}, w.django.requests())
		require.Equal(t, 10*time.Minute, time.Since(begin).Truncate(time.Minute))
	})
}

// A stop ends the requests that wait with an answer, so that Django sends them again. What the
// device has begun meanwhile is not begun again.
func TestStopAnswers(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.onURI = pause(5 * time.Minute)
		w.django.update("a", "2.0")
		w.settle()
		w.stop()
		synctest.Wait() // Django notes the answer
		require.Equal(t, []string{"PUT 5/1 -> 504"}, w.django.requests())
		w.start()
		d.state(1)
		d.restart("") // Django sends what is queued
		require.Equal(t, []string{"PUT 5/1 -> 504", "PUT 5/1 -> 200"}, w.django.requests())
		require.Len(t, d.written(), 1)
	})
}

// An HTTP server that stops ends the contexts of its requests. Each is answered nevertheless.
func TestStoppedServerAnswers(t *testing.T) {
	b := newBridge(t, leshan.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, path := range []string{"/api/clients", "/api/clients/x", "/api/clients/x/5/0/1"} {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
		r.Host = "127.0.0.1:8080"
		answer := httptest.NewRecorder()
		answer.Code = 0
		b.ServeHTTP(answer, r)
		require.NotZero(t, answer.Code, path)
		require.NotZero(t, answer.Body.Len(), path)
	}
}

// Django takes every answer of a device for a success. The log knows better.
func TestRefusalIsLogged(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.onURI = func(context.Context) error { return lwm2m.ErrMethodNotAllowed }
		w.django.update("a", "2.0")
		w.settle()
		require.Equal(t, []string{"PUT 5/1 -> 200"}, w.django.requests())
		require.Contains(t, w.log.String(), "a device has refused a request of Django")
	})
}

// The sink must be on loopback or in a private network.
func TestSinkAddress(t *testing.T) {
	b := newBridge(t, leshan.Config{Sink: "http://192.0.2.1:9"})
	_, err := leshan.Dial(b, context.Background())
	require.ErrorContains(t, err, "neither loopback nor in a private network")
	for _, sink := range []string{"", "127.0.0.1:8000", "ftp://127.0.0.1", "http://a:b@127.0.0.1", "http://127.0.0.1?x=1"} {
		server, err := lwm2m.NewServer(lwm2m.ServerConfig{})
		require.NoError(t, err)
		_, err = leshan.New(server, leshan.Config{Sink: sink, State: t.TempDir() + "/x"})
		require.Error(t, err, sink)
	}
}

// newBridge returns a bridge that does not run.
func newBridge(t *testing.T, config leshan.Config) *leshan.Bridge {
	t.Helper()
	server, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(t, err)
	config.State = t.TempDir() + "/leshan.log"
	if config.Sink == "" {
		config.Sink = "http://127.0.0.1:8000"
	}
	b, err := leshan.New(server, config)
	require.NoError(t, err)
	return b
}
