package coap

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"

	"github.com/otago-iot/otago/internal/udp"
)

// Dial returns a peer at addr ("host:port") that is reached through a new socket. The Handler also
// answers requests that the peer sends on this socket; datagrams of others are dropped.
// [Endpoint.Hangup] closes the socket. Transports are UDP and TCP; for TLS see
// [Endpoint.DialStream].
func (e *Endpoint) Dial(ctx context.Context, t Transport, addr string) (Peer, error) {
	if t == TCP {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return Peer{}, fmt.Errorf("coap: dial: %w", err)
		}
		return e.DialStream(ctx, conn)
	}
	if t != UDP {
		return Peer{}, fmt.Errorf("coap: dial %v: %w", t, errors.ErrUnsupported)
	}
	to, err := resolveAddr(ctx, addr)
	if err != nil {
		return Peer{}, fmt.Errorf("coap: dial: %w", err)
	}
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, nil)
	if err != nil {
		return Peer{}, fmt.Errorf("coap: dial: %w", err)
	}
	return e.DialPacket(conn, to)
}

func resolveAddr(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return udp.Unmap(netip.AddrPortFrom(ips[0], uint16(port))), nil
}

// DialPacket is Dial for UDP over conn, which the endpoint owns from then on.
func (e *Endpoint) DialPacket(conn net.PacketConn, addr netip.AddrPort) (Peer, error) {
	s := e.newSocket(context.Background(), conn)
	s.only = udp.Unmap(addr)
	if err := e.enter(s); err != nil {
		return Peer{}, err
	}
	a := s.association(s.only)
	if a == nil {
		e.leaveServer(s)
		return Peer{}, ErrBusy
	}
	go func() {
		_ = s.Serve() // it ends with the socket
		e.leaveServer(s)
	}()
	return a.peer, nil
}

// Hangup ends the association, and closes the socket if it was dialled. Requests that wait for the
// peer fail with ErrPeerGone.
func (e *Endpoint) Hangup(p Peer) {
	if a := e.table.get(p); a != nil {
		a.link.hangup(a)
		e.end(a)
		return
	}
	if s := e.dialled(p); s != nil {
		s.Close()
	}
}

// sockets returns the UDP sockets. e.mu is held.
func (e *Endpoint) sockets() iter.Seq[*socket] {
	return func(yield func(*socket) bool) {
		for _, server := range e.servers {
			if s, ok := server.(*socket); ok && !yield(s) {
				return
			}
		}
	}
}

func (e *Endpoint) dialled(p Peer) *socket {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sockets() {
		if s.only.IsValid() && s.only == p.Addr && s.id == p.ID && p.Transport == UDP {
			return s
		}
	}
	return nil
}
