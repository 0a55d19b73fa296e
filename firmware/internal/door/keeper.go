package door

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/otago-iot/otago/internal/files"
)

// A Keeper bounds the number of connections, in all and from one address. To accept one more it may
// close another: see [Keeper.weakest].
type Keeper struct {
	total, each int

	mu      sync.Mutex
	all     map[net.Conn]*visit
	from    map[netip.Prefix]int
	waiting list.List // of *visit: before the first request, or between requests; the longest first
	working list.List // of *visit: all others
}

type visit struct {
	conn  net.Conn
	from  netip.Prefix
	in    *list.List
	place *list.Element
}

// NewKeeper returns a keeper of up to total connections, of which one address may have half.
func NewKeeper(total int) *Keeper {
	return &Keeper{total: total, each: max(1, total/2), all: make(map[net.Conn]*visit), from: make(map[netip.Prefix]int)}
}

// State is an [http.Server.ConnState].
func (k *Keeper) State(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		k.Enter(c)
	case http.StateActive:
		k.move(c, &k.working)
	case http.StateIdle:
		k.move(c, &k.waiting)
	case http.StateHijacked, http.StateClosed:
		k.Leave(c)
	}
}

// Enter accepts a connection and reports true, or closes it.
func (k *Keeper) Enter(c net.Conn) bool {
	gone := k.enter(c)
	if gone != nil {
		abort(gone)
	}
	return gone != c
}

// enter returns the connection to close, if any.
func (k *Keeper) enter(c net.Conn) (gone net.Conn) {
	from := source(c.RemoteAddr())
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.from[from] >= k.each || len(k.all) >= k.total {
		v := k.weakest(from)
		if v == nil {
			return c
		}
		k.remove(v)
		gone = v.conn
	}
	v := &visit{conn: c, from: from, in: &k.waiting}
	v.place = v.in.PushBack(v)
	k.all[c] = v
	k.from[from]++
	return gone
}

// weakest returns the connection to close for one more from an address, or nil. It is the first of
// these that exists:
//   - the one that has waited longest, of the address that has the most connections, and more than
//     this one;
//   - the one that has waited longest, of this address;
//   - the one that has worked longest, of the address that has the most, and at least two more than
//     this one.
//
// So connections of a few addresses never keep out other addresses. If this address has its share
// already, only its own waiting connections qualify.
func (k *Keeper) weakest(from netip.Prefix) (v *visit) {
	have := k.from[from]
	share := have >= k.each
	if !share {
		v = k.ofMost(&k.waiting, have+1)
	}
	for e := k.waiting.Front(); e != nil && v == nil; e = e.Next() {
		if own := e.Value.(*visit); own.from == from {
			v = own
		}
	}
	if v == nil && !share {
		v = k.ofMost(&k.working, have+2)
	}
	return v
}

// ofMost returns the first in a list whose address has the most connections, and no fewer than
// least.
func (k *Keeper) ofMost(in *list.List, least int) (first *visit) {
	for e := in.Front(); e != nil; e = e.Next() {
		if v := e.Value.(*visit); k.from[v.from] >= least {
			first, least = v, k.from[v.from]+1
		}
	}
	return first
}

// move moves a connection whose request has begun or ended.
func (k *Keeper) move(c net.Conn, to *list.List) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v := k.all[c]; v != nil && v.in != to {
		v.in.Remove(v.place)
		v.in, v.place = to, to.PushBack(v)
	}
}

// Leave removes a connection that has ended.
func (k *Keeper) Leave(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v := k.all[c]; v != nil {
		k.remove(v)
	}
}

func (k *Keeper) remove(v *visit) {
	delete(k.all, v.conn)
	if k.from[v.from]--; k.from[v.from] == 0 {
		delete(k.from, v.from)
	}
	v.in.Remove(v.place)
}

// Close closes all connections.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.all {
		abort(c)
	}
}

// abort closes a connection at once. The Close of TLS would first send an alert, and wait for a
// peer that does not read.
func abort(c net.Conn) { _ = raw(c).Close() }

// raw returns the connection underneath TLS.
func raw(c net.Conn) net.Conn {
	for {
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = inner.NetConn()
	}
}

func source(addr net.Addr) netip.Prefix {
	if addr == nil {
		return netip.Prefix{}
	}
	return SourceOf(addr.String())
}

// SourceOf returns the network that counts as one address: for IPv6 the first 64 bits, as one
// subscriber has them all. It is zero if addr is no IP address with a port.
func SourceOf(addr string) netip.Prefix {
	from, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := from.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	prefix, _ := ip.Prefix(bits) // never fails for these
	return prefix
}

// most bounds the connections of one server, whatever the system's limit.
const most = 8192

// Room returns how many connections one server may have: an eighth of the process's limit of open
// files. That leaves room for other servers, uploads, devices by CoAP, and the database.
func Room() int { return max(2, min(most, files.Limit()/8)) }
