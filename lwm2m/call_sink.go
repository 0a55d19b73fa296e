package lwm2m

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/otago-iot/otago/internal/work"
)

const (
	// maxStarters bounds how many requests are made into messages at once. Only reading the Body of
	// a stream can block there.
	maxStarters = 64
	// maxCallbacks bounds how many functions that take answers and notices run at once.
	maxCallbacks = 256
	// maxNotices bounds the notices of a request that wait for a slow function.
	maxNotices = 8
)

// A sink passes the notices and the answer of a call to its functions, one after the other.
type sink struct {
	done   func(Answer)
	direct bool // done only stores the answer, and is called at once

	mu      sync.Mutex
	notices []Notice
	answer  *Answer
	sent    bool // NoticeSent was among the notices
	over    bool // the call has ended: no more notices
	busy    bool // passOn runs or is scheduled
}

// notice queues a notice, unless it repeats the last one.
func (c *Call) notice(n Notice) {
	k := &c.sink
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || n == NoticeSent && k.sent {
		return
	}
	k.sent = k.sent || n == NoticeSent
	waiting := len(k.notices)
	if waiting > 0 && k.notices[waiting-1] == n {
		return
	}
	if waiting == maxNotices {
		k.notices = slices.Delete(k.notices, 1, 2) // the first may be NoticeSent
	}
	k.notices = append(k.notices, n)
	c.schedule()
}

// deliver queues the answer for done.
func (c *Call) deliver(a Answer) {
	k := &c.sink
	if k.direct {
		k.done(a)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	if k.done != nil {
		k.answer = &a
		c.schedule()
	}
}

// schedule starts passOn unless it runs. c.sink.mu is held.
func (c *Call) schedule() {
	if !c.sink.busy {
		c.sink.busy = true
		c.server.callbacks.Run(c.passOn)
	}
}

// passOn calls the functions of the call until no notice or answer is left.
func (c *Call) passOn() {
	k := &c.sink
	for {
		k.mu.Lock()
		notices, answer := k.notices, k.answer
		k.notices, k.answer = nil, nil
		if notices == nil && answer == nil {
			k.busy = false
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
		for _, n := range notices {
			c.server.guard("Notice", func() { c.request.Notice(n) })
		}
		if answer != nil {
			c.server.guard("done", func() { k.done(*answer) })
		}
	}
}

// guarded is a function of the program that is called in a goroutine of the workers.
type guarded struct {
	log  *slog.Logger
	name string
	f    func()
	done chan struct{}
}

func (g *guarded) call() {
	defer close(g.done)
	work.GuardFunc(g.log, g.name, g.f)
}

// guard calls a function of the program and waits for it. It logs a panic, and also the end of the
// goroutine (runtime.Goexit). f has its own goroutine, so that the caller's cannot end.
func (s *Server) guard(name string, f func()) { <-s.guardAsync(name, f) }

// guardAsync is guard for a caller that waits by itself: done is closed when f has returned.
func (s *Server) guardAsync(name string, f func()) (done <-chan struct{}) {
	g := &guarded{log: s.log, name: name, f: f, done: make(chan struct{})}
	s.workers.Go(g)
	return g.done
}
