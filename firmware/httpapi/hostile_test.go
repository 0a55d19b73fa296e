package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
)

// A hostile client sends requests that are nearly right: every call of openapi.yaml, with one thing
// wrong. The recorder checks each answer, and that what the server accepts is valid by the file.
type hostile struct {
	t       *testing.T
	spec    *spec
	api     http.Handler
	names   *strings.Replacer // of what there is, for the names of parameters in paths
	answers map[int]int       // how many by status
}

// devices is a manager whose devices carry out every request, except observations.
type devices struct{ *firmware.Manager }

func (devices) Do(_ context.Context, r lwm2m.Request) (lwm2m.Answer, error) {
	if r.Operation == lwm2m.OpObserve || r.Operation == lwm2m.OpObserveComposite {
		return lwm2m.Answer{}, lwm2m.ErrTimeout
	}
	return lwm2m.Answer{}, nil
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	f := newFleet(t, Config{MaxImage: 1 << 10})
	f.guard = newAuthorizer(AllowAll, f.config.Logger)
	f.manager = devices{f.manager.(*firmware.Manager)}
	s, err := theSpec()
	require.NoError(t, err)
	return &hostile{t, s, f.recorded, strings.NewReplacer(
		"{image}", f.image, "{update}", f.mine, "{rollout}", f.rollout, "{endpoint}", "mine", "{request}", "none",
		"{object}", "3", "{instance}", "0", "{resource}", "7", "{resource_instance}", "1",
		"6f1c2d3e4f5a6b7c", f.image, "urn:imei:490154203237518", "new",
	), map[int]int{}}
}

// A try is a request of a hostile client.
type try struct {
	method, path string
	query        url.Values
	header       http.Header
	body         string
}

// base returns a request that is right, as far as the examples of the file are.
func (h *hostile) base(o *operation) try {
	r := try{method: o.method, path: "/api/v1" + h.names.Replace(o.path), query: url.Values{}, header: http.Header{}}
	if o.method == http.MethodGet && len(o.responses[http.StatusOK].events) > 0 {
		r.method = http.MethodHead // a stream does not end
	}
	for _, p := range o.parameters {
		if p.in != "query" || !p.required {
			continue
		}
		if r.query.Set(p.name, "true"); p.name == "version" {
			r.query.Set(p.name, "1.1.0")
		} else if p.name == "path" {
			r.query.Set(p.name, "/3/0/3")
		}
	}
	for kind := range o.body {
		r.header.Set("Content-Type", kind)
		if r.body = "bytes"; kind != applicationJSON {
			continue
		}
		_, at := h.spec.at("/paths/" + escape(o.path) + "/" + strings.ToLower(o.method) + "/requestBody")
		if media, _ := h.spec.at(at + "/content/application~1json"); media["example"] != nil {
			r.body = h.names.Replace(jsonText(media["example"]))
		} else {
			r.body = "{}"
		}
	}
	return r
}

// send makes a request. No answer is a failure of the server.
func (h *hostile) send(r try) int {
	h.t.Helper()
	request := httptest.NewRequestWithContext(h.t.Context(), http.MethodGet, "/", strings.NewReader(r.body))
	if r.body == "" {
		request.Body, request.ContentLength = http.NoBody, 0
	}
	target, err := url.Parse(r.path)
	if err != nil {
		return 0 // no server passes on such a path
	}
	target.RawQuery = r.query.Encode()
	request.Method, request.URL, request.Header = r.method, target, r.header.Clone()
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, request)
	require.NotEqual(h.t, http.StatusInternalServerError, w.Code, "%s %s %.200s: %s", r.method, target, r.body, w.Body)
	h.answers[w.Code]++
	return w.Code
}

// TestHostileParameters: in every call, each parameter of path, query and header has each hostile
// value once, is there twice, or is not known.
func TestHostileParameters(t *testing.T) {
	h := newHostile(t)
	for _, o := range h.spec.operations {
		for _, p := range o.parameters {
			for _, text := range hostileTexts {
				r := h.base(o)
				switch p.in {
				case "path":
					r.path = "/api/v1" + h.names.Replace(strings.Replace(o.path, "{"+p.name+"}", url.PathEscape(text), 1))
				case "query":
					r.query.Set(p.name, text)
				case "header":
					r.header.Set(p.name, text)
				}
				h.send(r)
			}
			if p.in == "query" {
				r := h.base(o)
				r.query[p.name] = []string{"1", "1"}
				h.send(r)
				r = h.base(o)
				r.query.Set(strings.ToUpper(p.name), "1")
				require.GreaterOrEqual(t, h.send(r), 400, "%s?%s", o.id, strings.ToUpper(p.name))
			}
		}
		for _, name := range []string{"x", "label.", "limit[]", "__proto__", "\x00", ""} {
			r := h.base(o)
			r.query.Set(name, "1")
			require.GreaterOrEqual(t, h.send(r), 400, "%s?%q", o.id, name)
		}
	}
	t.Log(h.answers)
}

