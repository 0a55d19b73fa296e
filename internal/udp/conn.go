// Package udp reads and writes datagrams. On a socket that is bound to the wildcard address it
// records at which of the host's addresses each datagram arrived, so that the answer can leave from
// there. On Linux, a socket under load reads and writes several datagrams with one system call.
package udp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Conn is a UDP socket, or a [net.PacketConn] in place of one. Several goroutines may call its
// methods, but only one may call Serve.
type Conn struct {
	conn   net.PacketConn
	fast   addrPortConn // conn, if it has these methods
	batch  *batch       // nil if conn cannot read several datagrams at once
	gate   func() bool  // nil: always open
	addr   netip.AddrPort
	locals locals
	closed chan struct{}
	close  sync.Once
}

// addrPortConn has the methods of *net.UDPConn that do not allocate.
type addrPortConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
}

// New returns a Conn that owns conn.
func New(conn net.PacketConn) *Conn {
	c := &Conn{conn: conn, closed: make(chan struct{})}
	c.fast, _ = conn.(addrPortConn)
	udp, ok := conn.(*net.UDPConn)
	var known bool
	if c.addr, known = AddrPort(conn.LocalAddr()); known && c.addr.Addr().IsUnspecified() {
		if ok && receiveDestinations(udp) {
			c.locals.conn, c.locals.oob = udp, make([]byte, destinationSize)
		}
	}
	if ok {
		c.batch = newBatch(udp)
	}
	return c
}

// SetGate makes the socket lose what it is to send while open returns false: it is asked before
// each system call. It must be set before the socket is used.
func (c *Conn) SetGate(open func() bool) {
	if c.gate = open; c.batch != nil {
		c.batch.setGate(open)
	}
}

// AddrPort returns the IP address and port of addr, with IPv4 never in its mapped form. It returns
// false if addr has none.
func AddrPort(addr net.Addr) (netip.AddrPort, bool) {
	switch addr := addr.(type) {
	case *net.UDPAddr:
		return Unmap(addr.AddrPort()), true
	case *net.TCPAddr:
		return Unmap(addr.AddrPort()), true
	case nil:
		return netip.AddrPort{}, false
	}
	ap, err := netip.ParseAddrPort(addr.String())
	return Unmap(ap), err == nil
}

// Unmap returns a with an IPv4 address in place of an IPv4-mapped IPv6 address.
func Unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Addr returns the address to which the socket is bound; it is invalid if that is not an IP
// address.
func (c *Conn) Addr() netip.AddrPort { return c.addr }

const (
	// MaxBatch is how many datagrams Serve reads at once.
	MaxBatch = 32
	// maxFailures is how many reads in a row may fail before Serve returns.
	maxFailures = 1000
)

// Serve reads datagrams until the socket is closed, and then returns nil. It reads each datagram
// into a buffer from room, and calls handle with its length, its source, and the local address at
// which it arrived, or nil if that is unknown. Several datagrams that are read at once have the
// buffers room(0), room(1) and so on; handle is called with the same number, which is less than
// MaxBatch. If peer is valid, Serve drops datagrams of others, and uses room(0) only.
func (c *Conn) Serve(peer netip.AddrPort, room func(i int) []byte, handle func(i, n int, from netip.AddrPort, at *Local)) error {
	read := func() error {
		n, from, at, err := c.read(room(0))
		if err == nil && (!peer.IsValid() || from == peer) {
			handle(0, n, from, at)
		}
		return err
	}
	if c.batch != nil && !peer.IsValid() {
		defer c.batch.rest()
		read = func() error { return c.batch.read(&c.locals, room, handle) }
	}
	for failures := 0; ; {
		err := read()
		switch {
		case err == nil:
			failures = 0
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			// A read returns the error of an earlier write (ICMP), which does not concern reading.
			// An error that persists ends the loop.
			if failures++; failures > maxFailures {
				return err
			}
			select {
			case <-time.After(time.Duration(min(failures, 10)) * time.Millisecond):
			case <-c.closed:
				return nil
			}
		}
	}
}

func (c *Conn) read(b []byte) (int, netip.AddrPort, *Local, error) {
	if c.locals.conn != nil {
		n, from, at, err := c.locals.read(b)
		return n, Unmap(from), at, err
	}
	if c.fast != nil {
		n, from, err := c.fast.ReadFromUDPAddrPort(b)
		return n, Unmap(from), nil, err
	}
	n, addr, err := c.conn.ReadFrom(b)
	if err != nil {
		return n, netip.AddrPort{}, nil, err
	}
	from, ok := AddrPort(addr)
	if !ok {
		return 0, from, nil, errors.New("udp: the peer's address is not an IP address")
	}
	return n, from, nil, nil
}

// WriteTo sends a datagram from a local address. If from is nil, the system chooses one. WriteTo
// does not keep b. Under load it may return before the datagram has left: Serve sends it, with
// others, before it next waits for a datagram.
func (c *Conn) WriteTo(b []byte, to netip.AddrPort, from *Local) error {
	if c.gate != nil && !c.gate() {
		return nil
	}
	if c.batch != nil && c.batch.post(b, to, from) {
		return nil
	}
	if from != nil && c.locals.conn != nil {
		_, _, err := c.locals.conn.WriteMsgUDPAddrPort(b, from.control, to)
		return err
	}
	if c.fast != nil {
		_, err := c.fast.WriteToUDPAddrPort(b, to)
		return err
	}
	_, err := c.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}

// Close sends what WriteTo has accepted, and closes the socket. A second call does nothing.
func (c *Conn) Close() {
	c.close.Do(func() {
		close(c.closed)
		if c.batch != nil {
			c.batch.rest()
		}
		c.conn.Close()
	})
}

// Enlarge asks the system for a receive buffer and a send buffer of at least size bytes, and
// returns the size of the receive buffer, or size if the system does not tell. It never makes a
// buffer smaller.
func Enlarge(conn net.PacketConn, size int) int {
	sizer, ok := conn.(interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	})
	if !ok {
		return size
	}
	receive, send, _ := buffersOf(conn)
	if receive < size {
		_ = sizer.SetReadBuffer(size) // the result says what came of it
	}
	if send < size {
		_ = sizer.SetWriteBuffer(size)
	}
	receive, _, known := buffersOf(conn)
	if !known {
		return size
	}
	return receive
}
