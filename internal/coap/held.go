package coap

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"
)

// transferKey names a transfer of a peer by association or identity and target,
// never by address: an association survives a change of address, and an upload
// that of its association.
type transferKey struct {
	owner  uint64 // serial of the association, or what the peer has proven
	target uint64 // a hash with a secret seed
}

// targetOf hashes what tells the targets of a peer's transfers apart.
func (e *Endpoint) targetOf(r *IncomingRequest, ids ...OptionID) uint64 {
	var h maphash.Hash
	h.SetSeed(e.seed)
	h.WriteByte(byte(r.Code))
	for _, o := range r.Options {
		for _, id := range ids {
			if o.ID == id {
				h.WriteByte(byte(o.ID))
				h.WriteByte(byte(o.ID >> 8))
				h.WriteByte(byte(len(o.Value)))
				h.Write(o.Value)
			}
		}
	}
	return h.Sum64()
}

// held is a table of the transfers of peers that are under way here. Each has
// a time after which it is dropped. Their number is bounded in all and for
// each peer; when there are too many, the one that was idle for longest goes.
type held[V heldValue] struct {
	e       *Endpoint
	mu      sync.Mutex
	entries map[transferKey]*heldEntry[V]
	order   list.List // of *heldEntry[V], the longest idle first
	max     int
	maxPeer int
	spare   time.Duration // one that was idle for less is not dropped for another
}

// heldValue is told when it is dropped, once, without any lock.
type heldValue interface {
	comparable
	dropped(err error)
}

type heldEntry[V heldValue] struct {
	timer
	table *held[V]
	key   transferKey
	a     *association
	value V
	used  time.Duration
	place *list.Element
}

// find returns the value of key; use is called with the table locked.
func (h *held[V]) find(key transferKey, use func(V)) (v V, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.entries[key]
	if x == nil {
		return v, false
	}
	if use != nil {
		use(x.value)
	}
	return x.value, true
}

// put enters v, in place of another with its key, for as long as idle, or
// returns false when there is no room.
func (h *held[V]) put(key transferKey, a *association, v V, idle time.Duration, now time.Duration) bool {
	h.mu.Lock()
	var victims []*heldEntry[V]
	if old := h.entries[key]; old != nil {
		victims = append(victims, h.remove(old))
	}
	if n := h.countOf(a); n >= h.maxPeer {
		if x := h.oldest(func(x *heldEntry[V]) bool { return x.a == a }); x != nil {
			victims = append(victims, h.remove(x))
		}
	}
	room := true
	if len(h.entries) >= h.max {
		x := h.order.Front().Value.(*heldEntry[V])
		if room = now-x.used >= h.spare; room {
			victims = append(victims, h.remove(x))
		}
	}
	if room {
		x := &heldEntry[V]{table: h, key: key, a: a, value: v, used: now}
		x.timer.owner = x
		x.place = h.order.PushBack(x)
		h.entries[key] = x
		a.held.Add(1)
		h.e.timers.set(&x.timer, idle)
	}
	h.mu.Unlock()
	for _, x := range victims {
		x.value.dropped(errSuperseded)
	}
	return room
}

// touch says that the transfer goes on.
func (h *held[V]) touch(key transferKey, idle time.Duration, now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.entries[key]; x != nil {
		x.used = now
		h.order.MoveToBack(x.place)
		h.e.timers.set(&x.timer, idle)
	}
}

// take removes v, if it is there yet, without dropping it.
func (h *held[V]) take(key transferKey, v V) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.entries[key]
	if x == nil || x.value != v {
		return false
	}
	h.remove(x)
	return true
}

// drop drops all of an association that has ended.
func (h *held[V]) drop(a *association) {
	if a.held.Load() == 0 {
		return
	}
	for {
		h.mu.Lock()
		x := h.oldest(func(x *heldEntry[V]) bool { return x.a == a })
		if x != nil {
			h.remove(x)
		}
		h.mu.Unlock()
		if x == nil {
			return
		}
		x.value.dropped(ErrPeerGone)
	}
}

// clear drops all.
func (h *held[V]) clear() {
	h.mu.Lock()
	var all []V
	for _, x := range h.entries {
		all = append(all, h.remove(x).value)
	}
	h.mu.Unlock()
	for _, v := range all {
		v.dropped(ErrClosed)
	}
}

func (x *heldEntry[V]) expire() {
	h := x.table
	h.mu.Lock()
	if h.entries[x.key] != x || h.e.timers.isSet(&x.timer) {
		h.mu.Unlock()
		return
	}
	h.remove(x)
	h.mu.Unlock()
	go x.value.dropped(ErrTimeout) // it may do things that take time
}

func (h *held[V]) remove(x *heldEntry[V]) *heldEntry[V] {
	delete(h.entries, x.key)
	h.order.Remove(x.place)
	h.e.timers.stop(&x.timer)
	x.a.held.Add(-1)
	return x
}

func (h *held[V]) oldest(match func(*heldEntry[V]) bool) *heldEntry[V] {
	for el := h.order.Front(); el != nil; el = el.Next() {
		if x := el.Value.(*heldEntry[V]); match(x) {
			return x
		}
	}
	return nil
}

func (h *held[V]) countOf(a *association) (n int) {
	if a.held.Load() == 0 {
		return 0
	}
	for el := h.order.Front(); el != nil; el = el.Next() {
		if el.Value.(*heldEntry[V]).a == a {
			n++
		}
	}
	return n
}
