package lwm2m

import (
	"context"
	"fmt"
	"log/slog"
)

// Disconnect ends the association of a device (DTLS, TCP, TLS). Requests under way end with
// [ErrUnreachable], as when the device is gone, and observations end. Requests that wait for a
// sleeping device keep waiting. The registration stays; the device is reachable again when it has
// made another association and registers or sends an Update. Without security over UDP there is no
// association, and the device is reachable again with its next Update. Disconnect does nothing for
// an endpoint that is unknown or not reachable.
func (s *Server) Disconnect(endpoint string) {
	s.ensureLoaded()
	s.mu.Lock()
	d := s.table.byEndpoint.Get(endpoint)
	if d == nil || !d.reachable {
		s.mu.Unlock()
		return
	}
	peer := d.peer
	s.table.leave(d)
	s.cutOff(d)
	s.mu.Unlock()
	s.log.Info("device disconnected", slog.String("endpoint", endpoint), slog.Any("address", peer.Addr))
	s.coap.Hangup(peer)
}

// DeleteDevice removes an endpoint: its registration, which [EventDeregistered] reports, and the
// fact that it has used credentials, so that it may register without them. It is for a device that
// was scrapped, or is set up again without credentials. A device that still runs gets 4.04 for its
// next Update, and registers.
//
// The error is [ErrNotFound] for an endpoint that is not known, or that of the RegistrationStore;
// then nothing has changed.
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
	d := s.table.byEndpoint.Get(endpoint)
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
