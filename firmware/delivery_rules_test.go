package firmware

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// listen records the calls of the follower.
func (f *deliveryFixture) listen() *[]string {
	calls := &[]string{}
	f.heard = heard{
		served:  func(update string, done int64) { *calls = append(*calls, fmt.Sprint("served ", update, " ", done)) },
		asked:   func(update, by string) { *calls = append(*calls, "asked "+update+" "+by) },
		fault:   func(update string, err error) { *calls = append(*calls, "fault "+update+" "+fmt.Sprint(err != nil)) },
		trouble: func(update string, err error) { *calls = append(*calls, "trouble "+update+" "+fmt.Sprint(err != nil)) },
	}
	return calls
}

// TestDeliveryTells: the follower learns of the first request of an update and its protocol, but
// not of requests that may be of several updates.
func TestDeliveryTells(t *testing.T) {
	f := newDelivery(t, 10, DeliveryConfig{})
	calls := f.listen()
	find := func(endpoint, by string) {
		t.Helper()
		_, err := f.d.find(t.Context(), "/fw/"+f.token, endpoint, by)
		require.NoError(t, err)
	}
	find("ep", "coap")
	find("ep", "http")
	require.Equal(t, []string{"asked u1 coap"}, *calls, "once")
	require.NoError(t, f.allow(grant{hash: hashOf(f.token), update: "u2", endpoint: "ep2", image: f.img.ID}))
	find("", "http")
	require.Len(t, *calls, 1, "it is not known for which of two")
	find("ep2", "https")
	require.Equal(t, []string{"asked u1 coap", "asked u2 https"}, *calls)
	*calls = nil
	f.d.revoke("u2")
	require.Equal(t, string(f.body), get(t, f.d, "/fw/"+f.token).Body.String())
	require.Equal(t, []string{"served u1 10"}, *calls)

	*calls = nil
	require.NoError(t, f.allow(grant{hash: hashOf("again"), update: "u3", image: f.img.ID}))
	w := httptest.NewRecorder()
	token, hash := newToken()
	require.NoError(t, f.allow(grant{hash: hash, update: "u4", image: f.img.ID}))
	req := httptest.NewRequest("GET", "https://fw.example.com/fw/"+token, nil)
	f.d.ServeHTTP(w, req)
	require.Equal(t, []string{"asked u4 https", "served u4 10"}, *calls)
}

// TestDeliveryFault: each request for an image that cannot be read is logged and reported, as the
// manager may have to fail the update.
func TestDeliveryFault(t *testing.T) {
	var log bytes.Buffer
	f := newDelivery(t, 10, DeliveryConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	calls := f.listen()
	require.NoError(t, os.Truncate(f.r.path(f.img.SHA256), 5))
	require.Equal(t, 500, get(t, f.d, "/fw/"+f.token).Code)
	require.Equal(t, []string{"asked u1 http", "fault u1 true"}, *calls)
	require.Contains(t, log.String(), "level=ERROR")
	require.Contains(t, log.String(), f.img.ID)
	log.Reset()
	f.d.table.mu.Lock()
	d := f.d.table.byHash[hashOf(f.token)]
	f.d.table.mu.Unlock()
	d.end()
	*calls = nil
	require.Equal(t, 404, get(t, f.d, "/fw/"+f.token).Code, "revoked in the same moment")
	require.Empty(t, log.String(), "which is nobody's fault")
	require.Empty(t, *calls)

	// The file is truncated while it is open.
	f = newDelivery(t, 10, DeliveryConfig{})
	calls = f.listen()
	s, err := f.d.find(t.Context(), "/fw/"+f.token, "ep", "coap")
	require.NoError(t, err)
	for _, whole := range []struct{ length, at int64 }{{10, 0}, {3, 7}, {20, 0}, {20, 9}} {
		_, _ = s.ReadAt(make([]byte, whole.length), whole.at)
	}
	require.Equal(t, []string{"asked u1 coap"}, *calls, "the end of the package is no fault")
	require.NoError(t, os.Truncate(f.r.path(f.img.SHA256), 5))
	_, _ = s.ReadAt(make([]byte, 5), 0)
	require.Len(t, *calls, 1, "these bytes are there")
	_, _ = s.ReadAt(make([]byte, 6), 0)
	require.Equal(t, "fault u1 true", (*calls)[1])
}

// TestDeliveryRequestStays: ServeHTTP does not modify the request, which the program may still use.
func TestDeliveryRequestStays(t *testing.T) {
	f := newDelivery(t, 10, DeliveryConfig{})
	for _, ranges := range []string{"bytes=0-1,3-4", "lines=1-2", "bytes=2-4"} {
		req := httptest.NewRequest(http.MethodGet, "/fw/"+f.token, nil)
		req.Header.Set("Range", ranges)
		w := httptest.NewRecorder()
		f.d.ServeHTTP(w, req)
		require.Equal(t, ranges, req.Header.Get("Range"))
		if ranges == "bytes=2-4" {
			require.Equal(t, string(f.body[2:5]), w.Body.String())
		} else {
			require.Equal(t, string(f.body), w.Body.String(), "the whole, as it may be")
		}
	}
}

// TestReached: CoAP reports only the end of a piece, and a piece has a bounded length.
func TestReached(t *testing.T) {
	f := newDelivery(t, 200_000, DeliveryConfig{})
	calls := f.listen()
	s, err := f.d.find(t.Context(), "/fw/"+f.token, "ep", "coap")
	require.NoError(t, err)
	for _, offset := range []int64{1024, 2048, 2048 + 64<<10, 2048 + 64<<10 + 64<<10 + 1, 1024, 1025, 1024} {
		s.reached(offset)
	}
	require.Equal(t, []string{
		"asked u1 coap", "served u1 1024", "served u1 2048", "served u1 67584", "served u1 1024", "served u1 1025", "served u1 1024",
	}, *calls)
}

// TestPublicPath: the forms of a public path, from the shortest to the unique one, and their
// maximum length.
func TestPublicPath(t *testing.T) {
	d := &Delivery{config: DeliveryConfig{PublicPrefix: "/p/"}}
	img := Image{ID: "0123", Name: "a b", Version: "1.0-x_Z9"}
	for n, want := range []string{"/p/1.0-x_Z9.bin", "/p/a_b-1.0-x_Z9.bin", "/p/0123.bin"} {
		path, hash := d.publicPath(img, n)
		require.Equal(t, want, path)
		require.Equal(t, hashOf(want), hash)
	}
	img.Version = strings.Repeat("v", 127-len("/p/.bin"))
	path, _ := d.publicPath(img, 0)
	require.Len(t, path, 127)
	img.Version += "v"
	path, _ = d.publicPath(img, 0)
	require.Equal(t, "/p/0123.bin", path)
	require.Equal(t, "azAZ09.-_____", plain("azAZ09.-_/@[`"))
	for s, want := range map[string]bool{
		strings.Repeat("a", 22): true, strings.Repeat("a", 21): false, strings.Repeat("a", 23): false,
		strings.Repeat("a", 21) + "/": false, strings.Repeat("a", 10) + "." + strings.Repeat("a", 11): false,
	} {
		require.Equal(t, want, isToken(s), s)
	}
}
