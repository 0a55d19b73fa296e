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

	record  []byte // encoded, sent again as it is
	token   token
	mid     uint16
	request bool // a response is owed
	confirm bool // an acknowledgement is owed
	urgent  bool // does not queue: a separate response

	// block1, of a block of a body, tells its response from those to earlier blocks, which have the
	// same token.
	block1    block
	hasBlock1 bool
	// observation gets the token's notifications if the response begins an observation.
	observation *Observation

	idleLimit time.Duration // for the response, once acknowledged
	persist   time.Duration // for the acknowledgement, if longer than one round of retransmissions

	state   exchangeState
	tries   int
	again   bool // it was sent more than once, in this use
	timeout time.Duration
	began   time.Duration
	acked   bool // at any time, in this use
	doubted bool // a Reset came, from UDP; the next one is believed
	sent    bool
	reply   *packet // the response, owned by the exchange's user
	err     error

	// Woken or called at the end, with a.mu held.
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
		return // used again since
	}
	switch x.state {
	case sent:
		switch {
		case x.tries < a.e.cfg.Transmission.MaxRetransmit:
			x.tries++
			x.timeout *= 2
		case a.e.timers.now()-x.began < x.persist:
			// Another round. The message id stays: what the peer has seen once it knows again.
			x.tries = 0
			x.timeout = a.e.firstTimeout()
		case x.acked:
			a.awaitResponse(x) // the acknowledgement was not believed, but what now
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
	a.write(x.record)
	if f := a.e.cfg.Hooks.Retransmitted; f != nil {
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
	if a.outbox.current == x {
		a.outbox.current = nil
		a.next()
	}
}

// unacknowledged returns the exchange whose message mid is unacknowledged.
func (a *association) unacknowledged(mid uint16) *exchange {
	for _, x := range a.outbox.open {
		if x.state == sent && x.mid == mid {
			return x
		}
	}
	return nil
}

// opened reports whether a message with an id of ours is not over. a.mu is held.
func (a *association) opened(mid uint16) bool {
	return slices.ContainsFunc(a.outbox.open, func(x *exchange) bool { return x.mid == mid })
}

// rejected handles a Reset for mid, and reports whether it meant something. A Reset over UDP to a
// confirmable request may be forged: the request is sent again at once, and a peer that has
// rejected it does so again. A Reset after an acknowledgement means nothing. a.mu is held.
func (a *association) rejected(mid uint16) bool {
	for _, x := range a.outbox.open {
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

// refused handles an acknowledgement with an error code of a notification or a separate response of
// ours. Some peers send that in place of a Reset. a.mu is held.
func (a *association) refused(m *wireMessage) {
	x := a.unacknowledged(m.mid)
	switch {
	case x == nil && !a.opened(m.mid):
		a.stray(m.mid)
	case x != nil && !x.request && !isSuccess(m.code) && !a.doubtful():
		a.conclude(x, nil, ErrReset)
	}
}

// answered hands a response to the request it belongs to, and reports whether there is one. The
// packet then belongs to the exchange's user; taken is false for a response that must be ignored.
// a.mu is held.
func (a *association) answered(p *packet) (known, taken bool) {
	m := &p.msg
	for _, x := range a.outbox.open {
		if !x.request || x.token != m.token {
			continue
		}
		if m.typ == acknowledgement && x.mid != m.mid {
			return true, false // late, for an earlier message with this token
		}
		if !x.wants(m) {
			return true, false
		}
		a.verified.Store(true) // it was sent the token
		if x.observation != nil {
			a.establish(x.observation, m)
		}
		x.call.heard(!isBusy(m.code))
		a.conclude(x, p, nil)
		return true, true
	}
	return false, false
}

// wants reports whether the response can be the one to x. One to an earlier block can be a separate
// one that comes late, or what the peer remembers of a message with the same id: 65,536 blocks are
// gone sooner than EXCHANGE_LIFETIME.
func (x *exchange) wants(m *wireMessage) bool {
	b, ok, err := findBlock(m.options, Block1)
	switch {
	case !x.hasBlock1 || !ok || err != nil:
		return true
	case m.typ == acknowledgement:
		// Not every peer echoes the number with a refusal or a smaller size.
		return b.num >= x.block1.num || b.szx < x.block1.szx || !isSuccess(m.code)
	}
	return b.num == x.block1.num
}

// conclude ends x, unless it is not under way. a.mu is held.
func (a *association) conclude(x *exchange, reply *packet, err error) {
	o := &a.outbox
	if x.state == fresh || x.state == over {
		return
	}
	a.e.timers.stop(&x.timer)
	if x.state == queued {
		o.queue = slices.DeleteFunc(o.queue, func(q *exchange) bool { return q == x })
	} else if i := slices.Index(o.open, x); i >= 0 {
		o.open = slices.Delete(o.open, i, i+1)
		a.e.work.end()
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
}

// firstTimeout draws the time until the first retransmission.
func (e *Endpoint) firstTimeout() time.Duration {
	t := &e.cfg.Transmission
	spread := float64(t.ACKTimeout) * (t.RandomFactor - 1)
	return t.ACKTimeout + time.Duration(e.random.float()*spread)
}
