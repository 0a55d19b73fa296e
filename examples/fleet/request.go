package main

import (
	"bytes"
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Resources that a device acts on.
var (
	pathPackage    = lwm2m.NewPath(5, 0, 0)
	pathPackageURI = lwm2m.NewPath(5, 0, 1)
	pathUpdate     = lwm2m.NewPath(5, 0, 2)
	pathState      = lwm2m.NewPath(5, 0, 3)
	pathResult     = lwm2m.NewPath(5, 0, 5)
)

// maxDelayed limits the requests that a slow device has yet to answer.
const maxDelayed = 16

// request handles a request of the server. It repeats the answer to a repeated request.
func (d *device) request(m *message, datagram []byte, now int64) {
	if d.server == nil {
		d.server = &conversation{}
	}
	for _, r := range d.server.replies {
		if r.datagram != nil && r.id == m.id {
			d.counter().repeated.Add(1)
			d.send(d.kindOf(m), r.datagram)
			return
		}
	}
	if d.kind != slow {
		d.serve(m)
		return
	}
	if slices.ContainsFunc(d.server.delayed, func(l lateRequest) bool { return l.id == m.id }) {
		d.counter().repeated.Add(1)
		return
	}
	if len(d.server.delayed) < maxDelayed {
		d.server.delayed = append(d.server.delayed, lateRequest{m.id, now + int64(d.s.w.role.Fleet.Slow), bytes.Clone(datagram)})
	}
}

// answer is the answer to a request.
type answer struct {
	code                    byte
	observe, format, block1 int // absent or the value
	payload                 []byte
}

func code(c byte) answer { return answer{code: c, observe: absent, format: absent, block1: absent} }

// serve executes a request, answers it, and then notifies observers.
func (d *device) serve(m *message) {
	a := d.do(m)
	kind, id := byte(acknowledgement), m.id
	if m.kind == nonConfirmable {
		kind, id = nonConfirmable, d.nextID()
	}
	w := newMessage(kind, a.code, id, m.token)
	if a.observe != absent {
		w.number(optionObserve, a.observe)
	}
	if a.format != absent {
		w.number(optionContentFormat, a.format)
	}
	if a.block1 != absent {
		w.number(optionBlock1, a.block1)
	}
	w.payload(a.payload)
	copy(d.server.replies[1:], d.server.replies[:])
	d.server.replies[0] = reply{m.id, w.b}
	d.send(d.kindOf(m), w.b)
	d.tell()
}

// do executes a request.
func (d *device) do(m *message) answer {
	path, err := lwm2m.ParsePath(m.path)
	switch {
	case m.unknown:
		return code(codeBadOption)
	case err != nil:
		return code(codeNotFound)
	case m.code == codeFETCH && d.s.w.role.Fleet.Composite:
		return d.fetch(m)
	case m.code == codeGET:
		return d.get(m, path)
	case m.code == codePUT && path == pathPackageURI:
		return d.writeURI(m)
	case m.code == codePUT && path == pathPackage:
		return d.push(m)
	case m.code == codePOST && path == pathUpdate:
		return d.execute()
	case m.code == codePUT && len(m.payload) == 0: // attributes
		return code(codeChanged)
	case m.code == codePOST && path.Len() == 3:
		return code(codeNotFound)
	}
	return code(codeNotAllowed)
}

// writeURI begins a download. With an empty URI it resets.
func (d *device) writeURI(m *message) answer {
	format := max(lwm2m.ContentFormat(m.format), lwm2m.FormatText)
	if m.format == absent {
		format = lwm2m.FormatText
	}
	var uri string
	if len(m.payload) > 0 {
		entries, err := lwm2m.DecodePayload(format, pathPackageURI, m.payload, nil)
		if err != nil || len(entries) != 1 {
			return code(codeBadRequest)
		}
		uri, _ = entries[0].Value.Text()
	}
	switch {
	case uri == "":
		return d.reset()
	case d.state != uint8(fsm.Idle):
		return code(codeBadRequest)
	}
	d.transfer++
	d.acts.Transfers++
	select {
	case d.s.w.jobs <- download{d, uri, d.transfer}:
	default:
		return code(codeBadRequest) // the queue of downloads is full
	}
	d.set(fsm.Downloading, fsm.ResultDefault)
	return code(codeChanged)
}

// reset returns to Idle.
func (d *device) reset() answer {
	if d.state == uint8(fsm.Updating) {
		return code(codeBadRequest)
	}
	d.transfer++
	d.intake, d.next = nil, 0
	d.set(fsm.Idle, fsm.ResultDefault)
	return code(codeChanged)
}

// execute makes the device restart.
func (d *device) execute() answer {
	if d.state != uint8(fsm.Downloaded) {
		return code(codeNotAllowed)
	}
	d.acts.Executes++
	d.set(fsm.Updating, fsm.ResultDefault)
	d.restart = d.s.w.now() + int64(d.s.w.role.Fleet.Restart)
	return code(codeChanged)
}

// set changes State and Result, and records changes for observers.
func (d *device) set(state fsm.State, result fsm.Result) {
	if d.result != uint8(result) {
		d.changed |= resultChanged
	}
	if d.state != uint8(state) {
		d.changed |= stateChanged
	}
	w := d.s.w
	for _, of := range []struct {
		state fsm.State
		*crowd
	}{{fsm.Downloading, &w.transferring}, {fsm.Updating, &w.installing}} {
		switch before := d.state == uint8(of.state); {
		case state == of.state && !before:
			of.enter()
		case state != of.state && before:
			of.leave()
		}
	}
	d.state, d.result = uint8(state), uint8(result)
}

// taken handles the end of a package. On failure fault is the reason.
func (d *device) taken(i *intake, fault fsm.Result) {
	d.intake = nil
	if fault != fsm.ResultDefault {
		d.set(fsm.Idle, fault)
		return
	}
	version, ok := d.s.w.digests.check(i)
	if !ok || d.kind == failing {
		d.set(fsm.Idle, fsm.ResultIntegrityFailed)
		return
	}
	d.next = version
	d.set(fsm.Downloaded, fsm.ResultDefault)
}
