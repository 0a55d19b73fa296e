package coap

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Go begins a request and returns at once. It calls done exactly once, when the request has ended,
// with what [Endpoint.Do] would return; errors are *[ExchangeError]. If the endpoint is closed and
// another function of the request does not return within [Config.Drain], done is not called. The
// call comes from a goroutine of the endpoint, never from Go itself, with no lock held; done must
// not block for long. The caller must not change r until then.
//
// A waiting request costs a kilobyte and its message, but no goroutine and no timer of the runtime.
// Its callbacks (Body, Into, Progress and so on) run one after the other, in goroutines that end
// when they are idle. A callback that panics ends the request with an error.
func (e *Endpoint) Go(p Peer, r *Request, done func(*Response, error)) *Call {
	c := e.newCall(p, r, done)
	c.begin()
	return c
}

// A Call is a request in progress.
type Call struct {
	e    *Endpoint
	p    Peer
	r    *Request
	done func(*Response, error)

	from *origin      // the gate waits for its calls, too
	a    *association // the request's peer; nil until the request begins: use p
	o    *Observation

	first transfer
	pause timer
	turn  chan struct{} // wakes the caller of Do, which attends to the call; nil: workers attend

	counted   bool // the gate waits for the call
	unobserve bool // the request cancels o
	retried   bool
	begins    bool // first is in use

	mu      sync.Mutex // taken with that of an association held, never the reverse
	t       *transfer
	cause   error // why it was cancelled
	running bool  // a goroutine attends to it
	due     bool  // the transfer has a step to take
	resting bool  // until pause expires
	over    bool
	resp    *Response // set with over
	err     error
	notices notices
}

func (e *Endpoint) newCall(p Peer, r *Request, done func(*Response, error)) *Call {
	c := &Call{e: e, p: p, r: r, done: done, running: true}
	c.counted = e.gate.enter(nil)
	c.pause.owner = c
	return c
}

// errCancelled is the cause if the caller gives none.
var errCancelled = fmt.Errorf("coap: request cancelled: %w", context.Canceled)

// Cancel ends the request with cause. After it returns, no message of the request is sent or
// retransmitted; bytes that a stream has accepted before may still leave. Unless the request has
// ended before, done is called with an *[ExchangeError] that wraps cause. Cancel may be called at
// any time, several times and from any goroutine, also from Notice; the first cause counts.
func (c *Call) Cancel(cause error) {
	if cause == nil {
		cause = errCancelled
	}
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	if c.cause == nil {
		c.cause = cause
	}
	c.stopResting()
	t := c.t
	c.mu.Unlock()
	if t == nil {
		return
	}
	// submit sees the cause, and sends no later transfer or message of the call.
	t.a.mu.Lock()
	t.a.conclude(&t.x, nil, cause)
	t.a.mu.Unlock()
}

// cancelled returns why the call was cancelled, or nil.
func (c *Call) cancelled() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// begin makes the transfer and takes its first step. c.running is set, so that no other goroutine
// attends to the call.
func (c *Call) begin() {
	c.prepare()
	c.begun()
}

// begun lets other goroutines attend to the call.
func (c *Call) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
	if c.due || c.over || len(c.notices.queue) > 0 {
		c.schedule()
	}
}

func (c *Call) prepare() {
	t := c.newTransfer()
	switch {
	case t == nil:
	case c.r.Body != nil:
		t.then = (*transfer).start // in a goroutine of the endpoint: Body may read from a disk
		c.wake()
	default:
		t.start(nil)
	}
}

// resume begins a request whose response has already come, with the first block of its body.
func (c *Call) resume(resp *Response, first block) {
	if t := c.newTransfer(); t != nil {
		payload := resp.Payload
		resp.Payload = nil
		t.collect(resp, first, payload)
	}
	c.begun()
}

