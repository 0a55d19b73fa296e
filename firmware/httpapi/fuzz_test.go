package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// FuzzHandler sends arbitrary requests to every call: the only 5xx status is 501, and an error is a
// problem document.
func FuzzHandler(f *testing.F) {
	db := memory.New()
	images, err := firmware.OpenRepository(f.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(f, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(f, err)
	manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	require.NoError(f, err)
	image, err := images.Add(f.Context(), firmware.Image{Version: "1"}, strings.NewReader("image"))
	require.NoError(f, err)
	handler := handler(f, manager, httpapi.AllowAll, httpapi.Config{MaxImage: 1 << 10})

	const jsonType = "application/json"
	f.Add("GET", "images", "limit=1&cursor=aW1hZ2VzOjE", "", "", "")
	f.Add("POST", "images", "version=2&name=n", "application/octet-stream", "", "bytes")
	f.Add("GET", "devices/a%2Fb", "", "", "", "")
	f.Add("PUT", "devices/a%2Fb/resources/3/0/3", "format=text", "", "", "x")
	f.Add("POST", "updates", "", jsonType, "key", `{"endpoint":"dev","image":"`+image.ID+`","deadline":"1h","attempts":3}`)
	f.Add("POST", "updates", "", jsonType, "", `{"endpoint":"dev","image":"`+image.ID+`","deadline":1e3,"profile":"push"}`)
	f.Add("GET", "updates", "outcome=&state=idle&endpoint=dev", "", "", "")
	f.Add("POST", "updates/01M8620V60H1XKRXAX53PBPXKF/cancel", "", jsonType, "", "{}")
	f.Add("POST", "updates", "", jsonType, "", `{"endpoint":"held","image":"`+image.ID+`","hold":{"holder":"h","until":"2099-01-02T15:04:05Z"}}`)
	f.Add("POST", "updates/01M8620V60H1XKRXAX53PBPXKF/hold", "", jsonType, "", `{"holder":"h","reason":"r","until":null}`)
	f.Add("POST", "updates/01M8620V60H1XKRXAX53PBPXKF/release", "", jsonType, "", `{"holder":"h"}`)
	f.Add("POST", "updates/01M8620V60H1XKRXAX53PBPXKF/served", "", jsonType, "", "{}")
	f.Add("HEAD", "events", "after=7&update=x", "", "", "")
	f.Fuzz(func(t *testing.T, method, path, query, contentType, key, body string) {
		if method == http.MethodGet && strings.HasPrefix(path, "events") {
			return // the answer does not end
		}
		u, err := url.Parse("/api/v1/" + path)
		if err != nil || strings.ContainsAny(method, " \r\n") || method == "" {
			return // no server passes on such a request
		}
		u.RawQuery = query
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL = method, u
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 400 {
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			require.True(t, w.Code < 500 || w.Code == http.StatusNotImplemented, "%d %s", w.Code, w.Body)
		}
	})
}
