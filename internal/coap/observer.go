package coap

import (
	"sync"
	"time"
)

// Observer is a peer that observes a resource here (RFC 7641).
type Observer struct {
	e     *Endpoint
	a     *association
	token token
	key   transferKey
	group group
	done  chan struct{}

	mu      sync.Mutex
	over    bool
	ready   bool // the response to the request was sent
	seq     uint32
	waiting bool // for an acknowledgement
	next    *Response
	nextCON bool
	mids    [4]uint16 // of the last non-confirmable notifications
	sent    int
	lastCON time.Duration
}

// confirmEvery is how often a notification must be confirmable: every 24 hours (RFC 7641, section
// 4.5), less some time for it to arrive.
const confirmEvery = 23 * time.Hour

// Accept makes r an observation if r asks for one (Observe: 0) and the peer's limit allows it; else
// it returns nil. The observation ends if the response to r is not a success. Accept may be called
// once, while the handler runs.
func (r *IncomingRequest) Accept() *Observer {
	in := r.exchange
	v, ok := r.Observe()
	if !ok || v != 0 || in.observer != nil || r.Code != GET && r.Code != FETCH {
		return nil
	}
	a := in.a
	o := &Observer{
		e: in.e, a: a, token: in.p.msg.token, key: in.downloadKey(),
		group: in.group, done: make(chan struct{}), lastCON: in.e.timers.now(),
	}
	a.mu.Lock()
	others := a.peek().observers
	old := others[o.token]
	full := old == nil && len(others) >= in.e.config.Bounds.PeerObservers
	if a.ended || full || !in.e.observers.take(in.group, 1) {
		a.mu.Unlock()
		return nil
	}
	y := a.act()
	if y.observers == nil {
		y.observers = make(map[token]*Observer)
	}
	y.observers[o.token] = o
	a.mu.Unlock()
	if old != nil {
		o.seq = old.number() // continues the numbers, else the peer would take new notifications for old ones
		old.end()
	}
	in.observer = o
	return o
}

// Peer returns the observing peer.
func (o *Observer) Peer() Peer { return o.a.peer }

// Done is closed when the observation has ended: because the peer ended it or did not answer, with
// the association, or by a notification that is not a success.
func (o *Observer) Done() <-chan struct{} { return o.done }

// Notify sends a notification, and does not wait. While a notification waits for its
// acknowledgement, only the newest of the following ones is kept. If no notification was
// confirmable for a day, the next one is. The endpoint keeps resp.
func (o *Observer) Notify(resp *Response, confirmable bool) {
	o.mu.Lock()
	if o.over {
		o.mu.Unlock()
		o.a.closeBody(resp)
		return
	}
	if !o.ready || o.waiting {
		if o.next != nil {
			o.a.closeBody(o.next)
		}
		o.next, o.nextCON = resp, confirmable
		o.mu.Unlock()
		return
	}
	o.mu.Unlock()
	o.send(resp, confirmable)
}

// Forget ends the observation without a message to the peer.
func (o *Observer) Forget() { o.end() }

// number returns the next sequence number, of 24 bits.
func (o *Observer) number() uint32 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seq = (o.seq + 1) & 0xffffff
	return o.seq
}

// send sends a notification now.
func (o *Observer) send(resp *Response, confirm bool) {
	a, e := o.a, o.e
	now := e.timers.now()
	o.mu.Lock()
	if now-o.lastCON > confirmEvery {
		confirm = true
	}
	if confirm {
		o.lastCON, o.waiting = now, !a.stream()
	}
	o.mu.Unlock()

	// Compose the message like the response to a request.
	in := incomings.Get().(*incoming)
	in.mu.Lock()
	in.e, in.a, in.p = e, a, newPacket()
	in.block1, in.block2, in.hasBlock1, in.hasBlock2 = block{}, block{}, false, false
	in.replied, in.timed = true, false
	in.observer, in.target = o, o.key
	in.p.msg.token = o.token
	in.mu.Unlock()
	out := in.compose(resp)
	out.typ = nonConfirmable
	x := &exchange{confirm: confirm, idleLimit: e.config.Transmission.idle()}
	if confirm {
		out.typ = confirmable
		x.record = a.encode(nil, &out)
		x.finish = func(err error) { e.spawn(a.origin, "answered", func() { o.answered(err) }) }
	} else {
		a.mu.Lock()
		out.mid = a.nextMID()
		a.mu.Unlock()
		o.mu.Lock()
		o.mids[o.sent%len(o.mids)] = out.mid
		o.sent++
		o.mu.Unlock()
		in.out = a.encode(in.out[:0], &out)
	}
	final := !isSuccess(out.code)
	switch {
	case !confirm || a.stream():
		if confirm {
			in.out = x.record
		}
		a.write(in.out)
		if final {
			o.end()
		}
	default:
		if final {
			x.finish = func(error) { e.spawn(nil, "end", o.end) }
		}
		if a.submit(x) != nil {
			o.end()
		}
	}
	in.free()
	a.after(resp)
}

// answered continues after a confirmable notification was acknowledged or given up.
func (o *Observer) answered(err error) {
	if err != nil {
		o.end()
		return
	}
	o.proceed()
}

// proceed sends the waiting notification, if any.
func (o *Observer) proceed() {
	o.mu.Lock()
	o.ready, o.waiting = true, false
	next, confirm := o.next, o.nextCON
	o.next = nil
	over := o.over
	o.mu.Unlock()
	if next != nil && !over {
		o.send(next, confirm)
	}
}

// sentAs reports whether a recent non-confirmable notification had the message id mid.
func (o *Observer) sentAs(mid uint16) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range min(o.sent, len(o.mids)) {
		if o.mids[i] == mid {
			return true
		}
	}
	return false
}

func (o *Observer) end() {
	o.a.mu.Lock()
	if all := o.a.peek().observers; all[o.token] == o {
		delete(all, o.token)
		o.a.trim()
	}
	o.a.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.over {
		o.over = true
		o.e.observers.give(o.group, 1)
		if o.next != nil {
			o.a.closeBody(o.next)
			o.next = nil
		}
		close(o.done)
	}
}

// unobserve ends the observation with a token.
func (a *association) unobserve(t token) {
	a.mu.Lock()
	o := a.peek().observers[t]
	a.mu.Unlock()
	if o != nil {
		o.end()
	}
}

// established allows notifications after the response, if that was a success.
func (in *incoming) established() {
	o := in.observer
	if o == nil {
		return
	}
	if _, ok := Bytes(in.options, Observe); !ok {
		o.end()
		return
	}
	o.proceed()
}

func (in *incoming) abandonObserver() {
	if in.observer != nil {
		in.observer.end()
	}
}
