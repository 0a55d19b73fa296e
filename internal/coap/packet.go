package coap

import (
	"fmt"
	"sync"
)

// maxDatagram is the size of the largest accepted datagram. A message has at most 1152 bytes with a
// block of 1024 (RFC 7252, section 4.6), more with options such as long queries.
const maxDatagram = 2048

// packet is a received message with the record that it aliases. It has one owner at a time; the
// last one frees it.
type packet struct {
	buf   []byte
	n     int
	msg   wireMessage
	store []Option // for msg.options, unless there are more
}

var packets = sync.Pool{New: func() any { return &packet{buf: make([]byte, maxDatagram), store: make([]Option, 16)} }}

func newPacket() *packet { return packets.Get().(*packet) }

func (p *packet) free() {
	if cap(p.buf) != maxDatagram {
		return // a stream's large frame, or a copy: leave it to the garbage collector
	}
	p.buf = p.buf[:maxDatagram]
	clear(p.store)
	p.msg = wireMessage{}
	packets.Put(p)
}

// compact frees p and returns a copy of its message in as little memory as possible, for a message
// that waits. The copy has no record.
func (p *packet) compact() *packet {
	m := p.msg
	size := len(m.payload)
	for _, o := range m.options {
		size += len(o.Value)
	}
	bytes := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		at := len(bytes)
		bytes = append(bytes, b...)
		return bytes[at:len(bytes):len(bytes)]
	}
	m.options = make(Options, len(m.options))
	for i, o := range p.msg.options {
		m.options[i] = Option{ID: o.ID, Value: keep(o.Value)}
	}
	m.payload = keep(m.payload)
	small := &packet{n: p.n, msg: m}
	p.free()
	return small
}

// parse reads the datagram in the first n bytes of the buffer.
func (p *packet) parse(n int) error {
	p.n = n
	p.msg.options = p.store[:0]
	return p.msg.parse(p.buf[:n])
}

// errDatagram: the end of a datagram may be missing.
var errDatagram = fmt.Errorf("%w: datagram of %d bytes or more", ErrTooLarge, maxDatagram)

// read parses the datagram in the first n bytes of the buffer. If it is no message to handle, read
// returns why, and the answer to the sender, or nil. The answer is a Reset to a malformed
// confirmable message (RFC 7252, section 4.2), or 4.13 to a request that fills the buffer, because
// its end may be missing.
func (p *packet) read(n int, szx uint8) (answer []byte, err error) {
	m := &p.msg
	if err = p.parse(n); err == nil && n < len(p.buf) {
		return nil, nil
	}
	if n == len(p.buf) {
		err = errDatagram
	}
	switch {
	case m.parseHeader(p.buf[:n]) != nil || m.typ != confirmable:
		return nil, err
	case n == len(p.buf) && isRequest(m.code):
		m.tooLarge(szx)
		return m.appendDatagram(nil), err
	}
	return appendEmpty(nil, reset, m.mid), err
}

// spare returns the unused part of the buffer.
func (p *packet) spare() []byte { return p.buf[p.n:p.n] }
