package lwm2m

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/otago-iot/otago/internal/coap"
)

const (
	maxEndpoint     = 255
	maxBinding      = 16
	maxSMS          = 64
	maxProfile      = 64
	defaultLifetime = 86400 // s, of a Register without lt
)

// parameters are the query of a Register or an Update, checked one by one.
type parameters struct {
	endpoint string
	lifetime uint32 // 0: not given
	version  string // "": not given
	binding  string // "": not given
	queue    bool
	sms      string
	profile  string
}

// parseParameters reads the Uri-Query options of a Register or an Update. Names that LwM2M does not define are ignored, the
// same one twice is not.
func parseParameters(queries []string) (p parameters, err error) {
	seen := make(map[string]bool, len(queries))
	for _, q := range queries {
		name, value, _ := strings.Cut(q, "=")
		if seen[name] {
			return p, fmt.Errorf("%w: %.20q given twice", ErrBadRequest, name)
		}
		seen[name] = true
		switch name {
		case "ep":
			p.endpoint, err = parseEndpoint(value)
		case "lt":
			p.lifetime, err = parseLifetime(value)
		case "lwm2m":
			p.version = value
		case "b":
			p.binding, err = parseBinding(value)
		case "Q":
			p.queue = true
		case "sms":
			p.sms, err = value, checkText("sms", value, maxSMS)
		case "pid":
			p.profile, err = value, checkText("pid", value, maxProfile)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

func parseEndpoint(value string) (string, error) {
	endpoint, err := url.PathUnescape(value)
	if err != nil {
		return "", fmt.Errorf("%w: ep is not percent-encoded rightly", ErrBadRequest)
	}
	if endpoint == "" {
		return "", fmt.Errorf("%w: ep is empty", ErrBadRequest)
	}
	return endpoint, checkText("ep", endpoint, maxEndpoint)
}

// checkText refuses what would be a nuisance in logs, in stores and on screens.
func checkText(name, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrBadRequest, name, limit)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%w: %s has control characters or is not UTF-8", ErrBadRequest, name)
	}
	return nil
}

func parseLifetime(value string) (uint32, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: lt is not a number of seconds above 0", ErrBadRequest)
	}
	return uint32(n), nil
}

func parseBinding(value string) (string, error) {
	for _, c := range []byte(value) {
		if c < 'A' || c > 'Z' {
			return "", fmt.Errorf("%w: b is not a list of letters", ErrBadRequest)
		}
	}
	if value == "" || len(value) > maxBinding {
		return "", fmt.Errorf("%w: b is not a list of letters", ErrBadRequest)
	}
	return value, nil
}

// parseLwM2MVersion reads the parameter lwm2m of a Register.
func parseLwM2MVersion(value string) (Version, error) {
	if value == "" {
		return Version{Major: 1}, nil
	}
	v, err := ParseVersion(value)
	if err != nil {
		return Version{}, fmt.Errorf("%w: lwm2m is not a version", ErrBadRequest)
	}
	if v.Major != 1 || v.Minor > 2 {
		return Version{}, fmt.Errorf("%w: LwM2M %s is not supported", ErrPreconditionFailed, v)
	}
	return v, nil
}

// register answers a Register.
func (s *Server) register(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
	reg, err := s.newRegistration(ctx, r)
	if err != nil {
		s.log.Info("registration refused", slog.Any("peer", r.Peer.Addr), slog.Any("error", err))
		return errorResponse(err)
	}
	if err := s.accept(ctx, reg, r.Peer); err != nil {
		s.log.Warn("registration refused", slog.String("endpoint", reg.Endpoint), slog.Any("error", err))
		return errorResponse(err)
	}
	var options coap.Options
	options = coap.AppendString(options, coap.LocationPath, "rd")
	options = coap.AppendString(options, coap.LocationPath, reg.ID)
	// Nobody is to send the device a request, or wants to know, before it has its answer.
	return &coap.Response{Code: coap.Created, Options: options, After: func() { s.settled(reg.ID, Event{Kind: EventRegistered}) }}
}

// settled is called when a device has the answer to its Register, Update or Send: now it hears requests.
func (s *Server) settled(id string, e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byID[id]
	if d == nil {
		return
	}
	d.settling = false
	s.emit(e, d)
	s.hear(d)
}

