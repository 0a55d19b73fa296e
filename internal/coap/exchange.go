package coap

import (
	"context"
	"slices"
	"time"
)

// exchange is a message of ours that the peer owes something for: a request
// (an acknowledgement, then a response), a confirmable notification or a
// separate response (an acknowledgement). One exchange can be used again for
// the next block once it is done.
type exchange struct {
	timer
	a *association

	record  []byte // encoded, sent again as it is
	token   token
	mid     uint16
	request bool // a response is owed
	confirm bool // an acknowledgement is owed
	urgent  bool // does not queue: a separate response

	// lease, when not nil, is that of an exclusive request; see outbox.
	lease *lease
	// block1, of a block of a body, keeps off separate responses to earlier
	// blocks that come late: they have the same token.
	block1    uint32
	hasBlock1 bool
	// observation is what becomes of the token if the response says so.
	observation *Observation

	idleLimit time.Duration // for the response, once acknowledged
	persist   time.Duration // for the acknowledgement, if longer than one round of retransmissions

	state   exchangeState
	tries   int
	timeout time.Duration
	began   time.Duration
	acked   bool // at any time, in this use
	sent    bool
	reply   *packet // the response, owned by the exchange's user
	err     error

	done   chan struct{} // with room for one, for a user who waits
	finish func(error)   // or this, called with a.mu held
}

type exchangeState uint8

const (
	fresh   exchangeState = iota
	queued                // waits for its turn
	sent                  // waits for the acknowledgement or the response
	pending               // acknowledged: waits for the response
	over
)

// outbox is the queue of the exchanges with one peer. At most one confirmable
// message is unacknowledged (NSTART = 1, RFC 7252, section 4.7).
type outbox struct {
	current *exchange   // the one that is unacknowledged
	open    []*exchange // all that were sent and are not over
	queue   []*exchange // those that wait
	lease   *lease      // whoever has the peer for itself
}

// lease is held by an exclusive request from its first message to its end.
type lease struct{ _ byte } // not empty: its address is its identity

func (o *outbox) idle() bool {
	return len(o.open) == 0 && len(o.queue) == 0 && o.lease == nil
}

// submit sends x, now or when its turn comes.
func (a *association) submit(x *exchange) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.submitLocked(x)
}

func (a *association) submitLocked(x *exchange) error {
	if a.ended {
		return ErrPeerGone
	}
	if x.a == nil {
		x.a, x.timer.owner = a, x
	}
	x.tries, x.acked, x.sent, x.err = 0, false, false, nil
	o := &a.outbox
	if len(o.open)+len(o.queue) >= a.e.cfg.Bounds.PeerRequests {
		return ErrBusy
	}
	if x.urgent || len(o.queue) == 0 && o.admits(x) {
		a.start(x)
		return nil
	}
	if o.lease != nil && o.lease == x.lease && o.admits(x) {
		a.start(x) // the holder does not queue behind those who wait for it
		return nil
	}
	x.state = queued
	o.queue = append(o.queue, x)
	return nil
}

// admits reports whether x may be sent now.
func (o *outbox) admits(x *exchange) bool {
	if o.current != nil && x.confirm {
		return false
	}
	if x.lease == nil {
		return o.lease == nil
	}
	return o.lease == x.lease || o.lease == nil && !o.awaitsResponse()
}

func (o *outbox) awaitsResponse() bool {
	return slices.ContainsFunc(o.open, func(x *exchange) bool { return x.request })
}

// next starts what has become possible. a.mu is held.
func (a *association) next() {
	o := &a.outbox
	for i := 0; i < len(o.queue); {
		x := o.queue[i]
		if !o.admits(x) {
			if o.lease == nil || x.lease == o.lease {
				return // first come, first served
			}
			i++ // the holder of the lease may be further back
			continue
		}
		o.queue = slices.Delete(o.queue, i, i+1)
		a.start(x)
	}
	if len(o.queue) == 0 {
		o.queue = nil
	}
}

