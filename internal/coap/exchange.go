package coap

import (
	"slices"
	"time"
)

// exchange is a message of ours that the peer must answer: a request (by an acknowledgement, then a
// response), a confirmable notification or a separate response (by an acknowledgement). A finished
// exchange can be used again for the next block.
type exchange struct {
	timer
	a *association

	record  []byte // encoded; retransmissions use it unchanged
	token   token
	mid     uint16
	request bool // the peer must send a response
	confirm bool // the peer must send an acknowledgement
	urgent  bool // does not queue: a separate response

	// block1 is the block of a body in a request. It distinguishes its response from those to
	// earlier blocks, which have the same token.
	block1    block
	hasBlock1 bool
	// observation gets the token's notifications if the response begins an observation.
	observation *Observation

	idleLimit time.Duration // for the response, once acknowledged
	persist   time.Duration // for the acknowledgement, if longer than one round of retransmissions

	state   exchangeState
	tries   int
	again   bool // sent more than once in this use
	timeout time.Duration
	began   time.Duration
	acked   bool // at any time, in this use
	doubted bool // a Reset came over UDP; the next one is believed
	sent    bool
	reply   *packet // the response, owned by the exchange's user
	err     error

	// At the end call is woken or finish called, with a.mu held.
	call   *Call
	finish func(error)
}

type exchangeState uint8

const (
	fresh   exchangeState = iota
	queued                // waits for its turn
	sent                  // waits for the acknowledgement or the response
	pending               // acknowledged: waits for the response
	over
)

// expire retransmits, or gives up.
func (x *exchange) expire() {
	a := x.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.e.timers.isSet(&x.timer) {
		return // used again in the meantime
	}
	switch x.state {
	case sent:
		switch {
		case x.tries < a.e.config.Transmission.MaxRetransmit:
			x.tries++
			x.timeout *= 2
		case a.e.timers.now()-x.began < x.persist:
			// Another round. With the same message id, the peer can recognize duplicates.
			x.tries = 0
			x.timeout = a.e.firstTimeout()
		case x.acked:
			a.awaitResponse(x) // an acknowledgement was doubted; now wait for the response all the same
			return
		default:
			a.conclude(x, nil, ErrTimeout)
			return
		}
		a.e.timers.set(&x.timer, x.timeout)
		x.again = true
		a.resend(x)
		x.call.notice(NoticeSilent)
	case pending:
		if rest := x.idleLimit - x.timeout; x.timeout > 0 && rest > 0 {
			x.timeout = 0
			a.e.timers.set(&x.timer, rest)
			x.call.notice(NoticeSilent)
			return
		}
		a.conclude(x, nil, ErrTimeout)
	}
}

// resend sends the message of x once more. a.mu is held.
func (a *association) resend(x *exchange) {
	a.writeAs(TraceRetransmission, x.record)
	if f := a.e.config.Hooks.Retransmitted; f != nil {
		f(a.peer)
	}
}

// acknowledge handles an empty acknowledgement. a.mu is held.
func (a *association) acknowledge(mid uint16) {
	x := a.unacknowledged(mid)
	if x == nil {
		if !a.opened(mid) {
			a.stray(mid)
		}
		return
	}
	x.acked = true
	x.call.heard(false)
	if !x.request {
		a.conclude(x, nil, nil)
		return
	}
	if !a.doubtful() {
		a.awaitResponse(x)
	}
}

// awaitResponse makes x wait for the response. a.mu is held.
func (a *association) awaitResponse(x *exchange) {
	x.state = pending
	// If the response does not come soon, there is a notice, as on a stream.
	x.timeout = min(a.e.firstTimeout(), x.idleLimit)
	a.e.timers.set(&x.timer, x.timeout)
	if o := &a.activity.outbox; o.current == x {
		o.current = nil
		a.next()
	}
}

// unacknowledged returns the exchange with the unacknowledged message mid, or nil.
func (a *association) unacknowledged(mid uint16) *exchange {
	for _, x := range a.peek().outbox.open {
		if x.state == sent && x.mid == mid {
			return x
		}
	}
	return nil
}

