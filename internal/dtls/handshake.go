package dtls

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

	pion "github.com/pion/dtls/v3"
	"github.com/pion/logging"

	"github.com/otago-iot/otago/internal/udp"
)

// handshake is a handshake in progress. For pion it is the socket: a [net.PacketConn] with one
// peer. When pion has finished, its writes are dropped, and a [Session] takes over.
type handshake struct {
	s      *Socket
	addr   netip.AddrPort
	local  *udp.Local // where the ClientHello arrived
	client bool       // we are the client
	random [32]byte
	aead   bool // the peer offers a suite other than CBC
	ctx    context.Context
	cancel context.CancelCauseFunc
	in     chan []byte // datagrams for pion
	began  time.Duration
	heard  time.Duration
	room   atomic.Int64 // bytes that the peer may still send

	// Guarded by Socket.mu.
	elem     *list.Element
	verified bool
	cid      connectionID
	hasCID   bool
	dropped  error

	mu       sync.Mutex
	overdue  chan struct{} // closed when the read deadline has passed
	silent   bool          // drop what pion writes
	secret   secret
	early    [][]byte // datagrams for the later session
	session  *Session
	identity []byte // that the peer claims
	keySum   [16]byte
	unknown  bool // the identity has no key
	alert    byte // from the peer
	chain    [][]byte
}

var errTalkative = fmt.Errorf("peer sends more than %d bytes", verifiedRoom)

var (
	errSuperseded    = errors.New("dtls: another handshake took the place of this one")
	errNothingProven = errors.New("peer has proven nothing")
)

// handshakeTimeout limits a handshake: a flight is sent again after 1 s, 2 s, ... 16 s.
const handshakeTimeout = 60 * time.Second

var errNoAnswer = fmt.Errorf("no answer within %v: %w", handshakeTimeout, os.ErrDeadlineExceeded)

func (s *Socket) newHandshake(addr netip.AddrPort) *handshake {
	h := &handshake{s: s, addr: addr, in: make(chan []byte, 16), began: s.now(), overdue: make(chan struct{})}
	h.heard = h.began
	h.ctx, h.cancel = context.WithCancelCause(s.ctx)
	h.room.Store(unverifiedRoom)
	return h
}

// dial prepares a client's handshake.
func (s *Socket) dial() *handshake {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.newHandshake(s.config.Server)
	h.client, h.verified = true, true
	h.room.Store(verifiedRoom)
	s.places[s.config.Server] = place{handshake: h}
	if s.closed {
		h.abort(net.ErrClosed)
	}
	return h
}

// run makes the handshake, and replaces it with a session.
func (h *handshake) run(ctx context.Context) (*Session, error) {
	defer h.cancel(nil)
	defer context.AfterFunc(ctx, func() { h.abort(context.Cause(ctx)) })()
	timed, cancel := context.WithTimeoutCause(h.ctx, handshakeTimeout, errNoAnswer)
	defer cancel()
	conn, err := h.open()
	if err != nil {
		return nil, err
	}
	if err := conn.HandshakeContext(timed); err != nil {
		cause := context.Cause(h.ctx) // set before the cause of its child
		if cause == nil {
			cause = context.Cause(timed)
		}
		err = h.explain(cause, err)
		_ = conn.Close() // it has sent its alert already
		return nil, err
	}
	h.silence() // before the state is read, so that no record number is used twice
	result, err := resultOf(conn)
	_ = conn.Close() // it has sent its alert already
	if err != nil {
		return nil, err
	}
	flight, err := result.check(h)
	if err != nil {
		return nil, err
	}
	if h.client {
		flight = nil // the server sends the last flight
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
		ss.sendClosure()
		ss.disable()
		return nil, err
	}
	for _, b := range h.handOver(ss) {
		ss.receive(b, h.addr, h.local)
	}
	return ss, nil
}

// silentLog discards pion's logs, which do not help.
var silentLog = &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}

