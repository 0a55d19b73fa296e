package lwm2m

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
)

// maxIdentity bounds the name of an identity that registers, in bytes.
const maxIdentity = 1024

// identify sets the identity that the peer has proven, and refuses an endpoint that it may not
// register.
func (s *Server) identify(ctx context.Context, reg *Registration, id *dtls.Identity) error {
	if id.IsZero() {
		if reg.Endpoint == "" {
			return fmt.Errorf("%w: no ep", ErrBadRequest)
		}
		return nil
	}
	endpoint, owner, err := s.ownedEndpoint(ctx, id, reg.Endpoint)
	switch {
	case err != nil:
		return err
	case reg.Endpoint == "" && reg.Version == (Version{Major: 1}):
		return fmt.Errorf("%w: no ep", ErrBadRequest)
	}
	if err := checkEndpoint(endpoint); err != nil {
		return err
	}
	reg.Endpoint, reg.Identity, reg.Secured = endpoint, owner, true
	return nil
}

// ownedEndpoint returns the endpoint that one of the identities of a peer may register, and that
// identity: the wanted endpoint, or any if wanted is empty.
func (s *Server) ownedEndpoint(ctx context.Context, proven *dtls.Identity, wanted string) (endpoint string, owner Identity, err error) {
	refused := fmt.Errorf("%w: ep does not belong to the credentials", ErrForbidden)
	for _, id := range identities(proven) {
		found, err := s.lookUp(ctx, id, proven)
		switch {
		case errors.Is(err, ErrUnknownIdentity):
			if id.Kind == IdentityPSK { // another name of a certificate may be known
				s.revoke(found.key, id)
			}
		case err != nil:
			refused = fmt.Errorf("%w: credentials cannot be verified at present", ErrUnavailable)
		case len(id.Name) > maxIdentity:
			refused = fmt.Errorf("%w: the identity is longer than %d bytes", ErrForbidden, maxIdentity)
		case found.endpoint != "" && (wanted == "" || wanted == found.endpoint):
			return found.endpoint, id, nil
		}
	}
	return "", Identity{}, refused
}

// identities returns the identities that a peer has proven: that of its key, or the names in its
// certificate.
func identities(id *dtls.Identity) []Identity {
	switch id.Kind() {
	case dtls.KeyIdentity:
		return []Identity{{Kind: IdentityPSK, Name: string(id.PSKIdentity)}}
	case dtls.CertificateIdentity:
	default:
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
	all := make([]Identity, len(names))
	for i, name := range names {
		all[i] = Identity{Kind: IdentityCertificate, Name: name}
	}
	return all
}

// firstIdentity returns the first of the identities that a peer has proven, zero if there is none.
func firstIdentity(id *dtls.Identity) Identity {
	if all := identities(id); len(all) > 0 {
		return all[0]
	}
	return Identity{}
}

// owner returns the endpoint of a registration, if the identity is the one that registered. A peer
// with another identity learns nothing.
func (s *Server) owner(id string, proven *dtls.Identity) (endpoint string, by Identity, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byID.Get(id)
	if d == nil {
		return "", Identity{}, false
	}
	by = d.identity()
	if d.secured && !slices.Contains(identities(proven), by) {
		return "", Identity{}, false
	}
	return d.endpoint, by, true
}

// lockOwn returns the registration of an Update or a De-register, with its endpoint locked until
// unlock is called. It calls Credentials before it locks, since others wait for the lock. It
// refuses a peer to which the registration does not belong; what names the request in the log.
func (s *Server) lockOwn(
	ctx context.Context, what string, r *coap.IncomingRequest, id string,
) (reg Registration, unlock func(), refusal *coap.Response) {
	endpoint, by, ok := s.owner(id, r.Identity)
	if !ok {
		return Registration{}, nil, errorResponse(ErrNotFound)
	}
	if err := s.entitled(ctx, by, r.Identity, endpoint); err != nil {
		return Registration{}, nil, s.refuse(what, r, endpoint, err)
	}
	unlock = s.keys.Lock(endpoint)
	reg, ok = s.Registration(endpoint)
	if !ok || reg.ID != id { // it ended or was replaced while lockOwn waited for the lock
		unlock()
		return Registration{}, nil, errorResponse(ErrNotFound)
	}
	return reg, unlock, nil
}

// entitled returns an error if an identity may no longer act for an endpoint. Then the server sends
// nothing more to the device.
func (s *Server) entitled(ctx context.Context, by Identity, proven *dtls.Identity, endpoint string) error {
	if by.isZero() {
		return nil
	}
	found, err := s.lookUp(ctx, by, proven)
	switch {
	case errors.Is(err, ErrUnknownIdentity):
		s.revoke(found.key, by)
		return fmt.Errorf("%w: the identity is not known any more", ErrForbidden)
	case err != nil: // not now: it stays as it was
		return nil
	case found.endpoint == endpoint:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.table.byEndpoint.Get(endpoint); d != nil && d.active() && d.identity() == by {
		s.table.leave(d)
		s.cutOff(d)
	}
	return fmt.Errorf("%w: the endpoint does not belong to the credentials any more", ErrForbidden)
}

// Revoke ends the associations of identities, so that devices that registered with them are no
// longer reachable. Call it for credentials that are removed or replaced, once [Credentials]
// returns their new state: the device learns that its association has ended, and connects again.
func (s *Server) Revoke(ids ...Identity) { s.revoke(nil, ids...) }

// revoke is Revoke, but spares associations that were made with key.
func (s *Server) revoke(key []byte, ids ...Identity) {
	gone := make(map[Identity]bool, len(ids))
	kinds := make(map[IdentityKind]bool)
	for _, id := range ids {
		gone[id], kinds[id.Kind] = true, true
	}
	n := s.coap.EndIdentities(func(proven *dtls.Identity) bool {
		if proven.Kind() == dtls.CertificateIdentity && !kinds[IdentityCertificate] || len(key) > 0 && proven.ProvenBy(key) {
			return false
		}
		return slices.ContainsFunc(identities(proven), func(id Identity) bool { return gone[id] })
	})
	s.log.Info("identities revoked", slog.Int("identities", len(gone)), slog.Int("associations", n))
}
