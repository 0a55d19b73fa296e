package coap

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// dtlsSocket is a UDP socket with all its DTLS peers. It finds for a datagram
// the association, by Connection ID or by address, or the handshake.
type dtlsSocket struct {
	e    *Endpoint
	cfg  DTLSConfig
	udp  *socket        // reads and writes for us
	only netip.AddrPort // the server of a dialled socket

	local    netip.AddrPort
	ctx      context.Context
	draining atomic.Bool
	read     chan struct{} // closed when the reader and all handshakes have ended
	running  sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	places    map[netip.AddrPort]place
	byCID     map[connectionID]cidOwner
	byOwner   map[uint64][]*dtlsSession
	strangers list.List // *dtlsHandshake, address not verified, the oldest first
	guests    list.List // *dtlsHandshake, address verified, the oldest first
}

// place is what there is at an address.
type place struct {
	session   *dtlsSession
	handshake *dtlsHandshake
}

// cidOwner is whose Connection ID it is: one of both.
type cidOwner = place

func (e *Endpoint) newDTLSSocket(ctx context.Context, conn net.PacketConn, cfg DTLSConfig) *dtlsSocket {
	udp := e.newSocket(ctx, conn)
	return &dtlsSocket{
		e: e, cfg: cfg, udp: udp, local: udp.local, ctx: udp.ctx, read: make(chan struct{}),
		places:  make(map[netip.AddrPort]place),
		byCID:   make(map[connectionID]cidOwner),
		byOwner: make(map[uint64][]*dtlsSession),
	}
}

func (s *dtlsSocket) writeTo(b []byte, addr netip.AddrPort) error { return s.udp.writeTo(b, addr) }

// serve reads until the socket is closed.
func (s *dtlsSocket) serve() error {
	defer func() {
		s.close()
		s.running.Wait()
		close(s.read)
	}()
	b := make([]byte, maxRecord)
	for failures := 0; ; {
		n, addr, err := s.udp.readFrom(b)
		switch {
		case err == nil:
			failures = 0
			if s.only.IsValid() && addr != s.only {
				continue
			}
			s.receive(b[:n], addr)
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			// See socket.serve.
			if failures++; failures > 100 {
				return err
			}
			select {
			case <-time.After(time.Duration(failures) * time.Millisecond):
			case <-s.ctx.Done():
				return nil
			}
		}
	}
}

// receive finds out whose a datagram is.
func (s *dtlsSocket) receive(b []byte, addr netip.AddrPort) {
	r, _, err := nextRecord(b, cidSize)
	if err != nil || r.typ < recordChangeCipherSpec || r.typ > recordWithCID || r.epoch > 1 {
		return
	}
	s.mu.Lock()
	at := s.places[addr]
	if r.typ == recordWithCID {
		at = s.byCID[connectionID(r.raw[11:])]
	}
	if hello, ok := parseHello(b); ok && !s.only.IsValid() {
		at = s.hello(at, &hello, addr)
	}
	s.mu.Unlock()

	h := at.handshake
	switch {
	case h != nil && h.finishing():
		h.postpone(b)
	case h != nil && (r.epoch == 0 || r.typ == recordHandshake || r.typ == recordWithCID):
		h.feed(b)
	case h != nil && at.session == nil:
		h.postpone(b)
	case at.session != nil:
		at.session.receive(b, addr)
	}
}

// helloPatience is how long a handshake that goes on keeps off another from
// its address.
const helloPatience = 5 * time.Second

