package lwm2m

import (
	"context"
	"log/slog"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// refuse answers a device that may not do any more what it did before.
func (s *Server) refuse(endpoint string, err error) *coap.Response {
	s.log.Warn("request of a device refused", slog.String("endpoint", endpoint), slog.Any("error", err))
	return errorResponse(err)
}

// update answers an Update.
func (s *Server) update(ctx context.Context, r *coap.IncomingRequest, id string) *coap.Response {
	p, err := parseParameters(r.Queries())
	if err != nil {
		return errorResponse(err)
	}
	links, err := s.readLinks(r)
	if err != nil {
		return errorResponse(err)
	}
	if p.lifetime != nil {
		if err := s.checkLifetime(time.Duration(*p.lifetime) * time.Second); err != nil {
			return errorResponse(err)
		}
	}
	reg, unlock, refusal := s.lockOwn(ctx, r, id)
	if refusal != nil {
		return refusal
	}
	defer unlock()
	old := reg
	p.applyTo(&reg, links)
	if err := s.makeRoom(ctx, &reg); err != nil {
		return errorResponse(err)
	}
	claimed, err := s.claim(reg.Endpoint, r.Peer)
	if err != nil {
		return errorResponse(err)
	}
	if !claimed {
		reg.Address, reg.Transport = s.coap.RemoteAddr(r.Peer), Transport(r.Peer.Transport)
		if local := s.coap.LocalAddr(r.Peer); local.IsValid() {
			reg.Local = local
		}
	}
	durable := reg != old
	reg.Updated = s.wall()
	reg.LastSeen = reg.Updated
	if durable {
		if err := s.put(ctx, reg); err != nil {
			s.log.Error("registration not stored", slog.String("endpoint", reg.Endpoint), slog.Any("error", err))
			if claimed {
				s.endClaim(r.Peer)
			}
			return errorResponse(ErrUnavailable)
		}
	}
	peer := r.Peer
	if !s.renew(reg, peer, !claimed, !durable) {
		if claimed {
			s.endClaim(peer)
		}
		return errorResponse(ErrNotFound)
	}
	e := RegistrationEvent{Kind: EventUpdated, LinksChanged: reg.Links != old.Links}
	if claimed {
		return &coap.Response{Code: coap.Changed, Confirm: func(err error) { s.updateClaimed(id, peer, e, err) }}
	}
	return &coap.Response{Code: coap.Changed, After: func() { s.settled(id, e) }}
}

// renew puts an updated registration into the table. It reports whether it is still there.
func (s *Server) renew(reg Registration, peer coap.Peer, here, store bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byID[reg.ID]
	if d == nil {
		return false
	}
	s.table.set(d, reg)
	if here {
		s.move(d, peer)
	}
	d.expires = s.now() + s.lasting(reg.Lifetime)
	s.schedule(d)
	s.arm()
	if store {
		s.touchStore(d)
	}
	return true
}

// move makes peer the way to a device that was heard from there. s.mu is held.
func (s *Server) move(d *device, peer coap.Peer) {
	if d.peer == peer && d.reachable {
		return
	}
	if d.peer != peer {
		// What is under way to the old address will not be answered, and observations are bound to it.
		s.interruptRunning(d, errInterrupted)
		s.endObservations(d, ErrUnreachable)
	}
	s.locate(d, peer)
}
