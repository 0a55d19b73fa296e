package coap

import (
	"net/netip"

	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/udp"
)

// resolve returns the association with p. For a UDP peer it makes one if there is none.
func (e *Endpoint) resolve(p Peer) (*association, error) {
	if a := e.table.get(p); a != nil {
		return a, nil
	}
	if p.Transport != UDP {
		return nil, ErrNoPeer
	}
	addr := udp.Unmap(p.Addr)
	s := e.socketFor(addr, p.ID)
	if s == nil {
		return nil, ErrNoPeer
	}
	if a := s.association(addr); a != nil {
		return a, nil
	}
	if e.isClosed() {
		return nil, ErrClosed
	}
	return nil, ErrBusy
}

// socketFor returns a socket for a UDP peer: the one with the local port through which the peer was
// reached before, else any of its address family.
func (e *Endpoint) socketFor(addr netip.AddrPort, id uint64) *socket {
	e.mu.Lock()
	defer e.mu.Unlock()
	var other *socket
	for s := range e.sockets() {
		if s.ctx.Err() != nil || s.only.IsValid() && (s.only != addr || id != s.id) {
			continue
		}
		if s.id == id {
			return s
		}
		local := s.conn.Addr().Addr()
		if other == nil && (local.Is4() == addr.Addr().Is4() || local.IsUnspecified()) {
			other = s
		}
	}
	return other
}

// Connected reports whether there is an association with p.
func (e *Endpoint) Connected(p Peer) bool { return e.table.get(p) != nil }

// Identity returns what p has proven, or nil.
func (e *Endpoint) Identity(p Peer) *dtls.Identity {
	if a := e.table.get(p); a != nil {
		return a.proven
	}
	return nil
}

// LocalAddr returns the local address through which p is reached, also if the socket is bound to
// the wildcard. It is invalid if p cannot be reached.
func (e *Endpoint) LocalAddr(p Peer) netip.AddrPort {
	if a, err := e.resolve(p); err == nil {
		return a.link.localAddr(a)
	}
	return netip.AddrPort{}
}

// RemoteAddr returns the address from which the last message of p came.
func (e *Endpoint) RemoteAddr(p Peer) netip.AddrPort {
	a := e.table.get(p)
	if a == nil {
		return p.Addr
	}
	if roaming, ok := a.link.(interface{ remoteAddr() netip.AddrPort }); ok {
		return roaming.remoteAddr()
	}
	return a.peer.Addr
}
