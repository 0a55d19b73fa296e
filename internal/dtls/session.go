package dtls

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/otago-iot/otago/internal/udp"
)

// maxUnproven is how many datagrams we send to a new address of a peer before a second record from
// there proves the address. An attacker may have captured the first record and sent it on with a
// forged source (RFC 9146, section 6). A transfer has at most one unacknowledged block; the limit
// applies to its repetitions and everything else.
const maxUnproven = 8

// Session is a DTLS association after its handshake. It only protects records, and so has no
// goroutine and no buffer. Several goroutines may call its methods.
type Session struct {
	s        *Socket
	receiver Receiver
	owner    uint64 // key of Socket.byOwner
	protect  protection
	cid      connectionID // ours, in the peer's records
	header   []byte       // of our records, without number and length
	heard    atomic.Int64 // when the newest record came, since the socket's epoch

	// read guards the state for opening records. The socket's reader uses it, and for a moment the
	// goroutine of the handshake.
	read   sync.Mutex
	window replayWindow

	mu       sync.Mutex
	next     uint64 // number of our next record
	addr     netip.AddrPort
	local    *udp.Local  // where the newest record arrived
	flight   *lastFlight // until the peer has shown that it received it
	over     bool
	hasCID   bool  // constant
	unproven uint8 // datagrams that may still be sent to addr, plus 1; 0 when addr is proven
}

var (
	errSequence = errors.New("dtls: record numbers are used up")
	errReplay   = errors.New("dtls: record came again")
	errUnproven = errors.New("dtls: the peer's new address is not proven")
)

// newSession makes a session from the result of a handshake.
func newSession(s *Socket, r *result, addr netip.AddrPort) (*Session, error) {
	protect, err := r.protection()
	if err != nil {
		return nil, err
	}
	ss := &Session{s: s, protect: protect, addr: addr, next: r.SequenceNumber}
	ss.window.next = r.RemoteSequenceNumber
	ss.window.seen = ^uint64(0) // the records of the handshake count as seen
	if len(r.LocalConnectionID) == cidSize {
		ss.cid, ss.hasCID = connectionID(r.LocalConnectionID), true
	}
	ss.header = make([]byte, recordHeaderSize+len(r.RemoteConnectionID))
	copy(ss.header, []byte{recordApplication, 0xfe, 0xfd, 0, 1})
	if copy(ss.header[11:], r.RemoteConnectionID) > 0 {
		ss.header[0] = recordWithCID
	}
	return ss, nil
}

// sealed holds buffers for records to send.
var sealed = sync.Pool{New: func() any { b := make([]byte, 0, maxRecord); return &b }}

// Write sends content in one record. The datagram may be lost even if Write succeeds.
func (ss *Session) Write(content []byte) error { return ss.send(recordApplication, content) }

func (ss *Session) send(typ byte, content []byte) error {
	out := sealed.Get().(*[]byte)
	defer sealed.Put(out)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	switch {
	case ss.over:
		return net.ErrClosed
	case ss.unproven == 1:
		return errUnproven
	case ss.unproven > 1:
		ss.unproven--
	}
	b, err := ss.seal((*out)[:0], typ, content)
	if err != nil {
		return err
	}
	return ss.s.conn.WriteTo(b, ss.addr, ss.local)
}

// seal makes a record, in room if that is large enough. ss.mu is held.
func (ss *Session) seal(room []byte, typ byte, content []byte) ([]byte, error) {
	if ss.next > maxSequence {
		return nil, errSequence
	}
	binary.BigEndian.PutUint64(ss.header[3:], 1<<48|ss.next)
	ss.next++
	if ss.header[0] == recordWithCID {
		room = append(append(room, content...), typ)
		content, room = room, room[len(room):]
	} else {
		ss.header[0] = typ
	}
	return ss.protect.seal(room, ss.header, content)
}

// receive handles a datagram from addr that belongs to this session by Connection ID or address.
func (ss *Session) receive(b []byte, addr netip.AddrPort, at *udp.Local) {
	for len(b) > 0 {
		r, rest, err := nextRecord(b, cidSize)
		if err != nil {
			return
		}
		b = rest
		if r.epoch == 1 && (r.typ == recordWithCID) == ss.hasCID && !ss.take(r, addr, at) {
			return
		}
	}
}