// hello makes sure that a ClientHello finds its handshake. s.mu is held.
func (s *dtlsSocket) hello(at place, hello *clientHello, addr netip.AddrPort) place {
	if h := at.handshake; h != nil {
		if h.random == hello.random {
			return at
		}
		if h.verified && s.e.timers.now()-h.heard < helloPatience {
			return place{} // somebody else's, perhaps, to disturb
		}
		s.drop(h, errSuperseded)
		at.handshake = nil
	}
	if hello.cookie {
		// The cookie is that of a handshake that gave way, and pion takes no
		// other: the client has to begin anew, which it does not know.
		if at.session == nil {
			_ = s.writeTo(appendAlert(nil, alertHandshakeFailure), addr)
		}
		return place{}
	}
	if s.closed || s.draining.Load() || !s.room() {
		return place{}
	}
	h := s.newHandshake(addr)
	h.random = hello.random
	h.aead = hello.offers(certificateSuites) || hello.offers(pskSuites)
	h.elem = s.strangers.PushBack(h)
	at.handshake = h
	s.places[addr] = at
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		if _, err := h.run(s.ctx); err != nil {
			s.failed(h, err)
		}
	}()
	return at
}

// How long others are kept out when there are too many handshakes: by one whose
// address is not verified since it began, by one whose address is since it was
// last heard. Who is kept out repeats his ClientHello after a second.
const (
	strangerPatience = 500 * time.Millisecond
	guestPatience    = 10 * time.Second
)

// room makes sure that there can be one handshake more: of those that have not
// yet shown that they are at their address the oldest gives way, then of the
// others one that is idle. s.mu is held.
func (s *dtlsSocket) room() bool {
	if s.strangers.Len()+s.guests.Len() < s.e.cfg.Bounds.Handshakes {
		return true
	}
	now := s.e.timers.now()
	if e := s.strangers.Front(); e != nil {
		h := e.Value.(*dtlsHandshake)
		if now-h.began < strangerPatience {
			return false
		}
		s.drop(h, errSuperseded)
		return true
	}
	for e := s.guests.Front(); e != nil; e = e.Next() {
		if h := e.Value.(*dtlsHandshake); now-h.heard > guestPatience {
			s.drop(h, errSuperseded)
			return true
		}
	}
	return false
}

// drop ends a handshake. s.mu is held.
func (s *dtlsSocket) drop(h *dtlsHandshake, why error) {
	s.forget(h)
	h.dropped = why
	h.abort(why)
}

// forget takes a handshake out of the tables. s.mu is held.
func (s *dtlsSocket) forget(h *dtlsHandshake) {
	if h.elem != nil {
		s.strangers.Remove(h.elem)
		s.guests.Remove(h.elem)
		h.elem = nil
	}
	if at := s.places[h.addr]; at.handshake == h {
		at.handshake = nil
		s.settle(h.addr, at)
	}
	if h.hasCID && s.byCID[h.cid].handshake == h {
		delete(s.byCID, h.cid)
	}
}

// settle stores what there is at an address. s.mu is held.
func (s *dtlsSocket) settle(addr netip.AddrPort, at place) {
	if at == (place{}) {
		delete(s.places, addr)
	} else {
		s.places[addr] = at
	}
}

// verified notes that the peer of a handshake is where it says.
func (s *dtlsSocket) verified(h *dtlsHandshake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.elem != nil && !h.verified {
		s.strangers.Remove(h.elem)
		h.elem = s.guests.PushBack(h)
		h.room.Add(guestRoom - strangerRoom)
	}
	h.verified = true
}

// failed reports a handshake that came to nothing. Of strangers only who
// debugs wants to hear.
func (s *dtlsSocket) failed(h *dtlsHandshake, err error) {
	s.mu.Lock()
	s.forget(h)
	verified := h.verified
	s.mu.Unlock()
	if errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		return
	}
	log := s.e.log.Debug
	if verified {
		log = s.e.log.Info
	}
	log("coap: no association", "peer", h.addr, "identity", h.presented(), "error", err)
}

// giveCID returns a Connection ID for what comes of a handshake.
func (s *dtlsSocket) giveCID(h *dtlsHandshake) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !h.hasCID {
		rand.Read(h.cid[:])
		_, taken := s.byCID[h.cid]
		h.hasCID = !taken
	}
	s.byCID[h.cid] = cidOwner{handshake: h}
	return h.cid[:]
}

