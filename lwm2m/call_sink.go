package lwm2m

import (
	"sync"

	"github.com/otago-iot/otago/internal/coap"
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

	mu       sync.Mutex
	pass     func()             // passOn; made once
	notices  [maxNotices]Notice // the first waiting ones wait
	waiting  uint8
	answer   Answer
	answered bool // answer waits for its call of done
	sent     bool // NoticeSent was among the notices
	skipSent bool // leave it out
	over     bool // the call has ended: no more notices
	busy     bool // passOn runs or is scheduled
}

// noticed queues a notice of the endpoint.
func (c *Call) noticed(n coap.Notice) { c.notice(Notice(n)) }

// notice queues a notice, unless it repeats the last one.
func (c *Call) notice(n Notice) {
	k := &c.sink
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || n == NoticeSent && k.sent {
		return
	}
	if n == NoticeSent {
		if k.sent = true; k.skipSent {
			return
		}
	}
	if k.waiting > 0 && k.notices[k.waiting-1] == n {
		return
	}
	if k.waiting == maxNotices {
		copy(k.notices[1:], k.notices[2:]) // the first may be NoticeSent
		k.waiting--
	}
	k.notices[k.waiting] = n
	k.waiting++
	c.schedule()
}

// skip makes notice leave out NoticeSent, or not any more.
func (k *sink) skip(skip bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.skipSent = skip
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
		k.answer, k.answered = a, true
		c.schedule()
	}
}

// schedule starts passOn unless it runs. c.sink.mu is held.
func (c *Call) schedule() {
	if !c.sink.busy {
		c.sink.busy = true
		if c.sink.pass == nil {
			c.sink.pass = c.passOn
		}
		c.server.callbacks.Run(c.sink.pass)
	}
}

// passOn calls the functions of the call until no notice or answer is left. It runs in a goroutine
// of the callbacks, which a function may end (runtime.Goexit): then another one goes on.
func (c *Call) passOn() {
	finished := false
	defer func() {
		if !finished {
			c.server.callbacks.Run(c.passOn)
		}
	}()
	for {
		n, a, more := c.sink.next()
		switch {
		case !more:
			finished = true
			return
		case n != 0:
			work.GuardFunc(c.server.log, "Notice", func() { c.request.Notice(n) })
		default:
			work.GuardFunc(c.server.log, "done", func() { c.sink.done(a) })
		}
	}
}

// next takes the first notice, or the answer if there is none. If there is neither, passOn ends.
func (k *sink) next() (n Notice, a Answer, more bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.waiting > 0:
		n = k.notices[0]
		copy(k.notices[:], k.notices[1:])
		k.waiting--
	case k.answered:
		a, k.answer, k.answered = k.answer, Answer{}, false
	default:
		k.busy = false
		return 0, Answer{}, false
	}
	return n, a, true
}

// guard calls a function of the program and waits for it. It logs a panic, and also the end of the
// goroutine (runtime.Goexit). f has its own goroutine, so that the caller's cannot end.
func (s *Server) guard(name string, f func()) { <-s.guardAsync(name, f) }

// guardHere is guard in the goroutine of the caller. If f ends it, guardHere does not return, and
// ended is called in another one.
func (s *Server) guardHere(name string, f, ended func()) {
	returned := false
	defer func() {
		if !returned {
			s.workers.Go(ended)
		}
	}()
	work.GuardFunc(s.log, name, f)
	returned = true
}

// guardAsync is guard for a caller that waits by itself: done is closed when f has returned.
func (s *Server) guardAsync(name string, f func()) (done <-chan struct{}) {
	returned := make(chan struct{})
	s.workers.Go(func() {
		defer close(returned)
		work.GuardFunc(s.log, name, f)
	})
	return returned
}
