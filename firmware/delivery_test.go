package firmware

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/store/memory"
)

// A deliveryFixture is a repository with one image, one granted token, and a real HTTP server.
type deliveryFixture struct {
	r     *Repository
	d     *Delivery
	heard heard // the functions of the grants' follower
	dir   string
	img   Image
	body  []byte
	token string
	etag  string // as in HTTP
	srv   *httptest.Server
}

func newDelivery(t *testing.T, size int, config DeliveryConfig) *deliveryFixture {
	t.Helper()
	f := &deliveryFixture{dir: t.TempDir(), body: make([]byte, size)}
	for i := range f.body {
		f.body[i] = byte(i * 7 / 3)
	}
	var err error
	f.r, err = OpenRepository(f.dir, memory.New(), RepositoryConfig{})
	require.NoError(t, err)
	f.d, err = NewDelivery(f.r, config)
	require.NoError(t, err)
	f.heard = heard{served: func(string, int64) {}, asked: func(string, string) {}, fault: func(string, error) {}, trouble: func(string, error) {}}
	f.img, err = f.r.Add(t.Context(), Image{Name: "sensor", Version: "v0.1.0"}, bytes.NewReader(f.body))
	require.NoError(t, err)
	f.etag = `"` + f.img.SHA256[:16] + `"`
	token, hash := newToken()
	f.token = token
	require.NoError(t, f.allow(grant{hash: hash, update: "u1", endpoint: "ep", image: f.img.ID}))
	f.d.setReady()
	f.srv = httptest.NewServer(f.d)
	t.Cleanup(f.srv.Close)
	return f
}

// heard has the functions of a fixtureFollower.
type heard struct {
	served  func(update string, done int64)
	asked   func(update, by string)
	fault   func(update string, err error)
	trouble func(update string, err error)
}

// A fixtureFollower is the follower of a fixture's grants.
type fixtureFollower struct{ f *deliveryFixture }

func (h fixtureFollower) served(update string, done int64)      { h.f.heard.served(update, done) }
func (h fixtureFollower) asked(update, by string)               { h.f.heard.asked(update, by) }
func (h fixtureFollower) imageTrouble(update string, err error) { h.f.heard.trouble(update, err) }
func (h fixtureFollower) imageFault(update string, err error)   { h.f.heard.fault(update, err) }

// allow grants g with the fixture as its follower.
func (f *deliveryFixture) allow(g grant) error {
	g.follower = fixtureFollower{f}
	return f.d.allow(g)
}

// raw sends a request unchanged and parses the response.
func (f *deliveryFixture) raw(t *testing.T, request string) (*http.Response, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", f.srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	require.NoError(t, err)
	method, _, _ := strings.Cut(request, " ")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.Close { // the connection ends after the handler has returned, and so has reported progress
		_, err = io.Copy(io.Discard, r)
		require.NoError(t, err)
	}
	return resp, body
}

