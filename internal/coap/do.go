package coap

import "context"

// Do sends a request and returns the response, whatever its code. The bodies
// of both go block-wise where they must. Errors are *[ExchangeError]. It waits
// for what [Endpoint.Go] has begun, and cancels it with the cause of ctx when
// that ends.
func (e *Endpoint) Do(ctx context.Context, p Peer, r *Request) (*Response, error) {
	if err := overBefore(ctx, p); err != nil {
		return nil, err
	}
	type result struct {
		resp *Response
		err  error
	}
	done := make(chan result, 1)
	c := e.Go(p, r, func(resp *Response, err error) { done <- result{resp, err} })
	res := await(ctx, c, done)
	return res.resp, res.err
}

// Observe registers fn for the notifications of a resource and returns the
// first response. The observation is nil when the peer answered without
// observing. fn is called for one notification after the other, in the order
// of their freshness; older ones are left out, and when fn is slow the oldest
// that wait. The last call, with nil or with a response that is not a success,
// says that the observation has ended other than by Cancel or Forget.
func (e *Endpoint) Observe(ctx context.Context, p Peer, r *Request, fn func(*Response)) (*Observation, *Response, error) {
	if err := overBefore(ctx, p); err != nil {
		return nil, nil, err
	}
	type result struct {
		o    *Observation
		resp *Response
		err  error
	}
	done := make(chan result, 1)
	c := e.GoObserve(p, r, fn, func(o *Observation, resp *Response, err error) { done <- result{o, resp, err} })
	res := await(ctx, c, done)
	return res.o, res.resp, res.err
}

// Cancel ends the observation with a request (Observe: 1), as is needed on a
// stream, and polite elsewhere.
func (o *Observation) Cancel(ctx context.Context) error {
	if err := overBefore(ctx, o.a.peer); err != nil {
		o.Forget()
		return err
	}
	done := make(chan error, 1)
	c := o.GoCancel(func(err error) { done <- err })
	return await(ctx, c, done)
}

// overBefore returns the error of a request whose context has ended before it
// began.
func overBefore(ctx context.Context, p Peer) error {
	if ctx.Err() == nil {
		return nil
	}
	return &ExchangeError{Peer: p, Err: context.Cause(ctx)}
}

// await waits for what done of a call says, and cancels the call when ctx ends.
func await[T any](ctx context.Context, c *Call, done <-chan T) T {
	select {
	case v := <-done:
		return v
	case <-ctx.Done():
		c.Cancel(context.Cause(ctx))
		return <-done
	}
}
