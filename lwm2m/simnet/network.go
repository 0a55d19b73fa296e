// Package simnet is a network in memory for tests: it loses, repeats, reorders and delays
// datagrams, moves hosts to new addresses as a NAT does, and cuts links, all decided by a seed.
//
//	net := simnet.New(1)
//	net.SetDefault(simnet.Conditions{Loss: 0.1, Delay: 50 * time.Millisecond})
//	server, err := net.Listen("10.0.0.1:5683")
//	device, err := net.Listen("10.0.0.2:0")
//
// The connections are net.PacketConns with *net.UDPAddr addresses. All waits are on channels and
// timers of package time, so that under testing/synctest hours of bad radio pass in milliseconds.
//
// The fate of a datagram depends only on the seed, on the two addresses and on the number of
// earlier datagrams in that direction: a test that sends the same datagrams in each direction sees
// the same losses, however its goroutines are scheduled.
package simnet

import (
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Conditions are the conditions of one direction between two hosts. The zero value is a perfect
// link without delay.
type Conditions struct {
	// Loss, Duplicate and Reorder are probabilities from 0 to 1 for each datagram. A reordered
	// datagram is held back by ReorderDelay.
	Loss, Duplicate, Reorder float64
	// Delay is the time of travel; a random part of Jitter is added to it.
	Delay, Jitter time.Duration
	// ReorderDelay is how long a reordered datagram is held back. Default: twice Delay, at least 1
	// ms.
	ReorderDelay time.Duration
	// Cut loses everything.
	Cut bool
	// Drop, when not nil, decides first whether a datagram is lost. It is called with the network
	// locked and must not call the network.
	Drop func(Packet) bool
}

// Packet is a datagram as it is sent.
type Packet struct {
	From, To netip.AddrPort
	// Seq counts the datagrams of this direction from 0.
	Seq int
	// Data is the payload, valid during the call.
	Data []byte
	// Lost reports, to a tap, that the datagram will not arrive.
	Lost bool
}

// Network is a network in memory. Its methods are safe for concurrent use.
type Network struct {
	mu      sync.Mutex
	seed    uint64
	def     Conditions
	conns   map[netip.AddrPort]*Conn
	paths   map[direction]*path
	links   map[hosts]Conditions
	taps    []func(Packet)
	port    uint16
	flight  flights
	order   uint64
	timer   *time.Timer
	timerAt time.Time
}

type direction struct{ from, to netip.AddrPort }

type hosts struct{ from, to netip.Addr }

// path is the state of one direction between two addresses.
type path struct {
	seq int
	rng *rand.Rand
}

// New returns an empty network whose random decisions come from seed.
func New(seed uint64) *Network {
	return &Network{
		seed:  seed,
		conns: make(map[netip.AddrPort]*Conn),
		paths: make(map[direction]*path),
		links: make(map[hosts]Conditions),
		port:  49152,
	}
}

// SetDefault sets the conditions of all links that have none of their own.
func (n *Network) SetDefault(c Conditions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.def = c
}

// SetLink sets the conditions for datagrams from one host to another, one direction only.
func (n *Network) SetLink(from, to netip.Addr, c Conditions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[hosts{from, to}] = c
}

// Partition cuts, or heals, both directions between two hosts, keeping their other conditions.
func (n *Network) Partition(a, b netip.Addr, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range []hosts{{a, b}, {b, a}} {
		c := n.conditions(h)
		c.Cut = cut
		n.links[h] = c
	}
}

// Tap calls f for every datagram that is sent, including lost ones, in the order of sending. The
// network is locked during the call, so f must not call it.
func (n *Network) Tap(f func(Packet)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taps = append(n.taps, f)
}

// Listen returns a connection at an address such as "10.0.0.1:5683"; port 0 means a free port.
func (n *Network) Listen(address string) (*Conn, error) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("simnet: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if addr.Port() == 0 {
		addr = n.freePort(addr.Addr())
	}
	if n.conns[addr] != nil {
		return nil, fmt.Errorf("simnet: listen %v: %w", addr, errInUse)
	}
	c := newConn(n, addr)
	n.conns[addr] = c
	return c, nil
}

