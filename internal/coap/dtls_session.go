package coap

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
)

// maxUnproven is how many datagrams go to an address that a peer has moved to,
// before a second record of its from there shows that it was not put there by
// an attacker who can read its records and forge an address (RFC 9146, section
// 6). A transfer has no more than one block unacknowledged anyway; this bounds
// its repetitions, and all the rest.
const maxUnproven = 8

// dtlsSession is a DTLS association after its handshake, which was pion's. It
// only protects records, and so is small: no goroutine, no buffer. It is the
// link of its association.
type dtlsSession struct {
	s       *dtlsSocket
	a       *association
	owner   uint64 // key of dtlsSocket.byOwner
	protect protection
	cid     connectionID // ours, in the peer's records
	hasCID  bool
	header  []byte // of our records, but number and length

	// read guards what opens records: that of the socket's reader, and for a
	// moment that of the handshake that was.
	read   sync.Mutex
	window replayWindow
	begun  uint64 // the number of the first record after the handshake

	mu       sync.Mutex
	over     bool
	next     uint64 // number of our next record
	addr     netip.AddrPort
	local    *localAddress // where the newest record came to
	unproven uint8         // datagrams that may yet be sent to addr, plus 1; 0 when it is proven
	flight   *lastFlight   // until the peer has shown that it got it
	echoes   uint8
}

var (
	errSequence = errors.New("coap: DTLS record numbers are used up")
	errReplay   = errors.New("coap: DTLS record came again")
	errUnproven = errors.New("coap: new address of peer is not proven")
)

// newSession makes a session of what a handshake came to.
func newSession(s *dtlsSocket, r *handshakeResult, addr netip.AddrPort) (*dtlsSession, error) {
	protect, err := r.protection()
	if err != nil {
		return nil, err
	}
	ss := &dtlsSession{s: s, protect: protect, addr: addr, next: r.SequenceNumber}
	ss.window.next, ss.begun = r.RemoteSequenceNumber, r.RemoteSequenceNumber
	ss.window.seen = ^uint64(0) // what came in the handshake is over
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

// sealed is room for records that are being sent.
var sealed = sync.Pool{New: func() any { b := make([]byte, 0, maxRecord); return &b }}

func (ss *dtlsSession) write(_ *association, record []byte) error {
	return ss.send(recordApplication, record)
}

// send sends a record.
func (ss *dtlsSession) send(typ byte, content []byte) error {
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
	return ss.s.writeTo(b, ss.addr, ss.local)
}

// seal makes a record, in room if it fits. ss.mu is held.
func (ss *dtlsSession) seal(room []byte, typ byte, content []byte) ([]byte, error) {
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

// receive takes a datagram of the peer, or what says that it is, from addr.
func (ss *dtlsSession) receive(b []byte, addr netip.AddrPort, at *localAddress) {
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

// take deals with a record, and reports whether the association goes on.
func (ss *dtlsSession) take(r dtlsRecord, addr netip.AddrPort, at *localAddress) bool {
	p := newPacket()
	content, typ, newest, err := ss.open(p.buf[:0], r)
	if err != nil {
		p.free()
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
		if ss.message(p, content) {
			return true
		}
	case recordAlert:
		if len(content) == 2 && (content[0] == alertFatal || content[1] == alertClose) {
			ss.ended(content[1])
			p.free()
			return false
		}
	case recordHandshake:
		if isFinished(content) {
			ss.repeatFlight()
		}
	}
	p.free()
	return true
}

// open decrypts a record and checks that it is no replay.
func (ss *dtlsSession) open(dst []byte, r dtlsRecord) (content []byte, typ byte, newest bool, err error) {
	ss.read.Lock()
	defer ss.read.Unlock()
	if !ss.window.fresh(r.seq) {
		return nil, 0, false, errReplay
	}
	content, err = ss.protect.open(dst, r)
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

// message hands on a CoAP message, and reports whether the packet is kept.
func (ss *dtlsSession) message(p *packet, content []byte) bool {
	if len(content) >= maxDatagram {
		m := &p.msg
		_ = m.parse(content) // as far as it gets
		if m.typ == confirmable && isRequest(m.code) {
			m.tooLarge(ss.s.e.szx)
			_ = ss.send(recordApplication, m.appendDatagram(nil))
		}
		return false
	}
	if len(content) > 0 && &content[0] != &p.buf[0] {
		content = p.buf[:copy(p.buf, content)] // it was not decrypted in place
	}
	if err := p.parse(len(content)); err != nil {
		if p.msg.parseHeader(content) == nil && p.msg.typ == confirmable {
			_ = ss.send(recordApplication, appendEmpty(nil, reset, p.msg.mid))
		}
		return false
	}
	return ss.s.e.receive(ss.a, p)
}

// heardFrom has our records go where the newest of the peer came from.
func (ss *dtlsSession) heardFrom(addr netip.AddrPort, at *localAddress) {
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
		ss.s.e.log.Debug("coap: peer moved", "peer", ss.a.peer.Addr, "from", old, "to", addr)
	}
}

// ended ends the session as the peer has said.
func (ss *dtlsSession) ended(alert byte) {
	ss.s.e.log.Debug("coap: peer ends the association", "peer", ss.a.peer.Addr, "alert", alert)
	if alert == alertClose {
		ss.farewell()
	} else if ss.unconfirmed() {
		ss.s.e.handshakeFailed(&ss.s.udp.origin, ss.remoteAddr(), alertError(alert))
	}
	ss.end()
}

// end ends the session and its association.
func (ss *dtlsSession) end() {
	ss.mu.Lock()
	over := ss.over
	ss.over = true
	ss.mu.Unlock()
	if over {
		return
	}
	ss.s.leave(ss)
	ss.s.e.end(ss.a)
	if ss.s.only.IsValid() {
		ss.s.close()
	}
}

// farewell tells the peer that it is over.
func (ss *dtlsSession) farewell() { _ = ss.send(recordAlert, []byte{alertWarning, alertClose}) }

func (ss *dtlsSession) hangup(*association) {
	ss.farewell()
	ss.end()
}

func (ss *dtlsSession) remoteAddr() netip.AddrPort {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.addr
}

func (ss *dtlsSession) localAddr(*association) netip.AddrPort {
	ss.mu.Lock()
	addr, local := ss.addr, ss.local
	ss.mu.Unlock()
	return ss.s.udp.localAddrFor(addr, local)
}

func (ss *dtlsSession) context() context.Context { return ss.s.ctx }

func (ss *dtlsSession) accepting() bool { return !ss.s.draining.Load() }
