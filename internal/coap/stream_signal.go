package coap

import (
	"math"
	"time"
)

// Signals of RFC 8323, section 5.
const (
	signalClass = 7

	signalCSM     Code = 7<<5 | 1
	signalPing    Code = 7<<5 | 2
	signalPong    Code = 7<<5 | 3
	signalRelease Code = 7<<5 | 4
	signalAbort   Code = 7<<5 | 5

	// Options of a CSM.
	maxMessageSize OptionID = 2
	blockwise      OptionID = 4
	// Of a Ping and a Pong, a Release, an Abort.
	custody            OptionID = 2
	alternativeAddress OptionID = 2
	holdOff            OptionID = 4
	badCSMOption       OptionID = 2
)

// maxBERT is how much of a body one message carries, in both directions. maxFrame is the size of
// the largest message that we accept: maxBERT and options.
const (
	maxBERT  = 16 << 10
	maxFrame = maxBERT + maxDatagram
)

// defaultMessageSize is the limit of a peer that announces none (RFC 8323, section 5.3.1).
const defaultMessageSize = 1152

// frameOverhead is room for the header and options of a message with a block.
const frameOverhead = 512

// capabilities are the capabilities in the peer's CSM.
type capabilities struct {
	size      int
	blockwise bool
}

// appendCSM appends our capabilities.
func appendCSM(dst []byte) []byte {
	m := wireMessage{code: signalCSM}
	m.options = AppendUint(m.options, maxMessageSize, maxFrame)
	m.options = AppendOption(m.options, blockwise, nil)
	return m.appendFrame(dst)
}

// signal handles a signal. An error ends the connection.
func (s *stream) signal(m *wireMessage) error {
	switch {
	case m.code != signalCSM && m.code != signalAbort && s.peer.Load() == nil:
		return s.tooEarly()
	case m.refused != 0 && m.code == signalCSM:
		s.abort("unknown critical option", m.refused)
		return errFormat
	case m.refused != 0:
		s.abort("unknown critical option of a signal", 0)
		return errFormat
	}
	switch m.code {
	case signalCSM:
		s.takeCSM(m)
	case signalPing:
		pong := wireMessage{code: signalPong, token: m.token}
		return s.write(s.a, pong.appendFrame(nil))
	case signalRelease:
		return errReleased
	case signalAbort:
		s.e.log.Debug("coap: peer aborts the connection", "address", s.a.peer.Addr, "diagnostic", string(m.payload[:min(len(m.payload), 128)]))
		return errAborted
	}
	return nil // a Pong, or an unknown signal
}

// tooEarly ends a connection whose first message is not a CSM (RFC 8323, section 5.3). Empty
// messages may precede the CSM, and an Abort ends the connection anyway.
func (s *stream) tooEarly() error {
	s.abort("a message came before the CSM", 0)
	return errFormat
}

func (s *stream) takeCSM(m *wireMessage) {
	c := capabilities{size: defaultMessageSize}
	if old := s.peer.Load(); old != nil {
		c = *old
	}
	if n, ok := Uint(m.options, maxMessageSize); ok {
		c.size = int(min(max(n, 64), math.MaxInt32)) // fits an int of 32 bits
	}
	if _, ok := Bytes(m.options, blockwise); ok {
		c.blockwise = true
	}
	s.peer.Store(&c)
	s.conn.SetReadDeadline(time.Time{})
}

// abort sends the peer an Abort with the reason, and closes the connection.
func (s *stream) abort(why string, option OptionID) {
	m := wireMessage{code: signalAbort, payload: []byte(why)}
	if option != 0 {
		m.options = AppendUint(nil, badCSMOption, uint32(option))
	}
	_ = s.write(s.a, m.appendFrame(nil))
	settle(s)
}

// release sends each peer a Release, and closes the connections.
func release(streams []*stream) {
	m := wireMessage{code: signalRelease}
	for _, s := range streams {
		_ = s.write(nil, m.appendFrame(nil))
	}
	settle(streams...)
	for _, s := range streams {
		s.close()
	}
}

// blockSZX returns the largest block size, at most szx, that the peer accepts: BERT (RFC 8323,
// section 6) if it accepts more than one block in a message.
func (s *stream) blockSZX(szx uint8) uint8 {
	c := s.peer.Load()
	switch {
	case c == nil || szx < maxSZX:
		return szx
	case c.blockwise && c.size > defaultMessageSize+1024:
		return bert
	case c.size < defaultMessageSize:
		return szxOf(max(c.size-defaultMessageSize+1024, 16))
	}
	return szx
}

// maxMessage returns the size of the largest message that the peer accepts.
func (s *stream) maxMessage() int {
	if c := s.peer.Load(); c != nil {
		return c.size
	}
	return defaultMessageSize
}

// maxPayload returns how much of a body one message with BERT blocks carries, a multiple of 1024.
func (s *stream) maxPayload() int {
	c := s.peer.Load()
	if c == nil {
		return 1024
	}
	return max(min(c.size-frameOverhead, maxBERT)&^1023, 1024)
}