// newTransfer makes the transfer, or ends the call and returns nil.
func (c *Call) newTransfer() *transfer {
	a, err := c.association()
	if err != nil {
		c.end(nil, &ExchangeError{Peer: c.p, Err: err})
		return nil
	}
	t, err := newTransfer(c, a)
	if err == nil && c.from == nil && a.origin != nil {
		if c.from = a.origin; !c.e.gate.enter(c.from) {
			c.from, err = nil, ErrPeerGone
		}
	}
	if err != nil {
		c.end(nil, &ExchangeError{Peer: c.p, Err: err})
		return nil
	}
	c.mu.Lock()
	c.t = t
	c.mu.Unlock()
	return t
}

func (c *Call) association() (*association, error) {
	if c.a != nil {
		return c.a, nil
	}
	if c.e.isClosed() {
		return nil, ErrClosed
	}
	return c.e.resolve(c.p)
}

// again begins the request once more if its idle association ended during the first attempt. It
// reports whether it did.
func (c *Call) again(t *transfer, err error) bool {
	if c.retried || c.a != nil || c.p.Transport != UDP || t.sent || !errors.Is(err, ErrPeerGone) {
		return false
	}
	c.retried = true
	c.prepare()
	return true
}

// end ends the call. Only done remains to be called.
func (c *Call) end(resp *Response, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over, c.resp, c.err = true, resp, err
		c.schedule()
	}
}

// wake makes the transfer take its next step. The association may be locked.
func (c *Call) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = true
	c.schedule()
}

// schedule starts a goroutine for the call, if it has none. c.mu is held.
func (c *Call) schedule() {
	if !c.running {
		c.running = true
		c.run()
	}
}

func (c *Call) run() {
	if c.turn != nil {
		c.turn <- struct{}{}
	} else {
		c.e.workers.attend(c)
	}
}

// attend takes the steps of the call, one after the other. It holds no lock, because it calls the
// user's functions. It reports whether done was called.
func (c *Call) attend() (ended bool) {
	returned := false
	defer func() {
		if !returned {
			c.crashed(recover())
		}
	}()
	for c.attendOnce() {
	}
	returned = true
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done == nil
}

// attendOnce takes one step, and reports whether another may follow.
func (c *Call) attendOnce() bool {
	c.mu.Lock()
	switch {
	case len(c.notices.queue) > 0:
		n := c.notices.next()
		c.mu.Unlock()
		if !c.late() {
			c.r.Notice(n)
		}
	case c.over:
		done, resp, err := c.done, c.resp, c.err
		c.done, c.resp, c.t = nil, nil, nil
		c.mu.Unlock()
		defer c.uncount()
		if c.turn != nil || !c.late() {
			done(resp, err)
		}
		return false // leaves running set: no goroutine attends from here on
	case c.due:
		c.due = false
		t, cause := c.t, c.cause
		c.mu.Unlock()
		if c.late() && cause == nil {
			cause = ErrClosed
		}
		t.step(cause)
	default:
		c.running = false
		c.mu.Unlock()
		return false
	}
	return true
}

// late reports whether the user's functions must no longer be called. A request that was not
// counted began after Close; done is the only way to report its failure.
func (c *Call) late() bool {
	return c.counted && !c.e.gate.open(c.from)
}

func (c *Call) uncount() {
	if c.from != nil {
		c.e.gate.leave(c.from)
	}
	if c.counted {
		c.e.gate.leave(nil)
	}
}

// crashed ends the call after a function of the user has panicked or, if v is nil, ended the
// goroutine.
func (c *Call) crashed(v any) {
	c.e.log.Error("coap: callback of a request panicked", "address", c.p.Addr, "panic", v, "stack", string(debug.Stack()))
	c.mu.Lock()
	t, called, over := c.t, c.done == nil, c.over
	c.mu.Unlock()
	if called {
		return
	}
	if !over {
		t.end(nil, fmt.Errorf("coap: callback panicked: %v", v))
	}
	c.run()
}