// open makes pion's connection.
func (h *handshake) open() (*pion.Conn, error) {
	config := &h.s.config
	to := net.UDPAddrFromAddrPort(h.addr)
	shared := []pion.Option{pion.WithLoggerFactory(silentLog), pion.WithKeyLogWriter(keyLog{h}), pion.WithVerifyPeerCertificate(h.keepChain)}
	if config.Certificate != nil {
		shared = append(shared, pion.WithCertificates(*config.Certificate))
	}
	if h.client {
		opts := []pion.ClientOption{pion.WithServerName(config.ServerName), pion.WithRootCAs(config.RootCAs)}
		for _, o := range shared {
			opts = append(opts, o)
		}
		if len(config.Key) > 0 {
			key := func([]byte) ([]byte, error) { return config.Key, nil }
			opts = append(opts, pion.WithPSK(key), pion.WithPSKIdentityHint(config.Identity), pion.WithCipherSuites(pskSuites...))
		} else {
			opts = append(opts, pion.WithCipherSuites(certificateSuites...))
		}
		if !config.NoConnectionID {
			opts = append(opts, pion.WithConnectionIDGenerator(pion.OnlySendCIDGenerator()))
		}
		return pion.ClientWithOptions(h, to, opts...)
	}
	var opts []pion.ServerOption
	for _, o := range shared {
		opts = append(opts, o)
	}
	var suites []pion.CipherSuiteID
	if config.Certificate != nil {
		suites = append(suites, certificateSuites...)
		opts = append(opts, pion.WithClientAuth(pion.RequireAndVerifyClientCert), pion.WithClientCAs(config.ClientCAs))
	}
	if config.PSK != nil {
		suites = append(suites, pskSuites...)
		if !h.aead {
			suites = append(suites, cbcSuites...)
		}
		opts = append(opts, pion.WithPSK(h.key))
	}
	if h.aead && !config.NoConnectionID {
		opts = append(opts, pion.WithConnectionIDGenerator(func() []byte { return h.s.newCID(h) }))
	}
	return pion.ServerWithOptions(h, to, append(opts, pion.WithCipherSuites(suites...))...)
}

// key looks up the key of a client.
func (h *handshake) key(identity []byte) ([]byte, error) {
	h.mu.Lock()
	h.identity = bytes.Clone(identity) // before the look-up: see EndHandshakes
	h.mu.Unlock()
	if len(identity) == 0 {
		return nil, h.refuseKey(ErrUnknownIdentity) // an empty identity counts as none
	}
	key, err := h.s.config.PSK(identity)
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

// refuseKey tells the client that the identity has no key, if that is certain. Else it says
// nothing.
func (h *handshake) refuseKey(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(err, ErrUnknownIdentity) {
		h.unknown = true
		return err
	}
	h.silent = true
	return fmt.Errorf("key of the identity: %w", err)
}

// presented returns the beginning of the identity that the peer claims.
func (h *handshake) presented() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.identity[:min(len(h.identity), 128)])
}

// claimed returns the claimed identity as logs name it: with its kind.
func (h *handshake) claimed() string {
	if name := h.presented(); name != "" {
		return "psk:" + name
	}
	return ""
}

func (h *handshake) keepChain(_ [][]byte, chains [][]*x509.Certificate) error {
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

// proven returns the identity that the handshake has proven. The cipher suite alone decides its
// kind.
func (h *handshake) proven(r *result) *Identity {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case isCertificateSuite(r.CipherSuiteID):
		return &Identity{Certificates: h.chain}
	case h.client:
		return &Identity{PSKIdentity: h.s.config.Identity}
	}
	return &Identity{PSKIdentity: r.IdentityHint, keySum: h.keySum}
}

// explain returns why the handshake failed, and sends the peer the alert that pion does not send.
func (h *handshake) explain(cause, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = true
	switch {
	case h.alert == 0:
	case !h.client:
		if cause == nil || cause == errPionClosed {
			return fmt.Errorf("%w: %v", alertError(h.alert), err)
		}
	case h.alert == alertUnknownIdentity:
		return ErrUnknownIdentity // pion does not know the alert
	case h.alert == alertDecryptError, h.alert == alertBadMAC:
		return fmt.Errorf("%w: %w", ErrWrongKey, err)
	default:
		return err
	}
	if cause != nil && cause != errPionClosed {
		err = cause
	}
	switch {
	case errors.Is(err, ErrWrongKey):
		_ = h.s.conn.WriteTo(appendAlert(nil, alertDecryptError), h.addr, h.local)
	case err == errIdentityEnded: // the client's key may have been replaced: it can start again
		_ = h.s.conn.WriteTo(appendAlert(nil, alertHandshakeFailure), h.addr, h.local)
	}
	return err
}

// abort ends the handshake.
func (h *handshake) abort(why error) { h.cancel(why) }

// silence drops everything that pion writes from now on.
func (h *handshake) silence() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = true
}

// finishing reports whether a server has sent its last flight; later datagrams are for the session.
func (h *handshake) finishing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.client && h.secret.last != nil
}
