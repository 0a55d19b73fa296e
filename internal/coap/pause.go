package coap

import (
	"slices"
	"time"

	"github.com/otago-iot/otago/internal/work"
)

// rest pauses the transfer for d; then continues it.
func (t *transfer) rest(d time.Duration, then func(*transfer, *packet)) {
	t.then, t.resting = then, true
	t.c.notice(NoticeBusy)
	if !t.a.rest(t.c, d) {
		t.resting = false
		t.end(nil, ErrPeerGone)
	}
}

// rest pauses c for d, unless the association has ended.
func (a *association) rest(c *Call, d time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return false
	}
	o := &a.act().outbox
	o.resting = append(o.resting, c)
	c.rest(d)
	return true
}

// rested is called after the pause.
func (a *association) rested(c *Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.activity != nil {
		o := &a.activity.outbox
		o.resting = slices.DeleteFunc(o.resting, func(other *Call) bool { return other == c })
		a.trim()
	}
}

// rest begins a pause. The association is locked.
func (c *Call) rest(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		c.due = true
		return
	}
	c.resting = true
	c.e.timers.set(&c.pause, d)
}

// expire ends a pause.
func (c *Call) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.e.timers.isSet(&c.pause) {
		c.stopResting()
	}
}

// rouse ends a pause before its time.
func (c *Call) rouse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopResting()
}

// stopResting continues a call that rests. c.mu is held.
func (c *Call) stopResting() {
	if c.resting {
		c.resting = false
		c.e.timers.stop(&c.pause)
		c.due = true
		c.schedule()
	}
}

// busyRetry is the state of the retries after 5.03 and 4.29.
type busyRetry struct {
	total  time.Duration // see Request.BusyRetry
	since  time.Duration // the first refusal since the last progress; 0 for none
	pauses work.Backoff  // since then
}

// blockBusyRetry is the limit for a transfer that has begun: an abandoned earlier one can lock a
// device for 300 s.
const blockBusyRetry = 320 * time.Second

// refused returns the pause after a 5.03 or 4.29, and false when the retries have taken too long.
func (t *transfer) refused(m *wireMessage, total time.Duration) (time.Duration, bool) {
	r, now := &t.busy, t.c.e.timers.now()
	if r.since == 0 {
		r.since, r.pauses = now, 0
	}
	wait := r.pauses.Next(2*time.Second, 30*time.Second)
	if v, ok := Uint(m.options, MaxAge); ok {
		wait = min(max(time.Duration(v)*time.Second, time.Second), time.Minute)
	}
	return wait, now-r.since+wait <= total
}

// busyLimit returns how long to repeat a block that is refused.
func (t *transfer) busyLimit() time.Duration {
	if t.busy.total == 0 {
		return blockBusyRetry
	}
	return t.busy.total
}

func (r *busyRetry) progress() { r.since = 0 }

func isBusy(c Code) bool { return c == ServiceUnavailable || c == TooManyRequests }
