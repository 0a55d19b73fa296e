package simnet

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// receiveQueue is how many datagrams a connection can hold, like a socket's buffer; further ones
// are lost.
const receiveQueue = 4096

// Conn is a connection to a [Network]. It implements net.PacketConn.
type Conn struct {
	net   *Network
	local netip.AddrPort

	mu       sync.Mutex
	outside  netip.AddrPort // the address that others see; guarded by net.mu too
	queue    []flight
	closed   bool
	deadline time.Time
	wake     chan struct{} // replaced when anything above changes
}

var _ net.PacketConn = (*Conn)(nil)

func newConn(n *Network, addr netip.AddrPort) *Conn {
	return &Conn{net: n, local: addr, outside: addr, wake: make(chan struct{})}
}

// AddrPort returns the local address.
func (c *Conn) AddrPort() netip.AddrPort { return c.local }

// Outside returns the address that others see.
func (c *Conn) Outside() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outside
}

// Rebind gives c another outside address, like a NAT that has lost its mapping: datagrams from c
// come from addr, and those to the old address are lost. The local address stays.
func (c *Conn) Rebind(addr netip.AddrPort) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	delete(c.net.conns, c.outside)
	c.outside = addr
	c.net.conns[addr] = c
}

// LocalAddr returns the local address, a *net.UDPAddr.
func (c *Conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.local) }

// ReadFrom receives a datagram, truncated to the length of p.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, addr, err := c.ReadFromUDPAddrPort(p)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(addr), nil
}

// ReadFromUDPAddrPort is ReadFrom with the address as a value.
func (c *Conn) ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error) {
	for {
		c.mu.Lock()
		switch {
		case c.closed:
			c.mu.Unlock()
			return 0, netip.AddrPort{}, c.opError("read", net.ErrClosed)
		case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
			c.mu.Unlock()
			return 0, netip.AddrPort{}, c.opError("read", os.ErrDeadlineExceeded)
		case len(c.queue) > 0:
			f := c.queue[0]
			c.queue[0] = flight{}
			c.queue = c.queue[1:]
			c.mu.Unlock()
			return copy(p, f.data), f.from, nil
		}
		wake, deadline := c.wake, c.deadline
		c.mu.Unlock()
		c.wait(wake, deadline)
	}
}

func (c *Conn) wait(wake <-chan struct{}, deadline time.Time) {
	if deadline.IsZero() {
		<-wake
		return
	}
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	}
}

// WriteTo sends a datagram. It never blocks.
func (c *Conn) WriteTo(p []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, c.opError("write", net.InvalidAddrError("not a *net.UDPAddr"))
	}
	return c.WriteToUDPAddrPort(p, to.AddrPort())
}

// WriteToUDPAddrPort is WriteTo with the address as a value.
func (c *Conn) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	c.mu.Lock()
	closed, from := c.closed, c.outside
	c.mu.Unlock()
	if closed {
		return 0, c.opError("write", net.ErrClosed)
	}
	c.net.send(from, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), p)
	return len(p), nil
}

// Close ends the connection and frees its address.
func (c *Conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	c.queue = nil
	delete(c.net.conns, c.outside)
	c.signal()
	return nil
}

// SetDeadline sets the read deadline; writes never block.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline sets the deadline of reads, including those that wait.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	c.deadline = t
	c.signal()
	return nil
}

// SetWriteDeadline does nothing: writes never block.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// push queues an arrived datagram.
func (c *Conn) push(f flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.queue) >= receiveQueue {
		return
	}
	c.queue = append(c.queue, f)
	c.signal()
}

// signal wakes all waiting reads; c.mu is held.
func (c *Conn) signal() {
	close(c.wake)
	c.wake = make(chan struct{})
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "simnet", Addr: c.LocalAddr(), Err: err}
}
