package leshan

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/otago-iot/otago/internal/work"
)

// work sends one post of one device, and reports whether to go on. While one post of a device is
// under way no worker finds the device in ready.
func (b *Bridge) work(ctx context.Context) bool {
	endpoint, ok := b.next(ctx)
	if !ok {
		return false
	}
	conn, ok := b.connect(ctx)
	if !ok {
		return false
	}
	defer func() { _ = conn.Close() }() // the answer was read, or is unknown
	for p, ok := b.begin(endpoint); ; p, ok = b.begin(endpoint) {
		if ok {
			status, text, err := b.send(ctx, conn, p)
			b.finish(endpoint, p, status, text, err)
			return true
		}
		if !work.Sleep(ctx, minPause) { // the state file cannot be written now
			return false
		}
	}
}

// next waits for a device that has a post, and takes it.
func (b *Bridge) next(ctx context.Context) (endpoint string, ok bool) {
	for {
		b.mu.Lock()
		if len(b.ready) > 0 && !b.broken {
			endpoint, b.ready = b.ready[0], b.ready[1:]
			if len(b.ready) > 0 {
				b.signal()
			}
			b.mu.Unlock()
			return endpoint, true
		}
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", false
		case <-b.wake:
		}
	}
}

// connect connects to Django. It repeats what fails, with pauses that grow: no post has begun.
func (b *Bridge) connect(ctx context.Context) (net.Conn, bool) {
	var pause work.Backoff
	for {
		conn, err := b.dialSink(ctx)
		if err == nil {
			if pause > 0 {
				b.log.Info("Django is reachable again", "url", b.config.Sink)
			}
			return conn, true
		}
		if ctx.Err() != nil {
			return nil, false
		}
		if pause == 0 {
			b.log.Warn("Django is not reachable; posts wait", "url", b.config.Sink, "error", err)
		}
		if !work.Sleep(ctx, work.Spread(pause.Next(minPause, maxPause))) {
			return nil, false
		}
	}
}

func (b *Bridge) dialSink(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	port := b.sink.Port()
	if port == "" {
		port = b.sink.Scheme // a name of a service, which Dial knows
	}
	conn, err := b.dial(ctx, "tcp", net.JoinHostPort(b.sink.Hostname(), port))
	if err != nil || b.sink.Scheme == "http" {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: b.sink.Hostname(), MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // not used
		return nil, err
	}
	return secure, nil
}

// errPublic is the refusal of a Sink that the Internet could listen to.
var errPublic = errors.New("leshan: the address is neither loopback nor in a private network")

// checkAddress refuses addresses that Django must not have: neither side authenticates.
func (b *Bridge) checkAddress(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !b.config.AnyAddress && !Private(at.Addr()) {
		return fmt.Errorf("%w: %s", errPublic, at.Addr())
	}
	return nil
}

// Private reports whether only this host or its network can reach an address.
func Private(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}

// begin takes the first post of a device's queue, and stores durably that it has begun.
func (b *Bridge) begin(endpoint string) (post, bool) {
	b.mu.Lock()
	d := b.device(endpoint)
	p := d.Queue[0]
	d.drop(0)
	b.queued -= len(p.Body)
	d.Begun = &p
	b.record(endpoint, d)
	broken := b.broken
	b.mu.Unlock()
	if !broken {
		err := b.journal.sync()
		if err == nil {
			return p, true
		}
		b.mu.Lock()
		b.fail(err)
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	d.Begun = nil
	d.Queue = append([]post{p}, d.Queue...)
	d.bytes += len(p.Body)
	b.queued += len(p.Body)
	return post{}, false
}

// send sends a post over a new connection, and returns the status of the answer, and what it says
// if it is not the body of a page.
func (b *Bridge) send(ctx context.Context, conn net.Conn, p post) (status int, text string, err error) {
	_ = conn.SetDeadline(time.Now().Add(postTime)) // else the answer has no limit, and ctx ends it
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(stopTime)) })
	defer stop()
	path := "/leshan_api/resource/single"
	if p.Composite {
		path = "/leshan_api/resource/composite"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(b.config.Sink, "/")+path, bytes.NewReader(p.Body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	if err := r.Write(conn); err != nil {
		return 0, "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 1<<20)), r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }() // the connection ends too
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") {
		body, err := io.ReadAll(io.LimitReader(answer.Body, 200))
		return answer.StatusCode, string(body), err
	}
	return answer.StatusCode, "", nil
}

// finish takes the answer to a post, and makes the device ready for its next one.
func (b *Bridge) finish(endpoint string, p post, status int, text string, err error) {
	log := b.log.With("endpoint", endpoint, "path", p.Key)
	switch {
	case err != nil && status == 0:
		log.Warn("what became of a post is unknown; it is not repeated", "reason", err)
	case status == http.StatusCreated:
		log.Debug("Django has taken a value")
	case status == http.StatusBadRequest && strings.HasPrefix(p.Key, "/5/"):
		// Django stores the value, and refuses it if no update is active.
		log.Debug("Django has no active update for a value of object 5", "answer", text)
	default:
		log.Warn("Django has refused a value, and may have stored it; it is not repeated", "status", status, "answer", text)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.device(endpoint)
	d.Begun = nil
	if d.dropped > 0 {
		log.Warn("values for Django were dropped", "count", d.dropped)
		d.dropped = 0
	}
	b.record(endpoint, d)
	d.scheduled = false
	b.schedule(endpoint, d)
}