// TestHostileHeaders: methods, media types, encodings and other headers that a call does not know.
func TestHostileHeaders(t *testing.T) {
	h := newHostile(t)
	for _, o := range h.spec.operations {
		for _, method := range []string{"get", "TRACE", "CONNECT", "PROPFIND", "PATCH", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "X"} {
			r := h.base(o)
			r.method = method
			h.send(r)
		}
		for _, kind := range []string{
			"", "application/json; charset=latin1", "application/JSON", "application/json;", "application/json;;=", "text/json", "application/problem+json",
			"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*", "/", "\x00", strings.Repeat("a", 5000),
		} {
			r := h.base(o)
			r.header.Set("Content-Type", kind)
			h.send(r)
		}
		for name, values := range map[string][]string{
			"Accept":           {"text/html", "text/event-stream;q=0", "*/*;q=x", "", strings.Repeat("a,", 2000)},
			"Range":            {"bytes=0-0", "bytes=-1,-1,-1", "x"},
			"If-Match":         {"*", `"x"`},
			"Expect":           {"100-continue"},
			"Origin":           {"null", "https://evil.example", "http://example.com", "\x00"},
			"Sec-Fetch-Site":   {"cross-site", "none", "x"},
			"Authorization":    {"Bearer", "Basic " + strings.Repeat("A", 5000), ""},
			"Idempotency-Key":  {"é", "\t", "rollout/x"},
			"X-Forwarded-Host": {"evil.example"},
		} {
			for _, value := range values {
				r := h.base(o)
				r.header.Set(name, value)
				h.send(r)
			}
		}
		if o.method != http.MethodGet && len(o.body) > 0 {
			for _, coding := range []string{"gzip", "br", "identity, gzip"} {
				r := h.base(o)
				r.header.Set("Content-Encoding", coding)
				require.Equal(t, http.StatusUnsupportedMediaType, h.send(r), "%s, Content-Encoding: %s", o.id, coding)
			}
		}
	}
	t.Log(h.answers)
}

// TestHostileBodies: in every body, each field has each hostile value once, is missing, is there
// twice, and is written in capitals; and the body as a whole is not JSON, or another value.
func TestHostileBodies(t *testing.T) {
	h := newHostile(t)
	for _, o := range h.spec.operations {
		base := h.base(o)
		if base.header.Get("Content-Type") != applicationJSON {
			continue
		}
		try := func(body string) int {
			r := base
			r.body = body
			return h.send(r)
		}
		for _, body := range append(slices.Clone(hostileJSON), "", " ", "{", `{"`, "{}{}", "{} x", "\xff", "\xef\xbb\xbf{}", "{\"a\":\"\xff\"}", "'a'", "NaN", "//\n{}", `{"a":1,}`,
			`{"`+strings.Repeat("x", 70_000)+`":1}`) {
			try(body)
		}
		whole := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(base.body), &whole), o.id)
		for name := range h.fields(o) { // those that the example lacks, too
			if _, ok := whole[name]; !ok {
				whole[name] = nil
			}
		}
		for _, at := range pointers(whole, nil) {
			for _, value := range hostileJSON {
				try(with(whole, at, value))
			}
			last := at[len(at)-1]
			if _, ok := last.(string); ok {
				try(with(whole, at, ""))
				name, _ := json.Marshal(last)
				twice := strings.Replace(with(whole, at, `"@"`), string(name)+`:"@"`, fmt.Sprintf("%s:1,%s:1", name, name), 1)
				require.GreaterOrEqual(t, try(twice), 400, "%s: %s", o.id, twice)
			}
		}
		for _, extra := range []string{"unknown", "", "__proto__", "constructor"} {
			if o.id != "putLabels" { // whose names are the client's
				more := maps.Clone(whole)
				more[extra] = 1
				require.GreaterOrEqual(t, try(jsonText(more)), 400, "%s with %q", o.id, extra)
			}
		}
	}
	t.Log(h.answers)
}

// fields returns the names of the fields of a body.
func (h *hostile) fields(o *operation) map[string]any {
	schema, _ := h.spec.at(o.body[applicationJSON])
	fields, _ := schema["properties"].(map[string]any)
	return fields
}
