package dtls

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/otago-iot/otago/internal/udp"
)

// helloGuard is how long a handshake blocks another one from the same address.
const helloGuard = 5 * time.Second

// hello finds the handshake of a ClientHello, or begins one. s.mu is held.
func (s *Socket) hello(at place, hello *clientHello, addr netip.AddrPort, local *udp.Local) place {
	if h := at.handshake; h != nil {
		if h.random == hello.random {
			return at
		}
		if hello.cookie || h.verified && s.now()-h.heard < helloGuard {
			return place{} // another peer may have sent it to disturb the handshake
		}
		s.drop(h, errSuperseded)
		at.handshake = nil
	}
	if hello.cookie {
		// The cookie belongs to a handshake that was dropped, and pion accepts no other. The client
		// does not know that it has to start again.
		if at.session == nil {
			_ = s.conn.WriteTo(appendAlert(nil, alertHandshakeFailure), addr, local)
		}
		return place{}
	}
	if s.closed || s.draining.Load() || !s.room() {
		return place{}
	}
	h := s.newHandshake(addr)
	h.random, h.local = hello.random, local
	h.aead = hello.offers(certificateSuites) || hello.offers(pskSuites)
	h.elem = s.unverified.PushBack(h)
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

const (
	// unverifiedTime is how long a handshake whose address is not verified keeps its place when
	// there are too many. A client without a place repeats the ClientHello after a second.
	unverifiedTime = 500 * time.Millisecond
	// verifiedIdle is how long a peer whose address is verified may be silent.
	verifiedIdle = 10 * time.Second
)

// room reports whether one more handshake can begin. If necessary, it ends one: the oldest whose
// address is not verified, or else one that is idle. s.mu is held.
func (s *Socket) room() bool {
	if s.unverified.Len()+s.verified.Len() < s.config.Handshakes {
		return true
	}
	now := s.now()
	if e := s.unverified.Front(); e != nil {
		h := e.Value.(*handshake)
		if now-h.began < unverifiedTime {
			return false
		}
		s.drop(h, errSuperseded)
		return true
	}
	for e := s.verified.Front(); e != nil; e = e.Next() {
		if h := e.Value.(*handshake); now-h.heard > verifiedIdle {
			s.drop(h, errSuperseded)
			return true
		}
	}
	return false
}

// drop ends a handshake. s.mu is held.
func (s *Socket) drop(h *handshake, why error) {
	s.forget(h)
	h.dropped = why
	h.abort(why)
}

// forget removes a handshake from the tables. s.mu is held.
func (s *Socket) forget(h *handshake) {
	if h.elem != nil {
		s.unverified.Remove(h.elem)
		s.verified.Remove(h.elem)
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

// verify records that the address of a handshake's peer is verified.
func (s *Socket) verify(h *handshake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.elem != nil && !h.verified {
		s.unverified.Remove(h.elem)
		h.elem = s.verified.PushBack(h)
		h.room.Add(verifiedRoom - unverifiedRoom)
	}
	h.verified = true
}

// failed reports a handshake that failed. With an address that is not verified, the failure is
// logged only for debugging.
func (s *Socket) failed(h *handshake, err error) {
	s.mu.Lock()
	s.forget(h)
	verified := h.verified
	s.mu.Unlock()
	if errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		return
	}
	log := s.log.Debug
	if verified {
		log = s.log.Info
		s.handler.Failed(h.addr, h.presented(), err)
	}
	log("dtls: handshake failed", "address", h.addr, "identity", h.claimed(), "error", err)
}

// alertError is an alert of a peer.
type alertError byte

// Error names the alert as crypto/tls does: "bad certificate".
func (a alertError) Error() string {
	return "peer sent alert: " + strings.TrimPrefix(tls.AlertError(a).Error(), "tls: ")
}
