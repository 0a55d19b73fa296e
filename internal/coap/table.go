package coap

import (
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/index"
)

// table holds the associations. Those of UDP have no end; the table forgets them after
// EXCHANGE_LIFETIME without use, or earlier if there are too many.
type table struct {
	mu    sync.RWMutex
	peers index.Index[Peer, association]
	order [verifiedUDP + 1]fifo[*association] // UDP only, by group, in the order of (re-)entering
	max   int
	udp   int // peers of UDP
	next  uint64
	full  bool // the endpoint is closed: refuses all
}

func newTable(maxPeers int) *table {
	return &table{peers: index.New(func(a *association) Peer { return a.peer }), max: maxPeers}
}

func (t *table) get(p Peer) *association {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.peers.Get(p)
}

// enter adds a, or returns the existing association with its peer. It returns nil if the table is
// closed, or if it is full and can evict none.
func (t *table) enter(a *association, now time.Duration) *association {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.peers.Get(a.peer); old != nil {
		return old
	}
	// A tenth is reserved for peers whose address cannot be forged.
	full := t.peers.Len() >= t.max || a.peer.Transport == UDP && t.udp >= t.max-t.max/10
	if t.full || full && !t.evict(now) {
		return nil
	}
	t.next++
	a.serial = t.next
	a.heard.Store(int64(now))
	t.peers.Put(a)
	a.home.count(1)
	if a.peer.Transport == UDP {
		t.udp++
		t.requeue(a, now)
	}
	return a
}

// close refuses further associations.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.full = true
}

func (t *table) remove(a *association) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers.Get(a.peer) == a {
		t.drop(a)
	}
}

func (t *table) drop(a *association) {
	t.peers.Delete(a.peer)
	a.home.count(-1)
	if a.peer.Transport == UDP {
		t.udp--
	}
}

// evict makes room by forgetting one of the peers that were idle longest: an unverified one, or
// else a verified one if these have more than half of the places.
func (t *table) evict(now time.Duration) bool {
	return t.evictFrom(&t.order[unverifiedUDP], now) ||
		t.order[verifiedUDP].len() > t.max/2 && t.evictFrom(&t.order[verifiedUDP], now)
}

// evictFrom examines the first peers of a queue. If all sent messages since they were queued, it
// forgets the first idle one; else a flood that comes twice from each address would keep others
// out.
func (t *table) evictFrom(order *fifo[*association], now time.Duration) bool {
	var lately *association
	for range min(order.len(), 64) {
		a := order.pop()
		switch {
		case t.peers.Get(a.peer) != a:
			// removed by hangup
		case order != &t.order[a.group()]:
			t.requeue(a, now)
		case time.Duration(a.heard.Load()) <= a.enqueued && t.forget(a):
			if lately != nil {
				t.requeue(lately, now)
			}
			return true
		case lately == nil && a.isIdle():
			lately = a
		default:
			t.requeue(a, now)
		}
	}
	if lately == nil || t.forget(lately) {
		return lately != nil
	}
	t.requeue(lately, now)
	return false
}

func (t *table) requeue(a *association, now time.Duration) {
	a.enqueued = now
	t.order[a.group()].push(a)
}

// sweep forgets some of the peers that were silent for EXCHANGE_LIFETIME, and reports whether there
// may be more.
func (t *table) sweep(now time.Duration) (more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.order {
		more = t.sweepIn(&t.order[i], now) || more
	}
	return more
}

func (t *table) sweepIn(order *fifo[*association], now time.Duration) (more bool) {
	for range 1000 {
		if order.len() == 0 || now-order.front().enqueued <= exchangeLifetime {
			return false
		}
		a := order.pop()
		if t.peers.Get(a.peer) != a {
			continue
		}
		if now-time.Duration(a.heard.Load()) > exchangeLifetime && t.forget(a) {
			continue
		}
		t.requeue(a, now)
	}
	return true
}

// queued reports whether there is anything to sweep.
func (t *table) queued() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.order[unverifiedUDP].len()+t.order[verifiedUDP].len() > 0
}

// forget removes a if it is idle. A goroutine that has just looked it up finds it ended, and makes
// another.
func (t *table) forget(a *association) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.idle() {
		return false
	}
	a.ended = true
	t.drop(a)
	return true
}

// all returns the associations for which keep is true.
func (t *table) all(keep func(*association) bool) []*association {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var found []*association
	for a := range t.peers.All() {
		if keep(a) {
			found = append(found, a)
		}
	}
	return found
}

// janitor drops old state every 30 s, as long as there is any.
type janitor struct {
	timer
	e  *Endpoint
	mu sync.Mutex
	on bool
}

const janitorPeriod = 30 * time.Second

func (j *janitor) wake() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.on {
		j.on = true
		j.timer.owner = j
		j.e.timers.set(&j.timer, janitorPeriod)
	}
}

func (j *janitor) expire() {
	now := j.e.timers.now()
	for j.e.table.sweep(now) {
		// in steps, so as not to lock the table for long
	}
	j.e.dedup.expire(now)
	j.e.secure.expire(now)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.on = j.e.table.queued()
	if j.on {
		j.e.timers.set(&j.timer, janitorPeriod)
	}
}
