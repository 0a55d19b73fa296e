package coap

import (
	"hash/maphash"
	"time"
)

// open makes an association: with a UDP peer when it makes a request or we send it one, with others
// when their transport is ready. If p has an association, open returns that.
func (e *Endpoint) open(p Peer, h *home) (*association, error) {
	a := &association{home: h, peer: p, mid: uint16(e.random.uint64())}
	if a = e.table.enter(a, e.timers.now()); a == nil {
		return nil, ErrBusy
	}
	e.janitor.wake()
	return a, nil
}

// end ends an association. Everything that waits for the peer fails with ErrPeerGone.
func (e *Endpoint) end(a *association) {
	e.table.remove(a)
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return
	}
	a.ended = true
	for queue := a.peek().outbox.queue; len(queue) > 0; queue = a.peek().outbox.queue {
		a.conclude(queue[len(queue)-1], nil, ErrPeerGone)
	}
	for open := a.peek().outbox.open; len(open) > 0; open = a.peek().outbox.open {
		a.conclude(open[0], nil, ErrPeerGone)
	}
	y := a.peek()
	observations, observers, resting := y.observations, y.observers, y.outbox.resting
	if a.activity != nil {
		y.observations, y.observers, y.outbox.resting = nil, nil, nil
		a.trim()
	}
	a.mu.Unlock()

	for _, c := range resting {
		c.rouse()
	}
	for _, o := range observations {
		o.gone()
	}
	for _, o := range observers {
		o.end()
	}
	if a.proven.IsZero() {
		e.uploads.drop(a)
	}
	e.downloads.drop(a)
	if e.config.OnClosed != nil && a.peer.Transport != UDP {
		_ = e.callback(a.origin, "OnClosed", func() { e.config.OnClosed(a.peer) })
	}
}

// receive handles a message of a peer, and reports whether it keeps the packet. It never waits.
func (e *Endpoint) receive(a *association, p *packet) (kept bool) {
	now := e.timers.now()
	a.heard.Store(int64(now))
	m := &p.msg
	if !isRequest(m.code) && (!isResponse(m.code) || m.refused != 0) {
		a.traceIn(TraceMessage, m, p.n) // else when it is known whether it is a duplicate
	}
	switch {
	case m.typ == acknowledgement && m.code == Empty:
		a.mu.Lock()
		a.acknowledge(m.mid)
		a.mu.Unlock()
	case m.typ == reset:
		e.receiveReset(a, m)
	case isResponse(m.code):
		if m.refused != 0 {
			// Rejected, or ignored if it comes in an acknowledgement (RFC 7252, section 5.4.1).
			if m.typ != acknowledgement {
				a.writeEmpty(reset, m.mid)
			}
			return false
		}
		return e.receiveResponse(a, p, now)
	case m.typ == acknowledgement:
		// neither empty nor a response: ignored (RFC 7252, section 4.2)
	case isRequest(m.code):
		return e.receiveRequest(a, p, now)
	case m.typ == confirmable:
		a.writeEmpty(reset, m.mid) // a ping, or an unknown code
	}
	return false
}

// dedupID names a datagram of a peer.
func (a *association) dedupID(p *packet) dedupID {
	sum := uint32(maphash.Bytes(a.e.seed, p.buf[:p.n]))
	return dedupID{newDedupKey(a.serial, p.msg.mid), sum}
}

func (e *Endpoint) receiveReset(a *association, m *wireMessage) {
	if m.code != Empty {
		return
	}
	a.mu.Lock()
	if a.doubtful() {
		a.stray(m.mid)
		a.mu.Unlock()
		return
	}
	known := a.rejected(m.mid)
	var observer *Observer
	if !known {
		for _, o := range a.peek().observers {
			if o.sentAs(m.mid) {
				observer = o
			}
		}
		if observer == nil {
			a.stray(m.mid)
		}
	}
	a.mu.Unlock()
	if observer != nil {
		observer.end()
	}
}

// receiveResponse handles a response: piggybacked, separate, or a notification.
func (e *Endpoint) receiveResponse(a *association, p *packet, now time.Duration) (kept bool) {
	m := &p.msg
	typ := m.typ // p may no longer be ours after answered
	separate := typ != acknowledgement && !a.stream()
	var id dedupID
	if separate {
		id = a.dedupID(p)
		var b [headerSize]byte
		if again, seen := a.dedup().begin(id, now, b[:0]); seen {
			a.traceIn(TraceDuplicate, m, p.n)
			if len(again) > 0 {
				a.writeAs(TraceRetransmission, again)
			}
			return false
		}
	}
	a.traceIn(TraceMessage, m, p.n)
	a.mu.Lock()
	known, kept := a.answered(p)
	var notified *Observation
	var refuser *Observer
	switch {
	case known:
	case typ == acknowledgement:
		a.refused(m)
	default:
		notified = a.peek().observations[m.token]
		known = notified != nil
		if !known && !isSuccess(m.code) && !a.doubtful() {
			if refuser = a.peek().observers[m.token]; refuser == nil {
				a.stray(m.mid)
			}
		}
	}
	a.mu.Unlock()
	if refuser != nil {
		refuser.end() // go-coap answers an unknown notification with 4.04
	}
	if separate {
		e.acknowledgeResponse(a, id, typ, known)
	}
	if !known && typ != acknowledgement {
		e.rejected(a.peer, m)
	}
	if notified != nil {
		notified.receive(m)
	}
	return kept
}

// rejected reports a response that belongs to nothing, if it is a notification.
func (e *Endpoint) rejected(p Peer, m *wireMessage) {
	f := e.config.Hooks.Rejected
	if _, ok := Uint(m.options, Observe); ok && f != nil && isSuccess(m.code) {
		f(p)
	}
}

// acknowledgeResponse answers a separate response, and remembers the answer.
func (e *Endpoint) acknowledgeResponse(a *association, id dedupID, typ messageType, known bool) {
	if known && typ == nonConfirmable {
		return
	}
	answer := reset // the token is unknown; a Reset also ends an observation (RFC 7641, section 3.6)
	if known {
		answer = acknowledgement
	}
	var b [headerSize]byte
	record := appendEmpty(b[:0], answer, id.mid())
	a.dedup().reply(id, e.timers.now(), record)
	a.write(record)
}

// The only secret in an acknowledgement or a Reset is a message id of 16 bits. An attacker who
// forges the address of a UDP peer can try them all, and so stop a retransmission or end an
// exchange. A stray is an acknowledgement or a Reset that belongs to no exchange. After too many
// strays an association believes no acknowledgement and no Reset for some time; then a real Reset
// costs the time of the retransmissions.
const (
	maxStrays  = 16
	strayEvery = 30 * time.Second // one stray is forgotten
	recentIDs  = 16               // of ours; they may be answered late
)

// stray counts an acknowledgement or a Reset that belongs to no exchange. a.mu is held.
func (a *association) stray(mid uint16) {
	if a.mid-mid < recentIDs {
		return
	}
	now := a.e.timers.now()
	a.strays = min(max(a.strays, now)+strayEvery, now+(maxStrays+1)*strayEvery)
}

// doubtful reports whether too many strays came. On other transports than UDP they come from the
// peer itself and do not count. a.mu is held.
func (a *association) doubtful() bool {
	return a.peer.Transport == UDP && a.strays > a.e.timers.now()+maxStrays*strayEvery
}
