package firmware

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

// Retain says for how long updates that have ended stay in the store, so that it does not grow
// without end. A manager that runs deletes the others, with their journals, in small commits; a
// restart or a lower limit is followed within hours. The zero value is the default.
type Retain struct {
	// PerEndpoint is how many updates of an endpoint stay after they ended: those that were created
	// last. Default: 20. A negative number is no limit.
	PerEndpoint int
	// Age is how long an update stays after its end. Default: 365 days. A negative Age is no limit.
	Age time.Duration
}

const (
	defaultPerEndpoint = 20
	defaultRetainAge   = 365 * 24 * time.Hour

	// retainBatch is how many updates one commit deletes, and retainPage how many one step of a
	// pass over all updates reads.
	retainBatch = 32
	retainPage  = 256
	// maxToTrim limits the endpoints that wait for retention. Those that are left out are found
	// when an update of theirs ends again, or by the next Run.
	maxToTrim = 65_536

	trimGap   = time.Second      // collects endpoints at which updates end
	passStart = 10 * time.Second // after Run has begun, which has other work then
	passPause = time.Second      // between steps of a pass
	passGap   = time.Hour        // between passes
)

// retention deletes updates that need not stay.
type retention struct {
	m    *Manager
	wake chan struct{} // holds one if there are endpoints

	mu        sync.Mutex
	endpoints map[string]bool // at which updates have ended
}

func newRetention(m *Manager) *retention {
	return &retention{m: m, wake: make(chan struct{}, 1), endpoints: make(map[string]bool)}
}

// ended records that an update of an endpoint has ended.
func (r *retention) ended(endpoint string) {
	if r.m.config.Retain.PerEndpoint < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.endpoints) < maxToTrim {
		r.endpoints[endpoint] = true
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *retention) run(ctx context.Context) {
	p := pass{endpoints: r.m.config.Retain.PerEndpoint >= 0}
	timer := time.NewTimer(passStart)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(r.step(ctx, &p))
		case <-r.wake:
			work.Sleep(ctx, trimGap)
			r.mu.Lock()
			endpoints := r.endpoints
			r.endpoints = make(map[string]bool)
			r.mu.Unlock()
			for endpoint := range endpoints {
				r.report(ctx, r.trim(ctx, endpoint))
			}
		}
	}
}

func (r *retention) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		r.m.log.Warn("old updates stay for now", "error", err)
	}
}

// trim deletes the updates of an endpoint that are too many.
func (r *retention) trim(ctx context.Context, endpoint string) error {
	keep := r.m.config.Retain.PerEndpoint
	if r.m.runOfEndpoint(endpoint) != nil {
		keep++ // the active one
	}
	// Those that the program keeps are asked about again each time, so the page limits them.
	var old []Update
	for u, err := range r.m.db.Updates(ctx, store.UpdateQuery{Endpoint: endpoint, Skip: keep, Limit: retainPage}) {
		if errors.Is(err, store.ErrDamaged) {
			continue
		}
		if err != nil {
			return err
		}
		old = append(old, u)
	}
	return r.delete(ctx, old)
}

// A pass goes over all updates, the oldest first.
type pass struct {
	after     string
	endpoints bool // trim the endpoints too
}

// step does a part of a pass, and returns the pause until the next one.
func (r *retention) step(ctx context.Context, p *pass) time.Duration {
	age := r.m.config.Retain.Age
	if age < 0 && !p.endpoints {
		return passGap
	}
	limit := r.m.clock.now().Add(-age)
	var old []Update
	seen, done := map[string]bool{}, true
	for u, err := range r.m.db.Updates(ctx, store.UpdateQuery{Oldest: true, After: p.after, Limit: retainPage}) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			r.report(ctx, err)
			return passGap
		}
		p.after, done = u.ID, false
		switch {
		case err != nil:
			continue
		case age >= 0 && !u.Active() && u.End().Before(limit):
			old = append(old, u)
		case !p.endpoints && u.Created.After(limit): // and so are all that follow
			done = true
		}
		seen[u.Endpoint] = true
	}
	r.report(ctx, r.delete(ctx, old))
	if p.endpoints {
		for endpoint := range seen {
			r.report(ctx, r.trim(ctx, endpoint))
		}
	}
	if done {
		*p = pass{}
		return passGap
	}
	return passPause
}

// delete deletes those of the updates that have ended and that the program does not keep.
func (r *retention) delete(ctx context.Context, old []Update) error {
	var batch []store.Change
	var ids []string
	commit := func() error {
		defer func() { batch, ids = nil, nil }()
		if len(batch) == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		_, err := r.m.db.Commit(ctx, batch...)
		if errors.Is(err, store.ErrNotFound) { // somebody else has deleted one
			for n, change := range batch {
				if _, err = r.m.db.Commit(ctx, change); err != nil && !errors.Is(err, store.ErrNotFound) {
					ids = ids[:n]
					break
				}
				err = nil
			}
		} else if err != nil {
			return err
		}
		r.m.deleted(ids...)
		return err
	}
	for _, u := range old {
		if u.Active() || !r.m.owns(u.Endpoint) {
			continue
		}
		if err := r.m.mayDelete(ctx, store.KindUpdate, u.ID); errors.Is(err, ErrKept) {
			continue
		} else if err != nil {
			return errors.Join(err, commit())
		}
		batch, ids = append(batch, store.DeleteUpdate{ID: u.ID, At: r.m.clock.now()}), append(ids, u.ID)
		if len(batch) == retainBatch {
			if err := commit(); err != nil {
				return err
			}
		}
	}
	return commit()
}

// deleted removes what the manager has in memory of updates that are no longer in the store.
func (m *Manager) deleted(ids ...string) {
	m.tail.forget(ids...)
	for _, id := range ids {
		m.waiters.wake(id)
	}
}

// ErrKept is the error of a delete that [ManagerConfig.Keep] has refused. Its text has the reason.
var ErrKept = errors.New("firmware: the program keeps it")

const (
	keepTime     = 10 * time.Second // limits one call of ManagerConfig.Keep
	maxKeepCalls = 128              // at the same time, including abandoned ones
)

// mayDelete asks the program whether a record may be deleted. The error matches ErrKept if the
// program wants to keep it.
func (m *Manager) mayDelete(ctx context.Context, kind store.Kind, id string) error {
	if m.config.Keep == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	late := errors.New("firmware: ManagerConfig.Keep does not return")
	select {
	case m.keepCalls <- struct{}{}:
	case <-ctx.Done():
		return late
	}
	answered := make(chan error, 1)
	go func() {
		defer func() { <-m.keepCalls }()
		err := errors.New("firmware: ManagerConfig.Keep panicked")
		defer func() { answered <- err }()
		m.call("Keep", func() {
			reason, failed := m.config.Keep(ctx, kind, id)
			switch {
			case failed != nil:
				err = fmt.Errorf("firmware: ManagerConfig.Keep: %w", failed)
			case reason != "":
				err = fmt.Errorf("%w: %s %s: %s", ErrKept, kind, id, reason)
			default:
				err = nil
			}
		})
	}()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return late
	}
}
