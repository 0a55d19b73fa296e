package coap

import (
	"sync"
	"time"
)

// crew are the goroutines that attend to calls. There are as many as there are
// calls with something to do, so that a callback that blocks holds up only its
// own. Some stay for a moment when they have nothing to do, since a new one
// has to grow its stack before it can send a message.
type crew struct {
	timer
	timers *timers

	mu     sync.Mutex
	idle   []chan *Call // of those who stay
	needed bool         // one of them was, since the timer was set
	set    bool
	closed bool
}

const (
	// maxIdle is how many stay.
	maxIdle = 16
	// idleFor is how long they stay, at least, and twice that at most.
	idleFor = 100 * time.Millisecond
)

// attend has somebody attend to c. It does not wait.
func (w *crew) attend(c *Call) {
	w.mu.Lock()
	n := len(w.idle)
	if n == 0 {
		w.mu.Unlock()
		go w.work(c)
		return
	}
	next := w.idle[n-1]
	w.idle = w.idle[:n-1]
	w.needed = true
	w.mu.Unlock()
	next <- c
}

func (w *crew) work(c *Call) {
	next := make(chan *Call, 1)
	for c != nil {
		c.attend()
		if !w.stay(next) {
			return
		}
		c = <-next
	}
}

// stay enters one who has nothing to do, or returns false if there are enough.
func (w *crew) stay(next chan *Call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= maxIdle {
		return false
	}
	w.idle = append(w.idle, next)
	if !w.set {
		w.set, w.needed = true, false
		w.timers.set(&w.timer, idleFor)
	}
	return true
}

// expire dismisses those who stay when none was needed for some time.
func (w *crew) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.needed {
		w.needed = false
		w.timers.set(&w.timer, idleFor)
		return
	}
	w.set = false
	w.dismiss()
}

// close dismisses those who stay, and lets nobody stay any more.
func (w *crew) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.dismiss()
}

func (w *crew) dismiss() {
	for _, next := range w.idle {
		close(next)
	}
	w.idle = nil
}
