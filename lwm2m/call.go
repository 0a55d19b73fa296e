package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// A Call is a [Request] given to [Server.Go]. While it waits it is an entry in the queue of its
// device.
type Call struct {
	server  *Server
	request Request
	lane    lane
	sink    sink // where notices and the answer go

	// Guarded by Server.mu.
	phase     callPhase
	round     uint32                  // how often its turn has come
	device    *device                 // the device whose queue holds the call
	interrupt error                   // why this round ends early
	cancelled error                   // why the call ends early
	began     time.Duration           // when Go was called
	sent      time.Duration           // when it was first given to the endpoint; 0 before
	code      ResponseCode            // of the last answer
	stopHook  context.CancelCauseFunc // cancels the running function of Server.Before
	launched  bool                    // its turn came at once: begin sends it

	// What this round has tried. Only one goroutine at a time makes or reads a message, and uses
	// these.
	formats []ContentFormat
	format  int
	refused error // why the formats tried so far failed

	follow *following   // the device's, if Follows made the call
	stirs  bool         // asks whether a device that seems to sleep is awake
	forget *Observation // the observation that opForget ends
	asked  bool         // opForget was sent to the device

	// mu is held while a message is made and given to the endpoint, so that Cancel finds the
	// exchange to stop.
	mu         sync.Mutex
	inner      *coap.Call
	innerRound uint32
}

type callPhase uint8

const (
	phaseNew     callPhase = iota
	phaseWaiting           // in the queue
	phaseGranted           // its turn: functions of Server.Before run, or it is about to be sent
	phaseSent              // the endpoint has it
	phaseEnded
)

// session is the state of the device at the turn of a request.
type session struct {
	device *device
	round  uint32
	peer   coap.Peer
	id     string // of the registration
	root   string // prefix of paths on the device, may be empty
	links  *text  // its objects
	lwm2m  Version
}

// turn is a session with room for the message.
type turn struct {
	session
	msg  coap.Request
	path [4]string // of msg
}

// Go makes a request and calls done with its answer, once. It does not wait for the device, and a
// request that waits, for its turn or for an answer, holds no goroutine. Only the first use of a
// server blocks, until it has loaded the registrations.
//
// The server calls done and [Request.Notice] one after the other, in goroutines of its own and
// without a lock, never from within a method call. They must not block: if 256 of them do, all
// requests wait. A panic is logged.
func (s *Server) Go(r Request, done func(Answer)) *Call {
	c := &Call{server: s, request: r, sink: sink{done: done}}
	s.begin(c)
	return c
}

// Cancel ends the request with cause; nil stands for [context.Canceled]. Once Cancel has returned,
// no further message of the request is sent. Unless the request had ended before, the answer's Err
// matches cause, and also [ErrDeliveryUnknown] if the request was sent and may have been carried
// out.
func (c *Call) Cancel(cause error) {
	if cause == nil {
		cause = context.Canceled
	}
	s := c.server
	s.mu.Lock()
	if c.phase != phaseSent {
		s.finish(c, Answer{Err: cause})
		s.mu.Unlock()
		return
	}
	if c.cancelled == nil {
		c.cancelled = cause
	}
	s.mu.Unlock()
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		inner.Cancel(cause)
	}
}

// begin puts a new call into the queue of its device, or ends it.
func (s *Server) begin(c *Call) {
	err := c.request.check()
	if err == nil {
		s.ensureLoaded()
	}
	s.mu.Lock()
	c.lane, c.began = c.request.lane(), s.now()
	if err != nil {
		s.finish(c, Answer{Err: err})
		s.mu.Unlock()
		return
	}
	s.beginning = c
	s.enqueue(c, false)
	s.beginning = nil
	now := c.launched
	s.mu.Unlock()
	if now {
		c.sink.skip(c.request.SkipSent)
		c.send(1)
		c.sink.skip(false)
	}
}

// Sent reports whether the first message of a request that has a Notice has gone out.
func (c *Call) Sent() bool {
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	return c.sink.sent
}

// enqueue puts a call into the queue of its device, or ends it if waiting is pointless. s.mu is
// held.
func (s *Server) enqueue(c *Call, front bool) {
	endpoint := c.request.Endpoint
	d := s.table.byEndpoint.Get(endpoint)
	var err error
	switch {
	case d == nil || !d.active():
		err = ErrNotRegistered
	case !d.queue() && !d.reachable:
		err = ErrUnreachable
	case c.request.NoWait && d.queue() && (!d.awake && !c.stirs || !d.reachable):
		err = ErrAsleep
	}
	if err != nil {
		s.finish(c, Answer{Err: fmt.Errorf("%w: %s", err, endpoint)})
		return
	}
	c.device, c.phase = d, phaseWaiting
	if c.stirs {
		s.waiting++
		q := &d.act().queue
		q.running = append(q.running, c)
		s.launch(c)
		return
	}
	d.act().queue.add(c, front)
	if c.follow == nil {
		s.followYields(d)
	}
	s.waiting++
	s.grant(d)
	s.queueChanged()
}

