package httpapi_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// TestWaits has slow clients, in a server without limits of its own.
func TestWaits(t *testing.T) {
	const (
		host   = " HTTP/1.1\r\nHost: x\r\n"
		asJSON = host + "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
		image  = "POST /api/v1/images?version=1" + host + "Content-Type: application/octet-stream\r\nContent-Length: 1000\r\n"
	)
	for _, tt := range []struct {
		name      string
		request   string
		dripped   string        // sent after the request, byte by byte
		pause     time.Duration // between two bytes
		status    string        // "": the client reads nothing
		ends, not time.Duration // within, and not before
	}{
		{name: "no JSON", request: "POST /api/v1/updates" + asJSON, status: "408", ends: 30 * time.Second},
		{name: "JSON stops", request: "POST /api/v1/updates" + asJSON + "{", status: "408", ends: 30 * time.Second},
		{name: "JSON byte by byte", request: "POST /api/v1/updates" + asJSON, dripped: strings.Repeat(" ", 900), pause: 2 * time.Second, status: "408", ends: 30 * time.Second},
		{name: "hold byte by byte", request: "POST /api/v1/updates/x/hold" + asJSON, dripped: strings.Repeat(" ", 900), pause: 20 * time.Second, status: "408", ends: 30 * time.Second},
		{name: "no image", request: image + "\r\n", status: "408", ends: 30 * time.Second},
		{name: "an image stops", request: image + "\r\n", dripped: "abc", pause: 20 * time.Second, status: "408", ends: 91 * time.Second, not: 80 * time.Second},
		{name: "no image, not allowed", request: image + "Authorization: nobody\r\n\r\n", status: "403", ends: 10 * time.Second},
		{name: "not wanted by a list", request: "GET /api/v1/updates" + host + "Content-Length: 10\r\n\r\n", status: "200", ends: 10 * time.Second},
		{name: "not wanted by nothing", request: "POST /api/v1/nothing" + asJSON, status: "404", ends: 10 * time.Second},
		{name: "an answer that is not read", request: "GET /api/v1/updates" + host + "\r\n", ends: 30 * time.Second, not: 30 * time.Second},
		{name: "a problem that is not read", request: "GET /" + host + "\r\n", ends: 30 * time.Second, not: 30 * time.Second},
		{name: "pipelined", request: strings.Repeat("GET /api/v1/updates"+host+"\r\n", 5), ends: 30 * time.Second},
		{name: "events that are not read", request: "GET /api/v1/events" + host + "\r\n", ends: 15 * time.Second, not: 15 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				images, err := firmware.OpenRepository(t.TempDir(), memory.New(), firmware.RepositoryConfig{})
				require.NoError(t, err)
				srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
				require.NoError(t, err)
				manager, err := firmware.NewManager(srv, memory.New(), images, firmware.ManagerConfig{})
				require.NoError(t, err)
				authorize := func(r *http.Request, _ httpapi.Access) error {
					if r.Header.Get("Authorization") != "" {
						return errors.New("no")
					}
					return nil
				}
				l := newPipes()
				server := &http.Server{Handler: handler(t, manager, authorize, httpapi.Config{})}
				go func() { _ = server.Serve(l) }()
				defer server.Close()
				c := l.dial()
				defer c.Close()
				begin := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_, _ = io.WriteString(c, tt.request)
					for i := range len(tt.dripped) {
						time.Sleep(tt.pause)
						if _, err := io.WriteString(c, tt.dripped[i:i+1]); err != nil {
							return
						}
					}
				}()
				if tt.status == "" {
					<-sent
					for !closed(c) {
						require.Less(t, time.Since(begin), 5*time.Minute, "the server keeps the connection")
						time.Sleep(time.Second)
					}
				} else {
					require.NoError(t, c.SetReadDeadline(begin.Add(5*time.Minute)))
					answer, err := io.ReadAll(c)
					require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server keeps the connection")
					require.True(t, strings.HasPrefix(string(answer), "HTTP/1.1 "+tt.status), "%s", answer)
				}
				took := time.Since(begin)
				require.LessOrEqual(t, took, tt.ends+2*time.Second)
				require.GreaterOrEqual(t, took, tt.not)
				<-sent
			})
		})
	}
}

// closed reports whether a pipe's other end is closed. The pipe cannot be written to afterwards.
func closed(c net.Conn) bool {
	_ = c.SetWriteDeadline(time.Unix(1, 0))
	_, err := c.Write(nil)
	return errors.Is(err, io.ErrClosedPipe)
}

// TestSlowUpload: an upload that keeps moving succeeds, however long it takes.
func TestSlowUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		images, err := firmware.OpenRepository(t.TempDir(), memory.New(), firmware.RepositoryConfig{})
		require.NoError(t, err)
		srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
		require.NoError(t, err)
		manager, err := firmware.NewManager(srv, memory.New(), images, firmware.ManagerConfig{})
		require.NoError(t, err)
		l := newPipes()
		server := firmware.NewHTTPServer(handler(t, manager, httpapi.AllowAll, httpapi.Config{}))
		go func() { _ = server.Serve(l) }()
		defer server.Close()
		c := l.dial()
		defer c.Close()
		_, err = io.WriteString(c, "POST /api/v1/images?version=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\n")
		require.NoError(t, err)
		for range 100 {
			time.Sleep(29 * time.Second)
			_, err := io.WriteString(c, "x")
			require.NoError(t, err)
		}
		status := make([]byte, len("HTTP/1.1 201"))
		_, err = io.ReadFull(c, status)
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 201", string(status))
	})
}
