package coap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/pion/dtls/v3/pkg/protocol/alert"
)

// What is reported of handshakes that fail: so many in a second, and so many at
// a time.
const (
	maxReports       = 100
	maxReportsAtOnce = 100
)

// reports bounds the calls of Config.HandshakeFailed.
type reports struct {
	mu      sync.Mutex
	began   time.Duration // the present second
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

// handshakeFailed reports a failed handshake with a peer that is at addr. It does
// not wait.
func (e *Endpoint) handshakeFailed(addr netip.AddrPort, err error) {
	if e.cfg.HandshakeFailed == nil || errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		return // or it is we who end
	}
	if !e.reports.begin(e.timers.now()) {
		return
	}
	go func() {
		defer e.reports.end()
		defer func() {
			if v := recover(); v != nil {
				e.log.Error("coap: HandshakeFailed panicked", "panic", v, "stack", string(debug.Stack()))
			}
		}()
		e.cfg.HandshakeFailed(addr, err)
	}()
}

// alertError is an alert that a peer has sent.
type alertError byte

// Error names the alert as crypto/tls does: "bad certificate".
func (a alertError) Error() string {
	name := alert.Description(a).String()
	if strings.HasPrefix(name, "Invalid") {
		return fmt.Sprintf("peer sent alert %d", byte(a))
	}
	var words strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) && unicode.IsLower(rune(name[i-1])) {
			words.WriteByte(' ')
		}
		words.WriteRune(r)
	}
	text := strings.ReplaceAll(strings.ToLower(words.String()), " ca", " CA")
	return "peer sent alert: " + text
}
