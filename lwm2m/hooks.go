package lwm2m

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/work"
)

// hook is a function of [Server.Before].
type hook struct {
	fn func(Request) func(context.Context) error
}

// Before makes the server call fn for each request that changes a device's objects, whichever part
// of the program makes it: writes other than OpWriteAttributes, Execute, Create and Delete. The
// server calls fn at the request's turn, before its first message, and again if the device moves or
// falls asleep before a message was sent.
//
// fn must be quick. It returns nil if it has nothing to do, else a function that may block, for
// example until a record is durable; the request, and with it the device's later requests, waits
// for that function. Its context ends with the request. If it returns an error, the request ends:
// nothing is sent, and the request's error matches it. Several functions are called one after the
// other, in the order of the calls of Before. If one panics the panic is logged, and the request
// ends with [ErrInternal]. fn is not called for requests whose turn comes after stop was called.
func (s *Server) Before(fn func(Request) func(context.Context) error) (stop func()) {
	h := &hook{fn: fn}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = append(slices.Clip(s.before), h) // prepare may hold the slice
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.before = slices.DeleteFunc(slices.Clone(s.before), func(other *hook) bool { return other == h })
	}
}

var errHook = fmt.Errorf("%w: a function of Server.Before panicked", ErrInternal)

// prepare calls hooks, and then sends the request unless one has failed. It runs in a goroutine of
// the workers, which a hook may end (runtime.Goexit).
func (c *Call) prepare(round uint32, hooks []*hook) {
	s := c.server
	for _, h := range hooks {
		s.mu.Lock()
		turn := c.hasTurn(round)
		s.mu.Unlock()
		if !turn {
			return
		}
		var block func(context.Context) error
		err := errHook
		failed := func() { c.hookFailed(round, err) }
		s.guardHere("Server.Before", func() { block, err = h.fn(c.request), nil }, failed)
		if err == nil && block != nil {
			err = errHook
			ctx, cancel := context.WithCancelCause(context.Background())
			s.mu.Lock()
			if c.hasTurn(round) {
				c.stopHook = cancel
			} else {
				cancel(nil) // the call has ended meanwhile
			}
			s.mu.Unlock()
			s.guardHere("Server.Before", func() {
				defer cancel(nil)
				err = block(ctx)
			}, failed)
		}
		if err != nil {
			failed()
			return
		}
	}
	s.mu.Lock()
	if c.hasTurn(round) {
		c.stopHook = nil
	}
	s.mu.Unlock()
	c.send(round)
}

// hasTurn reports whether a call may be sent in a round. s.mu is held.
func (c *Call) hasTurn(round uint32) bool { return c.phase == phaseGranted && c.round == round }

// hookFailed ends a call because of a hook, unless it has ended meanwhile.
func (c *Call) hookFailed(round uint32, err error) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.hasTurn(round) {
		c.stopHook = nil
		s.finish(c, Answer{Err: &requestError{endpoint: c.request.Endpoint, path: c.request.about(), kind: err}})
	}
}

// maxHandshakes bounds the reports of failed handshakes that wait.
const maxHandshakes = 256

// handshakes reports handshakes that failed.
type handshakes struct {
	calls   work.Pool // one at a time, so that they stay in order
	waiting atomic.Int32
	fns     []*func(netip.AddrPort, error) // guarded by Server.mu
}

// OnHandshakeFailed makes the server call fn with the address of a peer whose handshake of DTLS or
// TLS failed, and the reason, for example an unknown identity, until stop is called. It covers only
// peers whose address is verified. Calls come one after the other; while 256 wait, the server drops
// further ones. For metrics use [ServerHooks].
func (s *Server) OnHandshakeFailed(fn func(addr netip.AddrPort, err error)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.handshakes
	h.fns = append(slices.Clip(h.fns), &fn)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.fns = slices.DeleteFunc(slices.Clone(h.fns), func(other *func(netip.AddrPort, error)) bool { return other == &fn })
	}
}

// handshakeFailed is called by the endpoint, and does not block.
func (s *Server) handshakeFailed(t coap.Transport, addr netip.AddrPort, claimed string, err error) {
	s.tally.failedHandshakes.Add(1)
	s.traces.failed(t, addr, claimed, err)
	id := Identity{}
	if claimed != "" {
		id = Identity{Kind: IdentityPSK, Name: claimed}
	}
	s.refusals.note(Refusal{What: "handshake", Identity: id, Address: addr, Transport: Transport(t)}, err, s.wall())
	if f := s.config.Hooks.Handshake; f != nil {
		s.hook("ServerHooks.Handshake", func() { f(Transport(t), addr, id, err) })
	}
	s.mu.Lock()
	fns := s.handshakes.fns
	s.mu.Unlock()
	h := &s.handshakes
	if len(fns) == 0 {
		return
	}
	if h.waiting.Load() >= maxHandshakes {
		s.dropped(DropHandshake)
		return
	}
	h.waiting.Add(1)
	h.calls.Run(func() {
		defer h.waiting.Add(-1)
		for _, fn := range fns {
			s.guard("OnHandshakeFailed", func() { (*fn)(addr, err) })
		}
	})
}
