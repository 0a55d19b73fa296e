package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

// An Order is who orders something, and why, for the journal: an Actor of at most 255 bytes without
// control characters, and a Reason of which the journal keeps 1024 bytes.
type Order struct {
	Actor  string
	Reason string
}

// text is who ordered it, and why.
func (o Order) text() string {
	switch {
	case o.Actor == "":
		return o.Reason
	case o.Reason == "":
		return "by " + o.Actor
	}
	return "by " + o.Actor + ": " + o.Reason
}

// Start starts a draft that has its members.
func (m *Manager) Start(ctx context.Context, id string, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionStart, o, fsm.Input{Kind: fsm.InputStart})
}

// Pause admits no more members, and holds the updates that have not begun to install.
func (m *Manager) Pause(ctx context.Context, id string, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionPause, o, fsm.Input{Kind: fsm.InputPause})
}

// Resume goes on after a pause. What went wrong before does not count any more.
func (m *Manager) Resume(ctx context.Context, id string, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionResume, o, fsm.Input{Kind: fsm.InputResume})
}

// Open opens the next stage, if it opens by hand, or if none of the devices that the open stage
// names was updated.
func (m *Manager) Open(ctx context.Context, id string, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionOpen, o, fsm.Input{Kind: fsm.InputOpen})
}

// Stop ends a rollout: members that wait are skipped. Updates that run go on, or, with cancels, are
// cancelled unless they install. If the rollout is paused, those that it holds are cancelled. It
// cannot be undone; [Manager.StopPlan] says what it would do.
func (m *Manager) Stop(ctx context.Context, id string, cancels bool, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionStop, o, fsm.Input{Kind: fsm.InputStop, Cancels: cancels})
}

// order carries out an order that concerns the rollout alone.
func (m *Manager) order(ctx context.Context, id string, action Action, o Order, in fsm.Input) (Rollout, error) {
	in.Text = o.text()
	return m.ordered(ctx, id, action, o, func(_ context.Context, b *batch) error {
		b.rollout(in)
		return nil
	})
}

// ordered carries out an order that is allowed.
func (m *Manager) ordered(ctx context.Context, id string, action Action, o Order, f func(context.Context, *batch) error) (Rollout, error) {
	r, err := m.allowed(ctx, id, action, o)
	if err != nil {
		return r, err
	}
	return m.do(ctx, id, o.Actor, f)
}

// allowed returns the rollout if the order is allowed.
func (m *Manager) allowed(ctx context.Context, id string, action Action, o Order) (Rollout, error) {
	if err := checkActor(o.Actor); err != nil {
		return Rollout{}, err
	}
	r, err := m.db.Rollout(ctx, id)
	if err == nil {
		err = m.allow(ctx, o.Actor, action, r)
	}
	return r, err
}

// An Outcome selects members that have ended, for [Manager.Retry]: one of the following, or one of
// the reasons for which members are skipped, such as fsm.SkipUnreachable.
type Outcome string

// How members end without success. A member that timed out is not among those of OutcomeFailed.
const (
	OutcomeFailed     Outcome = "failed"
	OutcomeTimedOut   Outcome = "timed_out"
	OutcomeRolledBack Outcome = "rolled_back"
	OutcomeSkipped    Outcome = "skipped" // for any reason
)

// query selects the members of an outcome in a store, as far as that has an index of them.
func (o Outcome) query() (q store.MemberQuery, ok bool) {
	switch o {
	case OutcomeFailed, OutcomeTimedOut:
		q.State = fsm.MemberFailed
	case OutcomeRolledBack:
		q.State = fsm.MemberRolledBack
	case OutcomeSkipped:
		q.State = fsm.MemberSkipped
	default:
		switch q.State, q.Skip = fsm.MemberSkipped, fsm.SkipReason(o); q.Skip {
		case fsm.SkipCurrent, fsm.SkipIncompatible, fsm.SkipNotComparable, fsm.SkipRemoved, fsm.SkipCancelled, fsm.SkipUnreachable:
		default:
			return q, false
		}
	}
	return q, true
}

// has reports whether a member that the query selects has the outcome.
func (o Outcome) has(m *fsm.Member) bool {
	switch o {
	case OutcomeFailed:
		return m.End != fsm.EndingTimedOut
	case OutcomeTimedOut:
		return m.End == fsm.EndingTimedOut
	}
	return true
}

