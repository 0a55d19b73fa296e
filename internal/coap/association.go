package coap

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/udp"
)

// link carries the messages of an association: a UDP socket for all its peers, a DTLS session, a
// stream. This is the seam between CoAP and its transports.
//
// A transport calls [Endpoint.open] when an association begins (its Peer has the next number of
// lastID), [Endpoint.receive] for each message, in a parsed packet, and [Endpoint.end] when the
// association ends. A UDP socket, which accepts messages of unknown peers, looks up the peer first
// (see [socket]). [Endpoint.enter] and [Endpoint.leaveServer] tie the transport's reader to the
// life of the endpoint.
//
// A link may have more methods: remoteAddr() netip.AddrPort, if the peer can move (see
// [Endpoint.RemoteAddr]), and, if the peer announces the largest message it accepts,
// blockSZX(uint8) uint8, maxPayload() int and maxMessage() int.
type link interface {
	// write sends one encoded message (a datagram, or a frame if the peer's [Transport.Reliable]),
	// and does not keep record. Several goroutines may call it. It should not block for long,
	// because the association is locked. Errors are those of a lossy network: a datagram that could
	// not be sent is sent again later.
	write(a *association, record []byte) error
	// context is the context of request handlers on this link.
	context() context.Context
	// localAddr is the address at which the peer reaches us.
	localAddr(a *association) netip.AddrPort
	// accepting reports whether new requests are served. It is false while the endpoint drains.
	accepting() bool
	// hangup ends the association at the transport: it sends a closure alert or closes the
	// connection. The end of a DTLS session calls [Endpoint.end], the others do not.
	hangup(a *association)
}

// association is the state of a peer that the endpoint has recently exchanged messages with. An
// idle one is only this struct: it has no goroutine, timer or buffer. There may be a million.
type association struct {
	*home
	peer   Peer
	serial uint64 // unique in the endpoint; part of the keys of other tables

	local    atomic.Pointer[udp.Local] // UDP: where the last datagram of the peer arrived
	heard    atomic.Int64              // when the last message of the peer came, since the epoch
	enqueued time.Duration

	mu       sync.Mutex
	activity *activity     // nil for an idle association; see act and peek
	strays   time.Duration // when all strays are forgotten, since the epoch; see stray
	held     atomic.Int32  // unfinished uploads and downloads
	mid      uint16
	running  uint16 // requests of the peer in progress
	ended    bool
	verified atomic.Bool // UDP: the peer has shown that it receives at its address
}

// home is what an association shares with the others of its UDP socket. On other transports each
// has one of its own.
type home struct {
	e      *Endpoint
	link   link
	origin *origin
	proven *dtls.Identity
}

// activity is what only an association has with which something is in progress.
type activity struct {
	outbox       outbox
	waiting      fifo[*incoming]        // requests of the peer that wait for others of it
	served       chan struct{}          // closed when none runs; nil when nothing waits for that
	observations map[token]*Observation // ours at the peer
	observers    map[token]*Observer    // the peer's here
}

var activities = sync.Pool{New: func() any { return new(activity) }}

// act returns the activity, to add something to it. a.mu is held.
func (a *association) act() *activity {
	if a.activity == nil {
		a.activity = activities.Get().(*activity)
	}
	return a.activity
}

var noActivity activity

// peek returns the activity for reading. a.mu is held.
func (a *association) peek() *activity {
	if a.activity == nil {
		return &noActivity
	}
	return a.activity
}

// trim frees the activity if nothing is left of it. a.mu is held.
func (a *association) trim() {
	y := a.activity
	if y == nil || !y.idle() {
		return
	}
	a.activity = nil
	o := &y.outbox
	if cap(o.open)+cap(o.queue) > 32 {
		*o = outbox{}
	}
	*y = activity{outbox: outbox{open: o.open, queue: o.queue}}
	activities.Put(y)
}

func (y *activity) idle() bool {
	return y.outbox.idle() && y.waiting.len() == 0 && y.served == nil && len(y.observations) == 0 && len(y.observers) == 0
}

// dedup returns the table that recognizes duplicates of the peer's messages.
func (a *association) dedup() *dedup {
	if a.peer.Transport == DTLS {
		return a.e.secure
	}
	return a.e.dedup
}

// stream reports whether the transport is reliable and ordered.
func (a *association) stream() bool { return a.peer.Transport.Reliable() }

