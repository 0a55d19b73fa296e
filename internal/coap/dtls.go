package coap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/dtls/v3"
)

// DTLSConfig has the credentials of one side of DTLS 1.2. Both sides may have
// a pre-shared key or a certificate; a server that has both lets the client
// choose.
//
// The cipher suites are those with PSK and AES_128_CCM_8, AES_128_GCM_SHA256
// or AES_128_CBC_SHA256; with ECDHE_ECDSA and AES_128_CCM_8 or
// AES_128_GCM_SHA256; and with ECDHE_RSA and AES_128_GCM_SHA256.
type DTLSConfig struct {
	// PSK returns the key of an identity. It is called by a server, from several
	// goroutines. An error that matches ErrUnknownIdentity, or no key, refuses the
	// client, which is told so. After any other error, or a panic, nobody can tell:
	// the handshake is dropped without a word, and the client, which knows no more
	// than after a loss, tries again later. Nil: no client has a key.
	PSK func(identity []byte) (key []byte, err error)
	// Identity and Key are those of a client. Without a Key it uses
	// certificates.
	Identity, Key []byte
	// Certificate is shown to the peer. A server without one takes only
	// pre-shared keys.
	Certificate *tls.Certificate
	// ClientCAs are what a server checks certificates against. Nil: none is
	// accepted.
	ClientCAs *x509.CertPool
	// RootCAs are what a client checks the server's certificate against, for
	// ServerName. Nil: the roots of the system.
	RootCAs    *x509.CertPool
	ServerName string
	// NoConnectionID has a server give, and a client take, no Connection IDs
	// (RFC 9146). With one, a peer is known at whatever address it appears.
	NoConnectionID bool
}

var (
	// ErrHandshake: there is no association, as its handshake failed.
	ErrHandshake = errors.New("coap: DTLS handshake failed")
	// ErrWrongKey: the peer of a handshake has another key for the identity.
	ErrWrongKey = errors.New("keys differ")
	// ErrUnknownIdentity: the server has no key for the identity. Some clients
	// believe that for good.
	ErrUnknownIdentity = errors.New("unknown PSK identity")
	// ErrNoCredentials: a DTLSConfig by which no peer can prove anything.
	ErrNoCredentials = errors.New("coap: DTLS needs pre-shared keys, or a certificate and the roots of the peers'")
)

// handshakeTimeout bounds a handshake: 1 s, 2 s, ... 16 s between the
// repetitions of a flight.
const handshakeTimeout = 60 * time.Second

// The suites, the preferred first.
var (
	certificateSuites = []dtls.CipherSuiteID{
		dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8,
		dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	}
	pskSuites = []dtls.CipherSuiteID{
		dtls.TLS_PSK_WITH_AES_128_CCM_8,
		dtls.TLS_PSK_WITH_AES_128_GCM_SHA256,
	}
	// cbcSuites are for clients that know no better. They go without
	// Connection ID, for which pion computes another MAC than RFC 9146 does.
	cbcSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CBC_SHA256}
)

// ServeDTLS reads datagrams from conn, which it closes, and serves the peers
// that have made a handshake, until ctx ends; then lets work in flight finish
// for [Config.Drain], tells the peers, waits for the functions of the user as
// [Endpoint.Close] does, and returns nil. One socket serves all;
// an association costs neither a goroutine nor a buffer.
func (e *Endpoint) ServeDTLS(ctx context.Context, conn net.PacketConn, cfg DTLSConfig) error {
	if cfg.ClientCAs == nil {
		cfg.Certificate = nil
	}
	if cfg.PSK == nil && cfg.Certificate == nil {
		conn.Close()
		return ErrNoCredentials
	}
	s := e.newDTLSSocket(ctx, conn, cfg)
	return e.serve(ctx, s, s.local)
}

// DialDTLS makes an association with the server at addr over a given socket,
// which the endpoint owns from then on. The handshake ends before ctx does and
// after 60 s at most; an error of it is ErrHandshake.
func (e *Endpoint) DialDTLS(ctx context.Context, conn net.PacketConn, addr netip.AddrPort, cfg DTLSConfig) (Peer, error) {
	s := e.newDTLSSocket(context.Background(), conn, cfg)
	s.only = unmap(addr)
	if err := e.enter(s); err != nil {
		return Peer{}, err
	}
	go func() {
		if err := s.serve(); err != nil {
			e.log.Info("coap: socket failed", "peer", addr, "error", err)
		}
		e.leaveServer(s)
	}()
	h := s.dial()
	ss, err := h.run(ctx)
	if err != nil {
		s.close()
		<-s.finished()
		return Peer{}, fmt.Errorf("%w: %v: %w", ErrHandshake, addr, err)
	}
	return ss.a.peer, nil
}
