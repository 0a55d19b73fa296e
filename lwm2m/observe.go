package lwm2m

import (
	"context"
	"fmt"
	"sync"

	"github.com/otago-iot/otago/internal/coap"
)

// maxPendingNotifications bounds the notifications that wait for a slow function; the oldest are dropped first.
const maxPendingNotifications = 16

// Observe asks the device to tell changes at and below path, and calls fn with the present values and then with each
// notification, one at a time, in order. fn may block, and then may miss values that were overtaken by newer ones.
// The observation ends with the registration: see [Observation.Done].
func (s *Server) Observe(ctx context.Context, endpoint string, path Path, fn func([]Entry), opts ...RequestOption) (*Observation, error) {
	if path.IsRoot() {
		return nil, fmt.Errorf("%w: the root cannot be observed", ErrPath)
	}
	o := newRequestOptions(opts)
	obs := s.newObservation(path, fn)
	_, err := s.do(ctx, &request{endpoint: endpoint, path: path, safe: true, opts: o, send: obs.begin,
		build: func(ss *session) (*coap.Request, error) {
			obs.codec = s.codec(ss)
			return &coap.Request{Code: coap.GET, Path: ss.segments(path), Accept: o.accept()}, nil
		}})
	return obs.result(err)
}

// ObserveComposite is Observe for several paths at once (LwM2M 1.1): a change at one is told with the values at all.
func (s *Server) ObserveComposite(ctx context.Context, endpoint string, paths []Path, fn func([]Entry), opts ...RequestOption) (*Observation, error) {
	o := newRequestOptions(opts)
	obs := s.newObservation(Path{}, fn)
	_, err := s.inFormats(o, compositeFormats, func(f ContentFormat) *request {
		return &request{endpoint: endpoint, safe: true, opts: o, send: obs.begin, build: s.composite(paths, f, &obs.codec)}
	}).do(ctx, s, endpoint)
	return obs.result(err)
}

// Observation is an observation that a [Server] made.
type Observation struct {
	server *Server
	path   Path
	codec  Codec // of the answers, set before the first
	fn     func([]Entry)
	done   chan struct{}
	device *device           // guarded by Server.mu
	peer   coap.Peer         // guarded by Server.mu
	remote *coap.Observation // guarded by Server.mu

	mu      sync.Mutex
	err     error
	ended   bool
	open    bool // the first values are in pending, so later ones may follow
	pending []*coap.Response
	early   []*coap.Response // notifications that came before open
	calling bool
}

func (s *Server) newObservation(path Path, fn func([]Entry)) *Observation {
	return &Observation{server: s, path: path, fn: fn, done: make(chan struct{})}
}

// begin sends the request that begins the observation.
func (o *Observation) begin(ctx context.Context, ss *session, msg *coap.Request) (*coap.Response, error) {
	o.mu.Lock()
	o.early = nil // of an attempt before this one
	o.mu.Unlock()
	remote, first, err := o.server.coap.Observe(ctx, ss.peer, msg, o.notified)
	if err != nil {
		return nil, err
	}
	if responseError(first, o.path) != nil {
		return first, nil
	}
	if remote == nil {
		o.finish(fmt.Errorf("%w: it answers %s, but tells no changes", ErrRefused, o.path))
		return first, nil
	}
	if !o.server.keep(o, ss, remote) {
		remote.Forget()
		o.finish(ErrNotRegistered)
		return first, nil
	}
	o.first(first)
	return first, nil
}

// keep makes the observation one of the device's, if its registration is still the one that was asked.
func (s *Server) keep(o *Observation, ss *session, remote *coap.Observation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := ss.device
	o.mu.Lock()
	ended := o.ended // a notification may have said so already
	o.mu.Unlock()
	if d.id != ss.id || d.peer != ss.peer || ended {
		return false
	}
	a := d.act()
	if a.observations == nil {
		a.observations = make(map[*Observation]struct{})
	}
	a.observations[o] = struct{}{}
	o.device, o.peer, o.remote = d, ss.peer, remote
	return true
}

// result returns what Observe returns.
func (o *Observation) result(err error) (*Observation, error) {
	if err == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.ended && !o.open {
			err = o.err
		}
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// first takes the answer to the request, which goes before notifications that overtook it.
func (o *Observation) first(resp *coap.Response) {
	o.mu.Lock()
	o.open = true
	early := o.early
	o.early = nil
	o.push(resp)
	for _, resp := range early {
		o.push(resp)
	}
	o.mu.Unlock()
}

// notified takes a notification. It does not block, as the network waits for it.
func (o *Observation) notified(resp *coap.Response) {
	if resp == nil {
		o.server.drop(o, ErrUnreachable)
		return
	}
	if err := responseError(resp, o.path); err != nil {
		o.server.drop(o, err)
		return
	}
	o.server.notified(o)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open {
		if len(o.early) < maxPendingNotifications {
			o.early = append(o.early, resp)
		}
		return
	}
	o.push(resp)
}

// push queues an answer for fn. o.mu is held.
func (o *Observation) push(resp *coap.Response) {
	if o.ended {
		return
	}
	if len(o.pending) == maxPendingNotifications {
		o.pending = o.pending[1:]
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
		if err != nil {
			o.server.log.Warn("notification not understood", "path", o.path, "error", err)
		} else {
			o.fn(entries)
		}
		o.mu.Lock()
	}
	o.calling = false
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

// Done is closed when the observation has ended: by Cancel, by the device, or with the registration (a new Register ends it
// too, and so does an Update from another address).
func (o *Observation) Done() <-chan struct{} { return o.done }

// Err returns nil while the observation lasts and after Cancel, ErrNotRegistered if the registration ended, ErrUnreachable if
// the device moved, or the device's *ResponseError.
func (o *Observation) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Cancel ends the observation and tells the device if it is there to be told, at the latest with its next notification.
// No call of fn begins after Cancel has returned.
func (o *Observation) Cancel(ctx context.Context) error {
	o.finish(nil)
	s := o.server
	s.mu.Lock()
	d, remote, peer := o.device, o.remote, o.peer
	o.device = nil
	if d == nil {
		s.mu.Unlock()
		return nil // it ended before
	}
	endpoint := d.endpoint
	if d.activity != nil {
		delete(d.activity.observations, o)
		d.trim()
	}
	s.mu.Unlock()

	ss, err := s.admit(ctx, endpoint, laneRequest, true)
	if err != nil {
		remote.Forget()
		return nil
	}
	defer s.release(ss)
	if ss.peer != peer {
		remote.Forget()
		return nil
	}
	if err := remote.Cancel(ss.ctx); err != nil {
		return (&request{endpoint: endpoint, path: o.path, safe: true}).failure(ss, err)
	}
	s.answered(ss)
	return nil
}

// notified notes that the device of an observation was heard.
func (s *Server) notified(o *Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := o.device; d != nil && d.active() && d.peer == o.peer {
		s.hear(d)
	}
}

// drop ends an observation that the device, or the transport, has ended.
func (s *Server) drop(o *Observation, err error) {
	s.mu.Lock()
	if d := o.device; d != nil && d.activity != nil {
		delete(d.activity.observations, o)
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
		// In its own goroutine: the endpoint may be calling notified, which wants s.mu, right now.
		go o.remote.Forget()
	}
	d.activity.observations = nil
}
