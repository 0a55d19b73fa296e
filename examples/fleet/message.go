package main

import (
	"encoding/binary"
	"errors"
	"strings"
)

// The part of CoAP (RFC 7252) that a simulated device uses. Messages fit into one datagram;
// transfer.go handles blocks.

// Types of messages.
const (
	confirmable     = 0
	nonConfirmable  = 1
	acknowledgement = 2
	reset           = 3
)

// Codes: class in the upper three bits, detail in the lower five.
const (
	codeEmpty = 0
	codeGET   = 1
	codePOST  = 2
	codePUT   = 3
	codeFETCH = 5

	codeCreated       = 2<<5 | 1
	codeChanged       = 2<<5 | 4
	codeContent       = 2<<5 | 5
	codeContinue      = 2<<5 | 31
	codeBadRequest    = 4 << 5
	codeBadOption     = 4<<5 | 2
	codeNotFound      = 4<<5 | 4
	codeNotAllowed    = 4<<5 | 5
	codeNotAcceptable = 4<<5 | 6
	codeIncomplete    = 4<<5 | 8
)

// Numbers of options.
const (
	optionObserve       = 6
	optionLocationPath  = 8
	optionURIPath       = 11
	optionContentFormat = 12
	optionURIQuery      = 15
	optionAccept        = 17
	optionBlock2        = 23
	optionBlock1        = 27
)

// absent is the value of an absent numeric option.
const absent = -1

// message is a received message. Its payload and token point into the datagram.
type message struct {
	kind, code byte
	id         uint16
	token      []byte

	path     string // "/5/0/3"
	location string // of a Register's answer: "/rd/1"

	observe, format, accept, block1 int // absent or the value

	unknown bool // it has an unknown critical option
	payload []byte
}

var errMessage = errors.New("not a CoAP message")

// parseMessage reads a datagram.
func parseMessage(b []byte) (message, error) {
	m := message{observe: absent, format: absent, accept: absent, block1: absent}
	if len(b) < 4 || b[0]>>6 != 1 {
		return m, errMessage
	}
	m.kind, m.code, m.id = b[0]>>4&3, b[1], binary.BigEndian.Uint16(b[2:])
	tokenSize := int(b[0] & 15)
	if b = b[4:]; tokenSize > 8 || len(b) < tokenSize {
		return m, errMessage
	}
	m.token, b = b[:tokenSize], b[tokenSize:]
	var path, location strings.Builder
	for number := 0; len(b) > 0; {
		if b[0] == 0xff {
			if m.payload = b[1:]; len(m.payload) == 0 {
				return m, errMessage
			}
			break
		}
		delta, size, rest, ok := optionHeader(b)
		if !ok || size > len(rest) {
			return m, errMessage
		}
		number += delta
		value := rest[:size]
		b = rest[size:]
		switch number {
		case optionURIPath:
			path.WriteByte('/')
			path.Write(value)
		case optionLocationPath:
			location.WriteByte('/')
			location.Write(value)
		default:
			m.option(number, value)
		}
	}
	m.path, m.location = path.String(), location.String()
	return m, nil
}

// option records a numeric option, or that a critical option is unknown.
func (m *message) option(number int, value []byte) {
	n := 0
	for _, v := range value[:min(len(value), 4)] {
		n = n<<8 | int(v)
	}
	switch number {
	case optionObserve:
		m.observe = n
	case optionContentFormat:
		m.format = n
	case optionAccept:
		m.accept = n
	case optionBlock1:
		m.block1 = n
	case optionURIQuery, optionBlock2: // attributes have no effect here, and all answers fit into one block
	default:
		m.unknown = m.unknown || number&1 == 1
	}
}

// optionHeader reads what precedes the value of an option.
func optionHeader(b []byte) (delta, size int, rest []byte, ok bool) {
	delta, size, rest = int(b[0]>>4), int(b[0]&15), b[1:]
	if delta, rest, ok = extended(delta, rest); !ok {
		return 0, 0, nil, false
	}
	size, rest, ok = extended(size, rest)
	return delta, size, rest, ok
}

// extended reads the rest of a number that may not fit into four bits.
func extended(n int, b []byte) (int, []byte, bool) {
	switch {
	case n < 13:
		return n, b, true
	case n == 13 && len(b) >= 1:
		return int(b[0]) + 13, b[1:], true
	case n == 14 && len(b) >= 2:
		return int(binary.BigEndian.Uint16(b)) + 269, b[2:], true
	}
	return 0, nil, false
}

// writer composes a message. Options must be added in the order of their numbers.
type writer struct {
	b    []byte
	last int
}

// newMessage begins a message.
func newMessage(kind, code byte, id uint16, token []byte) *writer {
	b := make([]byte, 0, 96)
	b = append(b, 1<<6|kind<<4|byte(len(token)), code)
	b = binary.BigEndian.AppendUint16(b, id)
	return &writer{b: append(b, token...)}
}

// bytes adds an option.
func (w *writer) bytes(number int, value string) {
	delta, deltaMore := extend(number - w.last)
	size, sizeMore := extend(len(value))
	w.last = number
	w.b = append(w.b, delta<<4|size)
	w.b = append(w.b, deltaMore...)
	w.b = append(w.b, sizeMore...)
	w.b = append(w.b, value...)
}

// number adds a numeric option.
func (w *writer) number(number, value int) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(value))
	w.bytes(number, strings.TrimLeft(string(b[:]), "\x00"))
}

// segments adds an option for each segment of a path.
func (w *writer) segments(number int, path string) {
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		w.bytes(number, segment)
	}
}

// payload ends the message.
func (w *writer) payload(p []byte) {
	if len(p) > 0 {
		w.b = append(append(w.b, 0xff), p...)
	}
}

// extend returns the four bits of a number in an option's header, and its extension bytes.
func extend(n int) (nibble byte, more []byte) {
	switch {
	case n < 13:
		return byte(n), nil
	case n < 269:
		return 13, []byte{byte(n - 13)}
	default:
		return 14, binary.BigEndian.AppendUint16(nil, uint16(n-269))
	}
}
