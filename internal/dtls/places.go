package dtls

import (
	"cmp"
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"time"
)

// newCID generates the Connection ID for the session of a handshake.
func (s *Socket) newCID(h *handshake) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !h.hasCID {
		rand.Read(h.cid[:])
		_, taken := s.byCID[h.cid]
		h.hasCID = !taken
	}
	s.byCID[h.cid] = place{handshake: h}
	return h.cid[:]
}

// admit replaces a handshake with its session. An older session at that address ends, unless it has
// a Connection ID and another identity.
func (s *Socket) admit(h *handshake, ss *Session, proven *Identity) error {
	ss.owner = proven.Hash(s.seed)
	ss.heard.Store(int64(s.now()))
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
	if ss.receiver, err = s.handler.Open(ss, proven); err != nil {
		s.mu.Unlock()
		return err
	}
	s.forget(h)
	at := s.places[h.addr]
	old := at.session
	if old != nil && old.hasCID && old.owner != ss.owner {
		old = nil // the old session may have moved: its next record shows its address
	}
	at.session = ss
	s.places[h.addr] = at
	if ss.hasCID {
		s.byCID[ss.cid] = place{session: ss}
	}
	excess := s.excess(ss.owner)
	s.byOwner[ss.owner] = append(s.byOwner[ss.owner], ss)
	s.mu.Unlock()
	if old != nil {
		old.end()
	}
	if excess != nil && excess != old {
		excess.Close()
	}
	return nil
}

const (
	// excessIdle is how long a session must have been silent before it ends for another one of its
	// identity.
	excessIdle = time.Minute
	// With excessFactor times the allowed number of sessions, any session may end.
	excessFactor = 4
)

// excess returns the session of an identity that must end for a new one, or nil. s.mu is held.
func (s *Socket) excess(owner uint64) *Session {
	mine, limit := s.byOwner[owner], s.config.IdentitySessions
	if len(mine) < limit || s.client() {
		return nil
	}
	oldest := slices.MinFunc(mine, func(a, b *Session) int { return cmp.Compare(a.heard.Load(), b.heard.Load()) })
	if len(mine) < excessFactor*limit && s.now()-time.Duration(oldest.heard.Load()) < excessIdle {
		return nil
	}
	return oldest
}

// leave removes a session from the tables.
func (s *Socket) leave(ss *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	addr := ss.RemoteAddr()
	if at := s.places[addr]; at.session == ss {
		at.session = nil
		s.settle(addr, at)
	}
	if ss.hasCID && s.byCID[ss.cid].session == ss {
		delete(s.byCID, ss.cid)
	}
	rest := slices.DeleteFunc(s.byOwner[ss.owner], func(other *Session) bool { return other == ss })
	if len(rest) == 0 {
		delete(s.byOwner, ss.owner)
	} else {
		s.byOwner[ss.owner] = rest
	}
}

// moved records the new address of a session.
func (s *Socket) moved(ss *Session, from, to netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.places[from]; at.session == ss {
		at.session = nil
		s.settle(from, at)
	}
	if s.byCID[ss.cid].session != ss { // it has ended meanwhile
		return
	}
	if at := s.places[to]; at.session == nil {
		at.session = ss
		s.places[to] = at
	}
}

// settle stores the place of an address. s.mu is held.
func (s *Socket) settle(addr netip.AddrPort, at place) {
	if at == (place{}) {
		delete(s.places, addr)
	} else {
		s.places[addr] = at
	}
}
