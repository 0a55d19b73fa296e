package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// exchange is an unanswered request of the device.
type exchange struct {
	datagram []byte // nil if there is none
	id       uint16
	token    [4]byte
	register bool
	tries    int
	due      time.Time // when to send it again or give up
}

// name names the request.
func (e *exchange) name() string {
	if e.register {
		return "register"
	}
	return "update of the registration"
}

// The times for a device's own requests are those of RFC 7252.
const (
	ackTimeout   = 2 * time.Second
	maxTries     = 5
	exchangeTime = 93 * time.Second
)

// report sends a Register, or an Update of the registration.
func (d *device) report(now time.Time) {
	d.pending = exchange{id: d.nextID(), register: d.location == ""}
	binary.BigEndian.PutUint32(d.pending.token[:], rand.Uint32())
	m := newMessage(confirmable, codePOST, d.pending.id, d.pending.token[:])
	if d.pending.register {
		m.segments(optionURIPath, "/rd")
		m.number(optionContentFormat, int(lwm2m.FormatLink))
		m.bytes(optionURIQuery, "ep="+d.endpoint)
		m.bytes(optionURIQuery, fmt.Sprintf("lt=%d", d.w.role.Fleet.Lifetime/time.Second))
		m.bytes(optionURIQuery, "lvm=1.1")
		m.bytes(optionURIQuery, "b=U")
		m.payload([]byte(`</>;rt="oma.lwm2m";ct=112,</1/0>,</3/0>,</5/0>`))
	} else {
		m.segments(optionURIPath, d.location)
	}
	d.pending.datagram = m.b
	d.again(now)
}

// again retransmits the pending request when due, or gives up.
func (d *device) again(now time.Time) {
	p := &d.pending
	if p.tries >= maxTries {
		d.location, d.due = "", soon(now)
		*p = exchange{}
		return
	}
	wait := ackTimeout + time.Duration(rand.Float64()*float64(ackTimeout/2))
	p.due = now.Add(wait << p.tries)
	p.tries++
	d.send(p.name(), p.datagram)
}

// answered handles the answer to the pending request.
func (d *device) answered(m *message, now time.Time) {
	p := d.pending
	d.pending = exchange{}
	lifetime := float64(d.w.role.Fleet.Lifetime)
	d.due = now.Add(time.Duration(lifetime * (0.5 + 0.3*rand.Float64())))
	switch {
	case p.register && m.code == codeCreated:
		d.location = m.location
		d.w.registered(!d.joined)
		d.joined = true
	case !p.register && m.code == codeChanged:
		d.w.updates.Add(1)
	case !p.register && m.code == codeNotFound:
		d.location, d.due = "", now
	default:
		d.due = soon(now)
	}
}

// soon returns when a device retries after a refusal or without an answer.
func soon(now time.Time) time.Time {
	return now.Add(time.Duration((5 + 10*rand.Float64()) * float64(time.Second)))
}
