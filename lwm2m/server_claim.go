package lwm2m

import (
	"fmt"
	"log/slog"

	"github.com/otago-iot/otago/internal/coap"
)

// Over UDP without security anybody can put another device's address on a datagram. Where that
// could cut a device off, because it is at that address, the sender has to show that it got the
// answer: see [coap.Response].Confirm. A NAT that has given the address to another device passes
// that test at once.

// contested reports whether a device that is not d, whose endpoint is given, has the address of a
// peer. s.mu is held.
func (s *Server) contested(endpoint string, peer coap.Peer) bool {
	other := s.table.byPeer[peer]
	return peer.Transport == coap.UDP && other != nil && other.active() && other.endpoint != endpoint
}

// claim begins to verify who is at an address, if it is contested. During another claim the device
// has to come again.
func (s *Server) claim(endpoint string, peer coap.Peer) (claimed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.contested(endpoint, peer) {
		return false, nil
	}
	if _, ok := s.claims[peer]; ok {
		return false, fmt.Errorf("%w: another device was at this address, and the server verifies which one is there now", errSoon)
	}
	s.claims[peer] = struct{}{}
	return true, nil
}

func (s *Server) endClaim(peer coap.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claims, peer)
}

// registerClaimed ends the claim of a Register, which is stored. before is the ID of the endpoint's
// registration of before.
func (s *Server) registerClaimed(reg Registration, peer coap.Peer, before string, err error) {
	defer s.endClaim(peer)
	defer s.keys.Lock(reg.Endpoint)()
	if now, _ := s.Registration(reg.Endpoint); now.ID != before && now.ID != "" {
		return // it has registered again, and that is stored
	}
	if err == nil {
		err = s.admissible(&reg)
	}
	if err == nil {
		s.enroll(reg, peer)
		s.storeSoon(reg.Endpoint) // something else may have been stored since, or DeleteDevice had it forgotten
		s.logRegistered(reg)
		s.settled(reg.ID, RegistrationEvent{Kind: EventRegistered})
		return
	}
	s.refused(slog.LevelWarn, refusedRegister, reg,
		fmt.Errorf("%w: the address is that of another device, and the sender is not there: %w", ErrForbidden, err))
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint[reg.Endpoint]
	if d == nil {
		d = s.table.add(reg.Endpoint)
		reg.ID, reg.Ended = "", s.wall()
		s.table.set(d, reg)
	}
	s.touchStore(d) // in place of what was stored of the Register
}

// updateClaimed ends the claim of an Update.
func (s *Server) updateClaimed(id string, peer coap.Peer, e RegistrationEvent, err error) {
	local := s.coap.LocalAddr(peer)
	s.mu.Lock()
	delete(s.claims, peer)
	d := s.table.byID[id]
	if d == nil || err != nil {
		s.mu.Unlock()
		if d != nil {
			s.refused(slog.LevelWarn, refusedUpdate, Registration{
				Endpoint: d.endpoint, Address: peer.Addr, Local: local, Transport: Transport(peer.Transport),
			}, fmt.Errorf("%w: the address is that of another device, and the sender is not there: %w", ErrForbidden, err))
		}
		return
	}
	s.move(d, peer)
	if local.IsValid() {
		d.local = local
	}
	s.touchStore(d)
	s.mu.Unlock()
	s.settled(id, e)
}