// Retry makes members with these outcomes wait again. A rollout that has ended goes on, if its end
// has not come and it was not stopped; else the error is ErrState, as it is if no member has such
// an outcome.
func (m *Manager) Retry(ctx context.Context, id string, outcomes []Outcome, o Order) (Rollout, error) {
	if len(outcomes) == 0 {
		return Rollout{}, invalid("outcomes", "are missing")
	}
	for i, outcome := range outcomes {
		if _, ok := outcome.query(); !ok {
			return Rollout{}, invalid("outcomes["+strconv.Itoa(i)+"]", "is not an outcome: %q", outcome)
		}
	}
	r, err := m.allowed(ctx, id, ActionRetry, o)
	if err != nil {
		return r, err
	}
	n := 0
	for _, outcome := range outcomes {
		q, _ := outcome.query()
		q.Rollout = id
		for { // a member that ends again meanwhile is behind the cursor of the query
			list, err := m.some(ctx, &q, outcome)
			if err != nil {
				return r, err
			}
			if len(list) == 0 {
				break
			}
			again, err := m.do(ctx, id, o.Actor, func(ctx context.Context, b *batch) error {
				return b.retry(ctx, list, o.Reason)
			})
			if err != nil {
				return again, err
			}
			n, r = n+len(list), again
		}
	}
	if n == 0 {
		return r, fmt.Errorf("%w: no member has such an outcome", ErrState)
	}
	return m.do(ctx, id, o.Actor, func(_ context.Context, b *batch) error {
		b.log("", EventRetried, fmt.Sprintf("%d devices%s", n, after(o.Reason)))
		b.changed = true
		return nil
	})
}

// EventRetried and the others are lines of the journal of a rollout beside those of package fsm.
const (
	EventRetried = "retried" // members wait again
	EventAdded   = "added"   // a device has become a member
	EventRemoved = "removed" // a member that waited is none any more
)

func after(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// some returns the next members that the query selects and that have the outcome.
func (m *Manager) some(ctx context.Context, q *store.MemberQuery, outcome Outcome) (list []string, err error) {
	for len(list) == 0 {
		q.Limit = batchSize
		n := 0
		for member, err := range m.db.Members(ctx, *q) {
			if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrShort) {
				return nil, err
			}
			n++
			if err != nil {
				continue
			}
			q.After = q.Cursor(&member)
			if outcome.has(&member.Machine) {
				list = append(list, member.Endpoint)
			}
		}
		if n < batchSize {
			break
		}
	}
	return list, nil
}

func (b *batch) retry(ctx context.Context, list []string, reason string) error {
	for _, endpoint := range list {
		if err := b.member(ctx, endpoint, fsm.Input{Kind: fsm.InputRetry, Text: reason}); err != nil {
			return err
		}
	}
	return nil
}

// Add adds an endpoint to a rollout that has not ended; it is no error if it is a member already.
func (m *Manager) Add(ctx context.Context, id, endpoint string, o Order) (Rollout, error) {
	if err := checkEndpoint(endpoint, "endpoint"); err != nil {
		return Rollout{}, err
	}
	return m.ordered(ctx, id, ActionAdd, o, func(ctx context.Context, b *batch) error {
		if had, err := b.load(ctx, endpoint); had != nil || err != nil {
			b.same = true
			return err
		}
		asked, err := parseStored(&b.record)
		if err != nil {
			return err
		}
		d, err := m.device(ctx, endpoint)
		if err != nil {
			return err
		}
		if b.record.Machine.Total.Targets() >= MaxTargets {
			return invalid("endpoint", "is one too many: a rollout has at most %d members", MaxTargets)
		}
		if err := b.add(ctx, &asked, &d); err != nil {
			return err
		}
		if b.changed {
			b.log("", EventAdded, endpoint+after(o.Reason))
		}
		return nil
	})
}

// Remove makes a member that waits none any more: it is skipped. The error is ErrState if it does
// not wait, and store.ErrNotFound if it is no member.
func (m *Manager) Remove(ctx context.Context, id, endpoint string, o Order) (Rollout, error) {
	return m.ordered(ctx, id, ActionRemove, o, func(ctx context.Context, b *batch) error {
		member, err := b.load(ctx, endpoint)
		switch {
		case err != nil:
			return err
		case member == nil:
			return store.ErrNotFound
		}
		b.stepMember(member, fsm.Input{Kind: fsm.InputRemove})
		if b.changed {
			b.log("", EventRemoved, endpoint+after(o.Reason))
		}
		return nil
	})
}

func checkEndpoint(endpoint, field string) error {
	if problem := names.Check(endpoint, 1, store.MaxEndpoint); problem != "" {
		return invalid(field, "%s", problem)
	}
	return nil
}

// A Change is what [Manager.Edit] changes: the fields that are not nil.
type Change struct {
	Concurrency *int
	Interval    *time.Duration
	MaxFailure  *float64
	Window      *Window // its zero value is always
	EndAt       *time.Time
	Notes       *string
}

