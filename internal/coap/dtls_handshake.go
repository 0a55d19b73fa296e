package coap

import (
	"bytes"
	"container/list"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
)

// dtlsHandshake is a handshake that goes on. It is what pion takes for its
// socket: a [net.PacketConn] with one peer. When pion has finished, it is
// silenced, and a [dtlsSession] takes over.
type dtlsHandshake struct {
	s      *dtlsSocket
	addr   netip.AddrPort
	local  *localAddress // where it came to
	client bool          // we are the client
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
	secret   secret
	early    [][]byte // datagrams for the session to come
	session  *dtlsSession
	identity []byte // that the peer has named
	keySum   [16]byte
	unknown  bool // and that has no key
	alert    byte // that the peer has sent
	chain    [][]byte
}

var errTalkative = fmt.Errorf("peer sends more than %d bytes", guestRoom)

// errNoKey is a look-up of a key that did not come to its end.
var errNoKey = errors.New("nobody can tell")

var errNothingProven = errors.New("peer has proven nothing")

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
		cause := context.Cause(h.ctx) // it has the cause before its child has
		if cause == nil {
			cause = context.Cause(timed)
		}
		err = h.explain(cause, err)
		_ = conn.Close() // what is told is told already
		return nil, err
	}
	h.silence() // before the state is read, so that no number is used by both
	result, err := resultOf(conn)
	_ = conn.Close() // what is told is told already
	if err != nil {
		return nil, err
	}
	flight, err := result.check(h)
	if err != nil {
		return nil, err
	}
	if h.client {
		flight = nil // the server has the last word
	}
	ss, err := newSession(h.s, result, h.addr)
	if err != nil {
		return nil, err
	}
	ss.flight, ss.local = flight, h.local
	proven := h.proven(result)
	if proven.IsZero() && !h.client {
		return nil, errNothingProven
	}
	if err := h.s.admit(h, ss, proven); err != nil {
		ss.farewell()
		ss.mu.Lock()
		ss.over = true
		ss.mu.Unlock()
		return nil, err
	}
	for _, b := range h.handOver(ss) {
		ss.receive(b, h.addr, h.local)
	}
	return ss, nil
}

// silence is the log of pion: nothing that it says there is of use.
var silence = &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}

// open makes pion's connection.
func (h *dtlsHandshake) open() (*dtls.Conn, error) {
	cfg := &h.s.cfg
	to := net.UDPAddrFromAddrPort(h.addr)
	shared := []dtls.Option{dtls.WithLoggerFactory(silence), dtls.WithKeyLogWriter(keyLog{h}), dtls.WithVerifyPeerCertificate(h.keepChain)}
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
	h.mu.Lock()
	h.identity = bytes.Clone(identity) // before the look-up: see EndIdentities
	h.mu.Unlock()
	if len(identity) == 0 {
		return nil, h.refuseKey(ErrUnknownIdentity) // it would be nobody's
	}
	var key []byte
	err := errNoKey
	_ = h.s.e.callback(&h.s.udp.origin, "PSK", func() { key, err = h.s.cfg.PSK(identity) })
	switch {
	case err != nil:
		return nil, h.refuseKey(err)
	case len(key) == 0:
		return nil, h.refuseKey(ErrUnknownIdentity)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keySum = sumOfKey(key)
	return key, nil
}

// refuseKey has a client told that it has no key, if that is known, else nothing.
func (h *dtlsHandshake) refuseKey(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(err, ErrUnknownIdentity) {
		h.unknown = true
		return err
	}
	h.silent = true
	return fmt.Errorf("key of the identity: %w", err)
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

// proven returns what the handshake has shown about the peer: by the kind of its
// cipher suite, whatever else was said in it.
func (h *dtlsHandshake) proven(r *handshakeResult) *Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case isCertificateSuite(r.CipherSuiteID):
		return &Identity{Certificates: h.chain}
	case h.client:
		return &Identity{PSKIdentity: h.s.cfg.Identity}
	}
	return &Identity{PSKIdentity: r.IdentityHint, keySum: h.keySum}
}

// explain says why the handshake failed, and tells the peer what pion does not.
func (h *dtlsHandshake) explain(cause, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = true
	switch {
	case h.alert == 0:
	case !h.client:
		if cause == nil || cause == errLetGo {
			return fmt.Errorf("%w: %v", alertError(h.alert), err)
		}
	case h.alert == alertUnknownIdentity:
		return fmt.Errorf("%w: %w", ErrUnknownIdentity, err)
	case h.alert == alertDecryptError, h.alert == alertBadMAC:
		return fmt.Errorf("%w: %w", ErrWrongKey, err)
	default:
		return err
	}
	if cause != nil && cause != errLetGo {
		err = cause
	}
	if errors.Is(err, ErrWrongKey) {
		_ = h.s.writeTo(appendAlert(nil, alertDecryptError), h.addr, h.local)
	}
	return err
}

// abort ends the handshake.
func (h *dtlsHandshake) abort(why error) { h.cancel(why) }

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
	return !h.client && h.secret.last != nil
}
