package coap

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"
)

// What a peer may send, in bytes, before it has shown that it is at its address,
// and after. pion would keep up to 10 MB of what is out of order.
const (
	strangerRoom = 8 << 10
	guestRoom    = 64 << 10
)

// maxEarly is how many datagrams wait for a session.
const maxEarly = 8

// feed gives pion a datagram; if it has enough, it is lost, as datagrams are.
func (h *dtlsHandshake) feed(b []byte) {
	if h.room.Add(-int64(len(b))) < 0 {
		h.abort(errTalkative)
		return
	}
	h.heard = h.s.e.timers.now()
	h.received(b)
	b = bytes.Clone(unwrapAlert(b))
	modernise(b)
	if b[0] == recordAlert && len(b) == recordHeaderSize+2 && b[3]|b[4] == 0 && b[13] == alertFatal {
		h.mu.Lock()
		h.alert = b[14]
		h.mu.Unlock()
	}
	select {
	case h.in <- b:
	default:
	}
}

// postpone keeps a datagram for the session.
func (h *dtlsHandshake) postpone(b []byte) {
	h.mu.Lock()
	ss := h.session
	if ss == nil && len(h.early) < maxEarly {
		h.early = append(h.early, bytes.Clone(b))
	}
	h.mu.Unlock()
	if ss != nil {
		ss.receive(b, h.addr, h.local)
	}
}

// handOver returns what has waited for the session.
func (h *dtlsHandshake) handOver(ss *dtlsSession) [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.session = ss
	return h.early
}

// ReadFrom implements [net.PacketConn].
func (h *dtlsHandshake) ReadFrom(b []byte) (int, net.Addr, error) {
	h.mu.Lock()
	overdue := h.overdue
	h.mu.Unlock()
	select {
	case p := <-h.in:
		return copy(b, p), net.UDPAddrFromAddrPort(h.addr), nil
	case <-overdue:
		return 0, nil, os.ErrDeadlineExceeded
	case <-h.ctx.Done():
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements [net.PacketConn].
func (h *dtlsHandshake) WriteTo(b []byte, _ net.Addr) (int, error) {
	const helloVerifyRequest = 3
	if !h.client && len(b) > recordHeaderSize && b[0] == recordHandshake && b[recordHeaderSize] != helloVerifyRequest {
		h.s.verified(h) // answered with more than a cookie
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.silent:
		return len(b), nil
	case h.unknown && b[0] == recordAlert:
		b = appendAlert(nil, alertUnknownIdentity) // pion says "internal error"
	}
	h.writes(b)
	return len(b), h.s.writeTo(unwrapAlert(b), h.addr, h.local)
}

// errLetGo is why reads end: pion is done with the handshake, or gives it up for
// a reason that it returns.
var errLetGo = errors.New("closed by pion")

// Close implements [net.PacketConn].
func (h *dtlsHandshake) Close() error {
	h.silence()
	h.cancel(errLetGo)
	return nil
}

// LocalAddr implements [net.PacketConn].
func (h *dtlsHandshake) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(h.s.local) }

// SetDeadline implements [net.PacketConn].
func (h *dtlsHandshake) SetDeadline(t time.Time) error { return h.SetReadDeadline(t) }

// SetWriteDeadline implements [net.PacketConn]; writes do not wait.
func (h *dtlsHandshake) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.PacketConn], as far as pion needs it: a time
// that has passed ends reads, until another is set.
func (h *dtlsHandshake) SetReadDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.overdue:
		h.overdue = make(chan struct{})
	default:
	}
	if !t.IsZero() && !t.After(time.Now()) {
		close(h.overdue)
	}
	return nil
}
