package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// OTAGO_TEST_FILES limits the open files of a server process in a test.
func init() {
	if n, err := strconv.ParseUint(os.Getenv("OTAGO_TEST_FILES"), 10, 64); err == nil {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
	}
}

// TestFlood opens more connections on each door than the server may have files, and holds them:
// from a few addresses if they make requests, else from one. The server must still serve other
// addresses, and the same address if its connections only wait.
func TestFlood(t *testing.T) {
	t.Setenv("OTAGO_TEST_FILES", "256")
	dir := t.TempDir()
	_, err := command(t, "pki", "-dir", dir)
	require.NoError(t, err)
	s := startServer(t, "-data", dir, "-cert", dir+"/server.crt", "-key", dir+"/server.key", "-fw-https", "127.0.0.1:0",
		"-coap-tcp", "127.0.0.1:0")
	hostPort := func(url string) string {
		_, rest, _ := strings.Cut(url, "://")
		rest, _, _ = strings.Cut(rest, "/")
		return rest
	}
	api, packages, secure := hostPort(s.api()), hostPort(s.packages()), hostPort(s.urls["https packages"])
	devices := hostPort(s.urls["coap+tcp devices, without security"])
	for door, text := range map[string]string{
		devices:  "\x00\xe1", // a CSM, after which devices may be silent
		api:      "POST /api/v1/images?version=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 10\r\n\r\n",
		packages: "",
		secure:   "\x16\x03",
	} {
		for i := range 300 {
			dialer := net.Dialer{Timeout: 20 * time.Second}
			if door == api || door == devices {
				dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%10))}
			}
			conn, err := dialer.DialContext(t.Context(), "tcp", door)
			require.NoError(t, err)
			defer conn.Close()
			_, _ = fmt.Fprint(conn, text) // the connection may be closed already
		}
	}
	get := func(from, url string) (int, error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
		resp, err := client.Get(url)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	for _, tt := range []struct {
		from, url string
		want      int
	}{
		{"127.0.0.2", "http://" + api + "/api/v1/updates", http.StatusOK},
		{"127.0.0.2", "http://" + packages + "/fw/x", http.StatusNotFound},
		{"127.0.0.2", "http://" + secure, http.StatusBadRequest}, // the server answers that TLS is required
		{"127.0.0.1", "http://" + packages + "/fw/x", http.StatusNotFound},
		{"127.0.0.1", "http://" + secure, http.StatusBadRequest},
	} {
		code, err := get(tt.from, tt.url)
		require.NoError(t, err, "%+v", tt)
		require.Equal(t, tt.want, code, "%+v", tt)
	}
	require.NotContains(t, s.text(), "too many open files")
}
