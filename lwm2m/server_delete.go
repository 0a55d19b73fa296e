package lwm2m

import (
	"context"
	"fmt"
	"log/slog"
)

// DeleteDevice forgets an endpoint: its registration, of which [EventDeregistered] tells, and also that it has used
// credentials, so that from now on it may register without. It is for an operator who knows why: for a device that was
// scrapped, or set up anew. A device that is still there is answered 4.04, and registers.
//
// The error is [ErrNotFound] for an endpoint that is not known, or that of the RegistrationStore; then nothing has changed.
func (s *Server) DeleteDevice(ctx context.Context, endpoint string) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	defer s.keys.Lock(endpoint)()
	if _, ok := s.Registration(endpoint); !ok {
		return fmt.Errorf("%w: %.255s", ErrNotFound, endpoint)
	}
	if s.config.Registrations != nil {
		if err := s.config.Registrations.DeleteRegistration(ctx, endpoint); err != nil {
			return fmt.Errorf("lwm2m: delete %s: %w", endpoint, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint[endpoint]
	if d == nil {
		return nil
	}
	if d.active() {
		s.end(d, EventDeregistered, s.wall())
	}
	s.table.remove(d)
	delete(s.dirty, endpoint)
	s.log.Info("device deleted", slog.String("endpoint", endpoint))
	return nil
}
