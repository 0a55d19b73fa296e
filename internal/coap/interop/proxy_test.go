package interop_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// lossy forwards datagrams between clients and a server on loopback, except those for which drop
// returns true.
type lossy struct {
	t      testing.TB
	front  *net.UDPConn
	server netip.AddrPort
	// drop gets the direction of a datagram and its number in that direction, from 1.
	drop func(up bool, n int) bool

	group sync.WaitGroup
	mu    sync.Mutex
	count [2]int // by direction
	lost  int
	backs map[netip.AddrPort]*net.UDPConn
}

// everyNth drops every n-th datagram in each direction.
func everyNth(n int) func(bool, int) bool { return func(_ bool, i int) bool { return i%n == 0 } }

// startLossy returns a proxy before a server, until the test ends.
func startLossy(t testing.TB, server netip.AddrPort, drop func(up bool, n int) bool) (*lossy, netip.AddrPort) {
	t.Helper()
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	p := &lossy{t: t, front: front, server: server, drop: drop, backs: make(map[netip.AddrPort]*net.UDPConn)}
	p.group.Go(p.serve)
	t.Cleanup(func() {
		front.Close()
		p.mu.Lock()
		for _, back := range p.backs {
			back.Close()
		}
		p.mu.Unlock()
		p.group.Wait()
	})
	return p, front.LocalAddr().(*net.UDPAddr).AddrPort()
}

func (p *lossy) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// passes decides whether the next datagram in a direction passes.
func (p *lossy) passes(up bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	direction := 0
	if up {
		direction = 1
	}
	p.count[direction]++
	if p.drop(up, p.count[direction]) {
		p.lost++
		return false
	}
	return true
}

func (p *lossy) serve() {
	b := make([]byte, 65536)
	for {
		n, from, err := p.front.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		back := p.back(from)
		if back != nil && p.passes(true) {
			_, _ = back.Write(b[:n])
		}
	}
}

// back returns the socket that carries a client's datagrams to the server.
func (p *lossy) back(client netip.AddrPort) *net.UDPConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if back := p.backs[client]; back != nil {
		return back
	}
	back, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(p.server))
	if err != nil {
		p.t.Error(err)
		return nil
	}
	p.backs[client] = back
	p.group.Go(func() {
		b := make([]byte, 65536)
		for {
			n, err := back.Read(b)
			if err != nil {
				return
			}
			if p.passes(false) {
				_, _ = p.front.WriteToUDPAddrPort(b[:n], client)
			}
		}
	})
	return back
}
