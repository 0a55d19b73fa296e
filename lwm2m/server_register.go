package lwm2m

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// register answers a Register.
func (s *Server) register(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
	reg, err := s.newRegistration(ctx, r)
	if err != nil {
		level := slog.LevelWarn
		if reg.Identity.isZero() {
			level = slog.LevelInfo // any host can send it
		}
		s.refused(level, refusedRegister, reg, err)
		return errorResponse(err)
	}
	confirm, err := s.accept(ctx, reg, r.Peer)
	if err != nil {
		s.refused(slog.LevelWarn, refusedRegister, reg, err)
		return errorResponse(err)
	}
	if confirm == nil {
		s.logRegistered(reg)
	}
	var options coap.Options
	options = coap.AppendString(options, coap.LocationPath, "rd")
	options = coap.AppendString(options, coap.LocationPath, reg.ID)
	if confirm != nil {
		return &coap.Response{Code: coap.Created, Options: options, Confirm: confirm}
	}
	// No request goes to the device, and no event is sent, before it has its answer.
	return &coap.Response{Code: coap.Created, Options: options, After: func() { s.settled(reg.ID, RegistrationEvent{Kind: EventRegistered}) }}
}

// logRegistered logs a registration.
func (s *Server) logRegistered(r Registration) {
	if !s.log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	s.log.Info("registered", slog.String("endpoint", r.Endpoint), slog.String("identity", r.Identity.String()),
		slog.Any("address", r.Address), slog.String("transport", r.Transport.String()), slog.String("lwm2m", r.Version.String()),
		slog.Duration("lifetime", r.Lifetime), slog.Bool("queue", r.Queue))
}

// settled is called when a device has the answer to its Register, Update or Send: from now on it
// takes requests.
func (s *Server) settled(id string, e RegistrationEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byID.Get(id)
	if d == nil {
		return
	}
	d.settling = false
	s.emit(e, d)
	s.hear(d)
	s.followEvent(e, d)
}

// newRegistration reads a Register into a registration. On error it holds what is known of the
// sender: the endpoint that it claims, its identity and address.
func (s *Server) newRegistration(ctx context.Context, r *coap.IncomingRequest) (Registration, error) {
	reg := s.sender(r)
	p, err := parseParameters(r.Queries())
	reg.Endpoint = p.endpoint
	if err != nil {
		return reg, err
	}
	version, err := parseLwM2MVersion(p.version)
	if err != nil {
		return reg, err
	}
	links, err := s.readLinks(r)
	if err != nil {
		return reg, err
	}
	if links == "" {
		return reg, fmt.Errorf("%w: no objects", ErrBadRequest)
	}
	lifetime := uint32(defaultLifetime)
	if p.lifetime != nil {
		lifetime = *p.lifetime
	}
	now := s.wall()
	reg.ID, reg.Version, reg.Lifetime, reg.Links = newLocation(), version, time.Duration(lifetime)*time.Second, links
	reg.Binding, reg.Queue = cmp.Or(p.binding, "U"), p.queue || strings.Contains(p.binding, "Q")
	reg.SMS, reg.ProfileID, reg.Attributes = p.sms, p.profile, encodeFurther(p.further)
	reg.Registered, reg.Updated, reg.LastSeen = now, now, now
	if err := s.checkLifetime(reg.Lifetime); err != nil {
		return reg, err
	}
	if err := s.identify(ctx, &reg, r.Identity); err != nil {
		return reg, err
	}
	if s.config.Authorize != nil {
		return reg, refusal(s.config.Authorize(ctx, reg))
	}
	return reg, nil
}

func (s *Server) checkLifetime(lt time.Duration) error {
	if lt != 0 && (lt < s.config.MinLifetime || lt > s.config.MaxLifetime) {
		return fmt.Errorf("%w: lifetime %v is out of bounds", ErrBadRequest, lt)
	}
	return nil
}

