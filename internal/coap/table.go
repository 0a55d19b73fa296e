package coap

import (
	"sync"
	"time"
)

// table holds the associations. Those of UDP, which nobody ends, are forgotten
// once they were idle for EXCHANGE_LIFETIME, or earlier when there are too
// many.
type table struct {
	mu    sync.RWMutex
	peers map[Peer]*association
	order fifo[*association] // UDP only, in the order of (re-)entering
	max   int
	next  uint64
	full  bool // for good: the endpoint is closed
}

func newTable(maxPeers int) *table {
	return &table{peers: make(map[Peer]*association), max: maxPeers}
}

func (t *table) get(p Peer) *association {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.peers[p]
}

// enter adds a, or returns the one that is there already; nil when the table
// is full of associations that are not idle, or closed.
func (t *table) enter(a *association, now time.Duration) *association {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.peers[a.peer]; old != nil {
		return old
	}
	if t.full || len(t.peers) >= t.max && !t.evict(now) {
		return nil
	}
	t.next++
	a.serial = t.next
	a.heard.Store(int64(now))
	t.peers[a.peer] = a
	if a.peer.Transport == UDP {
		a.enqueued = now
		t.order.push(a)
	}
	return a
}

// close lets no more associations in.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.full = true
}

func (t *table) remove(a *association) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[a.peer] == a {
		delete(t.peers, a.peer)
	}
}

// evict makes room by forgetting one of the peers that were idle for longest.
func (t *table) evict(now time.Duration) bool {
	for range min(t.order.len(), 64) {
		a := t.order.pop()
		if t.peers[a.peer] != a {
			continue // removed by hangup
		}
		if time.Duration(a.heard.Load()) <= a.enqueued && t.forget(a) {
			return true
		}
		a.enqueued = now
		t.order.push(a)
	}
	return false
}

// sweep forgets some of those that have been silent for EXCHANGE_LIFETIME, and
// reports whether there may be more.
func (t *table) sweep(now time.Duration) (more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range 1000 {
		if t.order.len() == 0 || now-t.order.front().enqueued <= exchangeLifetime {
			return false
		}
		a := t.order.pop()
		if t.peers[a.peer] != a {
			continue
		}
		if now-time.Duration(a.heard.Load()) > exchangeLifetime && t.forget(a) {
			continue
		}
		a.enqueued = now
		t.order.push(a)
	}
	return true
}

// forget removes a if it is idle. Whoever got hold of it just now sees that it
// has ended, and enters another.
func (t *table) forget(a *association) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.idle() {
		return false
	}
	a.ended = true
	delete(t.peers, a.peer)
	return true
}

// all returns the associations for which keep is true.
func (t *table) all(keep func(*association) bool) []*association {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var found []*association
	for _, a := range t.peers {
		if keep(a) {
			found = append(found, a)
		}
	}
	return found
}
