package device

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestResumeSameBytesOnly stops a device during a download and changes the image on the server. The
// device resumes only if the entity tag proves that the bytes are the same; otherwise it downloads
// the new image from its first byte.
func TestResumeSameBytesOnly(t *testing.T) {
	image, other := testImage("2.0", 50000), testImage("3.0", 50000)
	for name, tc := range map[string]struct {
		before, after string // tags
		same          bool   // the image has not changed
		plain         bool   // the server ignores If-Match
		asks          []bool // whether each later request is for the rest
	}{
		"no tag":                       {asks: []bool{false}},
		"no tag, then one":             {after: `"two"`, asks: []bool{false}},
		"weak tag":                     {before: `W/"one"`, after: `W/"one"`, asks: []bool{false}},
		"empty tag":                    {before: `"`, after: `"`, asks: []bool{false}},
		"another tag":                  {before: `"one"`, after: `"two"`, asks: []bool{true, false}},
		"another tag, no conditions":   {before: `"one"`, after: `"two"`, plain: true, asks: []bool{true, false}},
		"the tag is gone":              {before: `"one"`, plain: true, asks: []bool{true, false}},
		"the same tag":                 {before: `"one"`, after: `"one"`, same: true, asks: []bool{true}},
		"the same tag, no conditions":  {before: `"one"`, after: `"one"`, same: true, plain: true, asks: []bool{true}},
		"the shortest tag of all":      {before: `""`, after: `""`, same: true, asks: []bool{true}},
		"the longest tag that is kept": {before: quoted(126), after: quoted(126), same: true, asks: []bool{true}},
		"a tag that is too long":       {before: quoted(127), after: quoted(127), asks: []bool{false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := other
			if tc.same {
				want = image
			}
			var mu sync.Mutex
			var asks []bool
			begun := false
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if !begun {
					begun = true
					if tc.before != "" {
						w.Header().Set("ETag", tc.before)
					}
					w.Header().Set("Content-Length", fmt.Sprint(len(image)))
					w.Write(image[:20000])
					w.(http.Flusher).Flush()
					mu.Unlock()
					<-r.Context().Done()
					mu.Lock()
					return
				}
				asks = append(asks, r.Header.Get("Range") != "")
				if r.Header.Get("Range") != "" && r.Header.Get("If-Match") != tc.before {
					t.Errorf("for the rest of what matches %q", r.Header.Get("If-Match"))
				}
				if tc.plain {
					r.Header.Del("If-Match")
				}
				if tc.after != "" {
					w.Header().Set("ETag", tc.after)
				}
				http.ServeContent(w, r, "", time.Time{}, newReader(want))
			}))
			defer server.Close()
			r := newRig(t)
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String(server.URL)))
			require.Eventually(t, func() bool { return r.now().Offset >= 16384 }, 10*time.Second, time.Millisecond)
			r.stop()
			require.NoError(t, r.start())
			r.wait(fsm.Downloaded, fsm.ResultDefault)
			got, err := os.ReadFile(r.open.imagePath(slotA))
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, tc.asks, asks)
		})
	}
}

// quoted returns an entity tag with n characters between its quotes.
func quoted(n int) string { return fmt.Sprintf("%q", fmt.Sprintf("%0*d", n, 1)) }

// TestResumeCoAPSameBytesOnly is TestResumeSameBytesOnly by CoAP.
func TestResumeCoAPSameBytesOnly(t *testing.T) {
	image, other := testImage("2.0", 60000), testImage("3.0", 60000)
	for name, tags := range map[string][2]string{
		"no tag": {}, "no tag, then one": {"", "two"}, "another tag": {"one", "two"}, "the tag is gone": {"one", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, base := coapServer(t)
			body := &gatedBody{Reader: newReader(image), limit: 40 << 10, gate: make(chan struct{})}
			server.Handle("/fw", &lwm2m.Download{Body: body, Size: int64(len(image)), ETag: []byte(tags[0])})
			r := newRig(t)
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String(base+"/fw")))
			require.Eventually(t, func() bool { return r.now().Offset >= 32<<10 }, 10*time.Second, time.Millisecond)
			require.EqualValues(t, len(image), r.now().Size, "as the server announced it")
			r.stop()
			close(body.gate)
			server.Handle("/fw", &lwm2m.Download{Body: newReader(other), Size: int64(len(other)), ETag: []byte(tags[1])})
			require.NoError(t, r.start())
			r.wait(fsm.Downloaded, fsm.ResultDefault)
			got, err := os.ReadFile(r.open.imagePath(slotA))
			require.NoError(t, err)
			require.Equal(t, string(other), string(got))
		})
	}
}

