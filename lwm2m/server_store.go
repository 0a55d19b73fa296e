package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/internal/coap"
)

const (
	// staleness is how old a stored renewal may be, and so how much longer a loaded registration
	// lasts.
	staleness = 30 * time.Second
	// storeTimeout bounds the storing of one batch of a flush.
	storeTimeout = 30 * time.Second
	// flushBatch is how many records a flush stores at once. A larger batch would keep devices that
	// register meanwhile waiting.
	flushBatch = 1024
	// flushBatches is how many batches a flush stores at once.
	flushBatches = 4
	// flushParallel is how many records a flush stores at once in a store that takes one at a time:
	// it may commit concurrent records together.
	flushParallel = 32
)

// ensureLoaded loads the registrations for calls that come before the server serves.
func (s *Server) ensureLoaded() {
	if err := s.load(context.Background()); err != nil {
		s.log.Error("registrations not loaded", slog.Any("error", err))
	}
}

// load reads the stored registrations, once. Devices on UDP can be reached at once; others come
// back by themselves.
func (s *Server) load(ctx context.Context) error {
	if s.config.Registrations == nil || s.loaded.Load() {
		return nil
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.loaded.Load() {
		return nil
	}
	failed := fmt.Errorf("%w: RegistrationStore.Registrations panicked", ErrInternal)
	s.guard("RegistrationStore.Registrations", func() { failed = s.restoreAll(ctx) })
	if failed != nil {
		return fmt.Errorf("lwm2m: load registrations: %w", failed)
	}
	s.resume()
	s.loaded.Store(true)
	return nil
}

func (s *Server) restoreAll(ctx context.Context) error {
	for r, err := range s.config.Registrations.Registrations(ctx) {
		if err != nil {
			return err
		}
		s.restore(r)
	}
	return nil
}

// resume sets the deadlines of the restored registrations, once all are loaded. The present cannot
// be earlier than the latest of their times. A lifetime that is over by then, or by the system's
// clock, has ended: resume cannot distinguish a long downtime from a clock that was set forward. A
// device that still runs gets 4.04 for its next Update, and registers.
func (s *Server) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.table.byEndpoint.All() {
		s.raiseWall(time.Unix(0, max(d.registered, d.updated, d.seen, d.ended)))
	}
	now, wall := s.now(), s.wall().UnixNano()
	for d := range s.table.byEndpoint.All() {
		if !d.active() || d.index >= 0 {
			continue
		}
		lifetime, since, late := time.Duration(d.settings().lifetime)*time.Second, d.updated, staleness
		if lifetime == 0 {
			lifetime, since, late = s.config.MaxSilence, max(d.updated, d.seen), staleness+s.config.MaxSilence/silenceStep
		}
		d.expires = now + min(lifetime-time.Duration(wall-since)+late, lifetime)
		d.heard = min(now-s.awakeTime(d), d.expires-lifetime)
		d.awake = !d.queue()
		s.schedule(d)
	}
}