// newRegistration reads a Register into a registration, or says why it is refused.
func (s *Server) newRegistration(ctx context.Context, r *coap.IncomingRequest) (Registration, error) {
	p, err := parseParameters(r.Queries())
	if err != nil {
		return Registration{}, err
	}
	version, err := parseLwM2MVersion(p.version)
	if err != nil {
		return Registration{}, err
	}
	links, err := readLinks(r)
	if err != nil {
		return Registration{}, err
	}
	if links == "" {
		return Registration{}, fmt.Errorf("%w: no objects", ErrBadRequest)
	}
	now := time.Now()
	reg := Registration{
		Endpoint: p.endpoint, ID: newLocation(), Address: s.coap.RemoteAddr(r.Peer), Local: s.coap.LocalAddr(r.Peer), Transport: Transport(r.Peer.Transport),
		Version: version, Lifetime: time.Duration(cmp.Or(p.lifetime, defaultLifetime)) * time.Second,
		Binding: cmp.Or(p.binding, "U"), Queue: p.queue || strings.Contains(p.binding, "Q"), SMS: p.sms, ProfileID: p.profile,
		Links: links, Registered: now, Updated: now, LastSeen: now,
	}
	if err := s.checkLifetime(reg.Lifetime); err != nil {
		return Registration{}, err
	}
	if err := s.identify(&reg, r.Identity); err != nil {
		return Registration{}, err
	}
	if s.config.Authorize != nil {
		if err := s.config.Authorize(ctx, reg); err != nil {
			return Registration{}, refusal(err)
		}
	}
	return reg, nil
}

func (s *Server) checkLifetime(lt time.Duration) error {
	if lt < s.config.MinLifetime || lt > s.config.MaxLifetime {
		return fmt.Errorf("%w: lifetime %v is out of bounds", ErrBadRequest, lt)
	}
	return nil
}

