package coap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
)

// messageType is the type of a datagram (RFC 7252, section 3). On a stream every message counts as
// confirmable.
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

// wireMessage is a CoAP message on any transport. Options and payload alias the record that it was
// parsed from.
type wireMessage struct {
	typ     messageType
	code    Code
	mid     uint16 // datagrams only
	token   token
	options Options
	payload []byte
	// refused is the critical option for which a received message must be refused, or 0.
	refused OptionID
}

// maxOptions limits the options of a received message.
const maxOptions = 64

var (
	errTruncated = errors.New("coap: truncated message")
	errVersion   = errors.New("coap: not version 1")
	errFormat    = errors.New("coap: message format error")
)

// headerSize is the size of a datagram's header without token.
const headerSize = 4

// parseHeader reads the first 4 bytes of a datagram, which suffice to reject it.
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

// parse reads a datagram. It appends to m.options[:0]. Options and payload alias b.
func (m *wireMessage) parse(b []byte) error {
	if err := m.parseHeader(b); err != nil {
		return err
	}
	if m.code == Empty && len(b) != headerSize {
		return errFormat
	}
	g := message.Message{Options: m.options[:0]}
	_, err := coder.DefaultCoder.Decode(b, &g)
	if m.enlarge(err) {
		return m.parse(b)
	}
	m.token = makeToken(g.Token)
	return m.take(&g, err)
}

// enlarge makes room for the maximum number of options, if err says that there is too little. It
// reports whether it did.
func (m *wireMessage) enlarge(err error) bool {
	if !errors.Is(err, message.ErrOptionsTooSmall) || cap(m.options) >= maxOptions {
		return false
	}
	m.options = make(Options, 0, maxOptions)
	return true
}

// take takes the legal options and the payload of a decoded message, or returns the decoder's
// error. m.code is set.
func (m *wireMessage) take(g *message.Message, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %v", errFormat, err)
	}
	m.options, m.payload, m.refused = g.Options[:0], g.Payload, 0
	for _, o := range g.Options {
		m.addOption(o.ID, o.Value)
	}
	return nil
}

// addOption takes an option, unless it is illegal. Options come in the order of their ids.
func (m *wireMessage) addOption(id OptionID, value []byte) {
	last := len(m.options) - 1
	switch {
	case legal(m.code, id, len(value), last >= 0 && m.options[last].ID == id):
		m.options = append(m.options, Option{ID: id, Value: value})
	case critical(id) && m.refused == 0:
		m.refused = id
	}
}

// encodable returns m in the form of go-coap's coders, which fail for no message of ours.
func (m *wireMessage) encodable() message.Message {
	return message.Message{
		Type: message.Type(m.typ), Code: m.code, MessageID: int32(m.mid), Token: m.token.bytes(), Options: m.options, Payload: m.payload,
	}
}

// appendDatagram appends m as a datagram. Its options must be sorted.
func (m *wireMessage) appendDatagram(dst []byte) []byte {
	g := m.encodable()
	n, err := coder.DefaultCoder.Encode(g, dst[len(dst):cap(dst)])
	if err != nil {
		dst = slices.Grow(dst, n)
		n, _ = coder.DefaultCoder.Encode(g, dst[len(dst):cap(dst)])
	}
	return dst[:len(dst)+n]
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
