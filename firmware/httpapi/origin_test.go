package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/httpapi"
)

// TestTrustedOrigins: of pages on other hosts, only those of trusted origins may use the API.
func TestTrustedOrigins(t *testing.T) {
	s := newService(t, httpapi.Config{TrustedOrigins: []string{"https://Ops.example.com:443", "http://other.example:8080"}})
	image := s.image("1.0.0")
	const cors = "Access-Control-"
	for _, tt := range []struct {
		name         string
		method, path string
		header       []string
		status       int
		trusted      string
	}{
		{"read", "GET", "/api/v1/updates", []string{"Origin", "https://ops.example.com", "Sec-Fetch-Site", "cross-site"}, 200, "https://ops.example.com"},
		{"another port", "GET", "/api/v1/updates", []string{"Origin", "http://other.example:8080", "Sec-Fetch-Site", "same-site"}, 200, "http://other.example:8080"},
		{"change", "DELETE", "/api/v1/images/" + image, []string{"Origin", "https://ops.example.com", "Sec-Fetch-Site", "cross-site"}, 204, "https://ops.example.com"},
		{"a problem", "GET", "/api/v1/updates/x", []string{"Origin", "https://ops.example.com"}, 404, "https://ops.example.com"},
		{"no call", "GET", "/api/v1/nothing", []string{"Origin", "https://ops.example.com"}, 404, "https://ops.example.com"},
		{"events", "HEAD", "/api/v1/events", []string{"Origin", "https://ops.example.com"}, 200, "https://ops.example.com"},
		{"no browser", "GET", "/api/v1/updates", nil, 200, ""},
		{"the API's own page", "GET", "/api/v1/updates", []string{"Origin", s.URL, "Sec-Fetch-Site", "same-origin"}, 200, ""},
		{"another scheme", "GET", "/api/v1/updates", []string{"Origin", "http://ops.example.com"}, 403, ""},
		{"another host", "GET", "/api/v1/updates", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"a longer name", "GET", "/api/v1/updates", []string{"Origin", "https://ops.example.com.evil.example"}, 403, ""},
		{"a port that is not meant", "GET", "/api/v1/updates", []string{"Origin", "https://ops.example.com:8443"}, 403, ""},
		{"no origin", "GET", "/api/v1/updates", []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"an image of a page", "GET", "/api/v1/updates", []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"preflight of another", "OPTIONS", "/api/v1/updates", []string{"Origin", "https://evil.example", cors + "Request-Method", "POST"}, 403, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.do(tt.method, tt.path, nil, tt.header...)
			require.Equal(t, tt.status, a.StatusCode, "%s", a.body)
			require.Equal(t, tt.trusted, a.Header.Get(cors+"Allow-Origin"))
			require.Contains(t, a.Header.Values("Vary"), "Origin", "a cache must not give the answer to another page")
			if tt.trusted == "" {
				for name := range a.Header {
					require.False(t, strings.HasPrefix(name, cors), name)
				}
				return
			}
			require.Equal(t, "true", a.Header.Get(cors+"Allow-Credentials"))
			require.Contains(t, a.Header.Get(cors+"Expose-Headers"), "Location")
		})
	}

	a := s.do(http.MethodOptions, "/api/v1/updates", nil, "Origin", "https://ops.example.com", "Sec-Fetch-Site", "cross-site",
		cors+"Request-Method", "POST", cors+"Request-Headers", "authorization,content-type,idempotency-key")
	require.Equal(t, http.StatusNoContent, a.StatusCode)
	require.Equal(t, "https://ops.example.com", a.Header.Get(cors+"Allow-Origin"))
	require.Contains(t, a.Header.Get(cors+"Allow-Methods"), "POST")
	for _, name := range []string{"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"} {
		require.Contains(t, a.Header.Get(cors+"Allow-Headers"), name)
	}
	require.NotEmpty(t, a.Header.Get(cors+"Max-Age"))
	a = s.do(http.MethodOptions, "/api/v1/images/x", nil, "Origin", "https://ops.example.com", cors+"Request-Method", "DELETE")
	require.Contains(t, a.Header.Get(cors+"Allow-Methods"), "DELETE")
	require.NotContains(t, a.Header.Get(cors+"Allow-Methods"), "POST")

	for _, wrong := range []string{"*", "null", "", "ops.example.com", "https://ops.example.com/", "https://*.example.com", "https://a@b", "ftp://x", "https://x?y", "https://", "https://x:", "https://x:0443", "https://x:443443", "https://öps.example", "https://x y"} {
		_, err := httpapi.New(s.manager, httpapi.AllowAll, httpapi.Config{TrustedOrigins: []string{wrong}})
		require.ErrorContains(t, err, "Config.TrustedOrigins", wrong)
	}
	plain := newService(t, httpapi.Config{})
	require.Empty(t, plain.get("/api/v1/updates").Header.Values("Vary"))
}

// TestShareOfStreams: one client may have a quarter of the event streams, and leaves the rest to
// others.
func TestShareOfStreams(t *testing.T) {
	s := newService(t, httpapi.Config{MaxStreams: 8})
	const header = "Authorization"
	for _, who := range []string{"", "Bearer a"} {
		for range 2 {
			_, end := openEvents(t, s.Client(), s.URL+"/api/v1/events", header, who)
			defer end()
		}
		requireProblem(t, s.do("GET", "/api/v1/events", nil, header, who), http.StatusTooManyRequests, "too-many")
	}
	requireProblem(t, s.do("GET", "/api/v1/events", nil, header, "bearer  a"), http.StatusTooManyRequests, "too-many")
	for _, who := range []string{"Bearer b", "Bearer c"} {
		for range 2 {
			_, end := openEvents(t, s.Client(), s.URL+"/api/v1/events", header, who)
			defer end()
		}
	}
	requireProblem(t, s.do("GET", "/api/v1/events", nil, header, "Bearer d"), http.StatusServiceUnavailable, "unavailable")
}
