package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

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
	reason := clip(o.Reason, store.MaxDetail/2)
	switch {
	case o.Actor == "":
		return reason
	case reason == "":
		return "by " + o.Actor
	}
	return "by " + o.Actor + ": " + reason
}

// clip shortens a text of people or devices to so many bytes of UTF-8.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	for most = min(most, len(s)); most > 0 && most < len(s) && !utf8.RuneStart(s[most]); most-- {
	}
	return s[:most]
}

// Start starts a draft that has its members. A rollout that runs stays as it is.
func (m *Manager) Start(ctx context.Context, id string, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionStart, o, fsm.Input{Kind: fsm.InputStart}, func(r *fsm.Rollout) bool { return r.State == fsm.StateRunning })
}

// Pause admits no more members, and holds the updates that have not begun to install. A rollout
// that is paused, also by itself, stays as it is.
func (m *Manager) Pause(ctx context.Context, id string, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionPause, o, fsm.Input{Kind: fsm.InputPause}, func(r *fsm.Rollout) bool { return r.State == fsm.StatePaused })
}

// Resume goes on after a pause. What went wrong before does not count any more. A rollout that runs
// stays as it is.
func (m *Manager) Resume(ctx context.Context, id string, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionResume, o, fsm.Input{Kind: fsm.InputResume}, func(r *fsm.Rollout) bool { return r.State == fsm.StateRunning })
}

// Open opens the next stage, if it opens by hand, or if none of the devices that the open stage
// names was updated. The error is ErrState if no stage waits for that, also because somebody has
// opened it already: a repeated Open must not open the stage after it.
func (m *Manager) Open(ctx context.Context, id string, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionOpen, o, fsm.Input{Kind: fsm.InputOpen}, func(*fsm.Rollout) bool { return false })
}

// Stop ends a rollout: members that wait are skipped. Updates that run go on, or, with cancels,
// are cancelled unless they install. Those that the rollout holds are cancelled at once if it is
// paused, and otherwise at its EndAt. It cannot be undone; [Manager.StopPlan] says what it would
// do. A rollout that was stopped so stays as it is.
func (m *Manager) Stop(ctx context.Context, id string, cancels bool, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionStop, o, fsm.Input{Kind: fsm.InputStop, Cancels: cancels}, func(r *fsm.Rollout) bool { return stopped(r, cancels) })
}

// stopped reports whether a rollout stops as an order to stop it says, or was stopped so.
func stopped(r *fsm.Rollout, cancels bool) bool {
	return r.Cancels == cancels && (r.State == fsm.StateStopping || r.State == fsm.StateEnded && r.Reason == fsm.ReasonOperator)
}

// order carries out an order that concerns the rollout alone. already reports whether a rollout is
// as the order wants it.
func (m *Manager) order(ctx context.Context, id string, action Action, o Order, in fsm.Input, already func(*fsm.Rollout) bool) (Rollout, error) {
	in.Text = o.text()
	return m.ordered(ctx, id, action, o, func(_ context.Context, b *batch) error {
		b.rollout(fsm.Input{Kind: fsm.InputTick}) // what time alone changes is not the order's work
		if b.same = already(&b.record.Machine); b.same {
			return nil
		}
		if out := b.rollout(in); !out.Persist {
			why, _ := Describe(b.record)
			return fmt.Errorf("%w: it is %s: %s", ErrState, b.record.Machine.State, why)
		}
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

// Remove makes a member that waits none any more: it is skipped. The error is ErrState if it has
// been admitted, and store.ErrNotFound if it is no member.
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
		b.same = member.Machine.Skip == fsm.SkipRemoved
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
			if errors.Is(o.err, errGone) || errors.Is(o.err, store.ErrConflict) && ctx.Err() == nil {
				continue // an order that was carried out here came before it, and it has had no effect
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