// restore puts a stored registration into the table.
func (s *Server) restore(r Registration) {
	if !r.Ended.IsZero() {
		r.ID = ""
	}
	var awake time.Duration
	if r.ID != "" {
		awake = s.askAwakeTime(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Endpoint == "" || s.table.byEndpoint.Get(r.Endpoint) != nil {
		return
	}
	d := s.table.add(r.Endpoint)
	s.table.set(d, r)
	d.setAwakeTime(awake)
	d.peer = coap.Peer{Transport: coap.Transport(r.Transport), Addr: r.Address}
	if !d.active() {
		return
	}
	if r.Transport == TransportUDP {
		d.peer.ID = uint64(r.Local.Port())
		s.locate(d, d.peer)
	}
	s.table.byID.Put(d)
}

// put stores a registration and waits until it is durable. The endpoint's key lock is held. A mark
// in s.dirty stays: it may be for a change since r was made.
func (s *Server) put(ctx context.Context, r Registration) error {
	if s.config.Registrations == nil {
		return nil
	}
	err := fmt.Errorf("%w: RegistrationStore.PutRegistration panicked", ErrInternal)
	s.guard("RegistrationStore.PutRegistration", func() { err = s.config.Registrations.PutRegistration(ctx, r) })
	s.trouble.storing.note(err)
	return err
}

// touchStore marks a record to be stored soon. s.mu is held.
func (s *Server) touchStore(d *device) {
	if s.config.Registrations == nil {
		return
	}
	s.dirty[d.endpoint] = struct{}{}
	if s.flusher == nil && s.serving > 0 {
		s.flusher = time.AfterFunc(s.config.FlushInterval, s.flush)
	}
}

// flush stores the records that have changed since the last flush, batch by batch. After the first
// error it leaves the rest to the next flush.
func (s *Server) flush() {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	endpoints := slices.Collect(maps.Keys(s.dirty))
	s.dirty = make(map[string]struct{})
	s.flusher = nil
	s.mu.Unlock()

	put, parallel := s.flushEach, 1
	if store, ok := s.config.Registrations.(batchStore); ok {
		put = func(ctx context.Context, endpoints []string) error { return s.flushTogether(ctx, store, endpoints) }
		parallel = flushBatches
	}
	var g errgroup.Group
	g.SetLimit(parallel)
	var left atomic.Int64
	failed := make(chan struct{})
	for batch := range slices.Chunk(endpoints, flushBatch) {
		g.Go(func() (err error) {
			err = errFlush
			select {
			case <-failed:
			default:
				ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
				defer cancel()
				err = put(ctx, batch)
			}
			if err != nil {
				if left.Add(int64(len(batch))) == int64(len(batch)) {
					close(failed)
				}
				s.storeSoon(batch...)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		s.log.Error("registrations not stored", slog.Int64("endpoints", left.Load()), slog.Any("error", err))
	}
}

// errFlush ends a batch after another one has failed.
var errFlush = errors.New("lwm2m: an earlier registration was not stored")

// A batchStore is a RegistrationStore with the method that its documentation names.
type batchStore interface {
	PutRegistrations(ctx context.Context, list []Registration) error
}

// flushEach stores records one by one, several at the same time.
func (s *Server) flushEach(ctx context.Context, endpoints []string) error {
	var g errgroup.Group
	g.SetLimit(flushParallel)
	for _, endpoint := range endpoints {
		g.Go(func() error {
			defer s.keys.Lock(endpoint)()
			if r, ok := s.Registration(endpoint); ok {
				return s.put(ctx, r)
			}
			return nil
		})
	}
	return g.Wait()
}

// flushTogether stores records in one call. It leaves an endpoint that just registers or is updated
// to the next flush, as it would have to wait for it.
func (s *Server) flushTogether(ctx context.Context, store batchStore, endpoints []string) error {
	records := make([]Registration, 0, len(endpoints))
	var busy []string
	for _, endpoint := range endpoints {
		unlock, ok := s.keys.TryLock(endpoint)
		if !ok {
			busy = append(busy, endpoint)
			continue
		}
		defer unlock()
		if r, ok := s.Registration(endpoint); ok {
			records = append(records, r)
		}
	}
	s.storeSoon(busy...)
	if len(records) == 0 {
		return nil
	}
	err := fmt.Errorf("%w: RegistrationStore.PutRegistrations panicked", ErrInternal)
	s.guard("RegistrationStore.PutRegistrations", func() { err = store.PutRegistrations(ctx, records) })
	s.trouble.storing.note(err)
	return err
}

// storeSoon marks the records of endpoints to be stored soon.
func (s *Server) storeSoon(endpoints ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, endpoint := range endpoints {
		if d := s.table.byEndpoint.Get(endpoint); d != nil {
			s.touchStore(d)
		}
	}
}

// flushNow flushes at the end, instead of the timer.
func (s *Server) flushNow() {
	s.mu.Lock()
	if s.flusher != nil {
		s.flusher.Stop()
	}
	s.mu.Unlock()
	s.flush()
}