// refusal makes an error of an Authorize hook that has no code one with 4.03.
func refusal(err error) error {
	if codeOf(err) == CodeInternal && !errors.Is(err, ErrInternal) {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	return err
}

// readLinks checks the payload of a Register or Update and returns it; "" if there is none.
func readLinks(r *coap.IncomingRequest) (string, error) {
	if len(r.Payload) == 0 {
		return "", nil
	}
	if f, ok := r.ContentFormat().Get(); ok && ContentFormat(f) != FormatLink {
		return "", fmt.Errorf("%w: objects are listed in format 40", ErrUnsupportedFormat)
	}
	list, err := ParseObjectList(r.Payload)
	if err != nil {
		return "", err
	}
	if len(list.Objects) == 0 {
		return "", fmt.Errorf("%w: no objects", ErrBadRequest)
	}
	return string(r.Payload), nil
}

// identify fills in what credentials prove, and refuses an endpoint that they do not belong to.
func (s *Server) identify(reg *Registration, id *coap.Identity) error {
	if id == nil || id.IsZero() {
		if reg.Endpoint == "" {
			return fmt.Errorf("%w: no ep", ErrBadRequest)
		}
		return nil
	}
	names := identityNames(id)
	endpoint, name, ok := s.ownedEndpoint(names, reg.Endpoint)
	if !ok {
		return fmt.Errorf("%w: ep does not belong to the credentials", ErrForbidden)
	}
	if reg.Endpoint == "" && reg.Version == (Version{Major: 1}) {
		return fmt.Errorf("%w: no ep", ErrBadRequest)
	}
	if err := checkText("ep", endpoint, maxEndpoint); err != nil {
		return err
	}
	reg.Endpoint, reg.Identity, reg.Secured = endpoint, name, true
	return nil
}

// ownedEndpoint returns the endpoint that one of the names may register, and the name: the wanted one, or if none is wanted
// any.
func (s *Server) ownedEndpoint(names []string, wanted string) (endpoint, name string, ok bool) {
	for _, name := range names {
		endpoint, ok := name, true
		if s.config.Credentials != nil {
			endpoint, ok = s.config.Credentials.Endpoint(name)
		}
		if ok && endpoint != "" && (wanted == "" || wanted == endpoint) {
			return endpoint, name, true
		}
	}
	return "", "", false
}

// identityNames returns the names that a peer has proven: its PSK identity, or what its certificate certifies.
func identityNames(id *coap.Identity) []string {
	if id == nil {
		return nil
	}
	if len(id.PSKIdentity) > 0 {
		return []string{string(id.PSKIdentity)}
	}
	if len(id.Certificates) == 0 {
		return nil
	}
	cert, err := x509.ParseCertificate(id.Certificates[0])
	if err != nil {
		return nil
	}
	var names []string
	if cert.Subject.CommonName != "" {
		names = append(names, cert.Subject.CommonName)
	}
	names = append(names, cert.DNSNames...)
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	return names
}

// accept makes reg the registration of its endpoint, durably, in place of an older one.
func (s *Server) accept(ctx context.Context, reg Registration, peer coap.Peer) error {
	defer s.keys.lock(reg.Endpoint)()
	if err := s.admissible(&reg); err != nil {
		return err
	}
	if err := s.put(ctx, reg); err != nil {
		return fmt.Errorf("%w: registration not stored: %w", ErrUnavailable, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint[reg.Endpoint]
	if d == nil {
		d = s.table.add(reg.Endpoint)
	}
	if d.active() {
		delete(s.table.byID, d.id)
	}
	if d.activity != nil {
		d.activity.queue.interrupt(errInterrupted)
		s.endObservations(d, ErrNotRegistered)
	}
	d.set(reg)
	s.table.byID[d.id] = d
	s.locate(d, peer)
	d.heard, d.awake, d.settling = s.now(), true, true
	d.expires = d.heard + reg.Lifetime
	s.schedule(d)
	s.arm()
	return nil
}

// admissible checks a registration against what is known of its endpoint.
func (s *Server) admissible(reg *Registration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint[reg.Endpoint]
	switch {
	case d == nil:
		if len(s.table.byEndpoint) >= s.config.MaxRegistrations && !s.table.evict() {
			return fmt.Errorf("%w: too many endpoints", ErrUnavailable)
		}
	case d.secured && !reg.Secured:
		return fmt.Errorf("%w: this endpoint uses credentials", ErrForbidden)
	case d.activity != nil && len(d.activity.events) >= maxPendingEvents:
		return fmt.Errorf("%w: too much has happened to this endpoint", ErrUnavailable)
	}
	return nil
}

// update answers an Update.
func (s *Server) update(ctx context.Context, r *coap.IncomingRequest, id string) *coap.Response {
	p, err := parseParameters(r.Queries())
	if err != nil {
		return errorResponse(err)
	}
	links, err := readLinks(r)
	if err != nil {
		return errorResponse(err)
	}
	if p.lifetime != 0 {
		if err := s.checkLifetime(time.Duration(p.lifetime) * time.Second); err != nil {
			return errorResponse(err)
		}
	}
	endpoint, ok := s.owner(id, r.Identity)
	if !ok {
		return errorResponse(ErrNotFound)
	}
	defer s.keys.lock(endpoint)()
	reg, ok := s.Registration(endpoint)
	if !ok || reg.ID != id {
		return errorResponse(ErrNotFound) // it ended or was replaced while we waited for the lock
	}
	old := reg
	p.applyTo(&reg, links)
	reg.Address, reg.Transport = s.coap.RemoteAddr(r.Peer), Transport(r.Peer.Transport)
	if local := s.coap.LocalAddr(r.Peer); local.IsValid() {
		reg.Local = local
	}
	durable := reg != old
	reg.Updated = time.Now()
	reg.LastSeen = reg.Updated
	if durable {
		if err := s.put(ctx, reg); err != nil {
			s.log.Error("registration not stored", slog.String("endpoint", endpoint), slog.Any("error", err))
			return errorResponse(ErrUnavailable)
		}
	}
	if !s.renew(reg, r.Peer, !durable) {
		return errorResponse(ErrNotFound)
	}
	return &coap.Response{Code: coap.Changed, After: func() { s.settled(id, Event{Kind: EventUpdated}) }}
}

// applyTo makes the changes that an Update asks for.
func (p parameters) applyTo(reg *Registration, links string) {
	if p.lifetime != 0 {
		reg.Lifetime = time.Duration(p.lifetime) * time.Second
	}
	if p.binding != "" {
		reg.Binding = p.binding
		if reg.Version == (Version{Major: 1}) {
			reg.Queue = strings.Contains(p.binding, "Q")
		}
	}
	// How a device leaves queue mode without saying Q is unclear in 1.1, so silence changes nothing.
	if p.queue || strings.Contains(p.binding, "Q") {
		reg.Queue = true
	}
	reg.SMS = cmp.Or(p.sms, reg.SMS)
	reg.ProfileID = cmp.Or(p.profile, reg.ProfileID)
	reg.Links = cmp.Or(links, reg.Links)
}

// owner returns the endpoint of a registration, if the identity is the one that registered. Others learn nothing.
func (s *Server) owner(id string, proven *coap.Identity) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byID[id]
	if d == nil {
		return "", false
	}
	if want := d.identity(); want != "" && !slices.Contains(identityNames(proven), want) {
		return "", false
	}
	return d.endpoint, true
}

// renew puts an updated registration into the table. It reports whether it is still there.
func (s *Server) renew(reg Registration, peer coap.Peer, store bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byID[reg.ID]
	if d == nil {
		return false
	}
	d.set(reg)
	if d.peer != peer || !d.reachable {
		if d.activity != nil && d.peer != peer {
			// What is under way to the old address will not be answered, and observations are bound to it.
			d.activity.queue.interrupt(errInterrupted)
			s.endObservations(d, ErrUnreachable)
		}
		s.locate(d, peer)
	}
	d.expires = s.now() + reg.Lifetime
	s.schedule(d)
	s.arm()
	if store {
		s.touchStore(d)
	}
	return true
}

// deregister answers a De-register.
func (s *Server) deregister(r *coap.IncomingRequest, id string) *coap.Response {
	if _, ok := s.owner(id, r.Identity); !ok {
		return errorResponse(ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byID[id]
	if d == nil {
		return errorResponse(ErrNotFound)
	}
	s.end(d, EventDeregistered)
	return &coap.Response{Code: coap.Deleted}
}

var locationEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// newLocation returns a new registration's identifier: 80 bits that nobody can guess.
func newLocation() string {
	var b [10]byte
	rand.Read(b[:])
	return locationEncoding.EncodeToString(b[:])
}
