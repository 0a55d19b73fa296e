package dtls

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"
)

// Limits of the bytes that a peer may send in a handshake: before its address is verified, and in
// all. pion alone would keep up to 10 MB of messages that are out of order.
const (
	unverifiedRoom = 8 << 10
	verifiedRoom   = 64 << 10
)

// maxEarly is how many datagrams wait for the session at the end of the handshake.
const maxEarly = 8

// feed hands pion a datagram. It drops the datagram if pion has not read the earlier ones.
func (h *handshake) feed(b []byte) {
	if h.room.Add(-int64(len(b))) < 0 {
		h.abort(errTalkative)
		return
	}
	h.heard = h.s.now()
	h.received(b)
	b = bytes.Clone(unwrapAlert(b))
	setVersion(b)
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

// postpone keeps a datagram for the session, or passes it to the session if there is one.
func (h *handshake) postpone(b []byte) {
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

// handOver returns the datagrams that waited for the session.
func (h *handshake) handOver(ss *Session) [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.session = ss
	return h.early
}

// ReadFrom implements [net.PacketConn].
func (h *handshake) ReadFrom(b []byte) (int, net.Addr, error) {
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
func (h *handshake) WriteTo(b []byte, _ net.Addr) (int, error) {
	const helloVerifyRequest = 3
	if !h.client && len(b) > recordHeaderSize && b[0] == recordHandshake && b[recordHeaderSize] != helloVerifyRequest {
		h.s.verify(h) // the client's cookie was right
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
	return len(b), h.s.conn.WriteTo(unwrapAlert(b), h.addr, h.local)
}

// errPionClosed is the cause when pion closes the handshake: it has finished, or failed with an
// error that it returns.
var errPionClosed = errors.New("closed by pion")

// Close implements [net.PacketConn].
func (h *handshake) Close() error {
	h.silence()
	h.cancel(errPionClosed)
	return nil
}

// LocalAddr implements [net.PacketConn].
func (h *handshake) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(h.s.Addr()) }

// SetDeadline implements [net.PacketConn].
func (h *handshake) SetDeadline(t time.Time) error { return h.SetReadDeadline(t) }

// SetWriteDeadline implements [net.PacketConn]; writes never wait.
func (h *handshake) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.PacketConn] as far as pion needs it: a time in the past ends
// reads until another deadline is set.
func (h *handshake) SetReadDeadline(t time.Time) error {
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
