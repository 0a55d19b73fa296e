package firmware

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// An action is something in progress with a device: one request, or several in sequence. It holds
// no goroutine while it waits for its place or for the device. It reports its end once, unless
// giveUp comes first.
type action struct {
	m        *Manager
	endpoint string
	update   string // that it belongs to; "" for none
	lane     lane
	doubt    bool // the device has left the last request unanswered
	plan     plan
	hooks    *actionHooks // nil for none

	device    *deviceFacts // for its reads that want fsm.ReadDevice; else nil
	composite composite    // how its reads use Read-Composite
	trial     trial        // what the action found out about it

	place place

	mu   sync.Mutex
	call *lwm2m.Call
	over bool
	last []func() // called when it is over, however it ended

	// reports orders the reports of one action, which come from several goroutines.
	reports sync.Mutex
	queued  bool
	sent    bool
}

// A plan is what an action does.
type plan interface {
	// start makes the first request; it is called once there is a place.
	start()
	// finish is called when the action has ended, unless giveUp came first.
	finish(error)
	// notice is called when something happens to the requests.
	notice(fsm.ObservationKind)
}

var (
	// errCrowded ends the action that has been silent for longest, when too many devices do not
	// answer.
	errCrowded = errors.New("firmware: too many devices do not answer")
)

// begin starts the action as soon as it has a place.
func (a *action) begin() {
	// The lock is held while the action takes its place, so that giveUp finds the place.
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return
	}
	now := a.m.places.enter(&a.place, a.lane, a.doubt, a)
	a.mu.Unlock()
	if now {
		a.granted()
		return
	}
	a.waits()
}

// granted implements placeHolder.
func (a *action) granted() {
	a.mu.Lock()
	over := a.over
	a.mu.Unlock()
	if !over {
		a.plan.start()
		a.m.unsent.add(a)
	}
}

// waits reports that the action is queued in the server, unless its first message has already gone
// out.
func (a *action) waits() {
	a.mu.Lock()
	over := a.over
	a.mu.Unlock()
	if over {
		return
	}
	a.reports.Lock()
	defer a.reports.Unlock()
	if !a.sent && !a.queued {
		a.queued = true
		a.plan.notice(fsm.ObserveQueued)
	}
}

// request makes a request of the action. It calls then with the answer, unless the action is over.
// At most one request is in progress at a time.
func (e *action) request(r lwm2m.Request, then func(lwm2m.Answer)) {
	r.Endpoint, r.NoWait, r.Notice, r.SkipSent, r.Owner = e.endpoint, true, e.noticed, true, e
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
	if e.call.Sent() {
		e.reports.Lock()
		defer e.reports.Unlock()
		e.isSent()
	}
}

// isSent records that the first message has gone out. e.reports is held.
func (e *action) isSent() {
	e.sent = true
	if e.queued {
		e.queued = false
		e.plan.notice(fsm.ObserveSent)
	}
}

// noticed passes a notice of a request to the place and to the state machine.
func (a *action) noticed(n lwm2m.Notice) {
	switch n {
	case lwm2m.NoticeSilent, lwm2m.NoticeBusy:
		a.place.silent()
	case lwm2m.NoticeHeard:
		a.place.heard()
	}
	a.reports.Lock()
	defer a.reports.Unlock()
	switch n {
	case lwm2m.NoticeSent:
		a.isSent()
	case lwm2m.NoticeSilent:
		a.plan.notice(fsm.ObserveSilent)
	case lwm2m.NoticeBusy:
		a.plan.notice(fsm.ObserveBusy)
	case lwm2m.NoticeRepeated:
		a.plan.notice(fsm.ObserveBlockRefused)
	case lwm2m.NoticeHeard:
		a.plan.notice(fsm.ObserveHeard)
	}
}

// end ends the action with the error of its last request.
func (a *action) end(err error) {
	if a.close(err) {
		a.plan.finish(err)
	}
}

// evict implements placeHolder: it ends the action because other silent devices need its place.
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

// close returns the place, and reports whether the action was open. Who finds it closed may begin
// the next action at once, so the call of ActionEnd is in line by then.
func (a *action) close(err error) bool {
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return false
	}
	a.over = true
	a.place.leave()
	a.hooks.end(err)
	last := a.last
	a.last = nil
	a.mu.Unlock()
	for _, fn := range last {
		fn()
	}
	return true
}

// atEnd calls fn once the action is over, however it ends.
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

// giveUp ends the action without reporting it. After it returns, the action sends nothing more.
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

// unsent has the actions that have begun a short time ago. Most send their first message at once.
// The others wait in a queue of the server, which is reported after sentSoon: so most actions
// report nothing but their end.
type unsent struct {
	mu    sync.Mutex
	line  []begun // the first that began is the first
	timer *time.Timer
	set   bool
}

// begun is an action that began at a time of the manager's clock.
type begun struct {
	action *action
	at     time.Duration
}

// sentSoon is how long the first message of an action may take before its device counts as waiting
// for the server.
const sentSoon = 100 * time.Millisecond

func (u *unsent) add(a *action) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.line = append(u.line, begun{a, time.Since(a.m.clock.start)})
	switch {
	case u.set:
		return
	case u.timer == nil:
		u.timer = time.AfterFunc(sentSoon, u.report)
	default:
		u.timer.Reset(sentSoon)
	}
	u.set = true
}

// report reports the actions that have sent no message in time.
func (u *unsent) report() {
	u.mu.Lock()
	now := time.Since(u.line[0].action.m.clock.start)
	n := 0
	for n < len(u.line) && now-u.line[n].at >= sentSoon {
		n++
	}
	late := slices.Clone(u.line[:n])
	u.line = slices.Delete(u.line, 0, n)
	if u.set = len(u.line) > 0; u.set {
		u.timer.Reset(sentSoon - (now - u.line[0].at))
	}
	u.mu.Unlock()
	for _, b := range late {
		b.action.waits()
	}
}