// take handles a record, and reports whether the session continues.
func (ss *Session) take(r record, addr netip.AddrPort, at *udp.Local) bool {
	content, typ, newest, err := ss.open(r)
	if err != nil {
		if err == errReplay {
			ss.repeated(r)
		}
		return true
	}
	if newest {
		ss.heardFrom(addr, at)
	}
	switch typ {
	case recordApplication:
		ss.confirm()
		ss.heard.Store(int64(ss.s.now()))
		ss.receiver.Receive(content)
	case recordAlert:
		if len(content) == 2 && (content[0] == alertFatal || content[1] == alertClose) {
			ss.ended(content[1])
			return false
		}
	case recordHandshake:
		if isFinished(content) {
			ss.repeatFlight()
		}
	}
	return true
}

// open decrypts a record in place, and checks that it is no replay. newest reports whether its
// number is the highest so far.
func (ss *Session) open(r record) (content []byte, typ byte, newest bool, err error) {
	ss.read.Lock()
	defer ss.read.Unlock()
	if !ss.window.fresh(r.seq) {
		return nil, 0, false, errReplay
	}
	content, err = ss.protect.open(r)
	if err != nil {
		return nil, 0, false, err
	}
	newest = ss.window.mark(r.seq)
	typ = r.typ
	if typ == recordWithCID {
		if typ, content = unpad(content); typ == 0 {
			return nil, 0, false, errRecord
		}
	}
	return content, typ, newest, nil
}

// heardFrom sends our records to the source of the peer's newest record from now on.
func (ss *Session) heardFrom(addr netip.AddrPort, at *udp.Local) {
	ss.mu.Lock()
	if at != nil {
		ss.local = at
	}
	old := ss.addr
	moved := old != addr && ss.hasCID
	switch {
	case moved:
		ss.addr, ss.unproven = addr, maxUnproven+1
	case old == addr:
		ss.unproven = 0
	}
	ss.mu.Unlock()
	if moved {
		ss.s.moved(ss, old, addr)
		ss.s.log.Debug("dtls: peer moved", "address", addr, "from", old)
	}
}

// ended ends the session after an alert from the peer.
func (ss *Session) ended(alert byte) {
	ss.s.log.Debug("dtls: peer ends the session", "address", ss.RemoteAddr(), "alert", alert)
	if alert == alertClose {
		ss.sendClosure()
	} else if ss.unconfirmed() {
		ss.s.handler.Failed(ss.RemoteAddr(), "", alertError(alert))
	}
	ss.end()
}

// Close ends the session with a closure alert to the peer, and calls [Receiver.Closed] before it
// returns, unless the session has ended already.
func (ss *Session) Close() {
	ss.sendClosure()
	ss.end()
}

func (ss *Session) sendClosure() { _ = ss.send(recordAlert, []byte{alertWarning, alertClose}) }

// disable makes the session send nothing more, and reports whether it was enabled before.
func (ss *Session) disable() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	over := ss.over
	ss.over = true
	return !over
}

func (ss *Session) end() {
	if !ss.disable() {
		return
	}
	ss.s.leave(ss)
	ss.receiver.Closed()
	if ss.s.client() {
		ss.s.Close()
	}
}

// RemoteAddr returns the source of the peer's newest record.
func (ss *Session) RemoteAddr() netip.AddrPort {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.addr
}

// LocalAddr returns the local address at which the peer reaches us.
func (ss *Session) LocalAddr() netip.AddrPort {
	ss.mu.Lock()
	addr, local := ss.addr, ss.local
	ss.mu.Unlock()
	return ss.s.conn.LocalAddr(addr, local)
}

// Context returns a context that ends when the socket is closed.
func (ss *Session) Context() context.Context { return ss.s.ctx }

// Draining reports whether [Socket.Drain] was called.
func (ss *Session) Draining() bool { return ss.s.draining.Load() }
