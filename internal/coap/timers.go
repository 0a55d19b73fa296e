package coap

import (
	"sync"
	"time"
)

// timer is an entry of [timers], embedded in its owner. The zero value is not set.
type timer struct {
	at    time.Duration // since the epoch of the timers
	index int           // in the heap plus 1; 0 when not set
	owner expirer
}

// expirer is the owner of a timer. expire is called when the timer is due, without a lock. The
// timer may have been set again or stopped in the meantime; expire must check.
type expirer interface{ expire() }

// timers holds all deadlines of an endpoint in one heap, with one timer of the runtime. Without
// deadlines that timer does not run.
type timers struct {
	epoch time.Time

	mu      sync.Mutex
	heap    []*timer
	runtime *time.Timer
	armed   time.Duration // when runtime fires; 0 when it does not
	stopped bool
}

func newTimers() *timers { return &timers{epoch: time.Now()} }

// now is the time since the epoch, never 0.
func (ts *timers) now() time.Duration { return time.Since(ts.epoch) + 1 }

// set makes t expire after d, and replaces any earlier setting.
func (ts *timers) set(t *timer, d time.Duration) { ts.setAt(t, ts.now()+d) }

// setAt makes t expire at a time since the epoch.
func (ts *timers) setAt(t *timer, at time.Duration) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.at = at
	if t.index == 0 {
		ts.heap = append(ts.heap, t)
		t.index = len(ts.heap)
		ts.up(t.index - 1)
	} else {
		ts.fix(t.index - 1)
	}
	ts.arm()
}

// stop unsets t, and reports whether it was set. If it was not, its expire may still be about to
// run.
func (ts *timers) stop(t *timer) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.index == 0 {
		return false
	}
	ts.remove(t.index - 1)
	return true
}

// isSet reports whether t has yet to expire.
func (ts *timers) isSet(t *timer) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return t.index != 0
}

// close stops all timers for good.
func (ts *timers) close() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.stopped = true
	if ts.runtime != nil {
		ts.runtime.Stop()
	}
}

// arm makes the runtime's timer fire no later than the first deadline. Firing too early costs less
// than resetting the timer for each change.
func (ts *timers) arm() {
	if len(ts.heap) == 0 || ts.stopped {
		return
	}
	at := ts.heap[0].at
	if ts.armed != 0 && ts.armed <= at {
		return
	}
	d := max(at-ts.now(), 0)
	if ts.runtime == nil {
		ts.runtime = time.AfterFunc(d, ts.fire)
	} else {
		ts.runtime.Reset(d)
	}
	ts.armed = at
}

func (ts *timers) fire() {
	ts.mu.Lock()
	ts.armed = 0
	for len(ts.heap) > 0 && ts.heap[0].at <= ts.now() && !ts.stopped {
		owner := ts.heap[0].owner
		ts.remove(0)
		ts.mu.Unlock()
		owner.expire()
		ts.mu.Lock()
	}
	ts.arm()
	ts.mu.Unlock()
}

func (ts *timers) remove(i int) {
	last := len(ts.heap) - 1
	ts.heap[i].index = 0
	moved := ts.heap[last]
	ts.heap[last] = nil
	ts.heap = ts.heap[:last]
	if i < last {
		ts.put(i, moved)
		ts.fix(i)
	}
}

func (ts *timers) put(i int, t *timer) {
	ts.heap[i] = t
	t.index = i + 1
}

func (ts *timers) fix(i int) {
	if !ts.down(i) {
		ts.up(i)
	}
}

func (ts *timers) up(i int) {
	t := ts.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if ts.heap[parent].at <= t.at {
			break
		}
		ts.put(i, ts.heap[parent])
		i = parent
	}
	ts.put(i, t)
}

func (ts *timers) down(i int) bool {
	start := i
	t := ts.heap[i]
	for {
		child := 2*i + 1
		if child >= len(ts.heap) {
			break
		}
		if right := child + 1; right < len(ts.heap) && ts.heap[right].at < ts.heap[child].at {
			child = right
		}
		if t.at <= ts.heap[child].at {
			break
		}
		ts.put(i, ts.heap[child])
		i = child
	}
	ts.put(i, t)
	return i > start
}
