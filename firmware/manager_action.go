package firmware

import (
	"errors"
	"sync"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// An action is an action under way with a device: one request, or several after one another. It holds no goroutine while
// it waits, for its place or for the device. How it ends is reported once, unless it is given up before.
type action struct {
	m        *Manager
	endpoint string
	update   string // on whose behalf; "" for none
	lane     lane
	doubt    bool                      // the device has left the last request unanswered
	run      func(*action)             // begins the first request; called once it has a place
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
	// errCrowded ends those of an action that has waited for a silent device for longer than all others, when there are too
	// many of them.
	errCrowded = errors.New("firmware: too many devices do not answer")
)

// begin begins an action as soon as it has a place.
func (a *action) begin() {
	start := func() {
		a.mu.Lock()
		over := a.over
		a.mu.Unlock()
		if !over {
			a.run(a)
			a.waits()
		}
	}
	// The place is entered under the lock, so that it is there for whoever gives the action up.
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return
	}
	var now bool
	a.place, now = a.m.places.enter(a.lane, a.doubt, start, a.evict)
	a.mu.Unlock()
	if now {
		start()
		return
	}
	a.waits()
}

// waits says that the action stands in a queue of the server's, unless its first message went out meanwhile.
func (a *action) waits() {
	a.told.Lock()
	defer a.told.Unlock()
	if !a.sent && !a.queued && a.notice != nil {
		a.queued = true
		a.notice(fsm.ObserveQueued)
	}
}

// request makes a request of the action, and calls then with its answer unless the action is given up. At most one is
// under way at a time.
func (e *action) request(r lwm2m.Request, then func(lwm2m.Answer)) {
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
func (a *action) noticed(n lwm2m.Notice) {
	switch n {
	case lwm2m.NoticeSilent, lwm2m.NoticeBusy:
		a.place.silent()
	case lwm2m.NoticeHeard:
		a.place.heard()
	}
	if a.notice == nil {
		return
	}
	a.told.Lock()
	defer a.told.Unlock()
	switch n {
	case lwm2m.NoticeSent:
		a.sent = true
		if a.queued {
			a.queued = false
			a.notice(fsm.ObserveSent)
		}
	case lwm2m.NoticeSilent:
		a.notice(fsm.ObserveSilent)
	case lwm2m.NoticeBusy:
		a.notice(fsm.ObserveBusy)
	case lwm2m.NoticeRepeated:
		a.notice(fsm.ObserveBlockRefused)
	case lwm2m.NoticeHeard:
		a.notice(fsm.ObserveHeard)
	}
}

// end ends the action, with what its last request ended with.
func (a *action) end(err error) {
	if a.close(err) {
		a.finish(err)
	}
}

// evict ends an action in favour of others: the device has not answered.
func (a *action) evict() {
	a.mu.Lock()
	call, over := a.call, a.over
	a.mu.Unlock()
	if over {
		return
	}
	if call != nil {
		call.Cancel(errCrowded)
	}
	a.end(errCrowded)
}

// close gives the place back, and reports whether the action was open.
func (a *action) close(err error) bool {
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return false
	}
	a.over = true
	if a.place != nil {
		a.place.leave()
	}
	last := a.last
	a.last = nil
	a.mu.Unlock()
	for _, fn := range last {
		fn()
	}
	if a.closed != nil {
		a.closed(err)
	}
	return true
}

// atEnd has fn called once the action is over, however it ended.
func (a *action) atEnd(fn func()) {
	a.mu.Lock()
	over := a.over
	if !over {
		a.last = append(a.last, fn)
	}
	a.mu.Unlock()
	if over {
		fn()
	}
}

// giveUp ends the action without a word: when it returns, nothing of it is sent any more.
func (a *action) giveUp() {
	if !a.close(ErrGivenUp) {
		return
	}
	a.mu.Lock()
	call := a.call
	a.mu.Unlock()
	if call != nil {
		call.Cancel(ErrGivenUp)
	}
}
