package firmwaretest

import "encoding/binary"

// The parts of CoAP (RFC 7252, RFC 7959) that the wires need.
const (
	kindCON = 0
	kindACK = 2

	codePOST          = 2
	codePUT           = 3
	codeFETCH         = 5
	codeIPATCH        = 7
	codeChanged       = 2<<5 | 4
	codeContent       = 2<<5 | 5
	codeNotAllowed    = 4<<5 | 5
	codeTooLarge      = 4<<5 | 13
	codeInternalError = 5 << 5
	codeUnavailable   = 5<<5 | 3

	optionURIPath       = 11
	optionContentFormat = 12
	optionBlock1        = 27
)

// message is a datagram of CoAP.
type message struct {
	kind, code byte
	mid        uint16
	token      []byte
	options    []option
	payload    []byte
	size       int  // of the datagram
	changed    bool // by a wire
}

type option struct {
	number int
	value  []byte
}

// parseMessage reads a datagram; the message keeps its bytes. ok is false if it is no CoAP message.
func parseMessage(p []byte) (m *message, ok bool) {
	if len(p) < 4 || p[0]>>6 != 1 || p[0]&15 > 8 || len(p) < 4+int(p[0]&15) {
		return nil, false
	}
	tokenEnd := 4 + int(p[0]&15)
	m = &message{kind: p[0] >> 4 & 3, code: p[1], mid: binary.BigEndian.Uint16(p[2:]), token: p[4:tokenEnd], size: len(p)}
	rest := p[tokenEnd:]
	for number := 0; len(rest) > 0; {
		if rest[0] == 0xff {
			m.payload = rest[1:]
			return m, len(m.payload) > 0
		}
		head := rest[0]
		delta, tail, ok1 := optionNumber(head>>4, rest[1:])
		length, tail, ok2 := optionNumber(head&15, tail)
		if !ok1 || !ok2 || length > len(tail) {
			return nil, false
		}
		number += delta
		m.options = append(m.options, option{number, tail[:length]})
		rest = tail[length:]
	}
	return m, true
}

// optionNumber reads the rest of a delta or a length of an option.
func optionNumber(nibble byte, p []byte) (n int, rest []byte, ok bool) {
	switch {
	case nibble < 13:
		return int(nibble), p, true
	case nibble == 13 && len(p) >= 1:
		return int(p[0]) + 13, p[1:], true
	case nibble == 14 && len(p) >= 2:
		return int(binary.BigEndian.Uint16(p)) + 269, p[2:], true
	}
	return 0, p, false
}

// append appends the datagram.
func (m *message) append(p []byte) []byte {
	p = append(p, 1<<6|m.kind<<4|byte(len(m.token)), m.code)
	p = binary.BigEndian.AppendUint16(p, m.mid)
	p = append(p, m.token...)
	before := 0
	for _, o := range m.options {
		delta, deltaRest := optionNibble(o.number - before)
		length, lengthRest := optionNibble(len(o.value))
		before = o.number
		p = append(p, delta<<4|length)
		p = append(append(append(p, deltaRest...), lengthRest...), o.value...)
	}
	if len(m.payload) > 0 {
		p = append(append(p, 0xff), m.payload...)
	}
	return p
}

func optionNibble(n int) (nibble byte, rest []byte) {
	switch {
	case n < 13:
		return byte(n), nil
	case n < 269:
		return 13, []byte{byte(n - 13)}
	default:
		return 14, binary.BigEndian.AppendUint16(nil, uint16(n-269))
	}
}

func (m *message) class() byte     { return m.code >> 5 }
func (m *message) isRequest() bool { return m.class() == 0 && m.code != 0 }

// path returns the Uri-Path as "/5/0/0".
func (m *message) path() string {
	path := ""
	for _, o := range m.options {
		if o.number == optionURIPath {
			path += "/" + string(o.value)
		}
	}
	return path
}

// block is a Block1 option.
type block struct {
	offset int64
	more   bool
}

func (m *message) block1() (b block, ok bool) {
	for _, o := range m.options {
		if o.number != optionBlock1 || len(o.value) > 3 {
			continue
		}
		v := int64(0)
		for _, octet := range o.value {
			v = v<<8 | int64(octet)
		}
		return block{offset: v >> 4 << (v&7 + 4), more: v&8 != 0}, true
	}
	return block{}, false
}

// answer makes an answer without options or payload, in the acknowledgement if m is confirmable.
func (m *message) answer(code byte) *message {
	answer := &message{kind: m.kind, code: code, mid: m.mid, token: m.token}
	if m.kind == kindCON {
		answer.kind = kindACK
	}
	return answer
}
