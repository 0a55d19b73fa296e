package coap

import (
	"bytes"
	"container/list"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
)

// dtlsHandshake is a handshake that goes on. It is what pion takes for its
// socket: a [net.PacketConn] with one peer. When pion has finished, it is
// silenced, and a [dtlsSession] takes over.
type dtlsHandshake struct {
	s      *dtlsSocket
	addr   netip.AddrPort
	client bool // we are the client
	random [32]byte
	aead   bool // the peer knows better than CBC
	ctx    context.Context
	cancel context.CancelCauseFunc
	in     chan []byte // datagrams for pion
	began  time.Duration
	heard  time.Duration
	room   atomic.Int64 // bytes that the peer may yet send

	// Guarded by dtlsSocket.mu.
	elem     *list.Element
	verified bool
	cid      connectionID
	hasCID   bool
	dropped  error

	mu       sync.Mutex
	overdue  chan struct{} // closed when the deadline of reads has passed
	silent   bool          // pion writes no more
	last     []byte        // our last flight, as a server
	early    [][]byte      // datagrams for the session to come
	session  *dtlsSession
	identity []byte // that the peer has named
	unknown  bool   // and that has no key
	alert    byte   // that the server has sent
	chain    [][]byte
}

// What a peer may send, in bytes, before it has shown that it is at its address,
// and after. pion would keep up to 10 MB of what is out of order.
const (
	strangerRoom = 8 << 10
	guestRoom    = 64 << 10
)

// maxEarly is how many datagrams wait for a session.
const maxEarly = 8

var errTalkative = fmt.Errorf("peer sends more than %d bytes", guestRoom)

// errNoAnswer is the end of a handshake with a peer who is not there.
var errNoAnswer = fmt.Errorf("no answer within %v: %w", handshakeTimeout, os.ErrDeadlineExceeded)

func (s *dtlsSocket) newHandshake(addr netip.AddrPort) *dtlsHandshake {
	h := &dtlsHandshake{s: s, addr: addr, in: make(chan []byte, 16), began: s.e.timers.now(), overdue: make(chan struct{})}
	h.heard = h.began
	h.ctx, h.cancel = context.WithCancelCause(s.ctx)
	h.room.Store(strangerRoom)
	return h
}

// dial prepares the handshake with the server of a dialled socket.
func (s *dtlsSocket) dial() *dtlsHandshake {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.newHandshake(s.only)
	h.client, h.verified = true, true
	h.room.Store(guestRoom)
	s.places[s.only] = place{handshake: h}
	if s.closed {
		h.abort(net.ErrClosed)
	}
	return h
}

// run makes the handshake and puts a session in its place.
func (h *dtlsHandshake) run(ctx context.Context) (*dtlsSession, error) {
	defer h.cancel(nil)
	defer context.AfterFunc(ctx, func() { h.abort(context.Cause(ctx)) })()
	timed, cancel := context.WithTimeoutCause(h.ctx, handshakeTimeout, errNoAnswer)
	defer cancel()
	conn, err := h.open()
	if err != nil {
		return nil, err
	}
	if err := conn.HandshakeContext(timed); err != nil {
		err = h.explain(context.Cause(timed), err)
		_ = conn.Close() // what is told is told already
		return nil, err
	}
	h.silence() // before the state is read, so that no number is used by both
	result, err := resultOf(conn)
	_ = conn.Close() // what is told is told already
	if err != nil {
		return nil, err
	}
	ss, err := newSession(h.s, result, h.addr)
	if err != nil {
		return nil, err
	}
	ss.flight = h.last
	if err := h.s.admit(h, ss, h.proven(result)); err != nil {
		ss.farewell()
		ss.mu.Lock()
		ss.over = true
		ss.mu.Unlock()
		return nil, err
	}
	for _, b := range h.handOver(ss) {
		ss.receive(b, h.addr)
	}
	return ss, nil
}

