package coap

import (
	"context"
	"runtime/debug"
	"sync"
	"time"
)

// incoming is a request of a peer from its arrival to its response.
type incoming struct {
	timer // until it is acknowledged without a response
	e     *Endpoint
	a     *association
	p     *packet
	group group // of the peer, at arrival
	share int64 // of Bounds.Queue, while it waits

	arrived time.Duration // since the epoch
	id      dedupID

	mu      sync.Mutex
	acked   bool // by an empty message
	replied bool
	timed   bool // the timer was set and not stopped: expire will run, or has run

	req       IncomingRequest
	block1    block
	block2    block
	hasBlock1 bool
	hasBlock2 bool
	observer  *Observer
	serving   *download // the response comes from it, if not nil
	unserved  bool      // for lack of room
	target    transferKey

	// Buffers of the response, kept for the next request.
	out     []byte
	data    []byte
	options Options
	values  []byte
}

var incomings = sync.Pool{New: func() any { return new(incoming) }}

func (e *Endpoint) newIncoming(a *association, p *packet) *incoming {
	in := incomings.Get().(*incoming)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.e, in.a, in.p, in.group = e, a, p, a.group()
	in.acked, in.replied, in.timed, in.unserved = false, false, false, false
	in.block1, in.block2, in.hasBlock1, in.hasBlock2 = block{}, block{}, false, false
	m := &p.msg
	in.req = IncomingRequest{
		Peer:     a.peer,
		Identity: a.proven,
		Code:     m.code,
		Options:  m.options,
		Payload:  m.payload,
		Size:     int64(len(m.payload)),
		exchange: in,
	}
	in.share = 1 + int64(p.n)/queueUnit
	return in
}

// compact makes in small, because it has to wait.
func (in *incoming) compact() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.p = in.p.compact()
	in.req.Options, in.req.Payload = in.p.msg.options, in.p.msg.payload
	in.out, in.data = nil, nil
}

func (in *incoming) free() {
	if in.serving != nil {
		in.serving.free()
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.p.free()
	in.req = IncomingRequest{}
	in.p, in.a, in.observer, in.serving, in.target = nil, nil, nil, nil, transferKey{}
	clear(in.options[:cap(in.options)])
	if !in.timed { // else its timer would find another request in it
		incomings.Put(in)
	}
}

// receiveRequest handles a request, and reports whether it keeps the packet.
func (e *Endpoint) receiveRequest(a *association, p *packet, now time.Duration) (kept bool) {
	m := &p.msg
	var id dedupID
	if !a.stream() {
		id = a.dedupID(p)
		again, seen := a.dedup().begin(id, now, p.spare())
		if seen {
			a.traceIn(TraceDuplicate, m, p.n)
			if len(again) > 0 {
				a.writeAs(TraceRetransmission, again)
			}
			return false
		}
	}
	a.traceIn(TraceMessage, m, p.n)
	if !a.link.accepting() {
		e.refuse(a, m, id)
		return false
	}
	e.underway.begin()
	in := e.newIncoming(a, p)
	in.arrived, in.id = now, id
	if m.typ == confirmable && !a.stream() {
		in.timer.owner, in.timed = in, true
		e.timers.setAt(&in.timer, now+e.config.AckDelay)
	}
	if !e.admit(a, in) {
		a.traceIn(TraceDropped, &in.p.msg, in.p.n)
		in.settle()
		e.turnAway(a, m, id)
		in.free()
		e.underway.end()
	}
	return true
}

// admit serves in now, or queues it until other requests of the peer are done. It returns false
// when there is no room.
func (e *Endpoint) admit(a *association, in *incoming) bool {
	a.mu.Lock()
	if int(a.running) >= e.config.Bounds.PeerWorkers {
		defer a.mu.Unlock()
		if a.peek().waiting.len() >= e.config.Bounds.PeerQueue || !e.pool.park(in) {
			return false
		}
		a.act().waiting.push(in)
		return true
	}
	a.running++
	a.mu.Unlock()
	if e.pool.submit(in) {
		return true
	}
	e.leave(a)
	return false
}

// leave starts the next request of the peer, if any.
func (e *Endpoint) leave(a *association) {
	a.mu.Lock()
	y := a.peek()
	if y.waiting.len() > 0 {
		next := y.waiting.pop()
		a.mu.Unlock()
		e.pool.resubmit(next)
		return
	}
	if a.running--; a.running == 0 && y.served != nil {
		close(y.served)
		y.served = nil
	}
	a.trim()
	a.mu.Unlock()
}

// served is closed once no request of the peer is being served.
func (a *association) served() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	served := a.peek().served
	switch {
	case served != nil:
	case a.running == 0:
		served = make(chan struct{})
		close(served)
	default:
		served = make(chan struct{})
		a.act().served = served
	}
	return served
}

