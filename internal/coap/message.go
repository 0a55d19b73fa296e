package coap

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/plgd-dev/go-coap/v3/message"
)

// messageType is the type of a datagram (RFC 7252, section 3). On a stream
// every message counts as confirmable.
type messageType uint8

const (
	confirmable messageType = iota
	nonConfirmable
	acknowledgement
	reset
)

// token is a token as a comparable value.
type token struct {
	n uint8
	b [8]byte
}

func makeToken(b []byte) (t token) {
	t.n = uint8(copy(t.b[:], b))
	return t
}

func (t *token) bytes() []byte { return t.b[:t.n] }

// wireMessage is a CoAP message, on whatever transport. Options and payload alias
// the record that it was parsed from.
type wireMessage struct {
	typ     messageType
	code    Code
	mid     uint16 // datagrams only
	token   token
	options Options
	payload []byte
	// refused is a critical option for which a received message must be refused,
	// or 0.
	refused OptionID
}

// maxOptions bounds the options of a message that we take.
const maxOptions = 64

var (
	errTruncated = errors.New("coap: truncated message")
	errVersion   = errors.New("coap: not version 1")
	errFormat    = errors.New("coap: message format error")
)

// headerSize is that of a datagram without token.
const headerSize = 4

// parseHeader reads the first 4 bytes of a datagram, all that is needed to
// reject it.
func (m *wireMessage) parseHeader(b []byte) error {
	if len(b) < headerSize {
		return errTruncated
	}
	if b[0]>>6 != 1 {
		return errVersion
	}
	m.typ = messageType(b[0] >> 4 & 3)
	m.code = Code(b[1])
	m.mid = binary.BigEndian.Uint16(b[2:])
	return nil
}

// parse reads a datagram. It appends to m.options[:0].
func (m *wireMessage) parse(b []byte) error {
	if err := m.parseHeader(b); err != nil {
		return err
	}
	n := int(b[0] & 15)
	if n > len(m.token.b) {
		return errFormat
	}
	if m.code == Empty && len(b) != headerSize {
		return errFormat
	}
	if len(b) < headerSize+n {
		return errTruncated
	}
	m.token = makeToken(b[headerSize : headerSize+n])
	return m.parseOptions(b[headerSize+n:])
}

// parseOptions reads the options that are legal and the payload, which look the
// same on datagrams and streams. m.code is set.
func (m *wireMessage) parseOptions(b []byte) error {
	m.options = m.options[:0]
	m.payload, m.refused = nil, 0
	var id int
	for n := 0; len(b) > 0; n++ {
		if b[0] == 0xff {
			if len(b) == 1 {
				return errFormat // a marker without payload
			}
			m.payload = b[1:]
			return nil
		}
		if n == maxOptions {
			return errFormat
		}
		delta, length := int(b[0]>>4), int(b[0]&15)
		b = b[1:]
		var err error
		if delta, b, err = extended(delta, b); err != nil {
			return err
		}
		if length, b, err = extended(length, b); err != nil {
			return err
		}
		id += delta
		if id > 0xffff || length > len(b) {
			return errFormat
		}
		m.addOption(OptionID(id), b[:length:length])
		b = b[length:]
	}
	return nil
}

// addOption takes an option, unless it is illegal. Those of a message come in the
// order of their ids.
func (m *wireMessage) addOption(id OptionID, value []byte) {
	last := len(m.options) - 1
	switch {
	case legal(m.code, id, len(value), last >= 0 && m.options[last].ID == id):
		m.options = append(m.options, Option{ID: id, Value: value})
	case critical(id) && m.refused == 0:
		m.refused = id
	}
}

// extended resolves an option nibble (RFC 7252, section 3.1).
func extended(nibble int, b []byte) (int, []byte, error) {
	switch nibble {
	case message.ExtendOptionByteCode:
		if len(b) < 1 {
			return 0, nil, errFormat
		}
		return int(b[0]) + message.ExtendOptionByteAddend, b[1:], nil
	case message.ExtendOptionWordCode:
		if len(b) < 2 {
			return 0, nil, errFormat
		}
		return int(binary.BigEndian.Uint16(b)) + message.ExtendOptionWordAddend, b[2:], nil
	case message.ExtendOptionError:
		return 0, nil, errFormat
	}
	return nibble, b, nil
}

// appendDatagram appends m as a datagram. Its options must be sorted.
func (m *wireMessage) appendDatagram(dst []byte) []byte {
	dst = append(dst, 1<<6|byte(m.typ)<<4|m.token.n, byte(m.code), byte(m.mid>>8), byte(m.mid))
	dst = append(dst, m.token.bytes()...)
	return m.appendOptions(dst)
}

// appendOptions appends the options and the payload.
func (m *wireMessage) appendOptions(dst []byte) []byte {
	var previous OptionID
	for _, o := range m.options {
		dst = appendOption(dst, int(o.ID-previous), o.Value)
		previous = o.ID
	}
	if len(m.payload) > 0 {
		dst = slices.Grow(dst, 1+len(m.payload))
		dst = append(dst, 0xff)
		dst = append(dst, m.payload...)
	}
	return dst
}

func appendOption(dst []byte, delta int, value []byte) []byte {
	at := len(dst)
	dst = append(dst, 0)
	var d, l byte
	d, dst = appendExtended(dst, delta)
	l, dst = appendExtended(dst, len(value))
	dst[at] = d<<4 | l
	return append(dst, value...)
}

func appendExtended(dst []byte, v int) (nibble byte, _ []byte) {
	switch {
	case v < message.ExtendOptionByteAddend:
		return byte(v), dst
	case v < message.ExtendOptionWordAddend:
		return message.ExtendOptionByteCode, append(dst, byte(v-message.ExtendOptionByteAddend))
	}
	v -= message.ExtendOptionWordAddend
	return message.ExtendOptionWordCode, append(dst, byte(v>>8), byte(v))
}

// appendEmpty appends an empty message: an acknowledgement, a Reset or a ping.
func appendEmpty(dst []byte, typ messageType, mid uint16) []byte {
	return append(dst, 1<<6|byte(typ)<<4, 0, byte(mid>>8), byte(mid))
}

// class is the c of a code c.dd.
func class(c Code) int { return int(c >> 5) }

func isRequest(c Code) bool  { return class(c) == 0 && c != Empty }
func isResponse(c Code) bool { return class(c) >= 2 && class(c) <= 5 }
func isSuccess(c Code) bool  { return class(c) == 2 }
