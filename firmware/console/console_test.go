package console_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/console"
)

// get requests a path of a page that is mounted at /ops/.
func get(t *testing.T, config console.Config, method, path string, header ...string) *http.Response {
	t.Helper()
	page, err := console.New(config)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page))
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, a *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(a.Body)
	require.NoError(t, err)
	return string(data)
}

var reference = regexp.MustCompile(`(?:href|src)="([^"#]+)"`)

// TestShell checks that each file that the page names is there, relative to any prefix, and may be
// kept for ever.
func TestShell(t *testing.T) {
	a := get(t, console.Config{}, "GET", "/ops/")
	require.Equal(t, 200, a.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", a.Header.Get("Content-Type"))
	require.Equal(t, "no-cache", a.Header.Get("Cache-Control"))
	html := body(t, a)
	require.Contains(t, html, `<meta name="otago-api" content="/api/v1">`)
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	named := map[string]bool{}
	for _, found := range reference.FindAllStringSubmatch(html, -1) {
		require.NotContains(t, found[1], "//", "nothing is of another host")
		require.False(t, strings.HasPrefix(found[1], "/"), "%s is relative", found[1])
		a := get(t, console.Config{}, "GET", "/ops/"+found[1])
		require.Equal(t, 200, a.StatusCode, found[1])
		require.Equal(t, types[filepath.Ext(found[1])], a.Header.Get("Content-Type"))
		require.Equal(t, "public, max-age=31536000, immutable", a.Header.Get("Cache-Control"))
		_, file, _ := strings.Cut(strings.TrimPrefix(found[1], "static/"), "/")
		named[file] = true
	}
	err := filepath.WalkDir("static", func(path string, d os.DirEntry, err error) error {
		if !d.IsDir() {
			require.True(t, named[strings.TrimPrefix(filepath.ToSlash(path), "static/")], "the page names %s", path)
		}
		return err
	})
	require.NoError(t, err)
}

func TestHeaders(t *testing.T) {
	for _, path := range []string{"/ops/", "/ops/nothing", "/ops/static/app.js", "/ops/static/../console.go"} {
		a := get(t, console.Config{}, "GET", path)
		policy := a.Header.Get("Content-Security-Policy")
		if a.StatusCode == http.StatusMovedPermanently || a.StatusCode == http.StatusTemporaryRedirect { // of the mux
			continue
		}
		for _, part := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'",
			"form-action 'none'", "require-trusted-types-for 'script'",
		} {
			require.Contains(t, strings.Split(policy, "; "), part, path)
		}
		require.NotContains(t, policy, "unsafe")
		require.Equal(t, "nosniff", a.Header.Get("X-Content-Type-Options"))
		require.Equal(t, "no-referrer", a.Header.Get("Referrer-Policy"))
		if path != "/ops/" {
			require.Equal(t, 404, a.StatusCode, path)
		}
	}
	a := get(t, console.Config{API: "https://ota.example.com:8443/x/api/v1"}, "GET", "/ops/")
	require.Contains(t, a.Header.Get("Content-Security-Policy"), "connect-src https://ota.example.com:8443;")
}

// TestNoInline checks what the policy forbids, so that it is not found in a browser first.
func TestNoInline(t *testing.T) {
	html := body(t, get(t, console.Config{Name: `"><script>alert(1)</script>`, SignIn: "/login?next=a&b"}, "GET", "/ops/"))
	require.NotContains(t, html, "<script>")
	require.NotContains(t, html, "<style")
	require.NotRegexp(t, ` (on[a-z]+|style)=`, html)
	require.Contains(t, html, `content="/login?next=a&amp;b"`)
	// A text of a device must never be parsed as markup, nor a file come from elsewhere.
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|createContextualFragment|srcdoc|https?://[a-z]`)
	known := regexp.MustCompile(`http://127\.0\.0\.1:|http://www\.w3\.org/`) // commands that are shown, and a namespace
	err := filepath.WalkDir("static", func(path string, d os.DirEntry, err error) error {
		if d.IsDir() || err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		require.Empty(t, forbidden.FindString(known.ReplaceAllString(string(data), "")), path)
		return err
	})
	require.NoError(t, err)
}

func TestMountedAtPrefix(t *testing.T) {
	page, err := console.New(console.Config{})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	http.StripPrefix("/a/b", page).ServeHTTP(w, httptest.NewRequest("GET", "/a/b?x", nil))
	require.Equal(t, http.StatusPermanentRedirect, w.Code)
	require.Equal(t, "./b/", w.Header().Get("Location"), "relative, as a proxy may have another prefix")
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		a := get(t, console.Config{}, method, "/ops/")
		require.Equal(t, http.StatusMethodNotAllowed, a.StatusCode)
		require.Equal(t, "GET, HEAD", a.Header.Get("Allow"))
	}
}

