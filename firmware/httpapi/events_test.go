package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// sse is one server-sent event.
type sse struct {
	id   string
	data struct {
		Seq                              uint64
		Update, Endpoint, Event, Outcome string
		Phase, State                     string
		Time                             time.Time
	}
}

// openEvents opens an event stream; header holds pairs of names and values.
func openEvents(t *testing.T, client *http.Client, url string, header ...string) (next func() sse, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	lines := bufio.NewScanner(response.Body)
	next = func() sse {
		t.Helper()
		var event sse
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "id":
				event.id = value
			case name == "data":
				require.NoError(t, json.Unmarshal([]byte(value), &event.data))
			case lines.Text() == "" && event.data.Event != "":
				return event
			}
		}
		require.FailNow(t, "the stream has ended", "%v", lines.Err())
		return event
	}
	return next, func() { cancel(); response.Body.Close() }
}

func TestEventsResume(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	first := s.start("a", image)

	next, end := openEvents(t, s.Client(), s.URL+"/api/v1/events")
	event := next() // from before the stream was opened
	require.Equal(t, first, event.data.Update)
	require.Equal(t, "a", event.data.Endpoint)
	require.Equal(t, fmt.Sprint(event.data.Seq), event.id)
	require.Equal(t, "waiting", event.data.Phase)
	require.NotEmpty(t, event.data.Event)

	second := s.start("b", image) // while the stream is open
	event = next()
	require.Equal(t, second, event.data.Update)
	end()

	third := s.start("c", image)
	next, end = openEvents(t, s.Client(), s.URL+"/api/v1/events", "Last-Event-ID", event.id)
	missed := next()
	require.Equal(t, third, missed.data.Update)
	require.Greater(t, missed.data.Seq, event.data.Seq)
	end()

	next, end = openEvents(t, s.Client(), s.URL+"/api/v1/events?after="+event.id)
	require.Equal(t, missed, next())
	end()

	require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/api/v1/updates/"+second+"/cancel", nil).StatusCode)
	next, end = openEvents(t, s.Client(), s.URL+"/api/v1/events?update="+second)
	defer end()
	for event = next(); event.data.Outcome == ""; event = next() {
		require.Equal(t, second, event.data.Update)
	}
	require.Equal(t, "cancelled", event.data.Outcome)
}

// TestEventsPosition: a client learns that lines after its position were deleted, or that the
// journal never reached it.
func TestEventsPosition(t *testing.T) {
	s := newService(t, httpapi.Config{})
	image := s.image("1.1.0")
	first := s.start("a", image)
	require.Equal(t, http.StatusOK, s.do(http.MethodPost, "/api/v1/updates/"+first+"/cancel", nil).StatusCode)
	s.start("b", image)
	span, err := s.db.Span(t.Context())
	require.NoError(t, err)

	p := requireProblem(t, s.get(fmt.Sprint("/api/v1/events?after=", span.Last+1)), http.StatusConflict, "position")
	require.Contains(t, p.Detail, fmt.Sprint("ends at ", span.Last))
	begin := func(after uint64) (text string) { // up to the first line of an update
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprint(s.URL, "/api/v1/events?after=", after), nil)
		require.NoError(t, err)
		response, err := s.Client().Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan() && !strings.Contains(text, `"update":`); {
			text += lines.Text() + "\n"
		}
		return text
	}
	require.NotContains(t, begin(1), "event: gap")
	require.Equal(t, http.StatusNoContent, s.do(http.MethodDelete, "/api/v1/updates/"+first, nil).StatusCode)
	span, err = s.db.Span(t.Context())
	require.NoError(t, err)
	require.Contains(t, begin(1), fmt.Sprintf("event: gap\ndata: {\"after\": 1, \"deleted\": %d}\n\n", span.Deleted))
	require.NotContains(t, begin(span.Deleted), "event: gap")
	require.NotContains(t, begin(0), "event: gap", "it begins with the oldest line anyway")
}

func TestEventStreamsAreBounded(t *testing.T) {
	s := newService(t, httpapi.Config{MaxStreams: 1})
	_, end := openEvents(t, s.Client(), s.URL+"/api/v1/events")
	requireProblem(t, s.get("/api/v1/events"), http.StatusServiceUnavailable, "unavailable")
	end()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/v1/events", nil)
		require.NoError(t, err)
		response, err := s.Client().Do(r)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, 20*time.Second, 10*time.Millisecond, "a stream that has ended makes room")
}

// pipes is a listener whose connections have no buffer: a write blocks until the peer reads.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return pipeAddr{} }
func (p *pipes) dial() net.Conn { a, b := net.Pipe(); p.conns <- b; return a }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func TestHeartbeatsAndSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := memory.New()
		images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
		require.NoError(t, err)
		srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
		require.NoError(t, err)
		manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
		require.NoError(t, err)
		image, err := images.Add(t.Context(), firmware.Image{Version: "1.1.0"}, strings.NewReader("image"))
		require.NoError(t, err)

		l := newPipes()
		server := &http.Server{Handler: handler(t, manager, httpapi.AllowAll, httpapi.Config{Heartbeat: 15 * time.Second, MaxStreams: 1})}
		stopped := make(chan error, 1)
		go func() { stopped <- server.Serve(l) }()

		defer server.Close()
		conn := l.dial()
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(3*time.Minute)))
		go func() { _, _ = io.WriteString(conn, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n") }()
		lines := bufio.NewReader(conn)
		line := func() string {
			t.Helper()
			text, err := lines.ReadString('\n')
			require.NoError(t, err)
			return strings.TrimRight(text, "\r\n")
		}
		require.Equal(t, "HTTP/1.1 200 OK", line())
		for line() != "retry: 2000" {
		}
		begin := time.Now()
		for line() != ":" {
		}
		require.Equal(t, 15*time.Second, time.Since(begin), "a sign of life after a heartbeat without events")

		// The reader stops reading; an update makes a line that it does not accept.
		_, err = manager.Start(t.Context(), firmware.Request{Endpoint: "dev", Image: image.ID})
		require.NoError(t, err)
		<-time.After(time.Minute)
		_, err = io.ReadAll(lines)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is closed by the server")

		// Its stream no longer counts.
		conn = l.dial()
		go func() {
			_, _ = io.WriteString(conn, "HEAD /api/v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		}()
		status, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, status, "200")
		conn.Close()

		require.NoError(t, server.Close())
		require.ErrorIs(t, <-stopped, http.ErrServerClosed)
		require.NoError(t, db.Close())
	})
}

// TestEventsBehindMiddleware: behind middleware that buffers answers the call fails before the
// stream begins.
func TestEventsBehindMiddleware(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"a wrapper": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(struct{ http.ResponseWriter }{w}, r) })
		},
		"a timeout": func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Minute, "") },
	} {
		t.Run(name, func(t *testing.T) {
			s := mount(t, httpapi.Config{}, wrap)
			requireProblem(t, s.get("/api/v1/events"), http.StatusInternalServerError, "internal")
			require.Equal(t, http.StatusOK, s.get("/api/v1/updates").StatusCode)
			require.NotEmpty(t, s.image("1.0.0"))
		})
	}
}
