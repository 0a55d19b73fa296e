package coap

import (
	"cmp"
	"container/list"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// transferKey names a transfer of a peer by association or identity, and by target. It does not
// contain the address: an association survives a change of address, and the upload of a peer with
// an identity survives its association.
type transferKey struct {
	owner  uint64 // serial of the association, or a hash of the proven identity
	target uint64 // a hash with a secret seed
}

// targetOf hashes what identifies the target of a transfer: code, path, queries and so on.
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

// held is a table of the transfers that peers have in progress here. An idle transfer is dropped
// after some time. The number of transfers is limited in total and for each peer, and the total is
// divided among the groups of peers. When the table is full, the transfer that was idle longest is
// dropped; if many have only a first block, one of those is dropped, because they may never get
// another block.
type held[V heldValue] struct {
	e       *Endpoint
	mu      sync.Mutex
	entries map[transferKey]*heldEntry[V]
	byPeer  map[*association][]*heldEntry[V] // only a few for each
	order   [groups]struct {
		begun, going list.List // oldest use first
	}
	room    *shares
	maxPeer int
	spare   time.Duration // minimum idle time before a transfer is dropped for another
	closed  bool
}

func newHeld[V heldValue](e *Endpoint, maximum, maxPeer int, spare time.Duration) held[V] {
	return held[V]{
		e:       e,
		entries: make(map[transferKey]*heldEntry[V]),
		byPeer:  make(map[*association][]*heldEntry[V]),
		room:    newShares(int64(maximum), int(groups)),
		maxPeer: maxPeer,
		spare:   spare,
	}
}

// heldValue is an entry's value. dropped is called once, without a lock, and may call functions of
// the user, which may take time.
type heldValue interface {
	comparable
	dropped(err error)
	// origin returns the origin whose end also ends the value; nil for the endpoint.
	origin() *origin
	// advanced reports whether the transfer is past its first block.
	advanced() bool
}

type heldEntry[V heldValue] struct {
	timer
	table *held[V]
	key   transferKey
	a     *association
	group group
	value V
	used  time.Duration
	in    *list.List
	place *list.Element
}

// find returns the value of key. It calls use, if not nil, with the table locked.
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

// put enters v for as long as idle, and replaces the entry with the same key. It returns false when
// there is no room.
func (h *held[V]) put(key transferKey, a *association, v V, idle time.Duration, now time.Duration) bool {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return false
	}
	var victims []*heldEntry[V]
	if old := h.entries[key]; old != nil {
		victims = append(victims, h.remove(old))
	}
	if own := h.byPeer[a]; len(own) >= h.maxPeer {
		oldest := slices.MinFunc(own, func(x, y *heldEntry[V]) int { return cmp.Compare(x.used, y.used) })
		victims = append(victims, h.remove(oldest))
	}
	c := a.group()
	room := h.room.take(c, 1)
	if !room {
		if x := h.victim(c, now, h.room); x != nil {
			victims = append(victims, h.remove(x))
			room = h.room.take(c, 1)
		}
	}
	if room {
		x := &heldEntry[V]{table: h, key: key, a: a, group: c, value: v, used: now}
		x.timer.owner = x
		x.in = &h.order[c].begun
		x.place = x.in.PushBack(x)
		h.entries[key] = x
		h.byPeer[a] = append(h.byPeer[a], x)
		a.held.Add(1)
		h.e.timers.set(&x.timer, idle)
	}
	h.mu.Unlock()
	for _, x := range victims {
		x.value.dropped(errSuperseded)
	}
	return room
}

// unverifiedSpare replaces h.spare for a first block of an unverified peer. It gives the second
// block enough time.
const unverifiedSpare = time.Second

// victim returns the transfer to drop for a new one of group c, or nil. It prefers unverified peers
// if they have borrowed from the common part of room, and else takes one of group c. h.mu is held.
func (h *held[V]) victim(c group, now time.Duration, room *shares) *heldEntry[V] {
	if c != unverifiedUDP && room.borrows(unverifiedUDP) {
		o := &h.order[unverifiedUDP]
		if x := longestIdle[V](&o.begun, now, 0); x != nil {
			return x
		}
		if x := longestIdle[V](&o.going, now, 0); x != nil {
			return x
		}
	}
	o, spare := &h.order[c], h.spare
	if c == unverifiedUDP {
		spare = min(spare, unverifiedSpare)
	}
	begun := longestIdle[V](&o.begun, now, spare)
	if few := o.begun.Len() <= o.going.Len()/4; begun == nil || few {
		if x := longestIdle[V](&o.going, now, h.spare); x != nil {
			return x
		}
	}
	return begun
}

// longestIdle returns the first entry of l if it was idle for spare.
func longestIdle[V heldValue](l *list.List, now, spare time.Duration) *heldEntry[V] {
	if l.Len() == 0 {
		return nil
	}
	if x := l.Front().Value.(*heldEntry[V]); now-x.used >= spare {
		return x
	}
	return nil
}

// makeRoom drops a transfer because group c needs room.
func (h *held[V]) makeRoom(c group, now time.Duration, room *shares) {
	h.mu.Lock()
	x := h.victim(c, now, room)
	if x != nil {
		h.remove(x)
	}
	h.mu.Unlock()
	if x != nil {
		x.drop(errSuperseded) // the caller has another transfer locked
	}
}

// touch records progress of the transfer.
func (h *held[V]) touch(key transferKey, idle time.Duration, now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.entries[key]; x != nil {
		x.used = now
		if going := &h.order[x.group].going; x.in != going && x.value.advanced() {
			x.in.Remove(x.place)
			x.in, x.place = going, going.PushBack(x)
		}
		x.in.MoveToBack(x.place)
		h.e.timers.set(&x.timer, idle)
	}
}

// take removes v without dropping it, and reports whether v was still in the table.
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

// drop drops all transfers of an association that has ended.
func (h *held[V]) drop(a *association) {
	h.mu.Lock()
	own := slices.Clone(h.byPeer[a])
	for _, x := range own {
		h.remove(x)
	}
	h.mu.Unlock()
	for _, x := range own {
		x.drop(ErrPeerGone)
	}
}

// close drops all transfers and refuses new ones.
func (h *held[V]) close() {
	h.mu.Lock()
	h.closed = true
	var all []*heldEntry[V]
	for _, x := range h.entries {
		all = append(all, h.remove(x))
	}
	h.mu.Unlock()
	for _, x := range all {
		x.drop(ErrClosed)
	}
}

func (x *heldEntry[V]) drop(err error) {
	x.table.e.spawn(x.value.origin(), "dropped", func() { x.value.dropped(err) })
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
	x.drop(ErrTimeout)
}

func (h *held[V]) remove(x *heldEntry[V]) *heldEntry[V] {
	delete(h.entries, x.key)
	x.in.Remove(x.place)
	h.room.give(x.group, 1)
	if own := slices.DeleteFunc(h.byPeer[x.a], func(y *heldEntry[V]) bool { return y == x }); len(own) > 0 {
		h.byPeer[x.a] = own
	} else {
		delete(h.byPeer, x.a)
	}
	h.e.timers.stop(&x.timer)
	x.a.held.Add(-1)
	return x
}
