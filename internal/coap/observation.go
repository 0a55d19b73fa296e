package coap

import (
	"errors"
	"sync"
	"time"
)

// Observation is an observation of ours at a peer (RFC 7641).
type Observation struct {
	e     *Endpoint
	a     *association
	token token
	req   Request // without body: fetches a notification that needs several blocks
	fn    func(*Response)

	mu      sync.Mutex
	over    bool
	any     bool
	seq     uint32
	at      time.Duration
	mailbox fifo[*notification]
	running bool
	started bool // the first response was delivered

	fetching *Call // fetches the rest of a notification
}

// notification waits for delivery. Without response it means the end of the observation.
type notification struct {
	resp   *Response
	block2 block
	more   bool
}

// maxMailbox is how many notifications may wait for fn; older ones are dropped.
const maxMailbox = 16

// GoObserve is to [Endpoint.Observe] what [Endpoint.Go] is to [Endpoint.Do]. notify is called after
// done has returned.
func (e *Endpoint) GoObserve(p Peer, r *Request, notify func(*Response), done func(*Observation, *Response, error)) *Call {
	c := e.newObservation(p, r, notify, done)
	c.begin()
	return c
}

func (e *Endpoint) newObservation(p Peer, r *Request, notify func(*Response), done func(*Observation, *Response, error)) *Call {
	o := &Observation{e: e, token: e.random.token(), req: *r, fn: notify}
	o.req.Progress, o.req.Into, o.req.Body, o.req.Notice = nil, nil, nil, nil
	o.req.Path, o.req.Queries = append([]string(nil), r.Path...), append([]string(nil), r.Queries...)
	c := e.newCall(p, r, func(resp *Response, err error) { o.registered(resp, err, done) })
	c.o = o
	return c
}

// registered delivers the first response, and then the notifications that have arrived since.
func (o *Observation) registered(resp *Response, err error, done func(*Observation, *Response, error)) {
	o.mu.Lock()
	established := o.any && !o.over
	o.mu.Unlock()
	switch {
	case err != nil:
		if o.a != nil {
			o.Forget()
		}
		done(nil, nil, err)
	case !established:
		done(nil, resp, nil)
	default:
		defer o.start()
		done(o, resp, nil)
	}
}

func (o *Observation) start() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.started = true
	o.schedule()
}

// establish enters the observation if the response begins one. a.mu is held.
func (a *association) establish(o *Observation, m *wireMessage) {
	seq, ok := Uint(m.options, Observe)
	if !ok || !isSuccess(m.code) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.a = a
	o.any, o.seq, o.at = true, seq, a.e.timers.now()
	y := a.act()
	if y.observations == nil {
		y.observations = make(map[token]*Observation)
	}
	y.observations[o.token] = o
}

// receive takes a notification.
func (o *Observation) receive(m *wireMessage) {
	now := o.e.timers.now()
	seq, ok := Uint(m.options, Observe)
	ends := !ok || !isSuccess(m.code)
	o.mu.Lock()
	stale := !ends && !o.a.stream() && !fresher(o.seq, seq, now-o.at)
	if !stale && !ends {
		o.seq, o.at = seq, now
	}
	o.mu.Unlock()
	if stale {
		return
	}
	n := &notification{resp: newResponse(m)}
	if b, ok, err := findBlock(m.options, Block2); ok && err == nil && !ends {
		n.block2, n.more = b, b.more
	}
	n.resp.Payload = append([]byte(nil), m.payload...)
	if !n.more {
		n.resp.Size = int64(len(m.payload))
	}
	if ends {
		o.remove()
	}
	o.post(n)
}

// freshFor is the time after which any number is fresher.
const freshFor = 128 * time.Second

// fresher reports whether the number next is fresher than last, which came age ago (RFC 7641,
// section 3.4). An equal number in another message counts as fresher, because some peers do not
// increment it; duplicates are recognized by message id.
func fresher(last, next uint32, age time.Duration) bool {
	const half = 1 << 23
	return last <= next && next-last < half || last > next && last-next > half || age > freshFor
}