// open makes pion's connection.
func (h *dtlsHandshake) open() (*dtls.Conn, error) {
	cfg := &h.s.cfg
	to := net.UDPAddrFromAddrPort(h.addr)
	shared := []dtls.Option{dtls.WithLoggerFactory(dtlsLog{h: h}), dtls.WithVerifyPeerCertificate(h.keepChain)}
	if cfg.Certificate != nil {
		shared = append(shared, dtls.WithCertificates(*cfg.Certificate))
	}
	if h.client {
		opts := []dtls.ClientOption{dtls.WithServerName(cfg.ServerName), dtls.WithRootCAs(cfg.RootCAs)}
		for _, o := range shared {
			opts = append(opts, o)
		}
		if len(cfg.Key) > 0 {
			key := func([]byte) ([]byte, error) { return cfg.Key, nil }
			opts = append(opts, dtls.WithPSK(key), dtls.WithPSKIdentityHint(cfg.Identity), dtls.WithCipherSuites(pskSuites...))
		} else {
			opts = append(opts, dtls.WithCipherSuites(certificateSuites...))
		}
		if !cfg.NoConnectionID {
			opts = append(opts, dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
		}
		return dtls.ClientWithOptions(h, to, opts...)
	}
	var opts []dtls.ServerOption
	for _, o := range shared {
		opts = append(opts, o)
	}
	var suites []dtls.CipherSuiteID
	if cfg.Certificate != nil {
		suites = append(suites, certificateSuites...)
		opts = append(opts, dtls.WithClientAuth(dtls.RequireAndVerifyClientCert), dtls.WithClientCAs(cfg.ClientCAs))
	}
	if cfg.PSK != nil {
		suites = append(suites, pskSuites...)
		if !h.aead {
			suites = append(suites, cbcSuites...)
		}
		opts = append(opts, dtls.WithPSK(h.key))
	}
	if h.aead && !cfg.NoConnectionID {
		opts = append(opts, dtls.WithConnectionIDGenerator(func() []byte { return h.s.giveCID(h) }))
	}
	return dtls.ServerWithOptions(h, to, append(opts, dtls.WithCipherSuites(suites...))...)
}

// key looks up the key of a client.
func (h *dtlsHandshake) key(identity []byte) ([]byte, error) {
	key, ok := h.s.cfg.PSK(identity)
	ok = ok && len(key) > 0
	h.mu.Lock()
	defer h.mu.Unlock()
	h.identity, h.unknown = bytes.Clone(identity), !ok
	if !ok {
		return nil, ErrUnknownIdentity
	}
	return key, nil
}

// presented returns the identity that the peer has named, or its beginning.
func (h *dtlsHandshake) presented() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.identity[:min(len(h.identity), 128)])
}

func (h *dtlsHandshake) keepChain(_ [][]byte, chains [][]*x509.Certificate) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chain = nil
	if len(chains) > 0 {
		for _, c := range chains[0] {
			h.chain = append(h.chain, c.Raw)
		}
	}
	return nil
}

// proven returns what the handshake has shown about the peer.
func (h *dtlsHandshake) proven(r *handshakeResult) *Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case len(h.chain) > 0:
		return &Identity{Certificates: h.chain}
	case h.client:
		return &Identity{PSKIdentity: h.s.cfg.Identity}
	}
	return &Identity{PSKIdentity: r.IdentityHint}
}

// explain says why the handshake failed, and tells the peer what pion does not.
func (h *dtlsHandshake) explain(cause, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = true
	switch {
	case h.alert == alertUnknownIdentity:
		return fmt.Errorf("%w: %w", ErrUnknownIdentity, err)
	case h.alert == alertDecryptError, h.alert == alertBadMAC:
		return fmt.Errorf("%w: %w", ErrWrongKey, err)
	case h.alert != 0:
		return err
	}
	if cause != nil && cause != errLetGo {
		err = cause
	}
	if errors.Is(err, ErrWrongKey) {
		_ = h.s.writeTo(appendAlert(nil, alertDecryptError), h.addr)
	}
	return err
}

// abort ends the handshake.
func (h *dtlsHandshake) abort(why error) { h.cancel(why) }

// undecryptable is called for a record of the peer that another key has made.
// A server would stay silent, and leave both sides in the dark.
func (h *dtlsHandshake) undecryptable() {
	if !h.client {
		h.abort(ErrWrongKey)
	}
}

// silence ends the writes of pion.
func (h *dtlsHandshake) silence() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = true
}

// finishing reports whether our last flight is on its way, after which all
// that comes is for the session.
func (h *dtlsHandshake) finishing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last != nil
}

// feed gives pion a datagram; if it has enough, it is lost, as datagrams are.
func (h *dtlsHandshake) feed(b []byte) {
	if h.room.Add(-int64(len(b))) < 0 {
		h.abort(errTalkative)
		return
	}
	h.heard = h.s.e.timers.now()
	b = bytes.Clone(unwrapAlert(b))
	modernise(b)
	if h.client && b[0] == recordAlert && len(b) == recordHeaderSize+2 && b[3]|b[4] == 0 && b[13] == alertFatal {
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
		ss.receive(b, h.addr)
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
	case !h.client && b[0] == recordChangeCipherSpec:
		h.last = bytes.Clone(b)
	case h.unknown && b[0] == recordAlert:
		b = appendAlert(nil, alertUnknownIdentity) // pion says "internal error"
	}
	return len(b), h.s.writeTo(unwrapAlert(b), h.addr)
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
