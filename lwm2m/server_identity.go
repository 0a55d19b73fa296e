package lwm2m

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/otago-iot/otago/internal/coap"
)

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
