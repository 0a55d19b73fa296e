package main

import (
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// maxDatagram is the size of the largest datagram that a device receives: a block of 1024 bytes
// with its header and options.
const maxDatagram = 1280

// A device is a simulated LwM2M 1.1 client with Objects 1, 3 and 5 and an address of its own. An
// idle one takes some 200 bytes. The lock of its shard protects it. Times are those of the world,
// in nanoseconds; 0 is never.
type device struct {
	s      *shard
	number uint32 // in the fleet
	kind   kind
	moves  uint8 // how often it has changed its address

	// The firmware.
	version, next uint16 // the running and the downloaded version, by number of the campaign
	state         uint8
	result        uint8
	transfer      uint16  // number of the current download
	restart       int64   // when it restarts
	intake        *intake // of the current push
	acts          acts

	// The conversation.
	joined    bool // it has registered at least once
	moved     bool // it changed its address at the last restart
	location  string
	pending   exchange
	due       int64 // of the next Register or Update, while none is pending
	awake     int64 // until when a device that sleeps listens
	timer     int64 // the earliest of its timers in the heap
	id        uint16
	changed   uint8 // resources with new values that observers have not received
	observers []observer
	server    *conversation
}

// conversation is what a device remembers of the requests of the server.
type conversation struct {
	replies [4]reply      // the last replies, for repeated requests
	delayed []lateRequest // of a slow device
}

// reply is the reply to a request.
type reply struct {
	id       uint16
	datagram []byte // nil if there was no reply
}

// lateRequest is a request that a slow device answers later.
type lateRequest struct {
	id       uint16
	due      int64
	datagram []byte
}

// endpoint returns the name of the device.
func (d *device) endpoint() string { return d.s.w.role.Fleet.endpoint(int(d.number)) }

// wake returns when the next timer is due, or 0.
func (d *device) wake() int64 {
	wake := d.due
	switch {
	case d.restart != 0:
		return d.restart
	case d.pending.active:
		wake = d.pending.due
	}
	if d.server != nil && len(d.server.delayed) > 0 && (wake == 0 || d.server.delayed[0].due < wake) {
		wake = d.server.delayed[0].due
	}
	return wake
}

// arm starts a timer for the next wake, unless an earlier one runs.
func (d *device) arm() {
	if wake := d.wake(); wake != 0 && (d.timer == 0 || wake < d.timer) {
		d.timer = wake
		d.s.timers.push(timer{wake, d.number / uint32(len(d.s.w.shards))})
	}
}

// tick handles the timers that are due.
func (d *device) tick(now int64) {
	if d.restart != 0 {
		if d.restart <= now {
			d.boot(now)
		}
		return
	}
	for d.server != nil && len(d.server.delayed) > 0 && d.server.delayed[0].due <= now {
		late := d.server.delayed[0]
		d.server.delayed = d.server.delayed[1:]
		if m, err := parseMessage(late.datagram); err == nil {
			d.serve(&m)
		}
	}
	switch {
	case d.pending.active:
		if d.pending.due <= now {
			d.again(now)
		}
	case d.due != 0 && d.due <= now:
		d.report(now)
	}
}

// receive takes a datagram.
func (d *device) receive(datagram []byte, now int64) {
	defer d.arm()
	c := d.counter()
	c.received.Add(1)
	c.receivedBytes.Add(uint64(len(datagram)))
	if d.s.w.lost() {
		c.lost.Add(1)
		return
	}
	m, err := parseMessage(datagram)
	if err != nil {
		return
	}
	c.kinds.add(d.kindOf(&m))
	away := d.restart != 0 || d.kind == asleep && !d.pending.active && now > d.awake
	switch {
	case away:
	case m.kind == reset:
		d.forget(m.id)
	case m.kind == acknowledgement:
		if !d.pending.active || m.id != d.pending.id {
			return
		}
		if m.code == codeEmpty { // the answer comes in a separate message
			d.pending.due, d.pending.tries = now+int64(exchangeTime), maxTries
			return
		}
		d.answered(&m, now)
	case m.code>>5 >= 2:
		if m.kind == confirmable {
			d.send(d.pending.name(), newMessage(acknowledgement, codeEmpty, m.id, nil).b)
		}
		if d.pending.active && string(m.token) == string(d.pending.token()) {
			d.answered(&m, now)
		}
	case d.kind == silent:
	case m.code == codeEmpty:
		d.send("ping", newMessage(reset, codeEmpty, m.id, nil).b)
	default:
		d.request(&m, datagram, now)
	}
}

// kindOf names the request that a received message is, or answers.
func (d *device) kindOf(m *message) string {
	switch {
	case m.kind == reset:
		return "reset"
	case m.code == codeEmpty && m.kind == confirmable:
		return "ping"
	case m.code == codeEmpty || m.code>>5 >= 2:
		return d.pending.name()
	}
	name := "other"
	switch m.code {
	case codeGET:
		name = "read"
		switch m.observe {
		case 0:
			name = "observe"
		case 1:
			name = "cancel"
		}
	case codePUT:
		name = "write"
	case codePOST:
		name = "execute"
	case codeFETCH:
		return "read-composite"
	}
	return name + " " + m.path
}

// send sends a datagram, which is part of a request of the named kind.
func (d *device) send(kind string, datagram []byte) {
	c := d.counter()
	c.kinds.add(kind)
	c.sent.Add(1)
	c.sentBytes.Add(uint64(len(datagram)))
	if d.s.w.lost() {
		c.lost.Add(1)
		return
	}
	d.awake = d.s.w.now() + int64(awakeTime)
	_ = d.s.port.write(datagram, d.s.w.address(int(d.number), d.moves)) // a datagram that cannot be sent is lost
}

func (d *device) counter() *counter {
	if d.kind == silent {
		return &d.s.w.silent
	}
	return &d.s.w.live
}

// nextID returns the next message id.
func (d *device) nextID() uint16 {
	d.id++
	return d.id
}

// boot starts the downloaded version, or the old one again. Every other time the device changes its
// address.
func (d *device) boot(now int64) {
	state, result := fsm.Idle, fsm.ResultSuccess
	switch d.kind {
	case rollingBack:
		result = fsm.ResultUpdateFailed
	case lying:
	default:
		d.version = d.next
		d.acts.Installs++
		d.s.w.installed(d)
	}
	d.s.w.installing.leave()
	d.restart, d.next = 0, 0
	d.state, d.result = uint8(state), uint8(result)
	d.observers, d.changed, d.server, d.intake = nil, 0, nil, nil
	d.pending, d.location, d.due = exchange{}, "", now
	if d.moved = !d.moved; d.moved {
		d.moves++
	}
	d.tick(now)
}

// awakeTime is how long a device that sleeps listens after each message that it sends. The server
// believes that it listens for longer (RFC 7252, MAX_TRANSMIT_WAIT), and so makes requests that
// nothing answers.
const awakeTime = 3 * time.Second
