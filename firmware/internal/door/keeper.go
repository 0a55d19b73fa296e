package door

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// A Keeper bounds connections, all of them and those from one address. Where there is no room for one that comes, the one
// gives way that has waited longest without a request, from the same address if that has its share; if none waits, the
// newcomer does.
type Keeper struct {
	total, each int

	mu      sync.Mutex
	all     map[net.Conn]*visit
	from    map[netip.Prefix]int
	waiting list.List // of *visit: nobody has made a request yet, or the last one is answered; the longest first
}

type visit struct {
	conn  net.Conn
	from  netip.Prefix
	place *list.Element // in waiting, nil during a request
}

// NewKeeper returns a keeper of a number of connections, of which one address may have half.
func NewKeeper(total int) *Keeper {
	return &Keeper{total: total, each: max(1, total/2), all: make(map[net.Conn]*visit), from: make(map[netip.Prefix]int)}
}

// State is an [http.Server.ConnState].
func (k *Keeper) State(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		k.Enter(c)
	case http.StateActive:
		k.work(c)
	case http.StateIdle:
		k.rest(c)
	case http.StateHijacked, http.StateClosed:
		k.Leave(c)
	}
}

// Enter lets a connection in, or closes it. It reports which.
func (k *Keeper) Enter(c net.Conn) bool {
	gone := k.enter(c)
	if gone != nil {
		abort(gone)
	}
	return gone != c
}

// enter returns the connection that has to go, if any.
func (k *Keeper) enter(c net.Conn) (gone net.Conn) {
	from := source(c.RemoteAddr())
	k.mu.Lock()
	defer k.mu.Unlock()
	if crowd := k.from[from] >= k.each; crowd || len(k.all) >= k.total {
		v := k.longest(func(v *visit) bool { return !crowd || v.from == from })
		if v == nil {
			return c
		}
		k.remove(v)
		gone = v.conn
	}
	v := &visit{conn: c, from: from}
	v.place = k.waiting.PushBack(v)
	k.all[c] = v
	k.from[from]++
	return gone
}

func (k *Keeper) longest(fits func(*visit) bool) *visit {
	for e := k.waiting.Front(); e != nil; e = e.Next() {
		if v := e.Value.(*visit); fits(v) {
			return v
		}
	}
	return nil
}

// work says that a request came.
func (k *Keeper) work(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v := k.all[c]; v != nil && v.place != nil {
		k.waiting.Remove(v.place)
		v.place = nil
	}
}

// rest says that a request is answered.
func (k *Keeper) rest(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v := k.all[c]; v != nil && v.place == nil {
		v.place = k.waiting.PushBack(v)
	}
}

// Leave says that a connection has ended.
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
	if v.place != nil {
		k.waiting.Remove(v.place)
		v.place = nil
	}
}

// Close closes all connections.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.all {
		abort(c)
	}
}

// abort closes a connection at once: TLS would say goodbye first, and wait for a peer that does not read.
func abort(c net.Conn) { _ = raw(c).Close() }

// raw returns the connection below TLS.
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

// SourceOf returns what counts as the address of a host:port: an IPv6 network of 64 bits is one subscriber's. It is zero for what
// is no such address.
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

// most bounds the connections of one server where the system's limit is higher.
const most = 8192

// Room returns how many connections one server may have: a fifth of what files and sockets the process may have open, so that
// several servers, the devices by CoAP and the database all have theirs.
func Room() int { return max(2, min(most, openFiles()/5)) }