func TestDelivery(t *testing.T) {
	const size = 100_000
	f := newDelivery(t, size, DeliveryConfig{})
	const host = "\nHost: fw.example.com\n"
	whole, none := f.body, []byte{}
	for _, test := range []struct {
		name    string
		line    string // the request line
		headers string // E for the ETag
		status  int
		body    []byte // nil: not compared
		header  map[string]string
	}{
		{"whole", "GET /fw/{TOKEN} HTTP/1.1", host, 200, whole, map[string]string{"Content-Length": "100000", "Accept-Ranges": "bytes"}},
		{"another prefix", "GET /a/b/{TOKEN} HTTP/1.1", host, 200, whole, nil},
		{"two slashes, HTTP/1.0, no host", "GET //fw/{TOKEN} HTTP/1.0", "\n", 200, whole, map[string]string{"Content-Length": "100000"}},
		{"absolute form", "GET http://fw.example.com//fw/{TOKEN} HTTP/1.1", host, 200, whole, nil},
		{"accepts gzip", "GET /fw/{TOKEN} HTTP/1.1", host + "Accept-Encoding: gzip, deflate\n", 200, whole, map[string]string{"Content-Encoding": ""}},
		{"head", "HEAD /fw/{TOKEN} HTTP/1.1", host, 200, none, map[string]string{"Content-Length": "100000"}},
		{"query is ignored", "GET /fw/{TOKEN}?x=1 HTTP/1.1", host, 200, whole, nil},
		{"resume", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=60000-\nIf-Match: E\n", 206, whole[60000:],
			map[string]string{"Content-Range": "bytes 60000-99999/100000"}},
		{"resume by HTTP/1.0", "GET //fw/{TOKEN} HTTP/1.0", "\nRange: bytes=99999-\n", 206, whole[99999:], nil},
		{"piece", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=10-19\n", 206, whole[10:20], nil},
		{"last bytes", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=-5\n", 206, whole[size-5:], nil},
		{"more than there is", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=99990-99999999\n", 206, whole[99990:], nil},
		{"head of a piece", "HEAD /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=10-19\n", 206, none, map[string]string{"Content-Length": "10"}},
		{"several pieces", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=0-1,5-6\n", 200, whole, nil},
		{"the last no bytes", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=-00\n", 200, whole, map[string]string{"Content-Range": ""}},
		{"other units", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: blocks=0-1\n", 200, whole, nil},
		{"past the end", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=100000-\n", 416, nil, map[string]string{"Content-Range": "bytes */100000"}},
		{"huge number", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=99999999999999999999999-\n", 416, nil, nil},
		{"backwards", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=9-3\n", 416, nil, nil},
		{"If-Match of other bytes", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=5-\nIf-Match: \"0011223344556677\"\n", 412, none, nil},
		{"If-Match is strong", "GET /fw/{TOKEN} HTTP/1.1", host + "If-Match: W/E\n", 412, none, nil},
		{"If-Match any", "GET /fw/{TOKEN} HTTP/1.1", host + "If-Match: *\n", 200, whole, nil},
		{"If-Range", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=5-\nIf-Range: E\n", 206, whole[5:], nil},
		{"If-Range of other bytes", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=5-\nIf-Range: \"0011223344556677\"\n", 200, whole, nil},
		{"If-Range of a date", "GET /fw/{TOKEN} HTTP/1.1", host + "Range: bytes=5-\nIf-Range: Mon, 01 Jan 2024 00:00:00 GMT\n", 200, whole, nil},
		{"If-None-Match", "GET /fw/{TOKEN} HTTP/1.1", host + "If-None-Match: E\n", 304, none, nil},
		{"write", "PUT /fw/{TOKEN} HTTP/1.1", host + "Content-Length: 0\n", 405, nil, map[string]string{"Allow": "GET, HEAD"}},
		{"unknown token", "GET /fw/AAAAAAAAAAAAAAAAAAAAAA HTTP/1.1", host, 404, nil, map[string]string{"Content-Type": "application/problem+json"}},
		{"token is not last", "GET /fw/{TOKEN}/x HTTP/1.1", host, 404, nil, nil},
		{"token and a slash", "GET /fw/{TOKEN}/ HTTP/1.1", host, 404, nil, nil},
		{"token of the wrong case", "GET /fw/{WRONG} HTTP/1.1", host, 404, nil, nil},
		{"root", "GET / HTTP/1.1", host, 404, nil, nil},
		{"hash instead of the token", "GET /fw/" + hashOf(f.token) + " HTTP/1.1", host, 404, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			line := strings.ReplaceAll(test.line, "/{TOKEN}", "/"+f.token)
			line = strings.ReplaceAll(line, "/{WRONG}", "/"+swapCase(f.token))
			resp, body := f.raw(t, line+strings.ReplaceAll(test.headers, ": E\n", ": "+f.etag+"\n")+"\n")
			require.Equal(t, test.status, resp.StatusCode)
			if test.body != nil {
				require.True(t, bytes.Equal(test.body, body), "got %d bytes", len(body))
			}
			require.Empty(t, resp.Header.Get("Location"))
			for name, want := range test.header {
				require.Equal(t, want, resp.Header.Get(name), name)
			}
			if resp.StatusCode == 200 || resp.StatusCode == 206 {
				require.Equal(t, f.etag, resp.Header.Get("ETag"))
				require.Equal(t, "application/octet-stream", resp.Header.Get("Content-Type"))
				require.Equal(t, "private, no-store, no-transform", resp.Header.Get("Cache-Control"))
				require.Empty(t, resp.TransferEncoding)
			}
		})
	}
	require.Len(t, f.r.packages, 1, "the file is open once")
}

func swapCase(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return c
	}, s)
}

func get(t *testing.T, h http.Handler, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/", nil)
	req.URL.Path = target
	h.ServeHTTP(w, req)
	return w
}

func TestDeliveryBeforeReady(t *testing.T) {
	r, err := OpenRepository(t.TempDir(), memory.New(), RepositoryConfig{})
	require.NoError(t, err)
	d, err := NewDelivery(r, DeliveryConfig{})
	require.NoError(t, err)
	token, hash := newToken()
	for _, path := range []string{"/fw/" + token, "//x/" + token, "/media/firmware/v1.bin", "//media/firmware/v1.bin"} {
		w := get(t, d, path)
		require.Equal(t, 503, w.Code, path)
		require.Equal(t, "5", w.Header().Get("Retry-After"))
	}
	require.Equal(t, 404, get(t, d, "/other").Code)
	img, err := r.Add(t.Context(), Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
	require.NoError(t, d.allow(grant{hash: hash, update: "u1", image: img.ID}))
	require.Equal(t, 200, get(t, d, "/fw/"+token).Code, "what is granted need not wait")
	d.setReady()
	require.Equal(t, 404, get(t, d, "/media/firmware/v1.bin").Code)
}

func TestDeliveryWrap(t *testing.T) {
	f := newDelivery(t, 10, DeliveryConfig{Prefix: "/down/"})
	mux := http.NewServeMux()
	mux.HandleFunc("/api/{name}", func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, req.PathValue("name")) })
	h := f.d.Wrap(mux)
	require.Equal(t, string(f.body), get(t, h, "/down/"+f.token).Body.String())
	require.Equal(t, string(f.body), get(t, h, "//down/"+f.token).Body.String())
	require.Equal(t, f.token, get(t, h, "/api/"+f.token).Body.String(), "the rest is the next handler's")
	require.Equal(t, 404, get(t, h, "/down/x").Code)

	mounted := http.NewServeMux()
	mounted.Handle("/fw/", f.d)
	require.Equal(t, string(f.body), get(t, mounted, "/fw/"+f.token).Body.String())
}

func TestDeliveryRevoked(t *testing.T) {
	f := newDelivery(t, 8<<20, DeliveryConfig{})
	other, err := f.r.Open(t.Context(), f.img.ID)
	require.NoError(t, err, "so that the file stays open")
	resp, err := http.Get(f.srv.URL + "/fw/" + f.token)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.ReadFull(resp.Body, make([]byte, 1000))
	require.NoError(t, err)
	f.d.revoke("u1")
	f.d.revoke("u1")
	_, err = io.Copy(io.Discard, resp.Body)
	require.Error(t, err, "a download under way breaks off")
	require.Equal(t, 404, get(t, f.d, "/fw/"+f.token).Code)
	require.NoError(t, other.Close())
	require.Eventually(t, func() bool {
		f.r.mu.Lock()
		defer f.r.mu.Unlock()
		return len(f.r.packages) == 0
	}, 10*time.Second, time.Millisecond, "the file is closed")
	require.Empty(t, f.d.table.byHash)
	require.Empty(t, f.d.table.byUpdate)
}

func TestDeliveryDamaged(t *testing.T) {
	f := newDelivery(t, 10, DeliveryConfig{})
	file := f.r.path(f.img.SHA256)
	require.NoError(t, os.Remove(file))
	w := get(t, f.d, "/fw/"+f.token)
	require.Equal(t, 500, w.Code)
	require.Contains(t, w.Body.String(), "cannot be read")
	require.NoError(t, os.WriteFile(file, f.body, 0o600))
	require.Equal(t, 200, get(t, f.d, "/fw/"+f.token).Code, "a failure is not remembered")
}

// TestDeliveryStalled: the Delivery gives up a device that stops reading.
func TestDeliveryStalled(t *testing.T) {
	f := newDelivery(t, 64<<20, DeliveryConfig{Stall: 50 * time.Millisecond})
	returned := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f.d.ServeHTTP(w, req)
		close(returned)
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "GET /fw/%s HTTP/1.0\r\n\r\n", f.token)
	require.NoError(t, err)
	select {
	case <-returned:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler waits for ever")
	}
}

func TestDeliveryProgress(t *testing.T) {
	f := newDelivery(t, 100_000, DeliveryConfig{})
	var mu sync.Mutex
	var progress []int64
	f.heard.served = func(update string, done int64) {
		mu.Lock()
		defer mu.Unlock()
		if update != "u1" || len(progress) > 0 && done == progress[len(progress)-1] {
			t.Errorf("progress of %s: %d after %v", update, done, progress)
		}
		progress = append(progress, done)
	}
	last := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		if len(progress) == 0 {
			return 0
		}
		return progress[len(progress)-1]
	}
	f.raw(t, "HEAD /fw/"+f.token+" HTTP/1.0\n\n")
	f.raw(t, "GET /fw/"+f.token+" HTTP/1.0\nIf-Match: \"00\"\n\n")
	require.Zero(t, last())
	f.raw(t, "GET /fw/"+f.token+" HTTP/1.0\nRange: bytes=1000-1999\n\n")
	require.EqualValues(t, 2000, last(), "the first piece may come after others that an earlier process served")
	f.raw(t, "GET /fw/"+f.token+" HTTP/1.0\nRange: bytes=90000-\n\n")
	require.EqualValues(t, 2000, last(), "a gap")
	f.raw(t, "GET /fw/"+f.token+" HTTP/1.0\nRange: bytes=500-1500\n\n")
	require.EqualValues(t, 2000, last(), "once more")
	f.raw(t, "GET /fw/"+f.token+" HTTP/1.0\nRange: bytes=2000-\n\n")
	require.EqualValues(t, 100_000, last())

	s, err := f.d.find(t.Context(), "/fw/"+f.token, "ep", "test")
	require.NoError(t, err)
	s.reached(50_000)
	require.EqualValues(t, 100_000, last(), "once more")
	s.reached(1024)
	require.EqualValues(t, 1024, last(), "it begins again")
	s.reached(2048)
	require.EqualValues(t, 2048, last())
	f.raw(t, "GET /fw/"+f.token+" HTTP/1.0\nRange: bytes=0-0\n\n")
	require.EqualValues(t, 1, last(), "a look at the beginning")
	f.raw(t, "GET /fw/"+f.token+" HTTP/1.0\nRange: bytes=60000-69999\n\n")
	require.EqualValues(t, 70_000, last(), "and on from where it was")
}

func TestFind(t *testing.T) {
	f := newDelivery(t, 10, DeliveryConfig{})
	s, err := f.d.find(t.Context(), "/fw/"+f.token, "ep", "test")
	require.NoError(t, err)
	require.Equal(t, "u1", s.update)
	require.EqualValues(t, 10, s.size)
	require.Equal(t, f.img.SHA256[:16], hex.EncodeToString(s.etag))
	_, err = f.d.find(t.Context(), "/fw/"+f.token, "another device", "test")
	require.ErrorIs(t, err, errNoGrant)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.d.find(ended, "/fw/"+f.token, "", "test")
	require.NoError(t, err, "an open package needs no context")
}

func TestPublish(t *testing.T) {
	f := newDelivery(t, 10, DeliveryConfig{})
	twin, err := f.r.Add(t.Context(), Image{Name: "other", Version: "v0.1.0"}, strings.NewReader("abc"))
	require.NoError(t, err)
	odd, err := f.r.Add(t.Context(), Image{Name: "other", Version: "../é%/?" + strings.Repeat("x", 200)}, strings.NewReader("abc"))
	require.NoError(t, err)

	path, hash, err := f.d.publish(grant{update: "u2", endpoint: "a", image: f.img.ID}, f.img)
	require.NoError(t, err)
	require.Equal(t, "/media/firmware/v0.1.0.bin", path)
	again, _, err := f.d.publish(grant{update: "u3", endpoint: "b", image: f.img.ID}, f.img)
	require.NoError(t, err)
	require.Equal(t, path, again)
	other, _, err := f.d.publish(grant{update: "u4", endpoint: "c", image: twin.ID}, twin)
	require.NoError(t, err)
	require.Equal(t, "/media/firmware/other-v0.1.0.bin", other)
	long, _, err := f.d.publish(grant{update: "u5", endpoint: "d", image: odd.ID}, odd)
	require.NoError(t, err)
	require.Equal(t, "/media/firmware/"+odd.ID+".bin", long)

	require.Equal(t, string(f.body), get(t, f.d, "/"+path).Body.String())
	require.Equal(t, "abc", get(t, f.d, other).Body.String())
	require.Equal(t, "abc", get(t, f.d, long).Body.String())
	for endpoint, update := range map[string]string{"": "", "a": "u2", "b": "u3"} {
		s, err := f.d.find(t.Context(), path, endpoint, "test")
		require.NoError(t, err)
		require.Equal(t, update, s.update)
	}
	f.d.revoke("u2")
	require.Equal(t, 200, get(t, f.d, path).Code, "another update needs it")
	f.d.revoke("u3")
	require.Equal(t, 404, get(t, f.d, path).Code)
	require.NoError(t, f.d.allow(grant{hash: hash, update: "u2", endpoint: "a", image: f.img.ID}), "as after a restart")
	require.Equal(t, 200, get(t, f.d, path).Code)
	require.ErrorIs(t, f.d.allow(grant{hash: hash, update: "u4", endpoint: "c", image: twin.ID}), errPathTaken)
}

func TestTokenURI(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		token, hash := newToken()
		require.True(t, isToken(token), token)
		require.Equal(t, hashOf(token), hash)
		require.False(t, seen[token])
		seen[token] = true
	}
	const token = "AAAAAAAAAAAAAAAAAAAAAA"
	for base, want := range map[string]string{
		"https://fw.example.com/fw/":  "https://fw.example.com/fw/" + token,
		"https://fw.example.com/fw":   "https://fw.example.com/fw/" + token,
		"https://fw.example.com":      "https://fw.example.com/" + token,
		"coap://[2001:db8::1]:5683/a": "coap://[2001:db8::1]:5683/a/" + token,
		"/fw/":                        "/fw/" + token,
		"https://fw.example.com/" + strings.Repeat("x", 127-24-22): "https://fw.example.com/" + strings.Repeat("x", 127-24-22) + "/" + token,
		"https://fw.example.com/" + strings.Repeat("x", 128-24-22): "",
		"": "", "fw": "", "https://": "", "https:///fw": "", "https://a:b@h/": "", "https://h/?a=b": "", "https://h/?": "",
		"https://h/#x": "", "://": "", "https://h/%zz": "",
	} {
		got, err := tokenURI(base, token)
		require.Equal(t, want, got, base)
		require.Equal(t, want == "", err != nil, base)
	}
}

// FuzzFind requests arbitrary paths: only one whose last segment is the token leads to the image.
func FuzzFind(f *testing.F) {
	r, err := OpenRepository(f.TempDir(), memory.New(), RepositoryConfig{})
	require.NoError(f, err)
	img, err := r.Add(context.Background(), Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(f, err)
	token, hash := newToken()
	d, err := NewDelivery(r, DeliveryConfig{})
	require.NoError(f, err)
	require.NoError(f, d.allow(grant{hash: hash, update: "u1", image: img.ID}))
	d.setReady()
	for _, seed := range []string{"", "/", "//", "/fw/T", "//fw//T", "T", "/T/", "/fw/T/x", "/media/firmware/1.bin", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		path = strings.ReplaceAll(path, "T", token)
		_, err := d.find(t.Context(), path, "", "test")
		if want := path == token || strings.HasSuffix(path, "/"+token); want != (err == nil) {
			t.Errorf("find(%q) = %v", path, err)
		}
	})
}
