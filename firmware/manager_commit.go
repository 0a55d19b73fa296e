package firmware

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

const (
	// storeTimeout limits one try. If the outcome of a commit is unknown, the manager reads the
	// record.
	storeTimeout = 30 * time.Second
	// Pauses between tries.
	firstStorePause = 100 * time.Millisecond
	lastStorePause  = 30 * time.Second
)

// commit is store.Store.Commit. It passes the journal lines on to those who follow the events, so
// nothing changes them from then on.
func (m *Manager) commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	last, err := m.db.Commit(ctx, changes...)
	var lines []store.Event
	for _, c := range changes {
		if c, ok := c.(store.AppendEvents); ok && lines == nil {
			lines = slices.Clip(c.Events)
		} else if ok {
			lines = append(lines, c.Events...)
		}
	}
	m.tail.news.committed(lines, last, err)
	m.watchers.committed(lines, err)
	return last, err
}

// untilStored calls the store until it answers, as long as Run runs. It returns an error if the
// store says that a record is not as expected, or if ctx ends.
func (m *Manager) untilStored(ctx context.Context, id string, call func(context.Context) error) error {
	return m.untilStoredBy(ctx, id, call, func() (context.Context, func()) {
		return context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	})
}

// untilStoredBy is untilStored with a function that makes the context of a try.
func (m *Manager) untilStoredBy(ctx context.Context, id string, call func(context.Context) error, begin func() (context.Context, func())) error {
	for pauses := work.Backoff(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		// A call that has begun completes even if ctx ends.
		try, end := begin()
		err := call(try)
		end()
		if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) ||
			errors.Is(err, store.ErrInvalid) {
			return err
		}
		m.log.Error("store refused a commit; it will be tried again", "update", id, "error", err)
		if f := m.config.Hooks.StoreFailed; f != nil {
			m.hooks.call("", "StoreFailed", false, func() { f(context.WithoutCancel(ctx), err) })
		}
		work.Sleep(ctx, pauses.Next(firstStorePause, lastStorePause))
	}
}

// committed handles the result of committing a record after some tries, and gives the record its
// new revision. It returns false if the manager must not act on the step: Run has ended, the store
// called the step invalid, or another process changed the update. In the last two cases the run
// adopts the stored record and reads the device again.
func (r *run) committed(ctx context.Context, rec *Update, l *item, tries int, err error) bool {
	switch {
	case err == nil:
		rec.Revision++
		return true
	case ctx.Err() != nil:
		l.answer(nil, nil)
		return false
	case errors.Is(err, store.ErrInvalid):
		// The store would refuse the step again.
		r.m.log.Error("step of an update cannot be stored", "update", r.id, "endpoint", r.target, "observed", l.Kind, "error", err)
		l.answer(nil, err)
		l = &item{Observation: fsm.Observation{Kind: fsm.ObserveTimer, At: l.At}}
	}
	return r.reload(ctx, rec, l, tries)
}

// reload adopts the stored record instead of rec. It returns true if both are the same after all,
// because an earlier try was stored although it failed. That cannot be after the first try,
// whatever another process did at the same time.
func (r *run) reload(ctx context.Context, rec *Update, l *item, tries int) bool {
	stored, err := r.stored(ctx)
	if err == nil && tries > 1 && stored.Revision == rec.Revision+1 && sameStep(&stored, rec) {
		rec.Revision = stored.Revision
		r.m.tail.news.grown()
		r.m.watchers.missed()
		return true
	}
	r.giveUpAction()
	if err == nil && stored.Active() {
		r.m.log.Warn("another process runs the update too", "update", r.id, "endpoint", r.target)
		// Two processes that act at once would undo each other's steps for ever, so each pauses.
		if r.conflicts == nil {
			r.conflicts = &conflicts{}
		}
		work.Sleep(ctx, r.conflicts.pause())
		stored, err = r.stored(ctx)
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrDamaged):
		r.m.log.Error("active update is missing in the store", "update", r.id, "endpoint", r.target, "error", err)
		l.answer(nil, nil)
		last := r.current() // not rec, whose outcome is not stored
		r.ended(ctx, &last, fsm.Action{})
		return false
	case err != nil:
		l.answer(nil, nil)
		return false
	}
	r.mu.Lock()
	r.u, r.lines, r.soft = stored, nil, false
	r.mu.Unlock()
	r.m.saver.remove(r)
	if !stored.Active() {
		l.answer(&stored, nil)
		r.ended(ctx, &stored, fsm.Action{})
		return false
	}
	r.lookAgain(*l)
	return false
}

// sameStep reports whether two records of an update show the same step.
func sameStep(a, b *Update) bool {
	one := Update{Machine: a.Machine, Tokens: a.Tokens}
	other := Update{Machine: b.Machine, Tokens: b.Tokens}
	x, err := one.AppendBinary(nil)
	y, otherErr := other.AppendBinary(nil)
	return err == nil && otherErr == nil && bytes.Equal(x, y)
}

