package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/device"
)

// get asks the operators' door for a path, with a token unless it is empty.
func (s *server) get(path, token string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, strings.TrimSuffix(s.api(), "/api/v1")+path, nil)
	require.NoError(s.t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, string(data)
}

// TestServerSaysHowItIs: health needs no token and says nothing; the status needs one, and has the
// doors, their connections and the store.
func TestServerSaysHowItIs(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	s := startServer(t, "-data", dir, "-api-token-file", token)
	startDevice(t, "dev-1", s.coap(), device.Config{})
	for _, path := range []string{"/healthz", "/readyz"} {
		require.Eventually(t, func() bool {
			status, body := s.get(path, "")
			return status == http.StatusOK && body == `{"status":"ok","reasons":[]}`+"\n"
		}, 20*time.Second, 20*time.Millisecond)
	}
	status, _ := s.get("/api/v1/status", "")
	require.Equal(t, http.StatusUnauthorized, status)
	var view struct {
		Ready    bool
		Degraded []struct{ Why string }
		Store    struct {
			Kind       string
			Bytes      int64
			LastCommit time.Time `json:"last_commit"`
		}
		Sockets []struct {
			Door, Address, Protocol string
			Open                    int
		}
		Queues []struct {
			Name   string
			Length int
		}
	}
	require.Eventually(t, func() bool {
		_, body := s.get("/api/v1/status", "secret")
		require.NoError(t, json.Unmarshal([]byte(body), &view), body)
		return view.Sockets[0].Open == 1 && view.Sockets[2].Open > 0 && !view.Store.LastCommit.IsZero() && view.Queues[0].Length == 1
	}, 20*time.Second, 20*time.Millisecond)
	require.True(t, view.Ready)
	require.Empty(t, view.Degraded)
	require.Equal(t, "bolt", view.Store.Kind)
	require.Positive(t, view.Store.Bytes)
	require.WithinDuration(t, time.Now(), view.Store.LastCommit, time.Minute)
	var doors []string
	for _, socket := range view.Sockets {
		doors = append(doors, socket.Door+" "+socket.Protocol)
		require.True(t, strings.HasPrefix(socket.Address, "127.0.0.1:"))
	}
	require.Equal(t, []string{"coap coap", "fw-http http", "http http"}, doors)
	require.Equal(t, "registrations", view.Queues[0].Name)
}
