package lwm2m

import (
	"context"
	"fmt"
	"log/slog"
)

// evictTries bounds how many ended registrations makeRoom examines for one.
const evictTries = 64

// shareOf returns how much of a bound a device may use. If devices can have credentials, a quarter
// is reserved for those that do: a peer without any can register any number of names.
func shareOf[N int | int64](s *Server, bound N, secured bool) N {
	if secured || s.config.Credentials == nil && s.config.ClientCAs == nil {
		return bound
	}
	return bound - bound/4
}

// makeRoom makes room for a registration: for its endpoint and its text. It removes ended
// registrations, from the store too; of those of secured devices it keeps the fact that they are
// secured. The key lock of reg's endpoint is held.
func (s *Server) makeRoom(ctx context.Context, reg *Registration) error {
	var gone []string
	var unlocks []func()
	defer func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}()
	s.mu.Lock()
	d := s.table.byEndpoint.Get(reg.Endpoint)
	full := func() error {
		all := s.table.byEndpoint.Len()
		if d == nil && (all >= s.config.MaxRegistrations ||
			!reg.Secured && all-s.table.secured >= shareOf(s, s.config.MaxRegistrations, false)) {
			return fmt.Errorf("%w: too many endpoints", ErrUnavailable)
		}
		if n := s.table.growth(d, reg); n > 0 && s.table.size+n > shareOf(s, s.config.MaxRegistrationBytes, reg.Secured) {
			return fmt.Errorf("%w: the registrations are too much text together", ErrUnavailable)
		}
		return nil
	}
	err := full()
	tries := 0
	for other := range s.table.ended {
		if err == nil || tries == evictTries {
			break
		}
		tries++
		if other == d || other.activity != nil {
			continue
		}
		unlock, ok := s.keys.TryLock(other.endpoint)
		if !ok {
			continue
		}
		unlocks = append(unlocks, unlock)
		gone = append(gone, other.endpoint)
		s.table.remove(other)
		delete(s.dirty, other.endpoint)
		err = full()
	}
	for other := range s.table.worn {
		if err == nil || tries == 2*evictTries {
			break
		}
		tries++
		if other != d {
			s.table.strip(other)
			err = full()
		}
	}
	s.mu.Unlock()
	for _, endpoint := range gone {
		s.forgetStored(ctx, endpoint)
	}
	return err
}

// forgetStored removes an endpoint that made room from the store. The store may refuse if it needs
// the record.
func (s *Server) forgetStored(ctx context.Context, endpoint string) {
	if s.config.Registrations == nil {
		return
	}
	if err := s.config.Registrations.DeleteRegistration(ctx, endpoint); err != nil {
		s.log.Debug("an ended registration stays in the store", slog.String("endpoint", endpoint), slog.Any("error", err))
	}
}