// stored reads the record. The error is store.ErrNotFound, store.ErrDamaged or that of ctx.
func (r *run) stored(ctx context.Context) (u Update, err error) {
	err = r.m.untilStored(ctx, r.id, func(ctx context.Context) error {
		u, err = r.m.db.Update(ctx, r.id)
		return err
	})
	return u, err
}

// conflicts counts how often another process ran the same update.
type conflicts struct {
	pauses work.Backoff
	last   time.Time
}

// pause returns how long to leave the update to the other process, which pauses too: a random time
// between half of a limit and the limit, which doubles from two seconds up to 128.
func (c *conflicts) pause() time.Duration {
	if time.Since(c.last) > time.Hour {
		c.pauses = 0
	}
	c.last = time.Now()
	return work.Spread(c.pauses.Next(2*time.Second, 128*time.Second))
}

// A clock is the time of a manager. It starts with the wall clock and then follows the monotonic
// clock, so that updates neither stop nor expire when the wall clock is set. It is never behind the
// times in the store.
type clock struct {
	start time.Time // with its monotonic reading
	ahead atomic.Int64
	once  sync.Mutex
	read  bool // the last time that was stored is known
}

func newClock() *clock { return &clock{start: time.Now()} }

func (c *clock) now() time.Time {
	return c.start.Add(time.Duration(c.ahead.Load()) + time.Since(c.start)).Round(0).UTC()
}

// raise moves the clock to t if it is behind.
func (c *clock) raise(t time.Time) {
	for {
		ahead := c.ahead.Load()
		behind := t.Sub(c.now())
		if behind <= 0 || c.ahead.CompareAndSwap(ahead, ahead+int64(behind)) {
			return
		}
	}
}

// catchUp raises the time, once, to that of the last journal line. If the store does not answer,
// the wall clock counts.
func (c *clock) catchUp(ctx context.Context, db store.Store) {
	c.once.Lock()
	defer c.once.Unlock()
	if c.read {
		return
	}
	last, err := db.Commit(ctx)
	if err != nil {
		return
	}
	c.read = true
	for line, err := range db.Events(ctx, store.EventQuery{After: max(last, 1) - 1}) {
		if err == nil {
			c.raise(line.Time)
		}
	}
}

// commit stores a record and journal lines, and the facts about the device if withFacts is set. It
// gives the record its new revision, or returns false if the manager must not act on the step.
func (r *run) commit(ctx context.Context, rec *Update, l *item, lines []store.Event, withFacts bool) bool {
	changes := make([]store.Change, 0, 4)
	changes = append(changes, store.ReplaceUpdate{Update: *rec})
	if len(lines) > 0 {
		changes = append(changes, store.AppendEvents{Events: lines})
	}
	tries, err := r.commitFacts(ctx, changes, withFacts)
	if l.tried {
		tries++
	}
	return r.committed(ctx, rec, l, tries, err)
}

// store commits changes, for as long as it takes, and returns how often it tried.
func (r *run) store(ctx context.Context, changes []store.Change) (tries int, err error) {
	call := func(ctx context.Context) error {
		tries++
		_, err := r.m.commit(ctx, changes...)
		return err
	}
	err = r.m.untilStoredBy(ctx, r.id, call, func() (context.Context, func()) { return r.m.tries.begin(ctx) })
	return tries, err
}

// tries gives tries of commits that begin within a second one context: a context of its own costs
// more than the rest of a try.
type tries struct {
	mu  sync.Mutex
	now *try // nil: the next one makes it
}

type try struct {
	in     *tries
	ctx    context.Context
	cancel context.CancelFunc
	leave  func()    // end; made once
	until  time.Time // it serves tries that begin before
	users  int
}

// begin returns a context with the values of ctx, which all callers share, that ends storeTimeout
// after now, or up to a second earlier.
func (t *tries) begin(ctx context.Context) (context.Context, func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil || !time.Now().Before(t.now.until) {
		shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		t.now = &try{in: t, ctx: shared, cancel: cancel, until: time.Now().Add(time.Second)}
		t.now.leave = t.now.end
	}
	t.now.users++
	return t.now.ctx, t.now.leave
}

func (t *try) end() {
	t.in.mu.Lock()
	defer t.in.mu.Unlock()
	if t.users--; t.users > 0 {
		return
	}
	t.cancel()
	if t.in.now == t {
		t.in.now = nil
	}
}

// lateStep is how long the store may take for a step that the manager still acts on. After that the
// manager reads the device again, as after a restart: the step rests on old readings, and the delay
// was not the device's.
const lateStep = 30 * time.Second
