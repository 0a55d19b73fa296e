package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// maxDatagram is the size of the largest datagram that a device receives: a block of 1024 bytes
// with its header and options.
const maxDatagram = 1280

// A device is a simulated LwM2M 1.1 client with Objects 1, 3 and 5, and with a socket and a
// goroutine of its own. With its stack and its socket it takes some ten kilobytes.
type device struct {
	w        *world
	endpoint string
	kind     kind

	mu     sync.Mutex // run holds it, except while it waits for a datagram
	conn   *net.UDPConn
	closed bool

	// The firmware.
	version, next string // the running and the downloaded version
	state         fsm.State
	result        fsm.Result
	transfer      uint32  // number of the current download
	intake        *intake // of the current push
	restart       time.Time
	moved         bool // it changed its port at the last restart

	// The conversation.
	id        uint16 // of the next message
	location  string // of the registration, "" if there is none
	joined    bool   // it has registered at least once
	pending   exchange
	due       time.Time // of the next Register or Update, while none is pending
	observers []observer
	changed   []lwm2m.Path  // resources with new values that observers have not received
	replies   [4]reply      // the last replies, for repeated requests
	delayed   []lateRequest // of a slow device
}

// reply is the reply to a request.
type reply struct {
	id       uint16
	datagram []byte // nil if there was no reply
}

// lateRequest is a request that a slow device answers later.
type lateRequest struct {
	id       uint16
	due      time.Time
	datagram []byte
}

func newDevice(w *world, i int) *device {
	return &device{
		w: w, endpoint: w.role.Fleet.endpoint(i), kind: w.role.Fleet.kind(i),
		version: versionOf(0), state: fsm.Idle, id: uint16(rand.Uint32()), moved: i%2 == 0,
	}
}

// open gives the device a new socket, and so a new port.
func (d *device) open() error {
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.w.role.Local, 0))
	conn, err := net.DialUDP("udp4", local, net.UDPAddrFromAddrPort(d.w.role.Server))
	if err != nil {
		return err
	}
	if d.conn != nil {
		d.conn.Close()
	}
	d.conn = conn
	return nil
}

// close ends the device.
func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.conn.Close()
}

// runs returns the running version.
func (d *device) runs() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version
}

// run is the loop of a device. The read deadline of its socket is its timer.
func (d *device) run() {
	buf := make([]byte, maxDatagram)
	for {
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			return
		}
		d.tick(time.Now())
		conn, wake := d.conn, d.wake()
		d.mu.Unlock()
		_ = conn.SetReadDeadline(wake) // fails only on a closed socket; then Read fails, too
		n, err := conn.Read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // a timer is due, or the server does not listen
		}
		d.mu.Lock()
		d.receive(buf[:n], time.Now())
		d.mu.Unlock()
	}
}

// wake returns when the next timer is due.
func (d *device) wake() time.Time {
	wake := d.due
	if d.pending.datagram != nil {
		wake = d.pending.due
	}
	if !d.restart.IsZero() {
		wake = d.restart
	}
	if d.restart.IsZero() && len(d.delayed) > 0 && d.delayed[0].due.Before(wake) {
		wake = d.delayed[0].due
	}
	return wake
}

// tick handles the timers that are due.
func (d *device) tick(now time.Time) {
	for d.restart.IsZero() && len(d.delayed) > 0 && !d.delayed[0].due.After(now) {
		late := d.delayed[0]
		d.delayed = d.delayed[1:]
		if m, err := parseMessage(late.datagram); err == nil {
			d.serve(&m)
		}
	}
	switch {
	case !d.restart.IsZero():
		if !d.restart.After(now) {
			d.boot(now)
		}
	case d.pending.datagram != nil:
		if !d.pending.due.After(now) {
			d.again(now)
		}
	case !d.due.After(now):
		d.report(now)
	}
}

// receive takes a datagram.
func (d *device) receive(datagram []byte, now time.Time) {
	c := d.counter()
	c.received.Add(1)
	c.receivedBytes.Add(uint64(len(datagram)))
	if d.w.lost() {
		c.lost.Add(1)
		return
	}
	m, err := parseMessage(datagram)
	c.kinds.add(d.kindOf(&m))
	away := !d.restart.IsZero()
	switch {
	case err != nil || away:
	case m.kind == reset:
		d.forget(m.id)
	case m.kind == acknowledgement:
		if d.pending.datagram == nil || m.id != d.pending.id {
			return
		}
		if m.code == codeEmpty { // the answer comes in a separate message
			d.pending.due, d.pending.tries = now.Add(exchangeTime), maxTries
			return
		}
		d.answered(&m, now)
	case m.code>>5 >= 2:
		if m.kind == confirmable {
			d.send(d.pending.name(), newMessage(acknowledgement, codeEmpty, m.id, nil).b)
		}
		if d.pending.datagram != nil && string(m.token) == string(d.pending.token[:]) {
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
		name = "read-composite"
	}
	return name + " " + m.path
}

// send sends a datagram, which is part of a request of the named kind.
func (d *device) send(kind string, datagram []byte) {
	c := d.counter()
	c.kinds.add(kind)
	c.sent.Add(1)
	c.sentBytes.Add(uint64(len(datagram)))
	if d.w.lost() {
		c.lost.Add(1)
		return
	}
	_, _ = d.conn.Write(datagram) // a datagram that cannot be sent is lost
}

func (d *device) counter() *counter {
	if d.kind == silent {
		return &d.w.silent
	}
	return &d.w.live
}

// nextID returns the next message id.
func (d *device) nextID() uint16 {
	d.id++
	return d.id
}

// boot starts the downloaded version. Every other time the device changes its port.
func (d *device) boot(now time.Time) {
	d.restart = time.Time{}
	d.version, d.next = d.next, ""
	d.state, d.result = fsm.Idle, fsm.ResultSuccess
	d.observers, d.changed, d.delayed, d.replies = nil, nil, nil, [4]reply{}
	d.pending, d.location, d.due = exchange{}, "", now
	if d.moved = !d.moved; d.moved {
		_ = d.open() // on failure it keeps the old port
	}
}
