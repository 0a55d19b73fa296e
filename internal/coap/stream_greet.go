package coap

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"

	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/udp"
)

// A secureConn is a *[tls.Conn] or a wrapper of one.
type secureConn interface {
	HandshakeContext(ctx context.Context) error
	ConnectionState() tls.ConnectionState
}

// greet completes the handshake, enters the association, and sends our CSM. On error it closes the
// connection.
func (s *stream) greet(ctx context.Context) error {
	peer := Peer{Transport: TCP, ID: s.e.lastID.Add(1)}
	peer.Addr, _ = udp.AddrPort(s.conn.RemoteAddr())
	var proven *dtls.Identity
	if secure, ok := s.conn.(secureConn); ok {
		peer.Transport = TLS
		handshake, cancel := context.WithTimeout(ctx, greetTimeout)
		defer cancel()
		if err := secure.HandshakeContext(handshake); err != nil {
			s.close()
			s.handshakeFailed(peer.Addr, err)
			return fmt.Errorf("coap: handshake with %v: %w", peer.Addr, err)
		}
		proven = provenBy(secure.ConnectionState())
	}
	a, err := s.e.open(peer, &home{s.e, s, s.origin, proven})
	if err != nil {
		s.close()
		return err
	}
	s.a = a
	if f := s.e.config.Hooks.Associated; f != nil && peer.Transport == TLS && s.serving != nil {
		f(peer, proven)
	}
	if err := s.write(a, appendCSM(nil)); err != nil {
		s.close()
		s.e.end(a)
		return err
	}
	return nil
}

// handshakeFailed reports a failed handshake with a client.
func (s *stream) handshakeFailed(addr netip.AddrPort, err error) {
	if s.serving != nil {
		s.e.handshakeFailed(s.origin, TLS, addr, "", err)
	}
}

// provenBy returns the identity of a peer whose certificate was verified.
func provenBy(state tls.ConnectionState) *dtls.Identity {
	if len(state.VerifiedChains) == 0 {
		return nil
	}
	proven := new(dtls.Identity)
	for _, c := range state.VerifiedChains[0] {
		proven.Certificates = append(proven.Certificates, c.Raw)
	}
	return proven
}
