package coap

import (
	"sync"
	"sync/atomic"
	"time"
)

// work counts exchanges and requests in progress, and wakes those that wait until there are none.
type work struct {
	n       atomic.Int64
	waiting atomic.Int32
	mu      sync.Mutex
	none    chan struct{} // closed, and replaced, when nothing is in progress
}

func (w *work) begin() { w.n.Add(1) }

func (w *work) end() {
	if w.n.Add(-1) > 0 || w.waiting.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.none != nil {
		close(w.none)
		w.none = nil
	}
}

// wait returns when nothing is in progress, after limit, or once stop is closed.
func (w *work) wait(limit time.Duration, stop <-chan struct{}) {
	w.waiting.Add(1)
	defer w.waiting.Add(-1)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		none := w.next() // before the check, else its closing could be missed
		if w.n.Load() == 0 {
			return
		}
		select {
		case <-none:
		case <-timer.C:
			return
		case <-stop:
			return
		}
	}
}

func (w *work) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.none == nil {
		w.none = make(chan struct{})
	}
	return w.none
}
