package coap

import "slices"

// outbox holds the exchanges with one peer. At most one confirmable message is unacknowledged
// (NSTART = 1, RFC 7252, section 4.7).
type outbox struct {
	current *exchange   // the unacknowledged one
	open    []*exchange // all that were sent and are not over
	queue   []*exchange // waiting exchanges
	resting []*Call     // calls in a pause
}

func (o *outbox) idle() bool { return len(o.open) == 0 && len(o.queue) == 0 && len(o.resting) == 0 }

// submit sends x, now or in its turn.
func (a *association) submit(x *exchange) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.submitLocked(x)
}

// submitCall is submit for an exchange of a call. It fails if the call was cancelled.
func (a *association) submitCall(x *exchange) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := x.call.cancelled(); err != nil {
		return err
	}
	return a.submitLocked(x)
}

func (a *association) submitLocked(x *exchange) error {
	if a.ended {
		return ErrPeerGone
	}
	if x.a == nil {
		x.a, x.timer.owner = a, x
	}
	x.tries, x.again, x.acked, x.doubted, x.sent, x.err = 0, false, false, false, false, nil
	if o := &a.peek().outbox; len(o.open)+len(o.queue) >= a.e.config.Bounds.PeerRequests {
		return ErrBusy
	}
	o := &a.act().outbox
	if x.urgent || len(o.queue) == 0 && o.admits(x) {
		a.start(x)
		return nil
	}
	x.state = queued
	o.queue = append(o.queue, x)
	return nil
}

// admits reports whether x may be sent now.
func (o *outbox) admits(x *exchange) bool { return o.current == nil || !x.confirm }

// next starts exchanges whose turn has come. a.mu is held.
func (a *association) next() {
	o := &a.activity.outbox
	for len(o.queue) > 0 && o.admits(o.queue[0]) {
		x := o.queue[0]
		o.queue = slices.Delete(o.queue, 0, 1)
		a.start(x)
	}
}

// start sends x for the first time. a.mu is held.
func (a *association) start(x *exchange) {
	o := &a.activity.outbox
	o.open = append(o.open, x)
	a.e.underway.begin()
	x.sent = true
	x.call.notice(NoticeSent)
	switch {
	case a.stream():
		x.state, x.timeout = pending, 0
		limit := x.idleLimit
		if x.call != nil && x.call.r.Notice != nil {
			x.timeout = a.e.firstTimeout()
			limit = min(limit, x.timeout)
		}
		a.write(x.record)
		a.e.timers.set(&x.timer, limit)
		return
	case x.confirm:
		x.state = sent
		if !x.urgent {
			o.current = x
		}
		x.timeout = a.e.firstTimeout()
		x.began = a.e.timers.now()
		a.e.timers.set(&x.timer, x.timeout)
	default:
		x.state = pending
		a.e.timers.set(&x.timer, x.idleLimit)
	}
	x.mid = a.nextMID()
	x.record[2], x.record[3] = byte(x.mid>>8), byte(x.mid)
	a.write(x.record)
}
