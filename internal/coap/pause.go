package coap

import (
	"slices"
	"time"
)

// rest pauses; then goes on after d.
func (t *transfer) rest(d time.Duration, then func(*transfer, *packet)) {
	t.then, t.resting = then, true
	t.c.notice(NoticeBusy)
	if !t.a.rest(t.c, d) {
		t.resting = false
		t.end(nil, ErrPeerGone)
	}
}

// rest has c pause for d, unless the association has ended.
func (a *association) rest(c *Call, d time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return false
	}
	a.outbox.resting = append(a.outbox.resting, c)
	c.rest(d)
	return true
}

// rested is called after the pause.
func (a *association) rested(c *Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := &a.outbox
	if o.resting = slices.DeleteFunc(o.resting, func(other *Call) bool { return other == c }); len(o.resting) == 0 {
		o.resting = nil
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

// stopResting has a call that rests go on. c.mu is held.
func (c *Call) stopResting() {
	if c.resting {
		c.resting = false
		c.e.timers.stop(&c.pause)
		c.due = true
		c.schedule()
	}
}
