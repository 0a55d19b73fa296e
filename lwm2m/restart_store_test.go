package lwm2m_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/otago-iot/otago/lwm2m"
)

// memoryStore is a RegistrationStore that outlives servers.
type memoryStore struct {
	mu      sync.Mutex
	records map[string]lwm2m.Registration
	puts    int
}

func (m *memoryStore) PutRegistration(_ context.Context, r lwm2m.Registration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = make(map[string]lwm2m.Registration)
	}
	m.records[r.Endpoint] = r
	m.puts++
	return nil
}

func (m *memoryStore) DeleteRegistration(_ context.Context, endpoint string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, endpoint)
	return nil
}

func (m *memoryStore) Registrations(context.Context) iter.Seq2[lwm2m.Registration, error] {
	m.mu.Lock()
	records := maps.Clone(m.records)
	m.mu.Unlock()
	return func(yield func(lwm2m.Registration, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (m *memoryStore) get(endpoint string) lwm2m.Registration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[endpoint]
}

var errBroken = errors.New("broken")

type brokenStore struct{}

func (brokenStore) PutRegistration(context.Context, lwm2m.Registration) error { return errBroken }

func (brokenStore) DeleteRegistration(context.Context, string) error { return errBroken }

func (brokenStore) Registrations(context.Context) iter.Seq2[lwm2m.Registration, error] {
	return func(yield func(lwm2m.Registration, error) bool) { yield(lwm2m.Registration{}, errBroken) }
}

// panickingStore panics in reads if read is set, and in writes once written is set.
type panickingStore struct {
	memoryStore
	read    bool
	written atomic.Bool
}

func (p *panickingStore) PutRegistration(ctx context.Context, r lwm2m.Registration) error {
	if p.written.Load() {
		panic("no")
	}
	return p.memoryStore.PutRegistration(ctx, r)
}

func (p *panickingStore) Registrations(ctx context.Context) iter.Seq2[lwm2m.Registration, error] {
	if p.read {
		panic("no")
	}
	return p.memoryStore.Registrations(ctx)
}
