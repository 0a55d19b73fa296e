package coap

import (
	"runtime"
	"sync"
	"time"
)

// crew are the goroutines that attend to calls. There is none when there is
// nothing to do. When there is much, a few go on from one call to the next, as
// a new one has to grow its stack before it can send a message. They call
// functions of users, which may read from a disk, or block: when a call has
// waited for crewPatience, there are more of them.
type crew struct {
	timer
	timers *timers

	mu             sync.Mutex
	queue          fifo[*Call]
	pushed, popped uint64 // calls, into and out of the queue
	mark           uint64 // pushed when the timer was set
	set            bool
	running        int
	few            int
	closed         bool
}

const crewPatience = 2 * time.Millisecond

func (w *crew) init(e *Endpoint) {
	w.timers, w.timer.owner = e.timers, w
	w.few = 2 * runtime.GOMAXPROCS(0)
}

// attend has a worker attend to c. It does not wait.
func (w *crew) attend(c *Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running < w.few || w.closed {
		w.running++
		go w.work(c)
		return
	}
	w.queue.push(c)
	w.pushed++
	w.watch()
}

// watch sets the timer, unless it is set. w.mu is held.
func (w *crew) watch() {
	if !w.set {
		w.set, w.mark = true, w.pushed
		w.timers.set(&w.timer, crewPatience)
	}
}

func (w *crew) work(c *Call) {
	returned := false
	defer func() {
		if !returned {
			w.more(1) // in the place of one that a callback has ended
			w.leave()
		}
	}()
	for c != nil {
		c.attend()
		c = w.next()
	}
	returned = true
}

// next returns the next call, or nil if the goroutine is to end.
func (w *crew) next() *Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue.len() == 0 {
		w.running--
		return nil
	}
	w.popped++
	return w.queue.pop()
}

func (w *crew) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
}

// more has up to n of the calls that wait attended to.
func (w *crew) more(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range min(n, w.queue.len()) {
		w.popped++
		w.running++
		go w.work(w.queue.pop())
	}
}

// expire looks whether a call has waited for long.
func (w *crew) expire() {
	w.mu.Lock()
	late := w.popped < w.mark
	w.set = false
	w.mu.Unlock()
	if late {
		w.more(w.few)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue.len() > 0 {
		w.watch()
	}
}

// close lets none wait from now on: the timer is about to end.
func (w *crew) close() {
	w.mu.Lock()
	w.closed = true
	n := w.queue.len()
	w.mu.Unlock()
	w.more(n)
}
