package coap

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/otago-iot/otago/internal/dtls"
)

// dtlsSocket is a UDP socket for DTLS peers: a [server], and the [dtls.Handler] of its socket.
type dtlsSocket struct {
	*dtls.Socket
	e      *Endpoint
	origin origin
}

var errNoKey = errors.New("the look-up did not return")

func (e *Endpoint) newDTLSSocket(ctx context.Context, conn net.PacketConn, server netip.AddrPort, config dtls.Credentials) (*dtlsSocket, error) {
	s := &dtlsSocket{e: e}
	if psk := config.PSK; psk != nil {
		config.PSK = func(identity []byte) (key []byte, err error) {
			err = errNoKey // if the callback panics, or the endpoint is closed
			_ = e.callback(&s.origin, "PSK", func() { key, err = psk(identity) })
			return key, err
		}
	}
	var err error
	s.Socket, err = dtls.New(ctx, conn, dtls.Config{
		Credentials: config, Server: server, Handshakes: e.config.Bounds.Handshakes,
		IdentitySessions: e.config.Bounds.IdentitySessions, Drain: e.config.Drain, Gate: e.config.Gate, Logger: e.log,
	}, s)
	return s, err
}

// ServeDTLS reads datagrams from conn, which it closes, and serves peers over DTLS until ctx ends.
// Then it lets work in progress finish for [Config.Drain], sends the peers a closure alert, waits
// for the user's functions as [Endpoint.Close] does, and returns nil. One socket serves all peers.
func (e *Endpoint) ServeDTLS(ctx context.Context, conn net.PacketConn, config dtls.Credentials) error {
	e.enlarge(conn)
	s, err := e.newDTLSSocket(ctx, conn, netip.AddrPort{}, config)
	if err != nil {
		return err
	}
	return e.serve(ctx, s)
}

// DialDTLS makes an association with the server at addr over conn, which the endpoint owns from
// then on. The handshake takes 60 s at most and ends with ctx; its error matches
// [dtls.ErrHandshake].
func (e *Endpoint) DialDTLS(ctx context.Context, conn net.PacketConn, addr netip.AddrPort, config dtls.Credentials) (Peer, error) {
	s, err := e.newDTLSSocket(context.Background(), conn, addr, config)
	if err != nil {
		return Peer{}, err
	}
	if err := e.enter(s); err != nil {
		return Peer{}, err
	}
	go func() {
		if err := s.Serve(); err != nil {
			e.log.Info("coap: socket failed", "address", addr, "error", err)
		}
		e.leaveServer(s)
	}()
	a, err := s.Dial(ctx)
	if err != nil {
		s.Close()
		<-s.Done()
		return Peer{}, err
	}
	return a.(*association).peer, nil
}

// Open implements [dtls.Handler]: it makes the association of a session.
func (s *dtlsSocket) Open(ss *dtls.Session, proven *dtls.Identity) (dtls.Receiver, error) {
	peer := Peer{Transport: DTLS, Addr: ss.RemoteAddr(), ID: s.e.lastID.Add(1)}
	a, err := s.e.open(peer, &home{s.e, dtlsLink{ss}, &s.origin, proven})
	if err != nil {
		return nil, err
	}
	if f := s.e.config.Hooks.Associated; f != nil {
		f(peer, proven)
	}
	return a, nil
}

// Failed implements [dtls.Handler].
func (s *dtlsSocket) Failed(addr netip.AddrPort, identity string, err error) {
	s.e.handshakeFailed(&s.origin, DTLS, addr, identity, err)
}

// dtlsLink is the [link] of an association over DTLS.
type dtlsLink struct{ *dtls.Session }

func (l dtlsLink) write(_ *association, record []byte) error { return l.Write(record) }
func (l dtlsLink) context() context.Context                  { return l.Context() }
func (l dtlsLink) localAddr(*association) netip.AddrPort     { return l.LocalAddr() }
func (l dtlsLink) remoteAddr() netip.AddrPort                { return l.RemoteAddr() }
func (l dtlsLink) accepting() bool                           { return !l.Draining() }
func (l dtlsLink) hangup(*association)                       { l.Close() }

// Receive implements [dtls.Receiver]: it handles a message.
func (a *association) Receive(content []byte) {
	p := newPacket()
	answer, err := p.read(copy(p.buf, content), a.e.szx)
	if err != nil {
		a.traceMalformed(p.buf[:p.n], err)
	}
	if answer != nil {
		a.write(answer)
	}
	if err != nil || !a.e.receive(a, p) {
		p.free()
	}
}

// Closed implements [dtls.Receiver].
func (a *association) Closed() { a.e.end(a) }

// EndIdentities ends each DTLS or TLS association whose peer has proven an identity for which gone
// returns true, and the DTLS handshakes of such clients. The peers get a closure alert; requests
// that wait for them fail with [ErrPeerGone]. Call it after keys were removed or replaced, when
// [dtls.Credentials.PSK] no longer returns the old key. gone is called without a lock, once for
// each association. The result is the number of associations.
func (e *Endpoint) EndIdentities(gone func(*dtls.Identity) bool) int {
	for _, s := range e.dtlsSockets() {
		s.EndHandshakes(gone)
	}
	n := 0
	for _, a := range e.table.all(func(a *association) bool { return !a.proven.IsZero() }) {
		if gone(a.proven) {
			a.link.hangup(a)
			e.end(a)
			n++
		}
	}
	return n
}

func (e *Endpoint) dtlsSockets() []*dtlsSocket {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*dtlsSocket
	for _, server := range e.servers {
		if s, ok := server.(*dtlsSocket); ok {
			found = append(found, s)
		}
	}
	return found
}