// encode appends m in the format of the transport.
func (a *association) encode(dst []byte, m *wireMessage) []byte {
	if a.stream() {
		return m.appendFrame(dst)
	}
	return m.appendDatagram(dst)
}

// nextMID returns a message id. a.mu is held.
func (a *association) nextMID() uint16 {
	a.mid++
	return a.mid
}

// idle reports whether removing the association would lose nothing but the detection of duplicates.
// a.mu is held.
func (a *association) idle() bool {
	return a.running == 0 && a.held.Load() == 0 && a.peek().idle()
}

func (a *association) isIdle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.idle()
}

// writeEmpty sends an empty message.
func (a *association) writeEmpty(typ messageType, mid uint16) {
	if a.stream() {
		return
	}
	var b [headerSize]byte
	a.write(appendEmpty(b[:0], typ, mid))
}

func (a *association) write(record []byte) { a.writeAs(TraceMessage, record) }

// writeAs sends a record, which a trace shows as kind, before the answer to it can come.
func (a *association) writeAs(kind TraceKind, record []byte) {
	t := a.e.tracer.Load()
	traced := t != nil && !a.stream()
	if traced {
		a.traceOut(*t, kind, record, nil)
	}
	if err := a.link.write(a, record); err != nil {
		a.e.log.Debug("coap: write failed", "address", a.peer.Addr, "error", err)
		if traced {
			a.traceOut(*t, kind, record, err)
		}
	}
}

// blockSZX returns the largest block size that the peer accepts: BERT if a message can hold several
// blocks of 1024.
func (a *association) blockSZX() uint8 {
	if l, ok := a.link.(interface{ blockSZX(szx uint8) uint8 }); ok {
		return l.blockSZX(a.e.szx)
	}
	return a.e.szx
}

// maxPayload returns how many bytes of a body fit into one message to the peer, in blocks of szx.
func (a *association) maxPayload(szx uint8) int64 {
	if l, ok := a.link.(interface{ maxPayload() int }); ok && szx == bert {
		return int64(l.maxPayload())
	}
	return int64(block{szx: szx}.size())
}

// fittingSZX returns the largest block size, at most szx, for which a message with these options
// fits the peer's limit.
func (a *association) fittingSZX(szx uint8, opts Options) uint8 {
	l, ok := a.link.(interface{ maxMessage() int })
	if !ok {
		return szx
	}
	size, _ := opts.Marshal(nil)
	const rest = 6 + 8 + 5 + 6 + 1 // header, token, Block1, Size1, marker
	overhead := size + rest
	if szx == bert && overhead > frameOverhead {
		szx = maxSZX
	}
	for szx > 0 && szx != bert && overhead+(block{szx: szx}).size() > l.maxMessage() {
		szx--
	}
	return szx
}

// owner returns the peer's part of the keys of its uploads: its proven identity, so that an upload
// can continue on another association, or else the association.
func (a *association) owner() uint64 {
	if a.proven.IsZero() {
		return a.serial
	}
	return a.proven.Hash(a.e.seed)
}

// Transport is a transport of CoAP.
type Transport uint8

// Transports, by the URI schemes coap, coaps, coap+tcp and coaps+tcp.
const (
	UDP Transport = iota + 1
	DTLS
	TCP
	TLS
)

// String returns the URI scheme of t.
func (t Transport) String() string {
	switch t {
	case UDP:
		return "coap"
	case DTLS:
		return "coaps"
	case TCP:
		return "coap+tcp"
	case TLS:
		return "coaps+tcp"
	}
	return "unknown"
}

// Reliable reports whether t is a stream (RFC 8323).
func (t Transport) Reliable() bool { return t == TCP || t == TLS }

// Peer names an association with another endpoint. It is small and comparable, and keeps nothing
// alive.
//
// A UDP peer is an address: a stored Peer can be used after a restart of the process. On other
// transports associations end, and a Peer is valid until [Config.OnClosed] is called with it.
type Peer struct {
	Transport Transport
	// Addr is the address of the peer. On UDP it identifies the peer. On other transports it is the
	// address at the beginning of the association (for the present one, see [Endpoint.RemoteAddr]).
	Addr netip.AddrPort
	// ID tells associations apart. On UDP it is the local port through which the peer is reached
	// (0: any), on other transports a number that is never used again in this process.
	ID uint64
}
