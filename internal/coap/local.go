package coap

import (
	"net"
	"net/netip"
	"sync"
)

// localAddress is an address of ours at which datagrams come to a socket that is
// bound to the wildcard. Answers leave from it.
type localAddress struct {
	addr    netip.Addr
	control []byte // has a datagram leave from addr
}

// maxLocals bounds the addresses of ours that are remembered: a host may have a whole
// network of IPv6.
const maxLocals = 256

// locals are the addresses of a socket that is bound to the wildcard, where the
// system says which one a datagram came to, and what was asked of the routing table.
// The zero value is for another socket.
type locals struct {
	conn *net.UDPConn
	oob  []byte // of the reader

	mu     sync.Mutex
	known  map[netip.Addr]*localAddress
	routes map[netip.Prefix]netip.Addr // by network of the peer
}

// read is ReadFromUDPAddrPort that knows to which address of ours the datagram came.
func (l *locals) read(b []byte) (int, netip.AddrPort, *localAddress, error) {
	n, oob, _, from, err := l.conn.ReadMsgUDPAddrPort(b, l.oob)
	if err != nil {
		return n, from, nil, err
	}
	return n, from, l.of(destinationOf(l.oob[:oob])), nil
}

func (l *locals) of(addr netip.Addr) *localAddress {
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.known[addr]
	if known == nil {
		known = &localAddress{addr, sourceControl(addr)}
		if l.known == nil || len(l.known) >= maxLocals {
			l.known = make(map[netip.Addr]*localAddress)
		}
		l.known[addr] = known
	}
	return known
}

// route returns the address from which a peer that was not heard yet would be sent
// something. The routing table is asked once for each network.
func (l *locals) route(peer netip.AddrPort) netip.Addr {
	bits := 24
	if peer.Addr().Is6() {
		bits = 56
	}
	network, _ := peer.Addr().Prefix(bits) // no address is shorter
	if peer.Addr().IsLoopback() {
		network = netip.PrefixFrom(peer.Addr(), peer.Addr().BitLen())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if addr, ok := l.routes[network]; ok {
		return addr
	}
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return netip.Addr{}
	}
	defer probe.Close()
	at, _ := addrPortOf(probe.LocalAddr())
	if l.routes == nil || len(l.routes) >= maxLocals {
		l.routes = make(map[netip.Prefix]netip.Addr) // and ask again: routes change
	}
	l.routes[network] = at.Addr()
	return at.Addr()
}

// localAddrFor returns the address at which a peer reaches the socket; heard is the one
// at which it has reached it, or nil.
func (s *socket) localAddrFor(peer netip.AddrPort, heard *localAddress) netip.AddrPort {
	switch {
	case !s.local.Addr().IsUnspecified():
		return s.local
	case heard != nil:
		return netip.AddrPortFrom(heard.addr, s.local.Port())
	}
	if addr := s.locals.route(peer); addr.IsValid() {
		return netip.AddrPortFrom(addr, s.local.Port())
	}
	return s.local
}
