package coap

import (
	"io"
	"sync"
)

// scratch has buffers for making messages.
type scratch struct {
	options Options
	values  []byte // of the options
	data    []byte // a block of Body
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// compose makes the message m in t.x.record.
func (t *transfer) compose(m *outgoing) error {
	s := scratches.Get().(*scratch)
	defer s.free()
	for _, o := range t.first {
		// Conditions and Observe do not belong in the messages that fetch the rest of the response
		// (RFC 7959, section 2.4; RFC 7641).
		if m.further && (o.ID == IfMatch || o.ID == IfNoneMatch || o.ID == ETag || o.ID == Observe) {
			continue
		}
		s.options = append(s.options, o)
	}
	if m.hasBlock1 {
		s.add(Block1, m.block1.value())
		if m.block1.num == 0 && t.size <= 1<<32-1 {
			s.add(Size1, uint32(t.size))
		}
	}
	if m.hasBlock2 {
		s.add(Block2, m.block2.value())
		if t.r.Into != nil && m.block2.offset() == t.r.Offset {
			s.add(Size2, 0)
		}
	}
	if t.echo != nil {
		s.options = AppendOption(s.options, Echo, t.echo)
	}
	payload, err := t.body(s, m.offset, m.n)
	if err != nil {
		return err
	}
	wire := wireMessage{code: t.r.Code, token: t.x.token, options: s.options, payload: payload}
	if !t.x.confirm {
		wire.typ = nonConfirmable
	}
	t.x.record = t.a.encode(t.x.record[:0], &wire)
	t.x.block1, t.x.hasBlock1 = m.block1, m.hasBlock1
	return nil
}

func (s *scratch) add(id OptionID, v uint32) {
	at := len(s.values)
	s.values = appendUint(s.values, v)
	s.options = AppendOption(s.options, id, s.values[at:len(s.values):len(s.values)])
}

func (s *scratch) free() {
	clear(s.options)
	s.options, s.values = s.options[:0], s.values[:0]
	scratches.Put(s)
}

// body returns n bytes of the request's body at offset.
func (t *transfer) body(s *scratch, offset, n int64) ([]byte, error) {
	if t.r.Body == nil {
		return t.r.Payload[offset : offset+n], nil
	}
	if int64(cap(s.data)) < n {
		s.data = make([]byte, n)
	}
	data := s.data[:n]
	if t.c.late() {
		return nil, ErrClosed
	}
	got, err := t.r.Body.ReadAt(data, offset)
	if int64(got) < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return data, nil
}
