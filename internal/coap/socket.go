package coap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// socket is a UDP socket, or what looks like one, with all its peers: the link
// of their associations.
type socket struct {
	e      *Endpoint
	conn   net.PacketConn
	fast   addrPortConn // conn, if it can
	id     uint64       // Peer.ID of its peers
	local  netip.AddrPort
	only   netip.AddrPort // the one peer of a dialled socket
	locals locals
	ctx    context.Context
	stop   context.CancelFunc

	origin    origin
	draining  atomic.Bool
	closeOnce sync.Once
	read      chan struct{} // closed when the reader has ended
}

// addrPortConn is what *net.UDPConn can do without allocating.
type addrPortConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
}

func (e *Endpoint) newSocket(ctx context.Context, conn net.PacketConn) *socket {
	s := &socket{e: e, conn: conn, read: make(chan struct{})}
	s.fast, _ = conn.(addrPortConn)
	if addr, ok := addrPortOf(conn.LocalAddr()); ok {
		s.local = addr
		s.id = uint64(addr.Port())
		if udp, ok := conn.(*net.UDPConn); ok && addr.Addr().IsUnspecified() && receiveDestinations(udp) {
			s.locals.conn, s.locals.oob = udp, make([]byte, destinationSize)
		}
	} else {
		s.id = 1<<32 + e.random.uint64()>>32
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

func addrPortOf(addr net.Addr) (netip.AddrPort, bool) {
	switch addr := addr.(type) {
	case *net.UDPAddr:
		return unmap(addr.AddrPort()), true
	case nil:
		return netip.AddrPort{}, false
	}
	ap, err := netip.ParseAddrPort(addr.String())
	return unmap(ap), err == nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// serve reads until the socket is closed.
func (s *socket) serve() error {
	defer close(s.read)
	p := newPacket()
	defer func() { p.free() }()
	for failures := 0; ; {
		n, addr, at, err := s.readFrom(p.buf)
		switch {
		case err == nil:
			failures = 0
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			// Errors of an earlier write (ICMP) come up here and mean nothing;
			// one that stays is given time, and up.
			if failures++; failures > 1000 {
				return err
			}
			select {
			case <-time.After(time.Duration(min(failures, 10)) * time.Millisecond):
			case <-s.ctx.Done():
				return nil
			}
			continue
		}
		if s.only.IsValid() && addr != s.only {
			continue
		}
		if s.handle(p, n, addr, at) {
			p = newPacket()
		}
	}
}

// readFrom also returns the address of ours that the datagram came to, or nil.
func (s *socket) readFrom(b []byte) (int, netip.AddrPort, *localAddress, error) {
	if s.locals.conn != nil {
		n, addr, at, err := s.locals.read(b)
		return n, unmap(addr), at, err
	}
	if s.fast != nil {
		n, addr, err := s.fast.ReadFromUDPAddrPort(b)
		return n, unmap(addr), nil, err
	}
	n, addr, err := s.conn.ReadFrom(b)
	if err != nil {
		return n, netip.AddrPort{}, nil, err
	}
	ap, ok := addrPortOf(addr)
	if !ok {
		return 0, ap, nil, errors.New("coap: peer address is not an IP address")
	}
	return n, ap, nil, nil
}

// writeTo sends a datagram from an address of ours; nil leaves that to the system.
func (s *socket) writeTo(b []byte, addr netip.AddrPort, from *localAddress) error {
	if from != nil && s.locals.conn != nil {
		_, _, err := s.locals.conn.WriteMsgUDPAddrPort(b, from.control, addr)
		return err
	}
	if s.fast != nil {
		_, err := s.fast.WriteToUDPAddrPort(b, addr)
		return err
	}
	_, err := s.conn.WriteTo(b, net.UDPAddrFromAddrPort(addr))
	return err
}

// handle takes a datagram, and reports whether it keeps the packet. Nothing is
// held for a stranger unless he makes a request.
func (s *socket) handle(p *packet, n int, addr netip.AddrPort, at *localAddress) (kept bool) {
	err := p.parse(n)
	if err == nil && n == len(p.buf) {
		err = errTruncated // it was cut off
	}
	a := s.e.table.get(Peer{UDP, addr, s.id})
	switch {
	case err != nil:
		s.malformed(p, n, addr, at)
		return false
	case a == nil && isRequest(p.msg.code) && p.msg.typ <= nonConfirmable:
		if a = s.association(addr); a == nil {
			return false
		}
	case a == nil:
		if p.msg.typ == confirmable || p.msg.typ == nonConfirmable && isResponse(p.msg.code) {
			_ = s.writeTo(appendEmpty(nil, reset, p.msg.mid), addr, at)
		}
		return false
	}
	a.local.Store(at)
	return s.e.receive(a, p)
}

// malformed answers what can be told to be a confirmable message of our
// version by a Reset (RFC 7252, section 4.2), and one that is too large by
// 4.13.
func (s *socket) malformed(p *packet, n int, addr netip.AddrPort, at *localAddress) {
	m := &p.msg
	if m.parseHeader(p.buf[:n]) != nil || m.typ != confirmable {
		return
	}
	if n == len(p.buf) && isRequest(m.code) {
		m.tooLarge(s.e.szx)
		_ = s.writeTo(m.appendDatagram(nil), addr, at)
		return
	}
	_ = s.writeTo(appendEmpty(nil, reset, m.mid), addr, at)
}

// association returns that with addr, a new one if need be; nil when there are
// too many, or the socket is closed.
func (s *socket) association(addr netip.AddrPort) *association {
	peer := Peer{UDP, addr, s.id}
	if a := s.e.table.get(peer); a != nil {
		return a
	}
	a, _ := s.e.open(peer, s, nil)
	if a != nil && s.only.IsValid() {
		a.verified.Store(true) // there is no other
	}
	if a != nil && s.ctx.Err() != nil {
		// Whoever closed it may have ended its associations before this one
		// came, which would stand in the way of another socket.
		s.e.end(a)
		return nil
	}
	return a
}

func (s *socket) write(a *association, record []byte) error {
	return s.writeTo(record, a.peer.Addr, a.local.Load())
}

func (s *socket) context() context.Context { return s.ctx }

func (s *socket) drain() { s.draining.Store(true) }

func (s *socket) accepting() bool { return !s.draining.Load() }

func (s *socket) hangup(*association) {
	if s.only.IsValid() {
		s.close()
	}
}

func (s *socket) finished() <-chan struct{} { return s.read }

func (s *socket) close() {
	s.closeOnce.Do(func() {
		s.stop()
		s.conn.Close()
	})
}

func (s *socket) localAddr(a *association) netip.AddrPort {
	return s.localAddrFor(a.peer.Addr, a.local.Load())
}
