package coap

import (
	"bufio"
	"bytes"
	"net/netip"
)

// A Tracer gets the messages of some peers. The endpoint calls it with locks held: it must return
// at once, must not panic, and must not call the endpoint.
type Tracer interface {
	// Wants reports whether Take is to be called with a message. options are those of a request
	// that comes in, and else nil.
	Wants(p Peer, options Options) bool
	// Take takes a message, of which it keeps nothing that m refers to.
	Take(m *TracedMessage)
}

// TraceKind says what a traced message is.
type TraceKind uint8

// The kinds.
const (
	// TraceMessage: a message that is sent, or comes, for the first time.
	TraceMessage TraceKind = iota
	// TraceRetransmission: the endpoint sends a message again, unasked or to a duplicate.
	TraceRetransmission
	// TraceDuplicate: a message comes again.
	TraceDuplicate
	// TraceDropped: the endpoint had no room for the request, or could not send the message, or the
	// peer has sent what is no message: then it comes in, and Err says why.
	TraceDropped
)

// A TracedMessage is a message of a peer, or to it.
type TracedMessage struct {
	Peer          Peer
	Remote, Local netip.AddrPort // of the peer now, and of this end
	In            bool
	Kind          TraceKind
	Err           error // of a message that could not be sent, or not be parsed

	Type      uint8 // 0 to 3: CON, NON, ACK, RST; of datagrams only
	Code      Code
	MessageID uint16 // of datagrams only
	Token     []byte
	Options   Options
	Payload   []byte
	Size      int // of the whole message, in bytes
}

// Trace makes the endpoint give messages to t; nil ends that. Without a Tracer a message costs one
// atomic load.
func (e *Endpoint) Trace(t Tracer) {
	if t == nil {
		e.tracer.Store(nil)
		return
	}
	e.tracer.Store(&t)
}

// traceIn gives a message of the peer to the tracer.
func (a *association) traceIn(kind TraceKind, m *wireMessage, size int) {
	t := a.e.tracer.Load()
	if t == nil {
		return
	}
	var options Options
	if isRequest(m.code) {
		options = m.options
	}
	if (*t).Wants(a.peer, options) {
		a.trace(*t, TracedMessage{In: true, Kind: kind, Size: size}, m)
	}
}

// traceOut gives a message to the peer to the tracer.
func (a *association) traceOut(t Tracer, kind TraceKind, record []byte, err error) {
	if !t.Wants(a.peer, nil) {
		return
	}
	var m wireMessage
	if a.stream() {
		p, err := readFrame(bufio.NewReader(bytes.NewReader(record)))
		if err != nil {
			return
		}
		defer p.free()
		m = p.msg
	} else if m.options = make(Options, 0, maxOptions); m.parse(record) != nil {
		return
	}
	if err != nil {
		kind = TraceDropped
	}
	a.trace(t, TracedMessage{Kind: kind, Err: err, Size: len(record)}, &m)
}

func (a *association) trace(t Tracer, traced TracedMessage, m *wireMessage) {
	a.fillTraced(&traced)
	traced.Type, traced.Code, traced.MessageID = uint8(m.typ), m.code, m.mid
	traced.Token, traced.Options, traced.Payload = m.token.bytes(), m.options, m.payload
	t.Take(&traced)
}

// fillTraced sets between whom a message goes.
func (a *association) fillTraced(traced *TracedMessage) {
	traced.Peer, traced.Remote, traced.Local = a.peer, a.peer.Addr, a.link.localAddr(a)
	if l, ok := a.link.(interface{ remoteAddr() netip.AddrPort }); ok {
		traced.Remote = l.remoteAddr()
	}
}

// traceMalformed gives what the peer has sent, and is no message, to the tracer.
func (a *association) traceMalformed(record []byte, err error) {
	if t := a.e.tracer.Load(); t != nil {
		traced := TracedMessage{Err: err}
		a.fillTraced(&traced)
		traceMalformed(*t, &traced, record)
	}
}

// traceMalformed gives a record that is no message to the tracer, without its content: the header
// of a datagram and its size, or neither if it has no header, as a frame.
func traceMalformed(t Tracer, traced *TracedMessage, record []byte) {
	if !t.Wants(traced.Peer, nil) {
		return
	}
	var m wireMessage
	if m.parseHeader(record) == nil {
		traced.Type, traced.Code, traced.MessageID, traced.Size = uint8(m.typ), m.code, m.mid, len(record)
	}
	traced.In, traced.Kind = true, TraceDropped
	t.Take(traced)
}
