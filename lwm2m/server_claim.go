package lwm2m

import (
	"fmt"
	"log/slog"

	"github.com/otago-iot/otago/internal/coap"
)

// Over UDP without security any host can forge the address of another device. If a device is
// registered at that address, this could cut it off. Then the sender must prove that it got the
// answer: see [coap.Response].Confirm. A device to which a NAT has given the address passes that
// test at once.

// contested reports whether a device with another endpoint has the address of a peer. s.mu is held.
func (s *Server) contested(endpoint string, peer coap.Peer) bool {
	other := s.table.byPeer.Get(peer)
	return peer.Transport == coap.UDP && other != nil && other.active() && other.endpoint != endpoint
}

// claim starts to verify which device is at an address, if it is contested. During another claim
// the error is errSoon.
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

// registerClaimed ends the claim of a Register, which is stored. before is the ID of the
// registration that the endpoint had then.
func (s *Server) registerClaimed(reg Registration, peer coap.Peer, before string, err error) {
	defer s.endClaim(peer)
	defer s.keys.Lock(reg.Endpoint)()
	if now, _ := s.Registration(reg.Endpoint); now.ID != before && now.ID != "" {
		return // the device has registered again, and that is stored
	}
	if err == nil {
		err = s.admissible(&reg)
	}
	if err == nil {
		s.enroll(reg, peer)
		s.storeSoon(reg.Endpoint) // another record may have been stored since, or DeleteDevice may have removed it
		s.logRegistered(reg)
		s.settled(reg.ID, RegistrationEvent{Kind: EventRegistered})
		return
	}
	s.refused(slog.LevelWarn, refusedRegister, reg,
		fmt.Errorf("%w: the address is that of another device, and the sender is not there: %w", ErrForbidden, err))
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint.Get(reg.Endpoint)
	if d == nil {
		d = s.table.add(reg.Endpoint)
		reg.ID, reg.Ended = "", s.wall()
		s.table.set(d, reg)
	}
	s.touchStore(d) // replace the stored Register
}

// updateClaimed ends the claim of an Update.
func (s *Server) updateClaimed(id string, peer coap.Peer, e RegistrationEvent, err error) {
	local := s.coap.LocalAddr(peer)
	s.mu.Lock()
	delete(s.claims, peer)
	d := s.table.byID.Get(id)
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
		c := d.settings()
		c.local = local
		d.setSettings(c)
	}
	s.touchStore(d)
	s.mu.Unlock()
	s.settled(id, e)
}
