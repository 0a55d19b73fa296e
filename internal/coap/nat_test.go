package coap_test

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// nat is between a client and a server. On demand it changes the client's address with its next
// datagram.
type nat struct {
	front  *net.UDPConn // the client sends to it
	server netip.AddrPort
	group  sync.WaitGroup

	mu     sync.Mutex
	client netip.AddrPort
	back   *net.UDPConn // the server sees it
	out    int          // datagrams from the client
	at     int          // rebind at this one; 0 never
	thief  *net.UDPConn // sends the client's next datagram, and keeps the answers
	hold   bool         // store the client's next datagram in held
	held   []byte
	closed bool
}

func newNAT(t *testing.T, server netip.AddrPort) *nat {
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	n := &nat{front: front, server: server}
	n.group.Go(n.outwards)
	t.Cleanup(n.close)
	return n
}

func (n *nat) addr() netip.AddrPort { return n.front.LocalAddr().(*net.UDPAddr).AddrPort() }

// rebindAt makes the address change at the client's datagram number at.
func (n *nat) rebindAt(at int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.out, n.at = 0, at
}

// public returns the address at which the server sees the client.
func (n *nat) public() netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.back.LocalAddr().(*net.UDPAddr).AddrPort()
}

func (n *nat) outwards() {
	b := make([]byte, 4096)
	for {
		size, from, err := n.front.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.client = from
		n.out++
		if n.back == nil || n.out == n.at {
			if n.back != nil {
				n.back.Close()
			}
			n.back, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil || n.closed {
				n.mu.Unlock()
				return
			}
			back := n.back
			n.group.Go(func() { n.inwards(back) })
		}
		back := n.back
		if n.hold {
			n.hold, n.held = false, bytes.Clone(b[:size])
			n.mu.Unlock()
			continue
		}
		if n.thief != nil {
			back, n.thief = n.thief, nil
		}
		n.mu.Unlock()
		_, _ = back.WriteToUDPAddrPort(b[:size], n.server)
	}
}

func (n *nat) inwards(back *net.UDPConn) {
	b := make([]byte, 4096)
	for {
		size, _, err := back.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		n.mu.Lock()
		to := n.client
		n.mu.Unlock()
		_, _ = n.front.WriteToUDPAddrPort(b[:size], to)
	}
}

func (n *nat) close() {
	n.mu.Lock()
	n.closed = true
	n.front.Close()
	if n.back != nil {
		n.back.Close()
	}
	n.mu.Unlock()
	n.group.Wait()
}
