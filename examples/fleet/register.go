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
	active   bool
	register bool
	tries    uint8
	id       uint16
	secret   uint32 // the token
	due      int64  // when to send it again or give up
}

func (e *exchange) token() []byte { return binary.BigEndian.AppendUint32(nil, e.secret) }

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
func (d *device) report(now int64) {
	d.pending = exchange{active: true, id: d.nextID(), register: d.location == "", secret: rand.Uint32()}
	d.again(now)
	d.arm()
}

// again sends the pending request, or gives up.
func (d *device) again(now int64) {
	p := &d.pending
	if p.tries >= maxTries {
		d.location, d.due = "", soon(now)
		*p = exchange{}
		return
	}
	wait := float64(ackTimeout) * (1 + rand.Float64()/2)
	p.due = now + int64(wait)<<p.tries
	p.tries++
	m := newMessage(confirmable, codePOST, p.id, p.token())
	if !p.register {
		m.segments(optionURIPath, d.location)
		d.send(p.name(), m.b)
		return
	}
	m.segments(optionURIPath, "/rd")
	m.number(optionContentFormat, int(lwm2m.FormatLink))
	m.bytes(optionURIQuery, "ep="+d.endpoint())
	m.bytes(optionURIQuery, fmt.Sprintf("lt=%d", d.s.w.role.Fleet.Lifetime/time.Second))
	m.bytes(optionURIQuery, "lvm=1.1")
	m.bytes(optionURIQuery, "b=U")
	if d.kind == asleep {
		m.bytes(optionURIQuery, "Q")
	}
	m.payload([]byte(`</>;rt="oma.lwm2m";ct=112,</1/0>,</3/0>,</5/0>`))
	d.send(p.name(), m.b)
}

// answered handles the answer to the pending request.
func (d *device) answered(m *message, now int64) {
	p := d.pending
	d.pending = exchange{}
	f := &d.s.w.role.Fleet
	d.due = now + int64(float64(f.Lifetime)*(0.5+0.3*rand.Float64()))
	if d.kind == asleep {
		d.due = now + int64(float64(f.Sleep)*(0.9+0.2*rand.Float64()))
	}
	switch {
	case p.register && m.code == codeCreated:
		d.location = m.location
		first := !d.joined
		d.joined = true
		d.s.w.registered(first)
	case !p.register && m.code == codeChanged:
		d.s.w.updates.Add(1)
	case !p.register && m.code == codeNotFound:
		d.location, d.due = "", now
	default:
		d.due = soon(now)
	}
}

// soon returns when a device retries after a refusal or without an answer.
func soon(now int64) int64 {
	return now + int64((5+10*rand.Float64())*float64(time.Second))
}
