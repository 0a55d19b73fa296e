package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/dtls"
)

// askLimit bounds a call of Credentials, and the wait for one to begin.
const askLimit = 5 * time.Second

var (
	errSlowCredentials  = errors.New("credentials do not answer in time")
	errPanicCredentials = errors.New("credentials panicked")
	errNoCredentials    = errors.New("there are none for this kind of identity")
)

// asking bounds the calls of Credentials, which are code of the program and may hang.
type asking struct {
	limit int // of running calls, including those that the server no longer waits for

	mu      sync.Mutex
	running int
	stuck   int           // running calls that the server no longer waits for
	ended   chan struct{} // receives when a call ends
	failing bool          // the last call failed, which is logged
}

// enter waits for room for a call.
func (a *asking) enter(ctx context.Context) error {
	for {
		a.mu.Lock()
		if a.running < a.limit {
			a.running++
			a.mu.Unlock()
			return nil
		}
		stuck := a.stuck == a.limit
		a.mu.Unlock()
		if stuck {
			return errSlowCredentials
		}
		select {
		case <-a.ended:
		case <-ctx.Done():
			return errSlowCredentials
		}
	}
}

func (a *asking) leave() {
	a.mu.Lock()
	a.running--
	a.mu.Unlock()
	select {
	case a.ended <- struct{}{}:
	default:
	}
}

// credentials is what Credentials return for an identity.
type credentials struct {
	key      []byte
	endpoint string
	err      error
}

// ask runs f, which calls Credentials, and waits at most askLimit for it. The error may also say
// that they did not answer.
func (s *Server) ask(ctx context.Context, f func(context.Context, Credentials) credentials) credentials {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	a := &s.asking
	if err := a.enter(ctx); err != nil {
		cancel()
		return credentials{err: err}
	}
	done := make(chan credentials, 1)
	go func() {
		defer cancel()
		answer := credentials{err: errPanicCredentials}
		s.guard("Credentials", func() { answer = f(ctx, s.config.Credentials) })
		done <- answer
		a.leave()
	}()
	select {
	case answer := <-done:
		return answer
	case <-ctx.Done():
	}
	select {
	case answer := <-done:
		return answer
	default:
		a.abandon(done)
		return credentials{err: errSlowCredentials}
	}
}

// abandon counts a call that the server no longer waits for, until it ends.
func (a *asking) abandon(done <-chan credentials) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stuck++
	go func() {
		<-done
		a.mu.Lock()
		defer a.mu.Unlock()
		a.stuck--
	}()
}

// lookUp returns the endpoint that an identity may register. The error matches ErrUnknownIdentity
// also if the identity now has a key other than the proven one; then lookUp returns the new key.
func (s *Server) lookUp(ctx context.Context, id Identity, proven *dtls.Identity) (credentials, error) {
	if s.config.Credentials == nil {
		if id.Kind == IdentityCertificate {
			return credentials{endpoint: id.Name}, nil
		}
		return credentials{}, errNoCredentials
	}
	found := s.ask(ctx, func(ctx context.Context, c Credentials) (found credentials) {
		if id.Kind == IdentityPSK {
			if found.key, found.err = c.PSK(ctx, id.Name); found.err != nil {
				return found
			}
		}
		found.endpoint, found.err = c.Endpoint(ctx, id)
		return found
	})
	switch {
	case found.err != nil:
		found = credentials{err: found.err}
	case id.Kind == IdentityPSK && !proven.ProvenBy(found.key):
		found.err = fmt.Errorf("%w: the key is another one now", ErrUnknownIdentity)
	}
	s.noteCredentials(found.err)
	return found, found.err
}

// psk looks up the key for a handshake. The device learns only that its identity is unknown.
func (s *Server) psk(identity []byte) ([]byte, error) {
	name := string(identity)
	found := s.ask(context.Background(), func(ctx context.Context, c Credentials) (found credentials) {
		found.key, found.err = c.PSK(ctx, name)
		return found
	})
	s.noteCredentials(found.err)
	if errors.Is(found.err, ErrUnknownIdentity) {
		return nil, dtls.ErrUnknownIdentity
	}
	return found.key, found.err
}

// noteCredentials logs once when Credentials begin to fail, and once when they work again.
func (s *Server) noteCredentials(err error) {
	if errors.Is(err, ErrUnknownIdentity) {
		err = nil
	}
	s.asking.mu.Lock()
	news := s.asking.failing != (err != nil)
	s.asking.failing = err != nil
	s.asking.mu.Unlock()
	s.trouble.asking.note(err)
	switch {
	case !news:
	case err != nil:
		s.log.Error("credentials cannot be asked; registered devices stay registered", slog.Any("error", err))
	default:
		s.log.Info("credentials can be asked again")
	}
}

// watchCredentials revokes the identities that Credentials report, while the server serves. stop
// must not be called with s.mu held.
func (s *Server) watchCredentials() (stop func()) {
	w, ok := s.config.Credentials.(CredentialsWatcher)
	if !ok {
		return func() {}
	}
	stop = func() {}
	s.guard("CredentialsWatcher.Watch", func() {
		stop = w.Watch(func(ids []Identity) { s.Revoke(ids...) }, func(err error) {
			s.trouble.reading.note(err)
			if err != nil {
				s.log.Error("credentials cannot be read; what they were before holds", slog.Any("error", err))
				return
			}
			s.log.Info("credentials can be read again")
		})
	})
	return stop
}