// start sends x for the first time. a.mu is held.
func (a *association) start(x *exchange) {
	o := &a.outbox
	o.open = append(o.open, x)
	a.e.underway.Add(1)
	if x.lease != nil {
		o.lease = x.lease
	}
	x.sent = true
	switch {
	case a.stream():
		x.state = pending
		a.write(x.record)
		a.e.timers.set(&x.timer, x.idleLimit)
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
			// Another round. The message id stays: what the peer has seen once
			// it knows again.
			x.tries = 0
			x.timeout = a.e.firstTimeout()
		default:
			a.conclude(x, nil, ErrTimeout)
			return
		}
		a.e.timers.set(&x.timer, x.timeout)
		a.write(x.record)
	case pending:
		a.conclude(x, nil, ErrTimeout)
	}
}

// acknowledge handles an empty acknowledgement. a.mu is held.
func (a *association) acknowledge(mid uint16) {
	x := a.unacknowledged(mid)
	if x == nil {
		return
	}
	x.acked = true
	if !x.request {
		a.conclude(x, nil, nil)
		return
	}
	x.state = pending
	a.e.timers.set(&x.timer, x.idleLimit)
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

// rejected handles a Reset for mid, and reports whether it meant something.
// a.mu is held.
func (a *association) rejected(mid uint16) bool {
	for _, x := range a.outbox.open {
		if x.mid == mid && !a.stream() {
			a.conclude(x, nil, ErrReset)
			return true
		}
	}
	return false
}

// answered hands a response to the request it belongs to, and reports whether
// there is one. The packet then belongs to whoever made the request; taken is
// false for a response that is to be ignored. a.mu is held.
func (a *association) answered(p *packet) (known, taken bool) {
	m := &p.msg
	for _, x := range a.outbox.open {
		if !x.request || x.token != m.token {
			continue
		}
		if m.typ == acknowledgement && x.mid != m.mid {
			return true, false // late, for an earlier message with this token
		}
		if m.typ != acknowledgement && !x.wants(m) {
			return true, false
		}
		if x.observation != nil {
			a.establish(x.observation, m)
		}
		a.conclude(x, p, nil)
		return true, true
	}
	return false, false
}

// wants reports whether the response can be the one to x.
func (x *exchange) wants(m *wireMessage) bool {
	if !x.hasBlock1 {
		return true
	}
	b, ok, err := findBlock(m.options, Block1)
	return !ok || err != nil || b.num == x.block1
}

// conclude ends x. a.mu is held.
func (a *association) conclude(x *exchange, reply *packet, err error) {
	o := &a.outbox
	if x.state == over {
		return
	}
	a.e.timers.stop(&x.timer)
	if x.state == queued {
		o.queue = slices.DeleteFunc(o.queue, func(q *exchange) bool { return q == x })
	} else if i := slices.Index(o.open, x); i >= 0 {
		o.open = slices.Delete(o.open, i, i+1)
		a.e.underway.Add(-1)
	}
	x.state = over
	x.reply, x.err = reply, err
	if reply != nil {
		x.acked = true
	}
	if o.current == x {
		o.current = nil
	}
	if x.finish != nil {
		x.finish(err)
	} else {
		x.done <- struct{}{}
	}
	a.next()
}

// release gives the peer back after an exclusive request.
func (a *association) release(l *lease) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l != nil && a.outbox.lease == l {
		a.outbox.lease = nil
		a.next()
	}
}

// roundTrip sends x and waits until it is over.
func (a *association) roundTrip(ctx context.Context, x *exchange) (*packet, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := a.submit(x); err != nil {
		return nil, err
	}
	select {
	case <-x.done:
	case <-ctx.Done():
		a.mu.Lock()
		a.conclude(x, nil, context.Cause(ctx))
		a.mu.Unlock()
		<-x.done
	}
	return x.reply, x.err
}

// firstTimeout draws the time until the first retransmission.
func (e *Endpoint) firstTimeout() time.Duration {
	t := &e.cfg.Transmission
	spread := float64(t.ACKTimeout) * (t.RandomFactor - 1)
	return t.ACKTimeout + time.Duration(e.random.float()*spread)
}