// admit puts a session in the place of its handshake, and of an older session
// at that address.
func (s *dtlsSocket) admit(h *dtlsHandshake, ss *dtlsSession, proven *Identity) error {
	peer := Peer{Transport: DTLS, Addr: h.addr, ID: s.e.lastID.Add(1)}
	a := &association{e: s.e, peer: peer, link: ss, proven: proven}
	owner := a.owner()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	if h.dropped != nil {
		s.mu.Unlock()
		return h.dropped
	}
	var err error
	if ss.a, err = s.e.open(peer, ss, proven); err != nil {
		s.mu.Unlock()
		return err
	}
	s.forget(h)
	at := s.places[h.addr]
	old := at.session
	if old != nil && old.hasCID && old.a.owner() != owner {
		old = nil // it is elsewhere now, and will be heard from there
	}
	at.session = ss
	s.places[h.addr] = at
	if ss.hasCID {
		s.byCID[ss.cid] = cidOwner{session: ss}
	}
	excess := s.excess(owner)
	s.byOwner[owner] = append(s.byOwner[owner], ss)
	s.mu.Unlock()
	if old != nil {
		old.end()
	}
	if excess != nil && excess != old {
		excess.end()
	}
	return nil
}

// excessIdle is how long an association must have been silent to be ended
// because its peer has too many; with excessFactor times too many none is
// spared.
const (
	excessIdle   = time.Minute
	excessFactor = 4
)

// excess returns the association of an identity that gives way for another
// one. s.mu is held.
func (s *dtlsSocket) excess(owner uint64) *dtlsSession {
	mine, limit := s.byOwner[owner], s.e.cfg.Bounds.IdentityAssociations
	if len(mine) < limit || s.only.IsValid() {
		return nil
	}
	oldest := slices.MinFunc(mine, func(a, b *dtlsSession) int {
		return int(a.a.heard.Load() - b.a.heard.Load())
	})
	if len(mine) < excessFactor*limit && s.e.timers.now()-time.Duration(oldest.a.heard.Load()) < excessIdle {
		return nil
	}
	return oldest
}

// leave takes a session out of the tables.
func (s *dtlsSocket) leave(ss *dtlsSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	addr := ss.remoteAddr()
	if at := s.places[addr]; at.session == ss {
		at.session = nil
		s.settle(addr, at)
	}
	if ss.hasCID && s.byCID[ss.cid].session == ss {
		delete(s.byCID, ss.cid)
	}
	owner := ss.a.owner()
	rest := slices.DeleteFunc(s.byOwner[owner], func(other *dtlsSession) bool { return other == ss })
	if len(rest) == 0 {
		delete(s.byOwner, owner)
	} else {
		s.byOwner[owner] = rest
	}
}

// moved has a session found at its new address.
func (s *dtlsSocket) moved(ss *dtlsSession, from, to netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.places[from]; at.session == ss {
		at.session = nil
		s.settle(from, at)
	}
	if at := s.places[to]; at.session == nil {
		at.session = ss
		s.places[to] = at
	}
}

func (s *dtlsSocket) finished() <-chan struct{} { return s.read }

// close tells all peers, and ends all.
func (s *dtlsSocket) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	var sessions []*dtlsSession
	for _, list := range s.byOwner {
		sessions = append(sessions, list...)
	}
	for _, l := range []*list.List{&s.strangers, &s.guests} {
		for l.Len() > 0 {
			s.drop(l.Front().Value.(*dtlsHandshake), net.ErrClosed)
		}
	}
	for _, at := range s.places {
		if at.handshake != nil {
			at.handshake.abort(net.ErrClosed)
		}
	}
	s.mu.Unlock()
	for _, ss := range sessions {
		ss.farewell()
		ss.end()
	}
	s.udp.close()
}
