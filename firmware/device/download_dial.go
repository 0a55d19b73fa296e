package device

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/work"
)

// handshakes counts the TLS handshakes of a download. net/http would continue them after the
// download has ended; the download waits for them instead.
type handshakes struct {
	ctx context.Context // of the download

	mu    sync.Mutex
	over  bool
	under sync.WaitGroup
}

func (h *handshakes) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.under.Add(1)
	}
	return !h.over
}

// close lets no further handshake begin, and waits up to abandonAfter for those in progress.
func (h *handshakes) close() {
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		h.under.Wait()
		close(ended)
	}()
	timer := time.NewTimer(abandonAfter)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}

// dialTLS returns a function that dials for https. net/http would call the functions of the
// program's tls.Config in its own goroutines, where a panic ends the process. Here a panic fails
// the handshake or the Read during which it happens.
func (c Config) dialTLS(config *tls.Config, h *handshakes) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: c.Idle}
	if config.KeyLogWriter != nil {
		// crypto/tls holds a lock while it calls the writer.
		config.KeyLogWriter = guardedLog{config.KeyLogWriter, c.Logger}
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !h.begin() {
			return nil, errStopped
		}
		defer h.under.Done()
		ctx, cancel := context.WithTimeout(ctx, 2*c.Idle) // for the connection and the handshake
		defer cancel()
		defer context.AfterFunc(h.ctx, cancel)()
		raw, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		own := config
		if host, _, err := net.SplitHostPort(addr); err == nil && own.ServerName == "" {
			own = config.Clone()
			own.ServerName = host
		}
		conn := tls.Client(raw, own)
		handshake := call(c.Logger, "TLS", permitted(ctx, func() (nothing, error) { return nothing{}, conn.HandshakeContext(ctx) }))
		r, ok := awaited(ctx, abandonAfter, handshake)
		if !ok {
			r.err = fmt.Errorf("%w: TLS", errHung)
		}
		if r.err != nil {
			raw.Close()
			return nil, r.err
		}
		return guardedConn{conn, c.Logger}, nil
	}
}

// guardedConn is a connection whose methods may call functions of the program.
type guardedConn struct {
	net.Conn
	log *slog.Logger
}

func (c guardedConn) Read(p []byte) (int, error) {
	return work.Guard(c.log, "TLS", func() (int, error) { return c.Conn.Read(p) })
}

func (c guardedConn) Write(p []byte) (int, error) {
	return work.Guard(c.log, "TLS", func() (int, error) { return c.Conn.Write(p) })
}

// guardedLog is a writer of the program, which may panic.
type guardedLog struct {
	io.Writer
	log *slog.Logger
}

func (w guardedLog) Write(p []byte) (int, error) {
	return work.Guard(w.log, "KeyLogWriter", func() (int, error) { return w.Writer.Write(p) })
}

// guardedTransport is a RoundTripper of the program, which may hang or panic.
type guardedTransport struct {
	to  http.RoundTripper
	log *slog.Logger
}

func (t guardedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	trip := call(t.log, "Transport", permitted(ctx, func() (*http.Response, error) { return t.to.RoundTrip(r) }))
	done, ok := awaited(ctx, abandonAfter, trip)
	switch {
	case !ok:
		go func() {
			if late := <-trip; late.value != nil && late.value.Body != nil {
				guardedBody{late.value.Body, ctx, t.log}.Close()
			}
		}()
		return nil, fmt.Errorf("%w: Transport", errHung)
	case done.err != nil:
		return nil, done.err
	case done.value != nil && done.value.Body != nil:
		done.value.Body = guardedBody{done.value.Body, ctx, t.log}
	}
	return done.value, nil
}

// CloseIdleConnections is called by http.Client.
func (t guardedTransport) CloseIdleConnections() {
	if c, ok := t.to.(interface{ CloseIdleConnections() }); ok {
		work.GuardFunc(t.log, "Transport", c.CloseIdleConnections)
	}
}

// guardedBody is a body from a RoundTripper of the program.
type guardedBody struct {
	body io.ReadCloser
	ctx  context.Context // of the request
	log  *slog.Logger
}

func (b guardedBody) Read(p []byte) (int, error) {
	own := make([]byte, len(p)) // a Read that hangs still holds it when the caller reuses p
	r, ok := awaited(b.ctx, abandonAfter, call(b.log, "Read of a body", permitted(b.ctx, func() (int, error) { return b.body.Read(own) })))
	if !ok {
		return 0, fmt.Errorf("%w: Read of a body", errHung)
	}
	if r.value < 0 || r.value > len(p) {
		return 0, fmt.Errorf("%w: Read of a body returned %d of %d", work.ErrPanicked, r.value, len(p))
	}
	return copy(p, own[:r.value]), r.err
}

func (b guardedBody) Close() error {
	r, ok := awaited(b.ctx, abandonAfter, call(b.log, "Close of a body", permitted(b.ctx, func() (nothing, error) { return nothing{}, b.body.Close() })))
	if !ok {
		return fmt.Errorf("%w: Close of a body", errHung)
	}
	return r.err
}
