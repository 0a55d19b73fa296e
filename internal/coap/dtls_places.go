package coap

import (
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"time"
)

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
	ss.owner = owner
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
	if old != nil && old.hasCID && old.owner != owner {
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
		excess.hangup(excess.a)
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
	owner := ss.owner
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
