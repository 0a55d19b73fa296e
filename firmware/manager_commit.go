package firmware

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

const (
	// storeTimeout bounds one try; a commit whose end is unknown is found out by reading.
	storeTimeout = 30 * time.Second
	// The pauses between two tries.
	firstStorePause = 100 * time.Millisecond
	lastStorePause  = 30 * time.Second
)

// untilStored calls the store until it has an answer, for as long as Run runs. The error is one that says that a record is not as
// it was thought to be, or that ctx has ended.
func (m *Manager) untilStored(ctx context.Context, id string, call func(context.Context) error) error {
	for pause := firstStorePause; ; pause = min(2*pause, lastStorePause) {
		if err := ctx.Err(); err != nil {
			return err
		}
		// A call that has begun is ended properly also when Run ends.
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		err := call(try)
		cancel()
		if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) ||
			errors.Is(err, store.ErrInvalid) {
			return err
		}
		m.log.Error("store fails an update; it will be tried again", "update", id, "error", err)
		if f := m.cfg.Hooks.StoreFailed; f != nil {
			m.hooks.call("", "StoreFailed", false, func() { f(context.WithoutCancel(ctx), err) })
		}
		sleep(ctx, pause)
	}
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// committed judges the end of a commit of a record, after some tries. It returns the record as stored, and false if the step
// must not be acted on: Run has ended, or another process changed the update, in which case its record is adopted and the
// observation is taken in again.
func (r *run) committed(ctx context.Context, rec Update, l item, tries int, err error) (Update, bool) {
	switch {
	case err == nil:
		rec.Revision++
		r.m.feed.durable()
		return rec, true
	case ctx.Err() != nil:
		l.answer(nil, nil)
		return rec, false
	case errors.Is(err, store.ErrInvalid):
		// It will not be valid the next time either.
		r.m.log.Error("a step of an update cannot be stored", "update", r.id, "endpoint", r.target, "observed", l.Kind, "error", err)
		l.answer(nil, err)
		l = item{Observation: fsm.Observation{Kind: fsm.ObserveTimer, At: l.At}}
	}
	return r.reload(ctx, rec, l, tries)
}

// reload takes over what the store has instead of rec. It returns true if that is rec after all: an earlier try took place
// although it failed. The first try cannot have, whatever another process has made of the update at the same time.
func (r *run) reload(ctx context.Context, rec Update, l item, tries int) (Update, bool) {
	stored, err := r.stored(ctx)
	if err == nil && tries > 1 && stored.Revision == rec.Revision+1 && sameStep(stored, rec) {
		rec.Revision = stored.Revision
		r.m.feed.durable()
		return rec, true
	}
	r.giveUpAction()
	if err == nil && stored.Active() {
		r.m.log.Warn("another process drives an update too", "update", r.id, "endpoint", r.target)
		// Two that act at once undo each other's steps for ever: so each lets the other one go on for a while.
		if r.conflicts == nil {
			r.conflicts = &conflicts{}
		}
		sleep(ctx, r.conflicts.pause())
		stored, err = r.stored(ctx)
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrDamaged):
		r.m.log.Error("an active update has vanished from the store", "update", r.id, "endpoint", r.target, "error", err)
		l.answer(nil, nil)
		r.ended(ctx, rec, fsm.Action{})
		return rec, false
	case err != nil:
		l.answer(nil, nil)
		return rec, false
	}
	r.mu.Lock()
	r.u = stored
	r.mu.Unlock()
	if !stored.Active() {
		l.answer(&stored, nil)
		r.ended(ctx, stored, fsm.Action{})
		return stored, false
	}
	r.lookAgain(l)
	return stored, false
}

// sameStep reports whether two records of an update are of the same step.
func sameStep(a, b Update) bool {
	machine, err := json.Marshal(a.Machine)
	other, otherErr := json.Marshal(b.Machine)
	return err == nil && otherErr == nil && bytes.Equal(machine, other) && slices.Equal(a.Tokens, b.Tokens)
}

// stored reads the record. The error is store.ErrNotFound, or that ctx has ended.
func (r *run) stored(ctx context.Context) (u Update, err error) {
	err = r.m.untilStored(ctx, r.id, func(ctx context.Context) error {
		u, err = r.m.db.Update(ctx, r.id)
		return err
	})
	return u, err
}

// conflicts counts how often another process was found to drive an update too.
type conflicts struct {
	n    int
	last time.Time
}

// pause is how long to leave the update to the other process: up to two seconds, and twice as long with each time, up to
// two minutes; by chance, because the other one does the same.
func (c *conflicts) pause() time.Duration {
	if time.Since(c.last) > time.Hour {
		c.n = 0
	}
	c.last = time.Now()
	most := 2 * time.Second << min(c.n, 6)
	c.n++
	return most/4 + rand.N(3*most/4)
}
