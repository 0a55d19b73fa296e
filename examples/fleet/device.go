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

// maxDatagram is the most that a device receives at once: a block of 1024 bytes, and what goes with
// it.
const maxDatagram = 1280

// A device is a simulated LwM2M 1.1 client with Objects 1, 3 and 5, on a socket and in a goroutine
// of its own. It keeps little: with its stack and its socket it takes some ten kilobytes.
type device struct {
	w        *world
	endpoint string
	kind     kind

	mu     sync.Mutex // run holds it, but for the time that it waits for a datagram
	conn   *net.UDPConn
	closed bool

	// The firmware.
	version, next string // that runs, and that is downloaded
	state         fsm.State
	result        fsm.Result
	transfer      uint32  // of the download under way
	intake        *intake // of the push under way
	restart       time.Time
	moved         bool // it came back from another port after its last restart

	// The conversation.
	id        uint16 // of the next message
	location  string // of the registration, "" if there is none
	joined    bool   // it has registered once
	pending   exchange
	due       time.Time // of the next Register or Update, while none is pending
	observers []observer
	changed   []lwm2m.Path  // resources whose observers do not know the new values yet
	replies   [4]reply      // the last ones, for requests that come again
	delayed   []lateRequest // of a slow device
}

// reply is what a request was answered with.
type reply struct {
	id       uint16
	datagram []byte // nil if there is none
}

// lateRequest is a request that a slow device has not answered yet.
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

// open gives the device a new socket, from whose port it talks from then on.
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

// runs returns the version that runs.
func (d *device) runs() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version
}

// run is the life of a device. The deadline of its socket is its alarm clock.
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
		_ = conn.SetReadDeadline(wake) // it fails when the socket is closed, as does Read
		n, err := conn.Read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // it is time for something, or the server does not listen
		}
		d.mu.Lock()
		d.receive(buf[:n], time.Now())
		d.mu.Unlock()
	}
}

// wake returns when there is something to do without a datagram.
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

// tick does what it is time for.
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
	away := !d.restart.IsZero()
	switch {
	case err != nil || away:
	case m.kind == reset:
		d.forget(m.id)
	case m.kind == acknowledgement:
		if d.pending.datagram == nil || m.id != d.pending.id {
			return
		}
		if m.code == codeEmpty { // the answer comes by a message of its own
			d.pending.due, d.pending.tries = now.Add(exchangeTime), maxTries
			return
		}
		d.answered(&m, now)
	case m.code>>5 >= 2:
		if m.kind == confirmable {
			d.send(newMessage(acknowledgement, codeEmpty, m.id, nil).b)
		}
		if d.pending.datagram != nil && string(m.token) == string(d.pending.token[:]) {
			d.answered(&m, now)
		}
	case d.kind == silent:
	case m.code == codeEmpty:
		d.send(newMessage(reset, codeEmpty, m.id, nil).b)
	default:
		d.request(&m, datagram, now)
	}
}

// send sends a datagram.
func (d *device) send(datagram []byte) {
	c := d.counter()
	c.sent.Add(1)
	c.sentBytes.Add(uint64(len(datagram)))
	if d.w.lost() {
		c.lost.Add(1)
		return
	}
	_, _ = d.conn.Write(datagram) // what cannot be sent is lost
}

func (d *device) counter() *counter {
	if d.kind == silent {
		return &d.w.silent
	}
	return &d.w.live
}

// nextID returns the number of the next message.
func (d *device) nextID() uint16 {
	d.id++
	return d.id
}

// boot is the start of the downloaded version. Every other time the device comes back from another
// port.
func (d *device) boot(now time.Time) {
	d.restart = time.Time{}
	d.version, d.next = d.next, ""
	d.state, d.result = fsm.Idle, fsm.ResultSuccess
	d.observers, d.changed, d.delayed, d.replies = nil, nil, nil, [4]reply{}
	d.pending, d.location, d.due = exchange{}, "", now
	if d.moved = !d.moved; d.moved {
		_ = d.open() // else from the old one
	}
}
