package firmware

import (
	"errors"
	"sync"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// An errand is an action under way with a device: one request, or several after one another. It holds no goroutine while
// it waits, for its place or for the device. How it ends is reported once, unless it is given up before.
type errand struct {
	m        *Manager
	endpoint string
	update   string // on whose behalf; "" for none
	lane     lane
	doubt    bool                      // the device has left the last request unanswered
	run      func(*errand)             // begins the first request; called once it has a place
	finish   func(error)               // called when it ended, unless it was given up
	closed   func(error)               // called when it ended, however it did; may be nil
	notice   func(fsm.ObservationKind) // is told what happens on the way; may be nil

	place *place

	mu   sync.Mutex
	call *lwm2m.Call
	over bool
	last []func() // called when it is over, however it ended

	// told orders what is told of the way, which may come from several goroutines.
	told   sync.Mutex
	queued bool
	sent   bool
}

var (
	// errCrowded ends those of an errand that has waited for a silent device for longer than all others, when there are too
	// many of them.
	errCrowded = errors.New("firmware: too many devices do not answer")
)

// begin begins an errand as soon as it has a place.
func (e *errand) begin() {
	start := func() {
		e.mu.Lock()
		over := e.over
		e.mu.Unlock()
		if !over {
			e.run(e)
			e.waits()
		}
	}
	// The place is entered under the lock, so that it is there for whoever gives the errand up.
	e.mu.Lock()
	if e.over {
		e.mu.Unlock()
		return
	}
	var now bool
	e.place, now = e.m.places.enter(e.lane, e.doubt, start, e.evict)
	e.mu.Unlock()
	if now {
		start()
		return
	}
	e.waits()
}

// waits says that the errand stands in a queue of the server's, unless its first message went out meanwhile.
func (e *errand) waits() {
	e.told.Lock()
	defer e.told.Unlock()
	if !e.sent && !e.queued && e.notice != nil {
		e.queued = true
		e.notice(fsm.ObserveQueued)
	}
}

// request makes a request of the errand, and calls then with its answer unless the errand is given up. At most one is
// under way at a time.
func (e *errand) request(r lwm2m.Request, then func(lwm2m.Answer)) {
	r.Endpoint, r.NoWait, r.Notice, r.Owner = e.endpoint, true, e.noticed, e
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	// The answer comes from another goroutine, and waits for the lock.
	e.call = e.m.srv.Go(r, func(a lwm2m.Answer) {
		e.mu.Lock()
		over := e.over
		e.mu.Unlock()
		if !over {
			then(a)
		} else if a.Observation != nil {
			a.Observation.Drop(nil)
		}
	})
}

// noticed hears what becomes of a request.
func (e *errand) noticed(n lwm2m.Notice) {
	switch n {
	case lwm2m.NoticeSilent, lwm2m.NoticeBusy:
		e.place.silent()
	case lwm2m.NoticeHeard:
		e.place.heard()
	}
	if e.notice == nil {
		return
	}
	e.told.Lock()
	defer e.told.Unlock()
	switch n {
	case lwm2m.NoticeSent:
		e.sent = true
		if e.queued {
			e.queued = false
			e.notice(fsm.ObserveSent)
		}
	case lwm2m.NoticeSilent:
		e.notice(fsm.ObserveSilent)
	case lwm2m.NoticeBusy:
		e.notice(fsm.ObserveBusy)
	case lwm2m.NoticeRepeated:
		e.notice(fsm.ObserveRepeated)
	case lwm2m.NoticeHeard:
		e.notice(fsm.ObserveHeard)
	}
}

// end ends the errand, with what its last request ended with.
func (e *errand) end(err error) {
	if e.close(err) {
		e.finish(err)
	}
}

// evict ends an errand in favour of others: the device has not answered.
func (e *errand) evict() {
	e.mu.Lock()
	call, over := e.call, e.over
	e.mu.Unlock()
	if over {
		return
	}
	if call != nil {
		call.Cancel(errCrowded)
	}
	e.end(errCrowded)
}

// close gives the place back, and reports whether the errand was open.
func (e *errand) close(err error) bool {
	e.mu.Lock()
	if e.over {
		e.mu.Unlock()
		return false
	}
	e.over = true
	if e.place != nil {
		e.place.leave()
	}
	last := e.last
	e.last = nil
	e.mu.Unlock()
	for _, fn := range last {
		fn()
	}
	if e.closed != nil {
		e.closed(err)
	}
	return true
}

// atEnd has fn called once the errand is over, however it ended.
func (e *errand) atEnd(fn func()) {
	e.mu.Lock()
	over := e.over
	if !over {
		e.last = append(e.last, fn)
	}
	e.mu.Unlock()
	if over {
		fn()
	}
}

// giveUp ends the errand without a word: when it returns, nothing of it is sent any more.
func (e *errand) giveUp() {
	if !e.close(ErrGivenUp) {
		return
	}
	e.mu.Lock()
	call := e.call
	e.mu.Unlock()
	if call != nil {
		call.Cancel(ErrGivenUp)
	}
}
