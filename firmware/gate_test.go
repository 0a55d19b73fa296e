package firmware_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
)

// TestHTTPGate: no answer leaves while the gate is closed, and none that began before is complete.
func TestHTTPGate(t *testing.T) {
	var open atomic.Bool
	open.Store(true)
	called := 0
	server := httptest.NewUnstartedServer(nil)
	config := firmware.HTTPConfig{Gate: open.Load, Open: func(r *http.Request) bool { return r.URL.Path == "/healthz" }}
	server.Config = config.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called++
		_, _ = io.WriteString(w, "one") // the client sees whether it failed
		if r.URL.Path == "/close" {
			_ = http.NewResponseController(w).Flush() // likewise
			open.Store(false)
			_, _ = io.WriteString(w, "two") // likewise
		}
	}))
	server.Start()
	defer server.Close()
	get := func(path string) (string, error) {
		resp, err := server.Client().Get(server.URL + path)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	body, err := get("/")
	require.NoError(t, err)
	require.Equal(t, "one", body)
	body, err = get("/close")
	require.Error(t, err)
	require.Equal(t, "one", body)
	before := called
	_, err = get("/")
	require.Error(t, err)
	require.Equal(t, before, called)
	body, err = get("/healthz")
	require.NoError(t, err)
	require.Equal(t, "one", body)
	open.Store(true)
	_, err = get("/")
	require.NoError(t, err)
}
