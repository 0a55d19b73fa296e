package lwm2m

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/otago-iot/otago/internal/coap"
)

// maxPendingNotifications bounds the notifications that wait for a slow function; the oldest are
// dropped first.
const maxPendingNotifications = 16

// Observation is an observation that a [Server] made.
type Observation struct {
	server   *Server
	endpoint string
	path     Path
	codec    codec // of the answers, set before the first
	fn       func([]Entry)
	done     chan struct{}
	follow   bool              // for Follows: [Server.Follow]
	device   *device           // guarded by Server.mu
	peer     coap.Peer         // guarded by Server.mu
	remote   *coap.Observation // guarded by Server.mu

	mu      sync.Mutex
	err     error
	ended   bool
	pending []*coap.Response
	calling bool
}

func (s *Server) newObservation(ss *session, r *Request) *Observation {
	own := *ss // without the message
	return &Observation{server: s, endpoint: r.Endpoint, path: r.about(), codec: s.codec(&own), fn: r.Values, done: make(chan struct{})}
}

// observed handles the end of the exchange that starts an observation.
func (c *Call) observed(ss *session, o *Observation, remote *coap.Observation, resp *coap.Response, err error) {
	switch {
	case err != nil:
		c.failed(ss, err)
	case !c.accepted(ss, resp):
	case remote == nil:
		c.server.unobserved(ss, o, resp)
		c.end(Answer{Err: fmt.Errorf("%w: it answers %s, but does not observe it", ErrRefused, o.path)})
	case !c.server.keep(o, ss, remote):
		remote.Forget()
		c.end(Answer{Err: fmt.Errorf("%w where it was asked: %s", ErrNotRegistered, c.request.Endpoint)})
	default:
		// The values come before those of notifications, which come when this has returned.
		c.server.passFirst(o, resp)
		a := Answer{Observation: o}
		if !o.follow {
			o.push(resp)
			a.Entries, _ = o.codec.answer(resp, o.path) // deliver logs the error
		}
		c.end(a)
	}
}

// keep adds the observation to the device, if the device still has the registration and the address
// of the request.
func (s *Server) keep(o *Observation, ss *session, remote *coap.Observation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := ss.device
	if d.id != ss.id || d.peer != ss.peer || !d.reachable {
		return false
	}
	a := d.act()
	if a.observations == nil {
		a.observations = make(map[*Observation]struct{})
	}
	a.observations[o] = struct{}{}
	o.device, o.peer, o.remote = d, ss.peer, remote
	if !o.follow {
		s.superseded(d, o)
	}
	return true
}

// notified handles a notification. It must not block: the endpoint waits for it.
func (o *Observation) notified(resp *coap.Response) {
	if resp == nil {
		o.server.drop(o, ErrUnreachable)
		return
	}
	if err := responseError(resp, o.path); err != nil {
		o.server.drop(o, err)
		return
	}
	o.server.notified(o, resp)
	if !o.follow {
		o.push(resp)
	}
}

// push queues an answer for fn.
func (o *Observation) push(resp *coap.Response) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	if len(o.pending) == maxPendingNotifications {
		o.pending = o.pending[1:]
		o.server.dropped(DropNotification)
	}
	o.pending = append(o.pending, resp)
	if !o.calling {
		o.calling = true
		go o.deliver()
	}
}

// deliver calls fn until nothing is pending.
func (o *Observation) deliver() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) > 0 && !o.ended {
		resp := o.pending[0]
		o.pending = o.pending[1:]
		o.mu.Unlock()
		entries, err := o.codec.answer(resp, o.path)
		switch {
		case err != nil:
			o.server.notUnderstood(o.endpoint, o.path, err)
		case o.fn != nil:
			o.server.guard("Values", func() { o.fn(entries) })
		}
		o.mu.Lock()
	}
	o.calling = false
}

func (s *Server) notUnderstood(endpoint string, path Path, err error) {
	s.log.Warn("notification not understood", slog.String("endpoint", endpoint), slog.Any("path", path), slog.Any("error", err))
}

// finish ends the observation; the first reason counts.
func (o *Observation) finish(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.ended, o.err = true, err
		close(o.done)
	}
}

// Done is closed when the observation has ended: by Cancel, by the device, or with the
// registration. A new Register ends it too, and so does an Update from another address.
func (o *Observation) Done() <-chan struct{} { return o.done }

// Err returns nil while the observation lasts and after Cancel, ErrNotRegistered if the
// registration ended, ErrUnreachable if the device moved, or the device's *ResponseError.
func (o *Observation) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Cancel ends the observation, and the device's part of it if the device is reachable; if not, the
// server rejects the device's next notification. No call of fn begins after Cancel has returned.
func (o *Observation) Cancel(ctx context.Context) error {
	done := make(chan Answer, 1)
	c := o.forget(func(a Answer) { done <- a }, true)
	if c == nil {
		return nil // it ended before
	}
	return c.wait(ctx, done).Err
}

// Drop is Cancel without waiting: done, unless it is nil, is called with the result of Cancel, in
// the same way as the done of [Server.Go]. No call of the observation's function begins after Drop
// has returned.
func (o *Observation) Drop(done func(error)) {
	var answered func(Answer)
	if done != nil {
		answered = func(a Answer) { done(a.Err) }
	}
	if o.forget(answered, false) == nil && done != nil {
		s := o.server
		s.callbacks.Run(func() { s.guard("done", func() { done(nil) }) })
	}
}

// forget ends the observation, and makes a call that ends it on the device; nil if the observation
// had ended before.
func (o *Observation) forget(done func(Answer), direct bool) *Call {
	o.finish(nil)
	s := o.server
	s.mu.Lock()
	d, remote := o.device, o.remote
	o.device = nil
	if d == nil {
		s.mu.Unlock()
		return nil
	}
	if d.activity != nil {
		delete(d.activity.observations, o)
		s.observationLost(d, o, nil)
		d.trim()
	}
	s.mu.Unlock()
	remote.Forget() // from now on the endpoint rejects notifications
	c := &Call{
		server: s, request: Request{Endpoint: d.endpoint, Operation: opForget, Path: o.path, NoWait: true},
		sink: sink{done: done, direct: direct}, forget: o,
	}
	s.begin(c)
	return c
}

// notified records contact with the device of an observation, and passes the values to Follows.
func (s *Server) notified(o *Observation, resp *coap.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := o.device; d != nil && d.active() && d.peer == o.peer {
		s.hear(d)
		s.pass(d, o, resp, false)
	}
}

// drop ends an observation that the device, or the transport, has ended.
func (s *Server) drop(o *Observation, err error) {
	s.mu.Lock()
	if d := o.device; d != nil && d.activity != nil {
		delete(d.activity.observations, o)
		s.observationLost(d, o, err)
		if d.activity.follow != nil {
			s.pursue(d)
		}
		d.trim()
	}
	o.device = nil
	s.mu.Unlock()
	o.finish(err)
}

// endObservations ends all observations of a device. s.mu is held.
func (s *Server) endObservations(d *device, err error) {
	if d.activity == nil {
		return
	}
	for o := range d.activity.observations {
		o.device = nil
		o.finish(err)
		// Not here: the endpoint may be in notified, which waits for s.mu.
		s.starts.Run(o.remote.Forget)
	}
	d.activity.observations = nil
	if d.activity.follow != nil {
		d.activity.follow.lost()
	}
}
