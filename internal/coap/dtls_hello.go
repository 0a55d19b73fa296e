package coap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// helloPatience is how long a handshake that goes on keeps off another from
// its address.
const helloPatience = 5 * time.Second

// hello makes sure that a ClientHello finds its handshake. s.mu is held.
func (s *dtlsSocket) hello(at place, hello *clientHello, addr netip.AddrPort, local *localAddress) place {
	if h := at.handshake; h != nil {
		if h.random == hello.random {
			return at
		}
		if hello.cookie || h.verified && s.e.timers.now()-h.heard < helloPatience {
			return place{} // somebody else's, perhaps, to disturb
		}
		s.drop(h, errSuperseded)
		at.handshake = nil
	}
	if hello.cookie {
		// The cookie is that of a handshake that gave way, and pion takes no
		// other: the client has to begin anew, which it does not know.
		if at.session == nil {
			_ = s.writeTo(appendAlert(nil, alertHandshakeFailure), addr, local)
		}
		return place{}
	}
	if s.closed || s.draining.Load() || !s.room() {
		return place{}
	}
	h := s.newHandshake(addr)
	h.random, h.local = hello.random, local
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
		s.e.handshakeFailed(&s.udp.origin, h.addr, err)
	}
	log("coap: no association", "peer", h.addr, "identity", h.presented(), "error", err)
}
