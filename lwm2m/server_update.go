package lwm2m

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// refuse answers a device whose Update, De-register or Send is refused. endpoint is "" if the
// location or the association belongs to none.
func (s *Server) refuse(what string, r *coap.IncomingRequest, endpoint string, err error) *coap.Response {
	reg := s.sender(r)
	reg.Endpoint = endpoint
	level := slog.LevelWarn
	if endpoint == "" {
		level = slog.LevelInfo // any host can send it
	}
	s.refused(level, what, reg, err)
	return errorResponse(err)
}

// sender returns what is known of the sender of a request.
func (s *Server) sender(r *coap.IncomingRequest) Registration {
	return Registration{
		Identity: firstIdentity(r.Identity), Address: s.coap.RemoteAddr(r.Peer), Local: s.coap.LocalAddr(r.Peer),
		Transport: Transport(r.Peer.Transport),
	}
}

// The log messages of refusals.
const (
	refusedRegister   = "registration refused"
	refusedUpdate     = "update refused"
	refusedDeregister = "de-registration refused"
	refusedSend       = "send refused"
)

// refuseUpdate is refuse for an Update whose sender is not known yet.
func (s *Server) refuseUpdate(r *coap.IncomingRequest, id string, err error) *coap.Response {
	endpoint, _, _ := s.owner(id, r.Identity)
	return s.refuse(refusedUpdate, r, endpoint, err)
}

// update answers an Update.
func (s *Server) update(ctx context.Context, r *coap.IncomingRequest, id string) *coap.Response {
	p, err := parseParameters(r.Queries())
	if err != nil {
		return s.refuseUpdate(r, id, err)
	}
	links, err := s.readLinks(r)
	if err != nil {
		return s.refuseUpdate(r, id, err)
	}
	if p.lifetime != nil {
		if err := s.checkLifetime(time.Duration(*p.lifetime) * time.Second); err != nil {
			return s.refuseUpdate(r, id, err)
		}
	}
	authorized, err := s.authorizeUpdate(ctx, r, id, p, links)
	if err != nil {
		return s.refuseUpdate(r, id, err)
	}
	reg, unlock, refusal := s.lockOwn(ctx, refusedUpdate, r, id)
	if refusal != nil {
		return refusal
	}
	defer unlock()
	old := reg
	if err := p.applyTo(&reg, links); err != nil {
		return s.refuse(refusedUpdate, r, reg.Endpoint, err)
	}
	if reg.Attributes != old.Attributes && reg.Attributes != authorized && s.config.Authorize != nil {
		return s.refuse(refusedUpdate, r, reg.Endpoint, fmt.Errorf("%w: another Update changed the attributes", errSoon))
	}
	if err := s.makeRoom(ctx, &reg); err != nil {
		return s.refuse(refusedUpdate, r, reg.Endpoint, err)
	}
	claimed, err := s.claim(reg.Endpoint, r.Peer)
	if err != nil {
		return s.refuse(refusedUpdate, r, reg.Endpoint, err)
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

// authorizeUpdate calls Authorize for an Update that changes the attributes, and returns those that
// it accepted. It does so before the endpoint is locked, since others wait for the lock.
func (s *Server) authorizeUpdate(
	ctx context.Context, r *coap.IncomingRequest, id string, p parameters, links string,
) (attributes string, err error) {
	if len(p.further) == 0 || s.config.Authorize == nil {
		return "", nil
	}
	endpoint, _, _ := s.owner(id, r.Identity)
	reg, ok := s.Registration(endpoint)
	if !ok || reg.ID != id {
		return "", nil // lockOwn refuses it
	}
	old := reg.Attributes
	if err := p.applyTo(&reg, links); err != nil || reg.Attributes == old {
		return "", err
	}
	sender := s.sender(r)
	reg.Address, reg.Local, reg.Transport = sender.Address, sender.Local, sender.Transport
	return reg.Attributes, refusal(s.config.Authorize(ctx, reg))
}

// renew puts an updated registration into the table. It reports false if the registration has
// ended. here says that the device is at peer, store that its record must be stored.
func (s *Server) renew(reg Registration, peer coap.Peer, here, store bool) bool {
	var awake time.Duration
	if !store { // something has changed
		awake = s.askAwakeTime(reg)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byID.Get(reg.ID)
	if d == nil {
		return false
	}
	s.table.set(d, reg)
	if !store {
		d.setAwakeTime(awake)
	}
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

// move records that a device sent a message from peer. s.mu is held.
func (s *Server) move(d *device, peer coap.Peer) {
	if d.peer == peer && d.reachable {
		return
	}
	if d.peer != peer {
		// The device will not answer requests to the old address, and observations are bound to it.
		s.interruptRunning(d, errInterrupted)
		s.endObservations(d, ErrUnreachable)
	}
	s.locate(d, peer)
}
