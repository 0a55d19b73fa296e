package coap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of reports of failed handshakes: per second, and concurrently.
const (
	maxReports       = 100
	maxReportsAtOnce = 100
)

// reports bounds the calls of Config.HandshakeFailed.
type reports struct {
	mu      sync.Mutex
	began   time.Duration // the start of the current second
	count   int           // in it
	running int
}

func (r *reports) begin(now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began == 0 || now-r.began >= time.Second {
		r.began, r.count = now, 0
	}
	if r.count >= maxReports || r.running >= maxReportsAtOnce {
		return false
	}
	r.count++
	r.running++
	return true
}

func (r *reports) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
}

// handshakeFailed reports a failed handshake with a client whose address is verified. It does not
// wait.
func (e *Endpoint) handshakeFailed(o *origin, t Transport, addr netip.AddrPort, identity string, err error) {
	if e.config.HandshakeFailed == nil || errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		return // or this side ends it
	}
	if !e.reports.begin(e.timers.now()) {
		return
	}
	if !e.gate.enter(o) {
		e.reports.end()
		return
	}
	go func() {
		defer e.reports.end()
		defer e.caught(o, "HandshakeFailed", nil)
		e.config.HandshakeFailed(t, addr, identity, err)
	}()
}
