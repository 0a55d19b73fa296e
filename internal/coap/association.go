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
// Inwards, a transport calls [Endpoint.open] when an association begins (with the next number of
// lastID in its Peer), [Endpoint.receive] for each message, in a packet that was parsed, and
// [Endpoint.end] when it is over. A UDP socket, which takes messages of unknown peers, looks its
// peers up first (see [socket]). [Endpoint.enter] and [Endpoint.leaveServer] tie its reader to the
// life of the endpoint.
//
// A link may have more methods: remoteAddr() netip.AddrPort, when the peer can move (see
// [Endpoint.RemoteAddr]), and, when the peer says how large a message it takes, blockSZX(uint8)
// uint8, maxPayload() int and maxMessage() int.
type link interface {
	// write sends one encoded message (a datagram or a frame, by [Transport.Reliable] of the peer),
	// which it does not keep. It may be called by several goroutines and should not block for long:
	// it is called with the association locked. Errors are those of a lossy network: a datagram
	// that could not be sent is sent again later.
	write(a *association, record []byte) error
	// context is that of the handlers of requests over this link.
	context() context.Context
	// localAddr is the address at which the peer reaches us.
	localAddr(a *association) netip.AddrPort
	// accepting reports whether new requests are served: not while the endpoint drains.
	accepting() bool
	// hangup ends the association at the transport: a closure alert, the end of the connection. The
	// end of a DTLS session calls [Endpoint.end], the others do not.
	hangup(a *association)
}

// association is the state of a peer with which the endpoint has talked in the last minutes. An
// idle one is only this struct: it has no goroutine, timer or buffer.
type association struct {
	e      *Endpoint
	peer   Peer
	link   link
	origin *origin
	proven *dtls.Identity
	serial uint64 // unique in the endpoint; part of the keys of other tables

	verified atomic.Bool               // UDP: the peer itself has sent what came from the address
	local    atomic.Pointer[udp.Local] // UDP: where the peer was last heard
	heard    atomic.Int64              // when the peer was last heard, since the epoch
	enqueued time.Duration

	mu     sync.Mutex
	ended  bool
	mid    uint16
	strays time.Duration // when they are forgotten, since the epoch; see stray
	outbox outbox
	inbox  inbox

	observations map[token]*Observation // ours at the peer
	observers    map[token]*Observer    // the peer's here
	held         atomic.Int32           // unfinished uploads and downloads
}

// inbox bounds the requests of one peer that are under way.
type inbox struct {
	running uint16
	waiting *fifo[*incoming]
	idle    chan struct{} // closed when none runs; nil when no request waits for that
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

// encode appends m as the transport wants it.
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

// idle reports whether nothing but the detection of duplicates would be lost with the association.
// a.mu is held.
func (a *association) idle() bool {
	return a.outbox.idle() && a.inbox.running == 0 && a.held.Load() == 0 &&
		len(a.observations) == 0 && len(a.observers) == 0
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

func (a *association) write(record []byte) {
	if err := a.link.write(a, record); err != nil {
		a.e.log.Debug("coap: write failed", "address", a.peer.Addr, "error", err)
	}
}

// blockSZX returns the largest block size that the peer takes: BERT if a message can hold several
// blocks of 1024.
func (a *association) blockSZX() uint8 {
	if l, ok := a.link.(interface{ blockSZX(szx uint8) uint8 }); ok {
		return l.blockSZX(a.e.szx)
	}
	return a.e.szx
}

// maxPayload returns how much of a body one message to the peer can carry in blocks of szx.
func (a *association) maxPayload(szx uint8) int64 {
	if l, ok := a.link.(interface{ maxPayload() int }); ok && szx == bert {
		return int64(l.maxPayload())
	}
	return int64(block{szx: szx}.size())
}

// fittingSZX returns the largest block size, at most szx, with which the peer takes a message with
// these options.
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

// owner names the peer in the keys of its uploads: by the identity that it has proven, so that an
// upload goes on over another association, or else by the association.
func (a *association) owner() uint64 {
	if a.proven.IsZero() {
		return a.serial
	}
	return a.proven.Hash(a.e.seed)
}

// Transport is one of the ways a peer is reached.
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

// Peer names an association with another endpoint. It is comparable and small, and holding one
// keeps nothing alive.
//
// A UDP peer is an address: a Peer that was stored can be used after a restart of the process. The
// other transports have associations that end: a Peer of theirs is good until [Config.OnClosed]
// names it.
type Peer struct {
	Transport Transport
	// Addr is the address of the peer: for UDP its name, for the other transports the address when
	// the association began (for the present one, see [Endpoint.RemoteAddr]).
	Addr netip.AddrPort
	// ID tells associations apart: for UDP the local port through which the peer is reached (0:
	// any), for the others a number that is never used again in this process.
	ID uint64
}