// launch begins the turn of a call that was granted. s.mu is held.
func (s *Server) launch(c *Call) {
	c.phase, c.interrupt = phaseGranted, nil
	s.waiting--
	s.running++
	s.queueChanged()
	c.round++
	c.formats, c.format, c.refused = nil, 0, nil
	round := c.round
	if len(s.before) > 0 && c.request.Operation.hooked() {
		hooks := s.before
		s.workers.Go(func() { c.prepare(round, hooks) })
		return
	}
	if c == s.beginning && c.request.Body == nil {
		c.launched = true // begin sends it: only reading a Body may block
		return
	}
	s.starts.Run(func() { c.send(round) })
}

// send makes a message and gives it to the endpoint, unless the call has ended or the device has
// moved.
func (c *Call) send(round uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, reg := c.server.depart(c, round)
	if t == nil {
		return
	}
	msg, err := c.message(t, reg)
	if err != nil {
		c.end(Answer{Err: err})
		return
	}
	c.transmit(&t.session, msg)
}

// depart marks a call as sent. It returns nil if the call must not be sent now. The registration is
// set only if it is needed to choose a format.
func (s *Server) depart(c *Call, round uint32) (*turn, Registration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.phase != phaseGranted && c.phase != phaseSent || c.round != round {
		return nil, Registration{}
	}
	if err := c.cancelled; err != nil {
		s.finish(c, Answer{Err: err})
		return nil, Registration{}
	}
	if err := c.interrupt; err != nil {
		if errors.Is(err, errInterrupted) {
			s.again(c, true)
		} else {
			s.finish(c, Answer{Err: fmt.Errorf("%w: %s", err, c.request.Endpoint)})
		}
		return nil, Registration{}
	}
	d := c.device
	if c.phase == phaseGranted && d.queue() && !d.awake && !c.stirs {
		s.again(c, true) // the device fell asleep while functions of Server.Before ran
		return nil, Registration{}
	}
	c.phase = phaseSent
	if c.sent == 0 {
		c.sent = max(s.now(), 1)
	}
	t := &turn{session: session{device: d, round: round, peer: d.peer, id: d.id, root: d.root(), links: d.links, lwm2m: d.settings().version}}
	if c.formats == nil && c.choosesFormat() {
		return t, d.registration()
	}
	return t, Registration{}
}

// transmit gives a message to the endpoint. c.mu is held.
func (c *Call) transmit(ss *session, msg *coap.Request) {
	if c.request.Notice != nil {
		msg.Notice, msg.SentHere = c.noticed, true
	}
	if c.follow != nil {
		msg.Notice = func(n coap.Notice) {
			if n == coap.NoticeSilent || n == coap.NoticeBusy {
				c.server.followSlow(c)
			}
		}
	}
	e := c.server.coap
	c.innerRound = ss.round
	switch c.request.Operation {
	case OpObserve, OpObserveComposite:
		o := c.server.newObservation(ss, &c.request)
		o.follow = c.follow != nil
		c.inner = e.GoObserve(ss.peer, msg, o.notified, func(remote *coap.Observation, resp *coap.Response, err error) {
			c.observed(ss, o, remote, resp, err)
		})
	case opForget:
		if ss.peer != c.forget.peer {
			c.end(Answer{})
			return
		}
		c.asked = true
		c.inner = c.forget.remote.GoCancel(func(err error) {
			if err != nil {
				c.failed(ss, err)
				return
			}
			c.server.answered(ss)
			c.end(Answer{})
		})
	default:
		c.inner = e.Go(ss.peer, msg, func(resp *coap.Response, err error) { c.replied(ss, resp, err) })
	}
}

// replied handles the end of an exchange.
func (c *Call) replied(ss *session, resp *coap.Response, err error) {
	if err != nil {
		c.failed(ss, err)
		return
	}
	if c.accepted(ss, resp) {
		c.end(c.answer(ss, resp))
	}
}

// accepted records contact with the device and reports whether its answer is a success. If not, it
// sends the request in another format, or ends it.
func (c *Call) accepted(ss *session, resp *coap.Response) bool {
	c.server.answered(ss)
	if c.server.config.Hooks.Request != nil {
		c.server.mu.Lock()
		c.code = ResponseCode(resp.Code)
		c.server.mu.Unlock()
	}
	err := responseError(resp, c.request.about())
	if err == nil {
		return true
	}
	if c.nextFormat(err) {
		c.send(ss.round)
	} else {
		c.end(Answer{Err: c.refused})
	}
	return false
}

// failed handles the end of an exchange without an answer. It queues the call again if that is
// harmless and the device has moved or fallen asleep.
func (c *Call) failed(ss *session, err error) {
	s := c.server
	asleep := s.unanswered(ss, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.phase != phaseSent || c.round != ss.round {
		return
	}
	moved := errors.Is(c.interrupt, errInterrupted)
	unsent := moved && !errors.Is(err, coap.ErrDeliveryUnknown)
	safe := c.request.Operation.safe() && !c.request.NoWait
	if c.cancelled == nil && (unsent || safe && (moved || asleep)) {
		s.again(c, unsent)
		return
	}
	s.finish(c, Answer{Err: c.failure(err)})
}