// Edit changes the plan of a rollout that has not ended. The journal has the values before and
// after. The error is ErrInvalid, ErrState if nothing changes, or one of [Manager.Start].
func (m *Manager) Edit(ctx context.Context, id string, c Change, o Order) (Rollout, error) {
	return m.ordered(ctx, id, ActionEdit, o, func(_ context.Context, b *batch) error {
		if !b.record.Machine.Active() || b.record.Machine.State == fsm.StateStopping {
			return nil
		}
		asked, err := parseStored(&b.record)
		if err != nil {
			return err
		}
		plan := b.record.Machine.Plan
		text := c.apply(&plan, &asked)
		if text == "" {
			return nil
		}
		if err := cmp.Or(checkPlan(&plan), checkNotes(asked.Notes)); err != nil {
			return err
		}
		if c.EndAt != nil && !c.EndAt.After(time.Now()) {
			return invalid("end_at", "has passed")
		}
		if b.record.Request, err = asked.text(); err != nil {
			return err
		}
		b.rollout(fsm.Input{Kind: fsm.InputEdit, Plan: plan, Text: text + after(o.Reason)})
		return nil
	})
}

// apply applies the change, and says what it changes.
func (c *Change) apply(p *fsm.Plan, asked *stored) (text string) {
	note := func(field string, before, after any) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s from %v to %v", field, before, after)
	}
	if c.Concurrency != nil && *c.Concurrency != p.Concurrency {
		note("concurrency", p.Concurrency, *c.Concurrency)
		p.Concurrency = *c.Concurrency
	}
	if c.Interval != nil && *c.Interval != p.Interval {
		note("rate", rate(p.Interval), rate(*c.Interval))
		p.Interval = *c.Interval
	}
	if c.MaxFailure != nil && *c.MaxFailure != p.MaxFailure {
		note("max_failure", p.MaxFailure, *c.MaxFailure)
		p.MaxFailure = *c.MaxFailure
	}
	if c.Window != nil && !sameWindow(c.Window, &p.Window) {
		note("window", windowText(&p.Window), windowText(c.Window))
		p.Window = *c.Window
	}
	if c.EndAt != nil && !c.EndAt.Equal(p.EndAt) {
		note("end_at", p.EndAt.UTC().Format(time.RFC3339), c.EndAt.UTC().Format(time.RFC3339))
		p.EndAt = *c.EndAt
	}
	if c.Notes != nil && *c.Notes != asked.Notes {
		note("notes", strconv.Quote(asked.Notes), strconv.Quote(*c.Notes))
		asked.Notes = *c.Notes
	}
	return text
}

// rate says how many admissions a minute an interval allows.
func rate(interval time.Duration) string {
	if interval <= 0 {
		return "none"
	}
	return strconv.FormatFloat(float64(time.Minute)/float64(interval), 'g', 4, 64) + " a minute"
}

func sameWindow(a, b *Window) bool {
	return slices.Equal(a.Days, b.Days) && a.From == b.From && a.To == b.To && a.Zone == b.Zone &&
		a.Fallback == b.Fallback && a.Covers == b.Covers
}

func windowText(w *Window) string {
	if w.Zone == "" {
		return "always"
	}
	text := fmt.Sprintf("%02d:%02d to %02d:%02d %s", w.From/60, w.From%60, w.To/60, w.To%60, w.Zone)
	for i, day := range w.Days {
		if i == 0 {
			text += " on "
		} else {
			text += "/"
		}
		text += day.String()[:3]
	}
	return text + " (" + string(w.Covers) + ")"
}

// do steps a rollout for an order: by its runner, or here if there is none, in one commit. The
// error is ErrState if f changes nothing.
func (m *Manager) do(ctx context.Context, id, actor string, f func(context.Context, *batch) error) (Rollout, error) {
	for {
		m.mu.Lock()
		r := m.runners[id]
		m.mu.Unlock()
		if r == nil {
			record, err := m.doHere(ctx, id, actor, f)
			if errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
				continue // a runner has begun meanwhile
			}
			return record, err
		}
		o := &order{ctx: ctx, actor: actor, do: f, done: make(chan struct{})}
		if !r.take(o) {
			select {
			case <-r.gone:
				continue
			case <-ctx.Done():
				return Rollout{}, ctx.Err()
			}
		}
		select {
		case <-o.done:
			if errors.Is(o.err, errGone) {
				continue
			}
			return o.record, o.err
		case <-ctx.Done():
			return Rollout{}, ctx.Err()
		}
	}
}

// doHere steps a rollout that has no runner.
func (m *Manager) doHere(ctx context.Context, id, actor string, f func(context.Context, *batch) error) (Rollout, error) {
	unlock, err := m.locks.LockContext(ctx, id)
	if err != nil {
		return Rollout{}, err
	}
	defer unlock()
	record, err := m.db.Rollout(ctx, id)
	if err != nil {
		return record, err
	}
	r := newRunner(m, record)
	r.dry = true
	if err := r.carryOut(ctx, actor, f); err != nil {
		return r.record, err
	}
	m.launch(r.record)
	return r.record, nil
}
