package coap

import (
	"context"
	"sync"
	"time"
)

// Observation is an observation of ours at a peer (RFC 7641).
type Observation struct {
	e     *Endpoint
	a     *association
	token token
	req   Request // without body: to fetch what does not fit a notification
	fn    func(*Response)

	mu      sync.Mutex
	over    bool
	any     bool
	seq     uint32
	at      time.Duration
	mailbox fifo[*notification]
	running bool
	started bool // the first response was handed over
}

// notification waits to be handed over. Without response the observation has
// ended.
type notification struct {
	resp   *Response
	block2 block
	more   bool
}

// maxMailbox is how many notifications may wait for fn; older ones are left
// out.
const maxMailbox = 16

// Observe registers fn for the notifications of a resource and returns the
// first response. The observation is nil when the peer answered without
// observing. fn is called for one notification after the other, in the order
// of their freshness; older ones are left out, and when fn is slow the oldest
// that wait. The last call, with nil or with a response that is not a success,
// says that the observation has ended other than by Cancel or Forget.
func (e *Endpoint) Observe(ctx context.Context, p Peer, r *Request, fn func(*Response)) (*Observation, *Response, error) {
	o := &Observation{e: e, token: e.random.token(), req: *r, fn: fn}
	o.req.Progress, o.req.Into, o.req.Body = nil, nil, nil
	o.req.Path, o.req.Queries = append([]string(nil), r.Path...), append([]string(nil), r.Queries...)
	resp, err := e.do(ctx, p, r, o)
	o.mu.Lock()
	established := o.any && !o.over
	o.mu.Unlock()
	if err != nil {
		if o.a != nil {
			o.Forget()
		}
		return nil, nil, err
	}
	if !established {
		return nil, resp, nil
	}
	o.mu.Lock()
	o.started = true
	o.schedule()
	o.mu.Unlock()
	return o, resp, nil
}

// establish enters the observation if the response says that there is one.
// a.mu is held.
func (a *association) establish(o *Observation, m *wireMessage) {
	seq, ok := Uint(m.options, Observe)
	if !ok || !isSuccess(m.code) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.a = a
	o.any, o.seq, o.at = true, seq, a.e.timers.now()
	if a.observations == nil {
		a.observations = make(map[token]*Observation)
	}
	a.observations[o.token] = o
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
	if ends {
		o.remove()
	}
	o.post(n)
}

// freshFor is the time after which any number is fresher.
const freshFor = 128 * time.Second

// fresher reports whether the number next is fresher than last, which came age
// ago (RFC 7641, section 3.4).
func fresher(last, next uint32, age time.Duration) bool {
	const half = 1 << 23
	return last < next && next-last < half || last > next && last-next > half || age > freshFor
}

// push ends the observation with its association.
func (o *Observation) push(*Response) { o.post(&notification{}) }

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

// schedule hands over what waits. o.mu is held.
func (o *Observation) schedule() {
	if o.started && !o.running && o.mailbox.len() > 0 {
		o.running = true
		go o.deliver()
	}
}

func (o *Observation) deliver() {
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

		resp := n.resp
		if n.more {
			if newer {
				continue // its rest can not be had any more
			}
			var err error
			if resp, err = o.fetch(n); err != nil || !isSuccess(resp.Code) {
				// Not the end of the observation: it has changed meanwhile.
				o.e.log.Debug("coap: notification not fetched", "peer", o.a.peer.Addr, "error", err)
				continue
			}
		}
		if resp == nil || !isSuccess(resp.Code) {
			o.mu.Lock()
			over := o.over
			o.over = true
			o.mu.Unlock()
			if !over {
				o.fn(resp)
			}
			return
		}
		o.fn(resp)
	}
}

// fetch gets the rest of a notification that is the first block of its body,
// with another token and without Observe (RFC 7959, section 2.6).
func (o *Observation) fetch(n *notification) (*Response, error) {
	return o.e.resume(o.a.link.context(), o.a, &o.req, n.resp, n.block2)
}

// Peer returns whom the observation is with.
func (o *Observation) Peer() Peer { return o.a.peer }

// Forget ends the observation here: the next notification is rejected with a
// Reset, which ends it at the peer. fn is not called again, except by a call
// that is under way.
func (o *Observation) Forget() {
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
	o.remove()
}

func (o *Observation) remove() {
	o.a.mu.Lock()
	defer o.a.mu.Unlock()
	if o.a.observations[o.token] == o {
		delete(o.a.observations, o.token)
	}
}

// Cancel ends the observation with a request (Observe: 1), as is needed on a
// stream, and polite elsewhere.
func (o *Observation) Cancel(ctx context.Context) error {
	o.Forget()
	_, err := o.e.cancelObservation(ctx, o)
	return err
}
