package lwm2m

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/work"
)

// ServerHooks are functions for metrics and traces. Each may be nil, and then costs nothing.
//
// Hooks are called one after the other, in the order of the events, in a goroutine of their own. A
// hook that blocks delays the later hooks; it delays no device and no request. Up to 4096 calls
// wait; further ones are dropped, which is logged and counted (DropHook). A hook that panics is
// logged. Calls that wait when the server ends are still made.
type ServerHooks struct {
	// Handshake is called when a handshake of DTLS or TLS with a device has ended. id is the
	// identity that the device has proven, of a certificate the first name. If err is not nil the
	// handshake failed, and id is the key's identity that the device claims, at most 128 bytes of
	// it, or zero if it claims none. Only failures of peers whose address is verified are reported,
	// at most 100 in a second.
	Handshake func(t Transport, addr netip.AddrPort, id Identity, err error)
	// Refused is called when the server refuses a Register, an Update, a De-register or a Send. r
	// holds what is known of the sender: the Endpoint that the device claims, "" if none; its
	// proven Identity, zero if none; Address, Local and Transport. err says why, and matches the
	// category of the answer, such as [ErrForbidden].
	Refused func(r Registration, err error)
	// Registration is called with the events of [Server.Watch], each Update separately. It must not
	// change Entries.
	Registration func(e RegistrationEvent)
	// Request is called when a request to a device has ended.
	Request func(r RequestEnd)
	// Retransmission is called when the server sends a message again because it was not
	// acknowledged. endpoint is "" if no registered device is at addr.
	Retransmission func(endpoint string, t Transport, addr netip.AddrPort)
	// Queue is called after the numbers of requests to all devices have changed: those that wait,
	// for their turn or for a sleeping device, and those that are under way. Changes in quick
	// succession cause one call.
	Queue func(waiting, underWay int)
	// Dropped is called when the server had no room for n items of the kind what: DropNotification
	// or another of the constants.
	Dropped func(what string, n int)
}

// The kinds for [ServerHooks].Dropped.
const (
	// DropNotification: the values of a notification, since the function of an Observe did not
	// return.
	DropNotification = "notification"
	// DropRequest: a request of a device. Over UDP and DTLS the device sends it again.
	DropRequest = "request"
	// DropHandshake: a call of a function of [Server.OnHandshakeFailed].
	DropHandshake = "handshake"
	// DropHook: a call of a hook.
	DropHook = "hook"
)

// RequestEnd says how a [Request] ended.
type RequestEnd struct {
	Endpoint  string
	Operation Operation
	Path      Path // the root for composites
	// Code is the code of the device's answer, such as 2.05 or 4.04; 0 if none came.
	Code ResponseCode
	// Err is the Err of the [Answer].
	Err error
	// Waited is the time from the call to the first message: behind other requests, for a sleeping
	// device, in functions of [Server.Before]. Took is the time from there to the end, 0 if no
	// message was sent.
	Waited, Took time.Duration
}

// maxHookCalls bounds the calls of hooks that wait.
const maxHookCalls = 4096

// hookCalls are the calls of hooks that wait.
type hookCalls struct {
	calls     work.Pool // one at a time, so that the calls stay in order
	waiting   atomic.Int32
	left      atomic.Int64 // dropped calls that Dropped has not reported
	warned    atomic.Bool  // the log has a warning; false again when no call waits
	queueSaid bool         // a call of Queue waits; guarded by Server.mu
}

// hook runs f, which calls a hook, and does not wait for it. It reports false if too many calls
// wait.
func (s *Server) hook(name string, f func()) bool {
	h := &s.hooks
	if h.waiting.Add(1) > maxHookCalls {
		h.waiting.Add(-1)
		h.left.Add(1)
		s.tally.hooks.Add(1)
		if !h.warned.Swap(true) {
			s.log.Warn("hooks do not return in time; calls are left out", slog.String("function", name))
		}
		return false
	}
	h.calls.Run(func() {
		s.guard(name, f)
		if h.waiting.Add(-1) == 0 {
			h.warned.Store(false)
		}
		if n := h.left.Swap(0); n > 0 && s.config.Hooks.Dropped != nil {
			s.guard("ServerHooks.Dropped", func() { s.config.Hooks.Dropped(DropHook, int(n)) })
		}
	})
	return true
}

