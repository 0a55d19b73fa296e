package firmware

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
)

// TestSlowBodies: a body that keeps moving may take any time, and leaves no limit for what follows
// on its connection.
func TestSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		got := make(chan int64, 1)
		server := NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				n = -1
			}
			got <- n
			select { // a slow answer, while net/http watches for the end of the connection
			case <-r.Context().Done():
				got <- -1
			case <-time.After(2 * time.Minute):
				got <- 0
			}
		}))
		go func() { _ = server.Serve(p) }()
		c := p.dial()
		const pieces = 100
		for range 2 {
			_, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", pieces)
			require.NoError(t, err)
			for range pieces {
				time.Sleep(25 * time.Second)
				_, err := io.WriteString(c, "x")
				require.NoError(t, err)
			}
			require.EqualValues(t, pieces, <-got)
			require.Zero(t, <-got, "the context has ended")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode)
		}
		require.NoError(t, c.Close())
		require.NoError(t, server.Close())
	})
}

// TestSlowHandler: a slow handler that does not read its body still sends its answer, and the
// connection serves the next request.
func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		server := NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "x")
			select {
			case <-r.Context().Done():
				t.Error("the context has ended")
			case <-time.After(10 * time.Minute):
			}
		}))
		go func() { _ = server.Serve(p) }()
		defer server.Close()
		c := p.dial()
		defer c.Close()
		r := bufio.NewReader(c)
		for range 2 {
			_, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
			require.NoError(t, err)
			_, err = io.WriteString(c, "body")
			require.NoError(t, err)
			resp, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode)
			require.False(t, resp.Close)
			_, err = io.ReadAll(resp.Body)
			require.NoError(t, err)
		}
	})
}

// TestSlowHTTP2: an HTTP/2 stream that keeps moving, up or down, has no limit either.
func TestSlowHTTP2(t *testing.T) {
	_, pair := testkit.SelfSigned(t, "localhost")
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		const pieces = 20
		server := NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(20 * time.Second)
			body, err := io.ReadAll(r.Body)
			if err != nil || len(body) != pieces || r.ProtoMajor != 2 {
				t.Errorf("%s: %d bytes, %v", r.Proto, len(body), err)
			}
			for range pieces {
				time.Sleep(time.Minute)
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
			}
		}))
		go func() {
			_ = server.Serve(NewTLSListener(p, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}))
		}()
		transport := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c := tls.Client(p.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			return c, c.HandshakeContext(ctx)
		}}
		r, w := io.Pipe()
		go func() {
			for range pieces {
				time.Sleep(25 * time.Second)
				_, _ = io.WriteString(w, "x")
			}
			_ = w.Close()
		}()
		resp, err := (&http.Client{Transport: transport}).Post("https://localhost", "text/plain", r)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Len(t, body, pieces)
		require.NoError(t, resp.Body.Close())
		transport.CloseIdleConnections()
		require.NoError(t, server.Close())
		time.Sleep(time.Minute) // for goroutines that end a little later
	})
}

// TestDeliveryDeadline: a download leaves no limit for the next request on its connection.
func TestDeliveryDeadline(t *testing.T) {
	f := newDelivery(t, 100_000, DeliveryConfig{Stall: time.Second})
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		server := &http.Server{Handler: f.d.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Minute)
			_, _ = io.WriteString(w, "late")
		}))}
		go func() { _ = server.Serve(p) }()
		c := p.dial()
		r := bufio.NewReader(c)
		for _, tt := range []struct {
			path string
			want []byte
		}{{"/fw/" + f.token, f.body}, {"/other", []byte("late")}, {"/fw/" + f.token, f.body}} {
			_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", tt.path)
			require.NoError(t, err)
			resp, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.True(t, bytes.Equal(tt.want, body), tt.path)
		}
		require.NoError(t, c.Close())
		require.NoError(t, server.Close())
	})
}

// TestHijackedConnection: a hijacked connection never has a limit.
func TestHijackedConnection(t *testing.T) {
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nx",
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPipes()
			taken := make(chan net.Conn, 1)
			server := NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
				}
				taken <- c
			}))
			go func() { _ = server.Serve(p) }()
			defer server.Close()
			c := p.dial()
			defer c.Close()
			go func() { _, _ = io.WriteString(c, request) }()
			theirs := <-taken
			defer theirs.Close()
			time.Sleep(time.Hour)
			go func() { _, _ = io.WriteString(c, "up") }()
			_, err := io.ReadFull(theirs, make([]byte, 2))
			require.NoError(t, err)
			go func() { _, _ = io.ReadFull(c, make([]byte, 4)) }()
			_, err = io.WriteString(theirs, "down")
			require.NoError(t, err)
		})
	}
}

// TestConnectionsAreConfigured: with room for four connections an address may have two, and a third
// one takes the place of the oldest that waits.
func TestConnectionsAreConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		server := HTTPConfig{MaxConnections: 4}.NewServer(http.NotFoundHandler())
		go func() { _ = server.Serve(p) }()
		var open []net.Conn
		for range 3 {
			open = append(open, p.dial())
			synctest.Wait()
		}
		_, err := open[0].Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		for _, c := range open[1:] {
			_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusNotFound, resp.StatusCode)
			require.NoError(t, c.Close())
		}
		require.NoError(t, server.Close())
		time.Sleep(time.Minute) // for goroutines that end a little later
	})
}

// TestStreamsOfHTTP2: the number of concurrent requests on a connection is bounded.
func TestStreamsOfHTTP2(t *testing.T) {
	_, pair := testkit.SelfSigned(t, "localhost")
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		var active atomic.Int32
		release := make(chan struct{})
		server := NewHTTPServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { active.Add(1); <-release }))
		go func() {
			_ = server.Serve(NewTLSListener(p, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}))
		}()
		transport := &http.Transport{
			ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true},
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				c := tls.Client(p.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				return c, c.HandshakeContext(ctx)
			},
		}
		var group sync.WaitGroup
		get := func() {
			resp, err := (&http.Client{Transport: transport}).Get("https://localhost")
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
		}
		for range 2 * maxStreams {
			group.Go(get)
			synctest.Wait() // the first one makes the connection
		}
		require.EqualValues(t, maxStreams, active.Load())
		close(release)
		group.Wait()
		require.EqualValues(t, 2*maxStreams, active.Load())
		transport.CloseIdleConnections()
		require.NoError(t, server.Close())
		time.Sleep(time.Minute) // for goroutines that end a little later
	})
}
