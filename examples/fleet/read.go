package main

import (
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/senml"
)

// observer is an observation by the server.
type observer struct {
	path   lwm2m.Path
	token  string
	format lwm2m.ContentFormat
	number int    // of the next notification
	last   uint16 // id of the message with the last one
}

// maxObservers limits the observations of one device.
const maxObservers = 8

// get answers a read, and begins or ends an observation.
func (d *device) get(m *message, path lwm2m.Path) answer {
	format := lwm2m.FormatSenMLCBOR
	switch {
	case m.accept != absent:
		format = lwm2m.ContentFormat(m.accept)
	case path.Len() == 3:
		format = lwm2m.FormatText
	}
	payload, c := d.read(path, format)
	if c == codeNotAcceptable && m.accept == absent { // several instances of a resource
		format = lwm2m.FormatSenMLCBOR
		payload, c = d.read(path, format)
	}
	if c != codeContent {
		return code(c)
	}
	a := answer{code: c, observe: absent, format: int(format), block1: absent, payload: payload}
	if m.observe != absent {
		d.observers = slices.DeleteFunc(d.observers, func(o observer) bool { return o.path == path || o.token == string(m.token) })
	}
	if m.observe == 0 && len(d.observers) < maxObservers {
		d.observers = append(d.observers, observer{path: path, token: string(m.token), format: format, number: 2})
		a.observe = 1
	}
	return a
}

// fetch answers Read-Composite.
func (d *device) fetch(m *message) answer {
	if m.format != int(lwm2m.FormatSenMLCBOR) || m.observe != absent {
		return code(codeNotAllowed)
	}
	codec := senml.Codec{LwM2M: true, Pack: senml.Fetch}
	records, err := codec.DecodeCBOR(nil, m.payload)
	if err == nil {
		records, err = codec.Resolve(records)
	}
	if err != nil {
		return code(codeBadRequest)
	}
	var entries []lwm2m.Entry
	for _, e := range d.values() {
		if slices.ContainsFunc(records, func(r senml.Record) bool {
			path, err := lwm2m.ParsePath(r.Name)
			return err == nil && path.Contains(e.Path)
		}) {
			entries = append(entries, e)
		}
	}
	payload, err := lwm2m.AppendPayload(nil, lwm2m.FormatSenMLCBOR, lwm2m.Path{}, entries, nil)
	if err != nil {
		return code(codeNotAcceptable)
	}
	return answer{code: codeContent, observe: absent, format: m.format, block1: absent, payload: payload}
}

// maxPayloads limits the payloads that a shard remembers.
const maxPayloads = 4096

// read returns the values at and below a path.
func (d *device) read(path lwm2m.Path, format lwm2m.ContentFormat) ([]byte, byte) {
	key := payloadKey{path, format, d.version, d.state, d.result}
	if payload, ok := d.s.payloads[key]; ok {
		return payload, codeContent
	}
	entries := slices.DeleteFunc(d.values(), func(e lwm2m.Entry) bool { return !path.Contains(e.Path) })
	if len(entries) == 0 || path.IsRoot() {
		return nil, codeNotFound
	}
	payload, err := lwm2m.AppendPayload(nil, format, path, entries, nil)
	if err != nil {
		return nil, codeNotAcceptable
	}
	if len(d.s.payloads) < maxPayloads {
		d.s.payloads[key] = payload
	}
	return payload, codeContent
}

// values returns all readable values. They depend on what a payloadKey has and on nothing else.
func (d *device) values() []lwm2m.Entry {
	return []lwm2m.Entry{
		{Path: lwm2m.NewPath(1, 0, 0), Value: lwm2m.Integer(1)},
		{Path: lwm2m.NewPath(1, 0, 1), Value: lwm2m.Integer(int64(d.s.w.role.Fleet.Lifetime / time.Second))},
		{Path: lwm2m.NewPath(1, 0, 7), Value: lwm2m.String("U")},
		{Path: lwm2m.NewPath(3, 0, 0), Value: lwm2m.String("otago")},
		{Path: lwm2m.NewPath(3, 0, 1), Value: lwm2m.String("fleet")},
		{Path: lwm2m.NewPath(3, 0, 3), Value: lwm2m.String(versionOf(int(d.version)))},
		{Path: lwm2m.NewPath(3, 0, 11, 0), Value: lwm2m.Integer(0)},
		{Path: lwm2m.NewPath(3, 0, 14), Value: lwm2m.String("+01:00")},
		{Path: lwm2m.NewPath(3, 0, 15), Value: lwm2m.String("Europe/Oslo")},
		{Path: lwm2m.NewPath(3, 0, 16), Value: lwm2m.String("U")},
		{Path: lwm2m.NewPath(3, 0, 18), Value: lwm2m.String("A1")},
		{Path: pathState, Value: lwm2m.Integer(int64(d.state))},
		{Path: pathResult, Value: lwm2m.Integer(int64(d.result))},
		{Path: lwm2m.NewPath(5, 0, 8, 0), Value: lwm2m.Integer(int64(fsm.ProtocolHTTP.Number()))},
		{Path: lwm2m.NewPath(5, 0, 9), Value: lwm2m.Integer(int64(fsm.PushAndPull))},
	}
}

// Bits of device.changed.
const (
	stateChanged = 1 << iota
	resultChanged
)

// tell notifies observers of changed values.
func (d *device) tell() {
	changed := d.changed
	d.changed = 0
	if changed == 0 {
		return
	}
	for i := range d.observers {
		o := &d.observers[i]
		if !(changed&stateChanged != 0 && o.path.Contains(pathState) || changed&resultChanged != 0 && o.path.Contains(pathResult)) {
			continue
		}
		payload, c := d.read(o.path, o.format)
		if c != codeContent {
			continue
		}
		o.last = d.nextID()
		m := newMessage(nonConfirmable, codeContent, o.last, []byte(o.token))
		m.number(optionObserve, o.number)
		o.number++
		m.number(optionContentFormat, int(o.format))
		m.payload(payload)
		d.send("notification "+o.path.String(), m.b)
	}
}

// forget ends the observation whose notification the server has rejected.
func (d *device) forget(id uint16) {
	d.observers = slices.DeleteFunc(d.observers, func(o observer) bool { return o.last == id })
}