// dropped reports that the server had no room for one of what.
func (s *Server) dropped(what string) {
	switch what {
	case DropNotification:
		s.tally.notifications.Add(1)
	case DropRequest:
		s.tally.requests.Add(1)
	case DropHandshake:
		s.tally.reports.Add(1)
	}
	if f := s.config.Hooks.Dropped; f != nil {
		s.hook("ServerHooks.Dropped", func() { f(what, 1) })
	}
}

// queueChanged reports how many requests there are. s.mu is held.
func (s *Server) queueChanged() {
	f := s.config.Hooks.Queue
	if f == nil || s.hooks.queueSaid {
		return
	}
	s.hooks.queueSaid = s.hook("ServerHooks.Queue", func() {
		s.mu.Lock()
		s.hooks.queueSaid = false
		waiting, running := s.waiting, s.running
		s.mu.Unlock()
		f(waiting, running)
	})
}

// requestEnded reports how a call ended. s.mu is held.
func (s *Server) requestEnded(c *Call, err error) {
	f := s.config.Hooks.Request
	if f == nil || c.request.Operation == opForget {
		return
	}
	end := RequestEnd{
		Endpoint: c.request.Endpoint, Operation: c.request.Operation, Path: c.request.about(), Code: c.code, Err: err,
		Waited: s.now() - c.began,
	}
	if c.sent > 0 {
		end.Waited, end.Took = c.sent-c.began, s.now()-c.sent
	}
	s.hook("ServerHooks.Request", func() { f(end) })
}

// coapHooks are the hooks of the endpoint, which calls them with its locks held.
func (s *Server) coapHooks() (hooks coap.Hooks) {
	hooks.Associated = func(p coap.Peer, proven *dtls.Identity) {
		s.tally.handshakes.Add(1)
		if f := s.config.Hooks.Handshake; f != nil {
			s.hook("ServerHooks.Handshake", func() { f(Transport(p.Transport), p.Addr, firstIdentity(proven), nil) })
		}
	}
	hooks.Retransmitted = func(p coap.Peer) {
		s.tally.retransmissions.Add(1)
		if f := s.config.Hooks.Retransmission; f != nil {
			s.hook("ServerHooks.Retransmission", func() { f(s.endpointAt(p), Transport(p.Transport), s.coap.RemoteAddr(p)) })
		}
	}
	hooks.Rejected = s.stirred
	hooks.TurnedAway = func(coap.Peer) { s.dropped(DropRequest) }
	return hooks
}

// endpointAt returns the endpoint of the device at a peer, "" if there is none.
func (s *Server) endpointAt(p coap.Peer) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.table.byPeer.Get(p); d != nil {
		return d.endpoint
	}
	return ""
}

// refused logs that the server refused a request of a device, and calls the hook.
func (s *Server) refused(level slog.Level, what string, r Registration, err error) {
	s.tally.refusals.Add(1)
	if r.Endpoint != "" || what == refusedRegister { // else a device whose registration has ended, which registers again
		s.refusals.note(Refusal{
			What: strings.TrimSuffix(what, " refused"), Endpoint: r.Endpoint, Identity: r.Identity, Address: r.Address, Transport: r.Transport,
		}, err, s.wall())
	}
	s.log.Log(context.Background(), level, what, slog.String("endpoint", r.Endpoint), slog.String("identity", r.Identity.String()),
		slog.Any("address", r.Address), slog.String("transport", r.Transport.String()), slog.Any("error", err))
	if f := s.config.Hooks.Refused; f != nil {
		s.hook("ServerHooks.Refused", func() { f(r, err) })
	}
}
