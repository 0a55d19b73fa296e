package firmware

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Registrations returns the registrations in s, for [lwm2m.ServerConfig].Registrations. A program
// with several stores passes the server a RegistrationStore of its own, which calls the one of the
// endpoint's store. The result also has the method PutRegistrations.
func Registrations(s store.Store) lwm2m.RegistrationStore { return registrations{s} }

type registrations struct{ store.Store }

// PutRegistration implements lwm2m.RegistrationStore.
func (s registrations) PutRegistration(ctx context.Context, r lwm2m.Registration) error {
	_, err := s.Commit(ctx, putRegistration(&r))
	return err
}

// PutRegistrations is the method of a lwm2m.RegistrationStore for many devices.
func (s registrations) PutRegistrations(ctx context.Context, list []lwm2m.Registration) error {
	changes := make([]store.Change, len(list))
	for i := range list {
		changes[i] = putRegistration(&list[i])
	}
	_, err := s.Commit(ctx, changes...)
	return err
}

func putRegistration(r *lwm2m.Registration) store.Change {
	return store.PutRegistration{Endpoint: r.Endpoint, Registration: store.RegistrationRecord{
		ID: r.ID, Address: r.Address.String(), Local: addrString(r.Local), Transport: r.Transport.String(), Version: r.Version.String(),
		Lifetime: r.Lifetime, Binding: r.Binding, Queue: r.Queue, SMS: r.SMS, ProfileID: r.ProfileID, Attributes: r.Attributes, Links: r.Links,
		Identity: r.Identity.Name, IdentityKind: r.Identity.Kind.String(), Secured: r.Secured, Registered: r.Registered, Updated: r.Updated, LastSeen: r.LastSeen, Ended: r.Ended,
	}}
}

// DeleteRegistration implements lwm2m.RegistrationStore.
func (s registrations) DeleteRegistration(ctx context.Context, endpoint string) error {
	_, err := s.Commit(ctx, store.DeleteDevice{Endpoint: endpoint})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Registrations implements lwm2m.RegistrationStore.
func (s registrations) Registrations(ctx context.Context) iter.Seq2[lwm2m.Registration, error] {
	return func(yield func(lwm2m.Registration, error) bool) {
		for d, err := range s.Devices(ctx, store.DeviceQuery{}) {
			if err != nil && !errors.Is(err, store.ErrDamaged) {
				yield(lwm2m.Registration{}, err)
				return
			}
			// Of a damaged record only Secured is known. The device gets no answer, registers, and
			// so replaces the record. A device that never registered is known only from an update.
			if d.Registration.Registered.IsZero() && !d.Registration.Secured {
				continue
			}
			if !yield(registrationOf(d), nil) {
				return
			}
		}
	}
}

// registrationOf converts a record. It leaves out fields that cannot be parsed. A registration that
// has ended has no ID.
func registrationOf(d store.Device) lwm2m.Registration {
	s := d.Registration
	r := lwm2m.Registration{
		Endpoint: d.Endpoint, ID: s.ID, Lifetime: s.Lifetime, Binding: s.Binding, Queue: s.Queue, SMS: s.SMS,
		ProfileID: s.ProfileID, Attributes: s.Attributes, Links: s.Links, Secured: s.Secured,
		Registered: s.Registered, Updated: s.Updated, LastSeen: s.LastSeen, Ended: s.Ended,
	}
	r.Address, _ = netip.ParseAddrPort(s.Address)
	r.Local, _ = netip.ParseAddrPort(s.Local)
	r.Version, _ = lwm2m.ParseVersion(s.Version)
	for t := lwm2m.TransportUDP; t <= lwm2m.TransportTLS; t++ {
		if t.String() == s.Transport {
			r.Transport = t
		}
	}
	for kind := lwm2m.IdentityPSK; kind <= lwm2m.IdentityCertificate; kind++ {
		if kind.String() == s.IdentityKind {
			r.Identity = lwm2m.Identity{Kind: kind, Name: s.Identity}
		}
	}
	return r
}

func addrString(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
