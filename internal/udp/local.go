package udp

import (
	"net"
	"net/netip"
	"sync"
)

// Local is a local address at which datagrams arrived on a socket that is bound to the wildcard
// address.
type Local struct {
	addr    netip.Addr
	control []byte // the control message that makes addr the source of a datagram
}

// maxLocals limits the local addresses that a socket remembers: a host may have a whole IPv6
// network.
const maxLocals = 256

// locals remembers the local addresses of a socket that is bound to the wildcard address, and the
// answers of the routing table. The zero value, without conn, is for other sockets.
type locals struct {
	conn *net.UDPConn
	oob  []byte // the reader's buffer

	mu     sync.Mutex
	known  map[netip.Addr]*Local
	routes map[netip.Prefix]netip.Addr // by the peer's network
}

// read is ReadFromUDPAddrPort with the local address at which the datagram arrived.
func (l *locals) read(b []byte) (int, netip.AddrPort, *Local, error) {
	n, oob, _, from, err := l.conn.ReadMsgUDPAddrPort(b, l.oob)
	if err != nil {
		return n, from, nil, err
	}
	return n, from, l.of(destinationOf(l.oob[:oob])), nil
}

func (l *locals) of(addr netip.Addr) *Local {
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.known[addr]
	if known == nil {
		known = &Local{addr, sourceControl(addr)}
		if l.known == nil || len(l.known) >= maxLocals {
			l.known = make(map[netip.Addr]*Local)
		}
		l.known[addr] = known
	}
	return known
}

// route returns the local address from which the system sends to a peer. It queries the routing
// table once for each network, by connecting a socket.
func (l *locals) route(peer netip.AddrPort) netip.Addr {
	bits := 24
	if peer.Addr().Is6() {
		bits = 56
	}
	network, _ := peer.Addr().Prefix(bits) // bits is valid for both families
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
	at, _ := AddrPort(probe.LocalAddr())
	if l.routes == nil || len(l.routes) >= maxLocals {
		l.routes = make(map[netip.Prefix]netip.Addr) // routes change: query again
	}
	l.routes[network] = at.Addr()
	return at.Addr()
}

// LocalAddr returns the address and port at which a peer reaches the socket. heard is the local
// address of the peer's last datagram, or nil.
func (c *Conn) LocalAddr(peer netip.AddrPort, heard *Local) netip.AddrPort {
	switch {
	case !c.addr.Addr().IsUnspecified():
		return c.addr
	case heard != nil:
		return netip.AddrPortFrom(heard.addr, c.addr.Port())
	}
	if addr := c.locals.route(peer); addr.IsValid() {
		return netip.AddrPortFrom(addr, c.addr.Port())
	}
	return c.addr
}