func TestCaching(t *testing.T) {
	first := get(t, console.Config{}, "GET", "/ops/")
	etag, html := first.Header.Get("ETag"), body(t, first)
	for _, known := range []string{etag, "W/" + etag, `"x", ` + etag, "*"} {
		a := get(t, console.Config{}, "GET", "/ops/", "If-None-Match", known)
		require.Equal(t, http.StatusNotModified, a.StatusCode, known)
		require.Empty(t, body(t, a))
	}
	require.Equal(t, 200, get(t, console.Config{}, "GET", "/ops/", "If-None-Match", `"x"`).StatusCode)
	require.Equal(t, 200, get(t, console.Config{Name: "Other"}, "GET", "/ops/", "If-None-Match", etag).StatusCode)

	zipped := get(t, console.Config{}, "GET", "/ops/", "Accept-Encoding", "br, gzip;q=0.5")
	require.Equal(t, "gzip", zipped.Header.Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", zipped.Header.Get("Vary"))
	require.NotEqual(t, etag, zipped.Header.Get("ETag"))
	r, err := gzip.NewReader(zipped.Body)
	require.NoError(t, err)
	plain, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, html, string(plain))
	for _, refused := range []string{"", "gzip;q=0", "gzip; q=0.000", "br"} {
		require.Empty(t, get(t, console.Config{}, "GET", "/ops/", "Accept-Encoding", refused).Header.Get("Content-Encoding"), refused)
	}

	head := get(t, console.Config{}, "HEAD", "/ops/")
	require.Equal(t, first.Header.Get("Content-Length"), head.Header.Get("Content-Length"))
	require.Empty(t, body(t, head))
}

func TestConfig(t *testing.T) {
	for _, config := range []console.Config{
		{API: "/"}, {API: "api/v1"}, {API: "/api/v1/"}, {API: "/api/v1?x"}, {API: "//host/api"}, {API: "ftp://host/api"}, {API: "https://"},
		{API: "https://user:secret@host/api"}, {API: "https://a;b/api"}, {API: "javascript:alert(1)"}, {API: "/\x00"},
		{SignIn: "javascript:alert(1)"}, {SignIn: "data:text/html,x"}, {SignIn: "login"},
		{Name: strings.Repeat("x", 65)}, {Name: "\xff"},
	} {
		_, err := console.New(config)
		require.ErrorContains(t, err, "console: Config.", "%+v", config)
	}
	for _, config := range []console.Config{
		{}, {API: "/ota/api/v1", Name: "Staging", SignIn: "/login"}, {API: "http://[::1]:8080/api/v1"}, {SignIn: "https://sso.example.com/?to=x"},
	} {
		_, err := console.New(config)
		require.NoError(t, err)
	}
}

// TestWords compares the words of the page for reasons and results of updates with those of the
// API.
func TestWords(t *testing.T) {
	doc, err := os.ReadFile("../httpapi/doc.go")
	require.NoError(t, err)
	_, list, _ := strings.Cut(string(doc), "//\treason     version, ")
	list, _, _ = strings.Cut(list, "//\tmay_still")
	format, err := os.ReadFile("static/format.js")
	require.NoError(t, err)
	_, endings, ok := strings.Cut(string(format), "const endings = {")
	require.True(t, ok)
	updates, err := os.ReadFile("static/views/updates.js")
	require.NoError(t, err)
	reasons := regexp.MustCompile(`[a-z_]+`).FindAllString("version "+list, -1)
	require.Greater(t, len(reasons), 15)
	for _, reason := range reasons {
		require.Contains(t, endings, "\n  "+reason+": '", "format.js says what the reason %s means", reason)
		require.Contains(t, string(updates), "'"+reason+"'", "updates.js filters by the reason %s", reason)
	}

	// What went wrong has a remedy, by its reason or by the result that the device reported.
	remedies, err := os.ReadFile("static/remedies.js")
	require.NoError(t, err)
	fine := regexp.MustCompile(`^(version|result|same_version|already_running|operator|device_result|default|success|deferred|cancelled)$`)
	_, list, _ = strings.Cut(string(doc), "//\tresult     default, ")
	list, _, _ = strings.Cut(list, ";")
	results := regexp.MustCompile(`[a-z_]+`).FindAllString("default "+list, -1)
	require.Greater(t, len(results), 10)
	for _, bad := range append(reasons, results...) {
		if !fine.MatchString(bad) {
			require.True(t, strings.Contains(string(remedies), "\n  "+bad+": '"), "remedies.js says what to do about %s", bad)
		}
	}
}
