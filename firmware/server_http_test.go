package firmware

import (
	"context"
	"crypto/tls"
	"errors"
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

	"github.com/otago-iot/otago/internal/testkit"
)

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
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipes) dial() net.Conn { a, b := net.Pipe(); p.conns <- b; return a }

// A holder is a client that keeps a server waiting: it does its part, and then nothing.
type holder struct {
	name   string
	part   func(c net.Conn)
	reads  bool          // everything
	within time.Duration // by when the server ends the connection
	after  time.Duration // not before
	secure bool          // on a TLS listener
	any    bool          // in any server with the handler
}

func sends(pieces ...string) func(net.Conn) {
	return func(c net.Conn) {
		for i, piece := range pieces {
			if i > 0 {
				time.Sleep(2 * time.Second)
			}
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	}
}

func drip(text string) []string { return strings.Split(text, "") }

// holders are clients of a server that has downloads at /fw/, a handler that reads no body at
// /other, and one that reads all of it at /read.
func holders(token string) []holder {
	download := "GET /fw/" + token + " HTTP/1.1\r\nHost: x\r\n"
	return []holder{
		{name: "nothing", part: sends(), within: headerTime},
		{name: "half a header", part: sends(download), within: headerTime},
		{name: "a header byte by byte", part: sends(drip(download)...), reads: true, within: headerTime},
		{name: "no body, not wanted", part: sends("POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"), reads: true, within: 10 * time.Second},
		{name: "no chunk, not wanted", part: sends("POST /other HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), reads: true, within: 10 * time.Second},
		{name: "no body, wanted", part: sends("POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"), reads: true, within: 30 * time.Second},
		{
			name: "a body that stops", part: sends("POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", "a", "b", "c"), // until 6 s
			reads: true, within: 36 * time.Second, after: 36 * time.Second,
		},
		{name: "a body that is dripped and not wanted", part: sends(append([]string{"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"}, drip(strings.Repeat("x", 99))...)...), reads: true, within: 10 * time.Second},
		// net/http itself reads these bodies, before any handler.
		{name: "no body, of OPTIONS *", part: sends("OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"), reads: true, within: 10 * time.Second},
		{
			name: "chunks byte by byte, of OPTIONS *", part: sends(append([]string{"OPTIONS * HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"}, drip(strings.Repeat("1\r\nx\r\n", 20))...)...),
			reads: true, within: 10 * time.Second,
		},
		{name: "no body, with an expectation", part: sends("POST /read HTTP/1.1\r\nHost: x\r\nExpect: x\r\nContent-Length: 10\r\n\r\n"), reads: true, within: 10 * time.Second},
		{name: "no body, which waits to be asked for", part: sends("POST /other HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"), reads: true, within: 10 * time.Second},
		{name: "a download without its body", part: sends(download + "Content-Length: 10\r\n\r\n"), reads: true, within: 10 * time.Second, any: true},
		{name: "no download without its body", part: sends("GET /fw/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"), reads: true, within: 5 * time.Second, any: true},
		{name: "a download that is not read", part: sends(download + "\r\n"), within: 2 * time.Minute, after: 2 * time.Minute, any: true},
		{name: "pipelined downloads", part: sends(strings.Repeat(download+"\r\n", 3)), within: 2 * time.Minute, any: true},
		{name: "an answer of another handler that is not read", part: sends("GET /other HTTP/1.1\r\nHost: x\r\n\r\n"), within: answerTime},
		{name: "no next request", part: sends("HEAD /fw/" + token + " HTTP/1.1\r\nHost: x\r\n\r\n"), reads: true, within: idleTime, after: idleTime},
		{name: "no handshake", part: sends(), secure: true, within: 20 * time.Second},
		{name: "half a hello", part: sends("\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03"), secure: true, within: 20 * time.Second},
		{name: "a hello byte by byte", part: sends(drip("\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03")...), secure: true, within: 20 * time.Second},
		{name: "a handshake that stops", part: func(c net.Conn) {
			_ = tls.Client(onlyWrites{c}, &tls.Config{InsecureSkipVerify: true}).Handshake()
		}, secure: true, within: 20 * time.Second},
	}
}

// onlyWrites is a connection that receives nothing.
type onlyWrites struct{ net.Conn }

func (onlyWrites) Read([]byte) (int, error) { return 0, io.EOF }

// waitsFor does the client's part and returns how long the server then keeps the connection.
func (h holder) waitsFor(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	if h.reads {
		done := make(chan struct{})
		go func() { h.part(c); close(done) }()
		require.NoError(t, c.SetReadDeadline(begin.Add(10*time.Minute)))
		_, err := io.Copy(io.Discard, c)
		require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the server keeps the connection")
		took := time.Since(begin)
		<-done
		return took
	}
	h.part(c)
	for !closed(c) {
		require.Less(t, time.Since(begin), 10*time.Minute, "the server keeps the connection")
		time.Sleep(time.Second)
	}
	return time.Since(begin)
}

// closed reports whether a pipe's other end is closed. The pipe cannot be written to afterwards.
func closed(c net.Conn) bool {
	_ = c.SetWriteDeadline(time.Unix(1, 0))
	_, err := c.Write(nil)
	return errors.Is(err, io.ErrClosedPipe)
}

func (f *deliveryFixture) mux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 10_000)) })
	mux.HandleFunc("/read", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	return f.d.Wrap(mux)
}

// TestWaits tests each holder alone.
func TestWaits(t *testing.T) {
	f := newDelivery(t, 1<<20, DeliveryConfig{})
	_, pair := testkit.SelfSigned(t, "localhost")
	for _, ours := range []bool{true, false} {
		for _, h := range holders(f.token) {
			if !ours && !h.any {
				continue
			}
			t.Run(fmt.Sprintf("%v/%s", ours, h.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPipes()
					var l net.Listener = p
					if h.secure {
						l = NewTLSListener(p, &tls.Config{Certificates: []tls.Certificate{pair}})
					}
					server := NewHTTPServer(f.mux())
					if !ours {
						server = &http.Server{Handler: f.mux()}
					}
					go func() { _ = server.Serve(l) }()
					defer server.Close()
					c := p.dial()
					defer c.Close()
					took := h.waitsFor(t, c)
					require.LessOrEqual(t, took, h.within+2*time.Second)
					require.GreaterOrEqual(t, took, h.after)
				})
			})
		}
	}
}

// TestShutdownOfWaits shuts a server down while all holders keep it waiting.
func TestShutdownOfWaits(t *testing.T) {
	f := newDelivery(t, 1<<20, DeliveryConfig{})
	_, pair := testkit.SelfSigned(t, "localhost")
	for _, secure := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPipes()
			var l net.Listener = p
			if secure {
				l = NewTLSListener(p, &tls.Config{Certificates: []tls.Certificate{pair}})
			}
			server := NewHTTPServer(f.mux())
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			var conns []net.Conn
			for _, h := range holders(f.token) {
				if h.secure != secure {
					continue
				}
				c := p.dial()
				conns = append(conns, c)
				go func() {
					if h.reads {
						go func() { _, _ = io.Copy(io.Discard, c) }()
					}
					h.part(c)
				}()
			}
			time.Sleep(3 * time.Second)
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if err := server.Shutdown(ctx); err != nil {
				require.NoError(t, server.Close())
			}
			require.ErrorIs(t, <-served, http.ErrServerClosed)
			require.LessOrEqual(t, time.Since(begin), 3*time.Second)
			synctest.Wait()
			for _, c := range conns {
				require.True(t, closed(c))
				_ = c.Close()
			}
			time.Sleep(30 * time.Second) // for the goroutines of the server
		})
	}
}