var errInUse = errors.New("address already in use")

func (n *Network) freePort(host netip.Addr) netip.AddrPort {
	for {
		n.port++
		if n.port < 49152 {
			n.port = 49152
		}
		if addr := netip.AddrPortFrom(host, n.port); n.conns[addr] == nil {
			return addr
		}
	}
}

func (n *Network) conditions(h hosts) Conditions {
	if c, ok := n.links[h]; ok {
		return c
	}
	return n.def
}

func (n *Network) path(d direction) *path {
	p := n.paths[d]
	if p == nil {
		h := fnv.New64a()
		from, _ := d.from.MarshalBinary()
		to, _ := d.to.MarshalBinary()
		h.Write(from)
		h.Write([]byte{'>'})
		h.Write(to)
		p = &path{rng: rand.New(rand.NewPCG(n.seed, h.Sum64()))}
		n.paths[d] = p
	}
	return p
}

// Forge sends a datagram with a forged address of the sender.
func (n *Network) Forge(from, to netip.AddrPort, data []byte) { n.send(from, to, data) }

// send decides the fate of a datagram, and delivers it.
func (n *Network) send(from, to netip.AddrPort, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.path(direction{from, to})
	c := n.conditions(hosts{from.Addr(), to.Addr()})
	pkt := Packet{From: from, To: to, Seq: p.seq, Data: data}
	p.seq++

	// Draw the same number for each datagram: changing one condition does not shift the others.
	lost := p.rng.Float64() < c.Loss
	twice := p.rng.Float64() < c.Duplicate
	late := p.rng.Float64() < c.Reorder
	delay := c.Delay + time.Duration(p.rng.Float64()*float64(c.Jitter))
	again := delay + time.Duration(p.rng.Float64()*float64(max(c.Delay, time.Millisecond)))

	pkt.Lost = lost || c.Cut || c.Drop != nil && c.Drop(pkt)
	for _, tap := range n.taps {
		tap(pkt)
	}
	if pkt.Lost {
		return
	}
	if late {
		hold := c.ReorderDelay
		if hold == 0 {
			hold = max(2*c.Delay, time.Millisecond)
		}
		delay += hold
	}
	buf := append([]byte(nil), data...)
	n.deliver(flight{from: from, to: to, data: buf}, delay)
	if twice {
		n.deliver(flight{from: from, to: to, data: buf}, again)
	}
}

// deliver delivers f after delay, in the order of arrival; datagrams that arrive together stay in
// the order of sending.
func (n *Network) deliver(f flight, delay time.Duration) {
	if delay <= 0 && len(n.flight) == 0 {
		n.arrive(f)
		return
	}
	f.at = time.Now().Add(max(delay, 0))
	f.order = n.order
	n.order++
	heap.Push(&n.flight, f)
	n.arm()
}

func (n *Network) arm() {
	if len(n.flight) == 0 {
		return
	}
	at := n.flight[0].at
	switch {
	case n.timer == nil:
		n.timer = time.AfterFunc(time.Until(at), n.land)
	case n.timerAt.Equal(at):
		return
	default:
		n.timer.Reset(time.Until(at))
	}
	n.timerAt = at
}

// land delivers the datagrams that are due.
func (n *Network) land() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for len(n.flight) > 0 && !n.flight[0].at.After(now) {
		n.arrive(heap.Pop(&n.flight).(flight))
	}
	n.timerAt = time.Time{}
	n.arm()
}

func (n *Network) arrive(f flight) {
	if c := n.conns[f.to]; c != nil {
		c.push(f)
	}
}

// flight is a datagram under way.
type flight struct {
	at       time.Time
	order    uint64
	from, to netip.AddrPort
	data     []byte
}

type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	if f[i].at.Equal(f[j].at) {
		return f[i].order < f[j].order
	}
	return f[i].at.Before(f[j].at)
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	old := *f
	x := old[len(old)-1]
	old[len(old)-1] = flight{}
	*f = old[:len(old)-1]
	return x
}