// TestResumeAfterRestart stops the device during a download: it resumes.
func TestResumeAfterRestart(t *testing.T) {
	image := testImage("2.0", 50000)
	stall := make(chan struct{})
	var ranges []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		w.Header().Set("ETag", `"one"`)
		if len(ranges) == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(image)))
			w.Write(image[:20000])
			w.(http.Flusher).Flush()
			close(stall)
			<-r.Context().Done()
			return
		}
		http.ServeContent(w, r, "", time.Time{}, newReader(image))
	}))
	defer server.Close()
	r := newRig(t)
	require.NoError(t, r.start())
	require.NoError(t, r.write(resURI, lwm2m.String(server.URL)))
	<-stall
	require.Eventually(t, func() bool { return r.now().Offset >= 16384 }, 10*time.Second, time.Millisecond)
	r.stop()
	require.NoError(t, r.start())
	r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.Len(t, ranges, 2)
	require.True(t, strings.HasPrefix(ranges[1], "bytes=1") || strings.HasPrefix(ranges[1], "bytes=2"), "%q", ranges)
}

func TestSource(t *testing.T) {
	all := Config{}.withDefaults()
	only := Config{Hosts: []string{"fw.example.com", "other.example.com:8443"}}.withDefaults()
	fixed := Config{FixedHost: "https://fw.example.com/base/"}.withDefaults()
	plain := Config{Protocols: []fsm.Protocol{fsm.ProtocolHTTPS}}.withDefaults()
	tests := []struct {
		config Config
		uri    string
		want   string // "" if refused
		result fsm.Result
	}{
		{all, "http://host/a?b=c", "http://host/a?b=c", 0},
		{all, "coap://[::1]:5683/a", "coap://[::1]:5683/a", 0},
		{all, "coaps://host/a", "", fsm.ResultUnsupProtocol},
		{all, "coap+tcp://host/a", "coap+tcp://host/a", 0},
		{all, "coaps+tcp://host/a", "", fsm.ResultUnsupProtocol},
		{all, "ftp://host/a", "", fsm.ResultUnsupProtocol},
		{all, "mailto:x", "", fsm.ResultUnsupProtocol},
		{all, "HTTP://host/a", "http://host/a", 0},
		{all, "/path", "", fsm.ResultInvalidURI},
		{all, "//host/path", "", fsm.ResultInvalidURI},
		{all, "http:/path", "", fsm.ResultInvalidURI},
		{all, "http://:80/path", "", fsm.ResultInvalidURI},
		{all, "http://user@host/", "", fsm.ResultInvalidURI},
		{all, "http://user:pass@host/", "", fsm.ResultInvalidURI},
		{all, "http://host/#part", "", fsm.ResultInvalidURI},
		{all, "http://host/%zz", "", fsm.ResultInvalidURI},
		{all, "garbage", "", fsm.ResultInvalidURI},
		{all, "http://host/" + strings.Repeat("x", 255), "", fsm.ResultInvalidURI},
		{only, "https://FW.example.com/a", "https://FW.example.com/a", 0},
		{only, "https://fw.example.com:444/a", "https://fw.example.com:444/a", 0},
		{only, "https://other.example.com:8443/a", "https://other.example.com:8443/a", 0},
		{only, "https://other.example.com/a", "", fsm.ResultInvalidURI},
		{only, "https://fw.example.com.evil.example/a", "", fsm.ResultInvalidURI},
		{fixed, "/media/firmware/v0.1.0.bin", "https://fw.example.com/base/media/firmware/v0.1.0.bin", 0},
		{fixed, "//evil.example/x", "https://fw.example.com/base//evil.example/x", 0},
		{fixed, "/a%2Fb?c", "https://fw.example.com/base/a%2Fb?c", 0},
		{fixed, "https://evil.example/x", "", fsm.ResultInvalidURI},
		{fixed, "x", "", fsm.ResultInvalidURI},
		{fixed, "@evil.example/x", "", fsm.ResultInvalidURI},
		{plain, "http://host/a", "", fsm.ResultUnsupProtocol},
	}
	for _, tc := range tests {
		u, err := tc.config.source(tc.uri)
		if tc.want != "" {
			require.NoError(t, err, tc.uri)
			require.Equal(t, tc.want, u.String())
			continue
		}
		require.Error(t, err, tc.uri)
		require.Equal(t, tc.result, resultOf(err, 0), tc.uri)
	}
}
