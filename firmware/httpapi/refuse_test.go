package httpapi_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/httpapi"
)

func TestRefusedRequests(t *testing.T) {
	s := newService(t, httpapi.Config{MaxImage: 1000})
	image := s.image("1.0.0")
	update := func(fields string) string { return `{"endpoint":"dev","image":"` + image + `"` + fields + `}` }
	const form, resources = "application/x-www-form-urlencoded", "/api/v1/devices/dev/resources"
	jsonBody := []string{"Content-Type", "application/json"}

	tests := []struct {
		name         string
		method, path string
		body         string
		header       []string
		status       int
		kind         string
		field        string
	}{
		{name: "no call", method: "GET", path: "/", status: 404, kind: "not-found"},
		{name: "no call below api", method: "GET", path: "/api/v1/nothing", status: 404, kind: "not-found"},
		{name: "api alone", method: "GET", path: "/api", status: 404, kind: "not-found"},
		{name: "no version", method: "GET", path: "/api/updates", status: 404, kind: "not-found"},
		{name: "trailing slash", method: "GET", path: "/api/v1/updates/", status: 404, kind: "not-found"},
		{name: "unknown method", method: "PATCH", path: "/api/v1/updates", status: 405, kind: "method-not-allowed"},
		{name: "wrong method", method: "DELETE", path: "/api/v1/devices", status: 405, kind: "method-not-allowed"},
		{name: "unknown query", method: "GET", path: "/api/v1/updates?limt=1", status: 400, kind: "invalid-query", field: "limt"},
		{name: "query twice", method: "GET", path: "/api/v1/updates?limit=1&limit=2", status: 400, kind: "invalid-query", field: "limit"},
		{name: "label without value", method: "GET", path: "/api/v1/updates?label=site", status: 400, kind: "invalid-query", field: "label"},
		{name: "label twice", method: "GET", path: "/api/v1/updates?label=a=1&label=a=2", status: 400, kind: "invalid-query", field: "label"},
		{name: "label without name", method: "GET", path: "/api/v1/updates?label==a", status: 400, kind: "invalid-query", field: "label"},
		{name: "label with an odd name", method: "GET", path: "/api/v1/updates?label=a%20b=1", status: 400, kind: "invalid-query", field: "label"},
		{name: "query badly encoded", method: "GET", path: "/api/v1/updates?limit=%zz", status: 400, kind: "invalid-query"},
		{name: "limit 0", method: "GET", path: "/api/v1/updates?limit=0", status: 400, kind: "invalid-query", field: "limit"},
		{name: "limit huge", method: "GET", path: "/api/v1/devices?limit=1001", status: 400, kind: "invalid-query", field: "limit"},
		{name: "limit text", method: "GET", path: "/api/v1/images?limit=x", status: 400, kind: "invalid-query", field: "limit"},
		{name: "cursor junk", method: "GET", path: "/api/v1/updates?cursor=x", status: 400, kind: "invalid-query", field: "cursor"},
		{name: "order", method: "GET", path: "/api/v1/updates?order=id&outcome=failed", status: 400, kind: "invalid-query", field: "order"},
		{name: "order of active updates", method: "GET", path: "/api/v1/updates?order=ended&outcome=", status: 400, kind: "invalid-query", field: "order"},
		{name: "order without outcome", method: "GET", path: "/api/v1/updates?order=ended", status: 400, kind: "invalid-query", field: "order"},
		{name: "cursor of another order", method: "GET", path: "/api/v1/updates?order=ended&outcome=failed&cursor=dXBkYXRlczox", status: 400, kind: "invalid-query", field: "cursor"},
		{name: "cursor without time", method: "GET", path: "/api/v1/updates?order=ended&outcome=failed&cursor=ZW5kZWQ6MQ", status: 400, kind: "invalid-query", field: "cursor"},
		{name: "cursor empty", method: "GET", path: "/api/v1/updates?cursor=", status: 400, kind: "invalid-query", field: "cursor"},
		{name: "outcome unknown", method: "GET", path: "/api/v1/updates?outcome=great", status: 400, kind: "invalid-query", field: "outcome"},
		{name: "state unknown", method: "GET", path: "/api/v1/updates?state=lost", status: 400, kind: "invalid-query", field: "state"},
		{name: "query where none is", method: "GET", path: "/api/v1/images/" + image + "?x=1", status: 400, kind: "invalid-query", field: "x"},

		{name: "no endpoint in query", method: "GET", path: "/api/v1/updates?endpoint=", status: 400, kind: "invalid-query", field: "endpoint"},
		{name: "endpoint in query", method: "GET", path: "/api/v1/events?endpoint=%ff", status: 400, kind: "invalid-query", field: "endpoint"},
		{name: "no image in query", method: "GET", path: "/api/v1/updates?image=", status: 400, kind: "invalid-query", field: "image"},
		{name: "update in query", method: "GET", path: "/api/v1/events?update=" + strings.Repeat("a", 65), status: 400, kind: "invalid-query", field: "update"},

		{name: "unknown image", method: "GET", path: "/api/v1/images/nope", status: 404, kind: "not-found"},
		{name: "unknown update", method: "GET", path: "/api/v1/updates/nope", status: 404, kind: "not-found"},
		{name: "unknown device", method: "GET", path: "/api/v1/devices/nope", status: 404, kind: "not-found"},
		{name: "cancel unknown", method: "POST", path: "/api/v1/updates/nope/cancel", status: 404, kind: "not-found"},
		{name: "delete unknown", method: "DELETE", path: "/api/v1/images/nope", status: 404, kind: "not-found"},
		{name: "huge id", method: "GET", path: "/api/v1/images/" + strings.Repeat("a", 10_000), status: 404, kind: "not-found"},

		{name: "endpoint that no path can have", method: "POST", path: "/api/v1/updates", body: `{"endpoint":"..","image":"` + image + `"}`, header: jsonBody, status: 400, kind: "invalid-field", field: "endpoint"},
		{name: "endpoint with newline", method: "GET", path: "/api/v1/devices/a%0Ab", status: 400, kind: "bad-request"},
		{name: "endpoint with NUL", method: "GET", path: "/api/v1/devices/a%00", status: 400, kind: "bad-request"},
		{name: "endpoint with DEL", method: "GET", path: "/api/v1/devices/%7f", status: 400, kind: "bad-request"},
		{name: "endpoint with C1", method: "GET", path: "/api/v1/devices/%c2%85", status: 400, kind: "bad-request"},
		{name: "endpoint not UTF-8", method: "GET", path: "/api/v1/devices/%ff", status: 400, kind: "bad-request"},
		{name: "endpoint empty", method: "GET", path: "/api/v1/devices/", status: 400, kind: "bad-request"},
		{name: "endpoint of 256", method: "GET", path: "/api/v1/devices/" + strings.Repeat("e", 256), status: 400, kind: "bad-request"},
		{name: "endpoint of 10 KB", method: "GET", path: "/api/v1/devices/" + strings.Repeat("e", 10_240), status: 400, kind: "bad-request"},

		{name: "no path", method: "GET", path: resources, status: 400, kind: "invalid-query", field: "path"},
		{name: "path empty", method: "GET", path: resources + "?path=", status: 400, kind: "invalid-query", field: "path"},
		{name: "path wrong", method: "GET", path: resources + "?path=/3/0/3&path=x", status: 400, kind: "invalid-query", field: "path"},
		{name: "65 paths", method: "GET", path: resources + "?" + strings.Repeat("path=/3/0/3&", 65), status: 400, kind: "invalid-query", field: "path"},
		{name: "path of one resource too", method: "GET", path: resources + "/3/0/3?path=/3/0/3", status: 400, kind: "invalid-query", field: "path"},
		{name: "resources with a slash", method: "GET", path: resources + "/", status: 400, kind: "bad-request"},
		{name: "resource by name", method: "GET", path: resources + "/3/0/battery", status: 400, kind: "bad-request"},
		{name: "resource 65535", method: "GET", path: resources + "/3/0/65535", status: 400, kind: "bad-request"},
		{name: "path with a slash at its end", method: "GET", path: resources + "/3/0/", status: 400, kind: "bad-request"},
		{name: "five levels", method: "GET", path: resources + "/3/0/6/0/0", status: 400, kind: "bad-request"},
		{name: "format unknown", method: "GET", path: resources + "/3/0/3?format=xml", status: 400, kind: "invalid-query", field: "format"},
		{name: "timeout 0", method: "GET", path: resources + "/3/0/3?timeout=0", status: 400, kind: "invalid-query", field: "timeout"},
		{name: "timeout text", method: "GET", path: resources + "/3/0/3?timeout=soon", status: 400, kind: "invalid-query", field: "timeout"},
		{name: "timeout long", method: "DELETE", path: resources + "/3/1?timeout=601s", status: 400, kind: "invalid-query", field: "timeout"},
		{name: "timeout of a request that waits", method: "GET", path: resources + "/3/0/3?wait=true&timeout=11m", status: 400, kind: "invalid-query", field: "timeout"},
		{name: "timeout without waiting", method: "GET", path: resources + "/3/0/3?wait=false&timeout=25h", status: 400, kind: "invalid-query", field: "timeout"},
		{name: "wait what", method: "GET", path: resources + "/3/0/3?wait=no", status: 400, kind: "invalid-query", field: "wait"},
		{name: "observe what", method: "GET", path: resources + "/3/0/3?observe=", status: 400, kind: "invalid-query", field: "observe"},
		{name: "observe and write", method: "PUT", path: resources + "/3/0/14?observe=true", body: "{}", header: jsonBody, status: 400, kind: "invalid-query", field: "observe"},
		{name: "observe an unknown device", method: "GET", path: resources + "/3/0/3?observe=true", status: 404, kind: "not-found"},
		{name: "unknown request", method: "GET", path: "/api/v1/devices/dev/requests/x", status: 404, kind: "not-found"},
		{name: "discover what", method: "GET", path: resources + "/3?discover=1", status: 400, kind: "invalid-query", field: "discover"},
		{name: "discover a resource instance", method: "GET", path: resources + "/3/0/6/0?discover=true", status: 400, kind: "invalid-query", field: "discover"},
		{name: "discover in a format", method: "GET", path: resources + "/3?discover=true&format=tlv", status: 400, kind: "invalid-query", field: "format"},
		{name: "write an object", method: "PUT", path: resources + "/3", body: `{}`, header: jsonBody, status: 405, kind: "method-not-allowed"},
		{name: "write text", method: "PUT", path: resources + "/3/0/14", body: `x`, header: []string{"Content-Type", "text/plain"}, status: 415, kind: "unsupported-media-type"},
		{name: "write no value", method: "PUT", path: resources + "/3/0/14", body: `{}`, header: jsonBody, status: 400, kind: "invalid-field", field: "value"},
		{name: "write an object as value", method: "PUT", path: resources + "/99/0/14", body: `{"value":{}}`, header: jsonBody, status: 400, kind: "invalid-field", field: "value"},
		{name: "write a number as string", method: "PUT", path: resources + "/3/0/14", body: `{"value":1}`, header: jsonBody, status: 400, kind: "invalid-field", field: "value"},
		{name: "write half a surrogate pair", method: "PUT", path: resources + "/3/0/14", body: `{"value":"\udc00"}`, header: jsonBody, status: 400, kind: "invalid-field", field: "value"},
		{name: "write an unknown type", method: "PUT", path: resources + "/3/0/14", body: `{"type":"text","value":"x"}`, header: jsonBody, status: 400, kind: "invalid-field", field: "type"},
		{name: "write elsewhere", method: "PUT", path: resources + "/3/0/14", body: `{"path":"/3/0/15","value":"x"}`, header: jsonBody, status: 400, kind: "invalid-field", field: "path"},
		{name: "write elsewhere in an instance", method: "PUT", path: resources + "/3/0", body: `{"values":[{"path":"/3/0/14","value":"x"},{"path":"/3/1/14","value":"x"}]}`, header: jsonBody, status: 400, kind: "invalid-field", field: "values[1].path"},
		{name: "write both forms", method: "PUT", path: resources + "/3/0/14", body: `{"value":"x","values":[]}`, header: jsonBody, status: 400, kind: "invalid-field", field: "values"},
		{name: "write without a path", method: "PUT", path: resources + "/3/0", body: `{"value":"x"}`, header: jsonBody, status: 400, kind: "invalid-field", field: "path"},
		{name: "write a value to an instance", method: "PUT", path: resources + "/3/0", body: `{"path":"/3/0","value":"x"}`, header: jsonBody, status: 400, kind: "invalid-field", field: "path"},
		{name: "write nothing anywhere", method: "PUT", path: resources, body: `{"values":[]}`, header: jsonBody, status: 400, kind: "invalid-field", field: "values"},
		{name: "write much", method: "PUT", path: resources + "/3/0/14", body: `{"value":"` + strings.Repeat("x", 64<<10) + `"}`, header: jsonBody, status: 413, kind: "too-large"},
		{name: "post to a resource instance", method: "POST", path: resources + "/3/0/6/0", status: 405, kind: "method-not-allowed"},
		{name: "partial write without a body", method: "POST", path: resources + "/3/0", status: 400, kind: "bad-request"},
		{name: "create two instances", method: "POST", path: resources + "/9", body: `{"values":[{"path":"/9/1/3","value":"x"},{"path":"/9/2/3","value":"x"}]}`, header: jsonBody, status: 400, kind: "invalid-field", field: "values[1].path"},
		{name: "execute with wrong arguments", method: "POST", path: resources + "/3/0/4", body: `{"arguments":"x"}`, header: jsonBody, status: 400, kind: "invalid-field", field: "arguments"},
		{name: "execute in a format", method: "POST", path: resources + "/3/0/4?format=text", status: 400, kind: "invalid-query", field: "format"},
		{name: "execute as a form", method: "POST", path: resources + "/3/0/4", header: []string{"Content-Type", form}, status: 415, kind: "unsupported-media-type"},
		{name: "delete an object", method: "DELETE", path: resources + "/3", status: 405, kind: "method-not-allowed"},
		{name: "delete a resource", method: "DELETE", path: resources + "/3/0/14", status: 405, kind: "method-not-allowed"},
		{name: "delete everything", method: "DELETE", path: resources, status: 405, kind: "method-not-allowed"},
		{name: "unknown device's resource", method: "GET", path: resources + "/3/0/3", status: 404, kind: "not-found"},

		{name: "JSON as text", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Content-Type", "text/plain"}, status: 415, kind: "unsupported-media-type"},
		{name: "JSON as form", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Content-Type", form}, status: 415, kind: "unsupported-media-type"},
		{name: "JSON untyped", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Content-Type", ""}, status: 415, kind: "unsupported-media-type"},
		{name: "JSON in Latin-1", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Content-Type", "application/json; charset=latin1"}, status: 415, kind: "unsupported-media-type"},
		{name: "cancel as form", method: "POST", path: "/api/v1/updates/x/cancel", header: []string{"Content-Type", form}, status: 415, kind: "unsupported-media-type"},
		{name: "image as form", method: "POST", path: "/api/v1/images?version=2", body: "x", header: []string{"Content-Type", form}, status: 415, kind: "unsupported-media-type"},

		{name: "empty body", method: "POST", path: "/api/v1/updates", status: 400, kind: "bad-request"},
		{name: "blank body", method: "POST", path: "/api/v1/updates", body: " \n", status: 400, kind: "bad-request"},
		{name: "not JSON", method: "POST", path: "/api/v1/updates", body: "endpoint=dev", status: 400, kind: "bad-request"},
		{name: "cut short", method: "POST", path: "/api/v1/updates", body: `{"endpoint":"dev"`, status: 400, kind: "bad-request"},
		{name: "not an object", method: "POST", path: "/api/v1/updates", body: `["dev"]`, status: 400, kind: "bad-request"},
		{name: "null", method: "POST", path: "/api/v1/updates", body: `null`, status: 400, kind: "bad-request"},
		{name: "trailing garbage", method: "POST", path: "/api/v1/updates", body: update("") + "x", status: 400, kind: "bad-request"},
		{name: "two objects", method: "POST", path: "/api/v1/updates", body: update("") + update(""), status: 400, kind: "bad-request"},
		{name: "unknown field", method: "POST", path: "/api/v1/updates", body: update(`,"forse":true`), status: 400, kind: "invalid-field", field: "forse"},
		{name: "wrong type", method: "POST", path: "/api/v1/updates", body: update(`,"force":"yes"`), status: 400, kind: "invalid-field", field: "force"},
		{name: "not UTF-8", method: "POST", path: "/api/v1/updates", body: "{\"endpoint\":\"\xff\"}", status: 400, kind: "bad-request"},
		{name: "deep", method: "POST", path: "/api/v1/updates", body: strings.Repeat("[", 60_000), status: 400, kind: "bad-request"},
		{name: "large", method: "POST", path: "/api/v1/updates", body: `{"endpoint":"` + strings.Repeat("e", 70_000) + `"}`, status: 413, kind: "too-large"},
		{name: "no endpoint", method: "POST", path: "/api/v1/updates", body: `{"image":"x"}`, status: 400, kind: "invalid-field", field: "endpoint"},
		{name: "long endpoint", method: "POST", path: "/api/v1/updates", body: `{"image":"x","endpoint":"` + strings.Repeat("e", 256) + `"}`, status: 400, kind: "invalid-field", field: "endpoint"},
		{name: "control in endpoint", method: "POST", path: "/api/v1/updates", body: `{"image":"x","endpoint":"a\u0007"}`, status: 400, kind: "invalid-field", field: "endpoint"},
		{name: "no image", method: "POST", path: "/api/v1/updates", body: `{"endpoint":"dev"}`, status: 400, kind: "invalid-field", field: "image"},
		{name: "unknown image in update", method: "POST", path: "/api/v1/updates", body: `{"endpoint":"dev","image":"nope"}`, status: 404, kind: "not-found", field: "image"},
		{name: "limit with a zero", method: "GET", path: "/api/v1/updates?limit=01", status: 400, kind: "invalid-query", field: "limit"},
		{name: "compressed image", method: "POST", path: "/api/v1/images?version=2", body: "x", header: []string{"Content-Type", "application/octet-stream", "Content-Encoding", "gzip"}, status: 415, kind: "unsupported-media-type"},
		{name: "state by its number", method: "GET", path: "/api/v1/updates?state=0", status: 400, kind: "invalid-query", field: "state"},
		{name: "unknown state", method: "GET", path: "/api/v1/updates?state=7", status: 400, kind: "invalid-query", field: "state"},
		{name: "outcome in capitals", method: "GET", path: "/api/v1/updates?outcome=FAILED", status: 400, kind: "invalid-query", field: "outcome"},
		{name: "delivery in capitals", method: "POST", path: "/api/v1/updates", body: update(`,"delivery":"PUSH"`), status: 400, kind: "invalid-field", field: "delivery"},
		{name: "protocol in capitals", method: "POST", path: "/api/v1/updates", body: update(`,"protocol":"HTTP"`), status: 400, kind: "invalid-field", field: "protocol"},
		{name: "verify in capitals", method: "POST", path: "/api/v1/updates", body: update(`,"verify":"Result"`), status: 400, kind: "invalid-field", field: "verify"},
		{name: "null as a label", method: "POST", path: "/api/v1/updates", body: update(`,"labels":{"a":null}`), status: 400, kind: "invalid-field", field: "labels.a"},
		{name: "delivery", method: "POST", path: "/api/v1/updates", body: update(`,"delivery":"drone"`), status: 400, kind: "invalid-field", field: "delivery"},
		{name: "protocol", method: "POST", path: "/api/v1/updates", body: update(`,"protocol":"ftp"`), status: 400, kind: "invalid-field", field: "protocol"},
		{name: "verify", method: "POST", path: "/api/v1/updates", body: update(`,"verify":"never"`), status: 400, kind: "invalid-field", field: "verify"},
		{name: "profile", method: "POST", path: "/api/v1/updates", body: update(`,"profile":"nobody-knows"`), status: 400, kind: "invalid-field", field: "profile"},
		{name: "attempts 0", method: "POST", path: "/api/v1/updates", body: update(`,"attempts":0`), status: 400, kind: "invalid-field", field: "attempts"},
		{name: "attempts text", method: "POST", path: "/api/v1/updates", body: update(`,"attempts":"5"`), status: 400, kind: "invalid-field", field: "attempts"},
		{name: "deadline text", method: "POST", path: "/api/v1/updates", body: update(`,"deadline":"soon"`), status: 400, kind: "invalid-field", field: "deadline"},
		{name: "deadline negative", method: "POST", path: "/api/v1/updates", body: update(`,"deadline":-1`), status: 400, kind: "invalid-field", field: "deadline"},
		{name: "deadline huge", method: "POST", path: "/api/v1/updates", body: update(`,"deadline":1e300`), status: 400, kind: "invalid-field", field: "deadline"},
		{name: "deadline tiny", method: "POST", path: "/api/v1/updates", body: update(`,"deadline":1e-10`), status: 400, kind: "invalid-field", field: "deadline"},
		{name: "half a surrogate pair", method: "POST", path: "/api/v1/updates", body: `{"image":"x","endpoint":"a\ud800"}`, status: 400, kind: "invalid-field", field: "endpoint"},
		{name: "empty key", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Idempotency-Key", ""}, status: 400, kind: "bad-request"},
		{name: "long key", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Idempotency-Key", strings.Repeat("k", 256)}, status: 400, kind: "bad-request"},

		{name: "image without version", method: "POST", path: "/api/v1/images?name=n", body: "x", header: []string{"Content-Type", "application/octet-stream"}, status: 400, kind: "invalid-query", field: "version"},
		{name: "image with bad version", method: "POST", path: "/api/v1/images?version=%0a", body: "x", header: []string{"Content-Type", "application/octet-stream"}, status: 400, kind: "invalid-query", field: "version"},
		{name: "empty image", method: "POST", path: "/api/v1/images?version=2", header: []string{"Content-Type", "application/octet-stream"}, status: 400, kind: "bad-request"},
		{name: "image too large", method: "POST", path: "/api/v1/images?version=2", body: strings.Repeat("x", 1001), header: []string{"Content-Type", "application/octet-stream"}, status: 413, kind: "too-large"},
		{name: "other bytes", method: "POST", path: "/api/v1/images?name=sensor&version=1.0.0", body: "other", header: []string{"Content-Type", "application/octet-stream"}, status: 409, kind: "version-taken"},

		{name: "event id", method: "GET", path: "/api/v1/events", header: []string{"Last-Event-ID", "x"}, status: 400, kind: "invalid-query", field: "after"},
		{name: "foreign page, by Origin", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Origin", "https://evil.example"}, status: 403, kind: "foreign-origin"},
		{name: "foreign page, by null Origin", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Origin", "null"}, status: 403, kind: "foreign-origin"},
		{name: "foreign page, by Sec-Fetch-Site", method: "POST", path: "/api/v1/updates", body: update(""), header: []string{"Sec-Fetch-Site", "cross-site"}, status: 403, kind: "foreign-origin"},
		{name: "foreign page that reads", method: "GET", path: "/api/v1/events", header: []string{"Sec-Fetch-Site", "same-site"}, status: 403, kind: "foreign-origin"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := tt.header
			if tt.method == http.MethodPost && tt.path == "/api/v1/updates" && (len(header) == 0 || header[0] != "Content-Type") {
				header = append([]string{"Content-Type", "application/json"}, header...)
			}
			p := requireProblem(t, s.do(tt.method, tt.path, strings.NewReader(tt.body), header...), tt.status, tt.kind)
			require.Equal(t, tt.field, p.Field)
			require.Less(t, len(p.Detail), 400)
		})
	}

	list := decode[struct{ Items []struct{} }](t, s.get("/api/v1/updates"))
	require.Empty(t, list.Items, "a refused request changes nothing")
	images := decode[struct{ Items []struct{} }](t, s.get("/api/v1/images"))
	require.Len(t, images.Items, 1)
}

func TestHugeContentLength(t *testing.T) {
	s := newService(t, httpapi.Config{})
	for _, path := range []string{"/api/v1/images?version=1", "/api/v1/updates"} {
		kind := "application/octet-stream"
		if path == "/api/v1/updates" {
			kind = "application/json"
		}
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 1000000000000000\r\n\r\nx", path, kind)
		status := make([]byte, len("HTTP/1.1 413"))
		_, err = conn.Read(status)
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 413", string(status))
	}
}

func TestUploadThatBreaksOff(t *testing.T) {
	s := newService(t, httpapi.Config{})
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	fmt.Fprintf(conn, "POST /api/v1/images?version=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000\r\n\r\nhalf")
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	var answer bytes.Buffer
	_, err = answer.ReadFrom(conn)
	require.NoError(t, err)
	require.Contains(t, answer.String(), "HTTP/1.1 400")
	require.Empty(t, decode[struct{ Items []struct{} }](t, s.get("/api/v1/images")).Items)
}

func TestSameOriginIsServed(t *testing.T) {
	s := newService(t, httpapi.Config{})
	base, err := url.Parse(s.URL)
	require.NoError(t, err)
	for _, header := range [][]string{
		{"Origin", s.URL},
		{"Sec-Fetch-Site", "same-origin"},
		{"Sec-Fetch-Site", "none"},
		{"Origin", "https://" + base.Host}, // behind a proxy that ends TLS
	} {
		require.Equal(t, http.StatusOK, s.do(http.MethodGet, "/api/v1/updates", nil, header...).StatusCode, header)
	}
}
