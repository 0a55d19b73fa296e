package coap

import (
	"runtime"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/work"
)

// workers are the goroutines that attend to calls. When there are many calls, a few workers serve
// one after the other. They call the user's functions, which may block: if a call has waited for
// workerDelay, more workers start.
type workers struct {
	timer
	spare  work.Workers[*Call]
	timers *timers

	mu             sync.Mutex
	queue          fifo[*Call]
	pushed, popped uint64 // calls that entered and left the queue
	mark           uint64 // pushed when the timer was set
	set            bool
	running        int
	few            int
	closed         bool
}

const workerDelay = 2 * time.Millisecond

func (w *workers) init(e *Endpoint) {
	w.timers, w.timer.owner = e.timers, w
	w.few = 2 * runtime.GOMAXPROCS(0)
	w.spare.Do = w.run
}

// attend hands c to a worker. It does not wait.
func (w *workers) attend(c *Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running < w.few || w.closed {
		w.running++
		w.spare.Go(c)
		return
	}
	w.queue.push(c)
	w.pushed++
	w.watch()
}

// watch sets the timer, unless it is set. w.mu is held.
func (w *workers) watch() {
	if !w.set {
		w.set, w.mark = true, w.pushed
		w.timers.set(&w.timer, workerDelay)
	}
}

func (w *workers) run(c *Call) {
	returned := false
	defer func() {
		if !returned {
			w.more(1) // replaces this worker, which a callback has ended
			w.leave()
		}
	}()
	for c != nil {
		c.attend()
		c = w.next()
	}
	returned = true
}

// next returns the next call, or nil to end the worker.
func (w *workers) next() *Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue.len() == 0 {
		w.running--
		return nil
	}
	w.popped++
	return w.queue.pop()
}

func (w *workers) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
}

// more starts workers for up to n waiting calls.
func (w *workers) more(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range min(n, w.queue.len()) {
		w.popped++
		w.running++
		w.spare.Go(w.queue.pop())
	}
}

// expire starts more workers if a call has waited too long.
func (w *workers) expire() {
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

// close starts a worker for each waiting call, and for each later one, because the timer is about
// to end.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	n := w.queue.len()
	w.mu.Unlock()
	w.more(n)
}