// opened reports whether our message mid is in progress. a.mu is held.
func (a *association) opened(mid uint16) bool {
	return slices.ContainsFunc(a.peek().outbox.open, func(x *exchange) bool { return x.mid == mid })
}

// rejected handles a Reset for mid, and reports whether it belongs to a message of ours. A Reset
// over UDP to a confirmable request may be forged: the request is sent again at once, and a peer
// that really rejects it repeats the Reset. A Reset after an acknowledgement is ignored. a.mu is
// held.
func (a *association) rejected(mid uint16) bool {
	for _, x := range a.peek().outbox.open {
		if x.mid != mid || a.stream() {
			continue
		}
		switch {
		case x.confirm && x.state == pending:
		case x.request && x.confirm && !x.doubted && a.peer.Transport == UDP:
			x.doubted = true
			a.resend(x)
		default:
			a.conclude(x, nil, ErrReset)
		}
		return true
	}
	return false
}

// refused handles an acknowledgement with an error code, for a notification or a separate response
// of ours. Some peers send it in place of a Reset. a.mu is held.
func (a *association) refused(m *wireMessage) {
	x := a.unacknowledged(m.mid)
	switch {
	case x == nil && !a.opened(m.mid):
		a.stray(m.mid)
	case x != nil && !x.request && !isSuccess(m.code) && !a.doubtful():
		a.conclude(x, nil, ErrReset)
	}
}

// answered hands a response to its request, and reports whether there is one. If taken, the packet
// belongs to the exchange's user; a response that is not taken must be ignored. a.mu is held.
func (a *association) answered(p *packet) (known, taken bool) {
	m := &p.msg
	for _, x := range a.peek().outbox.open {
		if !x.request || x.token != m.token {
			continue
		}
		if m.typ == acknowledgement && x.mid != m.mid {
			return true, false // late, for an earlier message with this token
		}
		if !x.wants(m) {
			return true, false
		}
		a.verified.Store(true) // the token has reached its address
		if x.observation != nil {
			a.establish(x.observation, m)
		}
		x.call.heard(!isBusy(m.code))
		a.conclude(x, p, nil)
		return true, true
	}
	return false, false
}

// wants reports whether m can be the response to x. A response to an earlier block may be a late
// separate one, or the peer's remembered reply to a message with the same id: a transfer can use
// 65,536 ids in less than EXCHANGE_LIFETIME.
func (x *exchange) wants(m *wireMessage) bool {
	b, ok, err := findBlock(m.options, Block1)
	switch {
	case !x.hasBlock1 || !ok || err != nil:
		return true
	case m.typ == acknowledgement:
		// Some peers do not echo the number with a refusal or a smaller size.
		return b.num >= x.block1.num || b.szx < x.block1.szx || !isSuccess(m.code)
	}
	return b.num == x.block1.num
}

// conclude ends x, if it is in progress. a.mu is held.
func (a *association) conclude(x *exchange, reply *packet, err error) {
	if x.state == fresh || x.state == over {
		return
	}
	o := &a.activity.outbox
	a.e.timers.stop(&x.timer)
	if x.state == queued {
		o.queue = slices.DeleteFunc(o.queue, func(q *exchange) bool { return q == x })
	} else if i := slices.Index(o.open, x); i >= 0 {
		o.open = slices.Delete(o.open, i, i+1)
		a.e.underway.end()
	}
	x.state = over
	x.reply, x.err = reply, err
	if reply != nil {
		x.acked = true
	}
	if o.current == x {
		o.current = nil
	}
	switch {
	case x.call != nil:
		x.call.wake()
	case x.finish != nil:
		x.finish(err)
	}
	a.next()
	a.trim()
}

// firstTimeout returns a random time until the first retransmission.
func (e *Endpoint) firstTimeout() time.Duration {
	t := &e.config.Transmission
	spread := float64(t.ACKTimeout) * (t.RandomFactor - 1)
	return t.ACKTimeout + time.Duration(e.random.float()*spread)
}