// refusal gives an error of Authorize that has no code the code 4.03.
func refusal(err error) error {
	if err != nil && codeOf(err) == CodeInternal && !errors.Is(err, ErrInternal) {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	return err
}

// readLinks checks the payload of a Register or Update and returns it; "" if there is none.
func (s *Server) readLinks(r *coap.IncomingRequest) (string, error) {
	links := trimLinks(r.Payload)
	if links == "" {
		return "", nil
	}
	if len(links) > s.config.MaxLinks {
		return "", fmt.Errorf("%w: the list of objects is longer than %d bytes", ErrTooLarge, s.config.MaxLinks)
	}
	// Some devices declare text, or no format.
	if f, ok := r.ContentFormat().Get(); ok && ContentFormat(f) != FormatLink && ContentFormat(f) != FormatText {
		return "", fmt.Errorf("%w: objects are listed in format 40", ErrUnsupportedFormat)
	}
	if s.listed(links) {
		return links, nil // as when it came the first time
	}
	list, err := parseObjectList([]byte(links))
	if err != nil {
		return "", err
	}
	if len(list.Objects) == 0 {
		return "", fmt.Errorf("%w: no objects below %q", ErrBadRequest, list.Root+"/")
	}
	return links, nil
}

// listed reports whether a device is registered with this list of objects.
func (s *Server) listed(links string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.texts[links] != nil
}

// maxRegistering bounds the Registers of one endpoint that wait for one another: more would only
// delay those of other endpoints.
const maxRegistering = 8

// accept makes reg the registration of its endpoint, durably, in place of an older one. If another
// device has its address, accept only stores reg; confirm puts it into the table if the device got
// the answer.
func (s *Server) accept(ctx context.Context, reg Registration, peer coap.Peer) (confirm func(error), err error) {
	if err := s.admissible(&reg); err != nil {
		return nil, err // before it waits and takes the place of a Register that may succeed
	}
	unlock, ok := s.keys.LockAmong(reg.Endpoint, maxRegistering)
	if !ok {
		return nil, fmt.Errorf("%w: this endpoint registers too often at once", errSoon)
	}
	defer unlock()
	if err := s.admissible(&reg); err != nil {
		return nil, err
	}
	if err := s.makeRoom(ctx, &reg); err != nil {
		return nil, err
	}
	claimed, err := s.claim(reg.Endpoint, peer)
	if err != nil {
		return nil, err
	}
	if err := s.put(ctx, reg); err != nil {
		if claimed {
			s.endClaim(peer)
		}
		return nil, fmt.Errorf("%w: registration not stored: %w", ErrUnavailable, err)
	}
	if claimed {
		before, _ := s.Registration(reg.Endpoint)
		return func(err error) { s.registerClaimed(reg, peer, before.ID, err) }, nil
	}
	s.enroll(reg, peer)
	return nil, nil
}

// enroll puts a registration into the table.
func (s *Server) enroll(reg Registration, peer coap.Peer) {
	awake := s.askAwakeTime(reg)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint.Get(reg.Endpoint)
	if d == nil {
		d = s.table.add(reg.Endpoint)
	}
	if d.active() {
		s.table.byID.Delete(d.id)
	}
	s.interruptRunning(d, errInterrupted)
	s.endObservations(d, ErrNotRegistered)
	s.table.set(d, reg)
	d.setAwakeTime(awake)
	s.table.byID.Put(d)
	s.locate(d, peer)
	d.heard, d.awake, d.settling = s.now(), true, true
	d.expires = d.heard + s.lasting(reg.Lifetime)
	s.schedule(d)
	s.arm()
}

// admissible checks a registration against the record of its endpoint.
func (s *Server) admissible(reg *Registration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint.Get(reg.Endpoint)
	switch {
	case d == nil:
	case d.secured && !reg.Secured:
		return fmt.Errorf("%w: this endpoint uses credentials", ErrForbidden)
	case d.activity != nil && len(d.activity.events) >= maxPendingEvents:
		return fmt.Errorf("%w: too much has happened to this endpoint", ErrUnavailable)
	}
	return nil
}

// deregister answers a De-register, once the end of the registration is durable.
func (s *Server) deregister(ctx context.Context, r *coap.IncomingRequest, id string) *coap.Response {
	reg, unlock, refusal := s.lockOwn(ctx, refusedDeregister, r, id)
	if refusal != nil {
		return refusal
	}
	defer unlock()
	reg.ID, reg.Ended = "", s.wall()
	if err := s.put(ctx, reg); err != nil {
		s.log.Error("end of a registration not stored", slog.String("endpoint", reg.Endpoint), slog.Any("error", err))
		return errorResponse(ErrUnavailable)
	}
	s.log.Info("de-registered", slog.String("endpoint", reg.Endpoint))
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.table.byID.Get(id); d != nil { // else its lifetime ended meanwhile
		s.end(d, EventDeregistered, reg.Ended)
	}
	return &coap.Response{Code: coap.Deleted}
}

var locationEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// newLocation returns a new registration's identifier: 80 random bits.
func newLocation() string {
	var b [10]byte
	rand.Read(b[:])
	return locationEncoding.EncodeToString(b[:])
}