// gone ends the observation with its association.
func (o *Observation) gone() { o.post(&notification{}) }

func (o *Observation) post(n *notification) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return
	}
	for o.mailbox.len() >= maxMailbox {
		o.mailbox.pop()
	}
	o.mailbox.push(n)
	o.schedule()
}

// schedule starts the delivery of waiting notifications. o.mu is held.
func (o *Observation) schedule() {
	if o.started && !o.running && o.mailbox.len() > 0 {
		o.running = true
		o.e.spawn(o.a.origin, "notifications", o.deliver)
	}
}

// deliver delivers one notification after the other, until there is none, or until it must fetch
// the rest of one.
func (o *Observation) deliver() {
	returned := false
	defer func() {
		if !returned { // fn has ended the goroutine
			o.Forget()
		}
	}()
	o.deliverAll()
	returned = true
}

func (o *Observation) deliverAll() {
	for {
		o.mu.Lock()
		if o.mailbox.len() == 0 || o.over {
			o.running = false
			o.mu.Unlock()
			return
		}
		n := o.mailbox.pop()
		newer := o.mailbox.len() > 0
		o.mu.Unlock()

		switch {
		case n.more && newer:
			// The rest can no longer be fetched.
		case n.more:
			o.fetch(n)
			return
		case !o.hand(n.resp):
			return
		}
	}
}

func (o *Observation) notify(resp *Response) {
	_ = o.e.callback(o.a.origin, "notification", func() { o.fn(resp) })
}

// hand calls fn, and reports whether the observation continues.
func (o *Observation) hand(resp *Response) bool {
	if resp != nil && isSuccess(resp.Code) {
		o.notify(resp)
		return true
	}
	o.mu.Lock()
	over := o.over
	o.over = true
	o.mu.Unlock()
	if !over {
		o.notify(resp)
	}
	return false
}

// fetch gets the rest of a notification that is the first block of its body, with another token and
// without Observe (RFC 7959, section 2.6), and then continues deliver.
func (o *Observation) fetch(n *notification) {
	c := o.e.newCall(o.a.peer, &o.req, o.fetched)
	c.a = o.a
	o.mu.Lock()
	o.fetching = c
	o.mu.Unlock()
	c.resume(n.resp, n.block2)
}

func (o *Observation) fetched(resp *Response, err error) {
	o.mu.Lock()
	o.fetching = nil
	over := o.over
	o.mu.Unlock()
	switch {
	case over:
	case err != nil || !isSuccess(resp.Code):
		// The observation continues: the resource has changed in the meantime.
		o.e.log.Debug("coap: notification not fetched", "address", o.a.peer.Addr, "error", err)
	default:
		o.notify(resp)
	}
	o.deliver()
}

// Peer returns the observed peer.
func (o *Observation) Peer() Peer { return o.a.peer }

// Forget ends the observation here. The next notification is rejected with a Reset, which ends the
// observation at the peer. No call of fn begins after Forget.
func (o *Observation) Forget() {
	o.mu.Lock()
	o.over = true
	fetching := o.fetching
	o.mu.Unlock()
	o.remove()
	if fetching != nil {
		fetching.Cancel(errForgotten)
	}
}

var errForgotten = errors.New("coap: observation has ended")

func (o *Observation) remove() {
	o.a.mu.Lock()
	defer o.a.mu.Unlock()
	if all := o.a.peek().observations; all[o.token] == o {
		delete(all, o.token)
		o.a.trim()
	}
}

// GoCancel is Cancel without waiting; done may be nil.
func (o *Observation) GoCancel(done func(error)) *Call {
	o.Forget()
	c := o.cancellation(done)
	c.begin()
	return c
}

func (o *Observation) cancellation(done func(error)) *Call {
	c := o.e.newCall(o.a.peer, &o.req, func(_ *Response, err error) {
		if done != nil {
			done(err)
		}
	})
	c.a, c.o, c.unobserve = o.a, o, true
	return c
}