// turnAway refuses a request for which there is no room. A request in a datagram is forgotten: the
// peer repeats it after 2 to 3 s, while some clients wait for a minute after 5.03.
func (e *Endpoint) turnAway(a *association, m *wireMessage, id dedupID) {
	if f := e.config.Hooks.TurnedAway; f != nil {
		f(a.peer)
	}
	if a.stream() {
		e.refuse(a, m, id)
		return
	}
	a.dedup().forget(id)
}

// refuse answers 5.03. The reply is not remembered, so that a duplicate gets another chance.
func (e *Endpoint) refuse(a *association, m *wireMessage, id dedupID) {
	a.dedup().forget(id)
	if m.typ != confirmable && !a.stream() {
		return
	}
	busy := wireMessage{
		typ: acknowledgement, code: ServiceUnavailable, mid: m.mid, token: m.token,
		options: Options{{ID: MaxAge, Value: []byte{refuseMaxAge}}},
	}
	a.write(a.encode(nil, &busy))
}

// refuseMaxAge is the Max-Age of a 5.03, in seconds.
const refuseMaxAge = 5

// expire acknowledges a request whose handler is slow.
func (in *incoming) expire() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.replied || in.acked || in.p == nil || in.e.timers.isSet(&in.timer) {
		return
	}
	in.acked = true
	in.acknowledge()
}

// settle records that the reply is decided, and reports whether the request was acknowledged
// before.
func (in *incoming) settle() (acked bool) {
	if in.timed && in.e.timers.stop(&in.timer) {
		in.timed = false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.replied = true
	return in.acked
}

// acknowledge sends an empty acknowledgement and remembers it.
func (in *incoming) acknowledge() {
	var b [headerSize]byte
	record := appendEmpty(b[:0], acknowledgement, in.p.msg.mid)
	in.a.dedup().reply(in.id, in.e.timers.now(), record)
	in.a.write(record)
}

// serve runs the request in a worker.
func (in *incoming) serve() {
	e, a := in.e, in.a
	defer func() {
		in.free()
		e.leave(a)
		e.underway.end()
	}()
	if e.gate.enter(a.origin) {
		defer e.gate.leave(a.origin)
		in.reply(in.respond())
	} else {
		in.settle()
	}
}

// respond finds the response.
func (in *incoming) respond() (resp *Response) {
	defer func() {
		if v := recover(); v != nil { // not of the user's code, which is caught where it is called
			in.e.log.Error("coap: request panicked", "address", in.a.peer.Addr, "path", in.req.Path(), "panic", v, "stack", string(debug.Stack()))
			resp = &Response{Code: InternalServerError}
		}
	}()
	resp, answer := in.readOptions()
	if !answer {
		return nil
	}
	if resp != nil {
		return resp
	}
	if in.hasBlock1 {
		if resp, complete := in.receiveBlock(); !complete {
			return resp
		}
	}
	if in.hasBlock2 && in.block2.num > 0 {
		if in.serving = in.e.downloads.find(in.downloadKey()); in.serving != nil {
			return in.serving.response()
		}
		if m := in.req.Code; m != GET && m != FETCH && !in.hasBlock1 {
			return diagnose(RequestEntityIncomplete, "the response is no longer kept")
		}
	}
	return in.handle()
}

// handle calls the handler.
func (in *incoming) handle() *Response {
	if in.e.config.Handler == nil {
		return &Response{Code: NotFound}
	}
	if v, ok := in.req.Observe(); ok && v == 1 {
		in.a.unobserve(in.p.msg.token)
	}
	ctx := in.a.link.context()
	if ctx.Err() != nil {
		return nil // the endpoint stopped while the request waited
	}
	resp, err := in.callHandler(ctx)
	if err != nil {
		return statusOf(err, 0)
	}
	return resp
}

func (in *incoming) callHandler(ctx context.Context) (resp *Response, err error) {
	if !in.e.gate.enter(in.a.origin) {
		return nil, nil
	}
	defer in.e.caught(in.a.origin, "handler", &err)
	return in.e.config.Handler.ServeCOAP(ctx, &in.req), nil
}

// readOptions reads the options that the endpoint handles. It returns a refusal, or nil. answer is
// false for a message to drop.
func (in *incoming) readOptions() (refusal *Response, answer bool) {
	if id := in.p.msg.refused; id != 0 {
		// A NON is rejected in silence (RFC 7252, section 5.4.1).
		return diagnose(BadOption, id.String()), in.req.Confirmable()
	}
	for _, o := range in.req.Options {
		switch o.ID {
		case ProxyURI, ProxyScheme:
			return &Response{Code: ProxyingNotSupported}, true
		case Block1:
			in.block1, _ = parseBlock(o.Value)
			in.hasBlock1 = true
		case Block2:
			in.block2, _ = parseBlock(o.Value)
			in.hasBlock2 = true
		}
	}
	if !in.a.stream() && (in.block1.szx == bert || in.block2.szx == bert) {
		return diagnose(BadRequest, "reserved block size"), true
	}
	return nil, true
}

func diagnose(c Code, text string) *Response {
	return &Response{Code: c, Payload: []byte(text)}
}
