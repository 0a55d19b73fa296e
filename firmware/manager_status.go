package firmware

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Status says how a manager, its server and its store are.
type Status struct {
	Server lwm2m.ServerStatus
	// Store is the report of a store that is a store.Reporter, with what it lacks of another one
	// left zero. Away is why the store did not answer a query now; nil if it did.
	Store store.Report
	Away  error

	Running bool // Run runs, and its context has not ended

	Updates   lwm2m.Use // active ones that run here; without a bound
	Requests  lwm2m.Use // requests under way with devices that answer; the bound is ManagerConfig.Parallel
	Pushes    lwm2m.Use // packages that are being written to devices; the same bound
	Reads     lwm2m.Use // of ManagerConfig.Inventory; the same bound
	Silent    lwm2m.Use // requests that devices have left unanswered; the bound is ManagerConfig.Silent
	Waiting   int       // requests that wait for one of these places
	HookCalls lwm2m.Use // calls of Hooks that wait
	Followers int       // calls of Events that run

	// Missing are images that active updates need and whose file is not in the folder of the
	// repository, by id; at most 10. The manager looks at most once in 30 s.
	Missing []string
}

const (
	statusTime   = 2 * time.Second // for a query of the store
	maxMissing   = 10
	missingPause = 30 * time.Second
	maxExamined  = 1000 // images that are looked for
)

// Status returns how the manager is. It makes one query of the store, for which it waits 2 s at
// most.
func (m *Manager) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	s := Status{Server: m.srv.Status(), Away: m.storeAway(ctx)}
	if r, ok := m.db.(store.Reporter); ok {
		s.Store = r.Report(ctx)
	}
	m.mu.Lock()
	s.Running = m.running && m.ctx.Err() == nil
	s.Updates.Now = int64(len(m.runs))
	m.mu.Unlock()
	m.places.status(&s)
	m.hooks.mu.Lock()
	s.HookCalls = lwm2m.Use{Now: int64(m.hooks.calls), Most: maxHookCalls}
	m.hooks.mu.Unlock()
	m.tail.news.mu.Lock()
	s.Followers = m.tail.news.followers
	m.tail.news.mu.Unlock()
	s.Missing = m.missing.look(ctx, m)
	return s
}

// storeAway returns why the store does not answer. One call at a time asks it, and a call that
// hangs is left behind.
func (m *Manager) storeAway(ctx context.Context) error {
	select {
	case m.asksStore <- struct{}{}:
	case <-ctx.Done():
		return errStoreHangs
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-m.asksStore }()
		_, err := m.db.Span(ctx)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errStoreHangs
	}
}

var errStoreHangs = errors.New("firmware: the store does not answer in time")

func (p *places) status(s *Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l, use := range map[lane]*lwm2m.Use{laneRequest: &s.Requests, laneTransfer: &s.Pushes, laneInventory: &s.Reads} {
		*use = lwm2m.Use{Now: int64(p.parallel - p.free[l]), Most: int64(p.parallel)}
		s.Waiting += p.line[l].Len() + p.doubt[l].line.Len()
	}
	s.Silent = lwm2m.Use{Now: int64(p.quiet.Len()), Most: int64(p.maxQuiet)}
}

// missing finds images whose files are gone.
type missing struct {
	mu     sync.Mutex
	looked time.Time
	ids    []string
}

// look returns the missing images, as they were less than missingPause ago.
func (w *missing) look(ctx context.Context, m *Manager) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.looked.IsZero() && time.Since(w.looked) < missingPause {
		return w.ids
	}
	if m.images.blobs != nil {
		return nil // they are elsewhere
	}
	needed := map[string]bool{}
	m.mu.Lock()
	runs := slices.Collect(maps.Values(m.runs))
	m.mu.Unlock()
	for _, r := range runs {
		r.mu.Lock()
		needed[r.u.Image] = true
		r.mu.Unlock()
		if len(needed) == maxExamined {
			break
		}
	}
	w.ids = nil
	for id := range needed {
		image, err := m.images.Get(ctx, id)
		if err != nil {
			continue // the store is away, or the record is damaged, which its update says
		}
		if _, err := os.Stat(m.images.path(image.SHA256)); errors.Is(err, fs.ErrNotExist) {
			w.ids = append(w.ids, id)
		}
	}
	slices.Sort(w.ids)
	w.ids = w.ids[:min(len(w.ids), maxMissing)]
	w.looked = time.Now()
	return w.ids
}
