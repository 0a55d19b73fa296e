package coap

import "context"

// Do sends a request and returns the response, whatever its code. Bodies are transferred block-wise
// if necessary. Errors are *[ExchangeError]. Do is [Endpoint.Go] for a caller that waits: the
// caller's goroutine attends to the request. If ctx ends, the request is cancelled with the cause
// of ctx.
func (e *Endpoint) Do(ctx context.Context, p Peer, r *Request) (resp *Response, err error) {
	if err := overBefore(ctx, p); err != nil {
		return nil, err
	}
	e.newCall(p, r, func(got *Response, failed error) { resp, err = got, failed }).do(ctx)
	return resp, err
}

// Observe registers fn for the notifications of a resource and returns the first response. The
// observation is nil if the peer answered without observing. fn is called for one notification at a
// time, in the order of their freshness; stale ones are dropped, and so are the oldest of too many
// that wait for a slow fn. If the observation ends other than by Cancel or Forget, fn is called a
// last time, with nil or with a response that is not a success.
func (e *Endpoint) Observe(ctx context.Context, p Peer, r *Request, fn func(*Response)) (o *Observation, resp *Response, err error) {
	if err := overBefore(ctx, p); err != nil {
		return nil, nil, err
	}
	e.newObservation(p, r, fn, func(made *Observation, got *Response, failed error) { o, resp, err = made, got, failed }).do(ctx)
	return o, resp, err
}

// Cancel ends the observation with a request (Observe: 1). A stream needs the request; a datagram
// peer saves its next notification.
func (o *Observation) Cancel(ctx context.Context) (err error) {
	o.Forget()
	if err := overBefore(ctx, o.a.peer); err != nil {
		return err
	}
	o.cancellation(func(failed error) { err = failed }).do(ctx)
	return err
}

// overBefore returns the error of a request whose context ended before the request began.
func overBefore(ctx context.Context, p Peer) error {
	if ctx.Err() == nil {
		return nil
	}
	return &ExchangeError{Peer: p, Err: context.Cause(ctx)}
}

// do begins the call and attends to it until it has ended.
func (c *Call) do(ctx context.Context) {
	c.turn = make(chan struct{}, 1)
	c.begin()
	for cancelled := ctx.Done(); ; {
		select {
		case <-c.turn:
			if c.attend() {
				return
			}
		case <-cancelled:
			c.Cancel(context.Cause(ctx))
			cancelled = nil
		}
	}
}
