package rollout

import (
	"context"
	"errors"
	"fmt"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// An Order is who orders something, and why, for the journal.
type Order struct {
	Actor  string
	Reason string
}

// text is the detail of a line of the journal.
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
// cancelled unless they install. If the rollout is paused, those that it holds are cancelled.
func (m *Manager) Stop(ctx context.Context, id string, cancels bool, o Order) (Rollout, error) {
	return m.order(ctx, id, ActionStop, o, fsm.Input{Kind: fsm.InputStop, Cancels: cancels})
}

// Retry makes members of these states wait again: MemberFailed, MemberRolledBack, MemberSkipped.
func (m *Manager) Retry(ctx context.Context, id string, states []fsm.MemberState, o Order) (Rollout, error) {
	r, err := m.db.Rollout(ctx, id)
	if err != nil {
		return r, err
	}
	if err := m.allow(ctx, o.Actor, ActionRetry, r); err != nil {
		return r, err
	}
	for _, state := range states {
		for {
			var list []string
			for member, err := range m.db.Members(ctx, store.MemberQuery{Rollout: id, State: state, AnyPlace: true, Limit: batchSize}) {
				if errors.Is(err, store.ErrShort) {
					break
				}
				if err != nil {
					return r, err
				}
				list = append(list, member.Endpoint)
			}
			if len(list) == 0 {
				break
			}
			if r, err = m.apply(ctx, id, list, fsm.Input{Kind: fsm.InputRetry, Text: o.text()}); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// Add adds an endpoint to a rollout that has not ended; it is no error if it is a member already.
func (m *Manager) Add(ctx context.Context, id, endpoint string, o Order) (Rollout, error) {
	r, err := m.db.Rollout(ctx, id)
	if err == nil {
		err = m.allow(ctx, o.Actor, ActionAdd, r)
	}
	if err != nil {
		return r, err
	}
	return m.apply(ctx, id, []string{endpoint}, fsm.Input{Kind: fsm.InputAdd})
}

// Edit changes the plan of a rollout that has not ended; its stages stay.
func (m *Manager) Edit(ctx context.Context, id string, change func(*fsm.Plan), o Order) (Rollout, error) {
	r, err := m.db.Rollout(ctx, id)
	if err != nil {
		return r, err
	}
	plan := r.Machine.Plan
	stages := plan.Stages
	change(&plan)
	plan.Stages = stages
	if err := plan.Check(); err != nil {
		return r, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return m.order(ctx, id, ActionEdit, o, fsm.Input{Kind: fsm.InputEdit, Plan: plan})
}

// order carries out an order that concerns the rollout alone.
func (m *Manager) order(ctx context.Context, id string, action Action, o Order, in fsm.Input) (Rollout, error) {
	r, err := m.db.Rollout(ctx, id)
	if err == nil {
		err = m.allow(ctx, o.Actor, action, r)
	}
	if err != nil {
		return r, err
	}
	in.Text = o.text()
	return m.apply(ctx, id, nil, in)
}

// apply applies an input, to the rollout or to each of the members, by the rollout's runner, or
// itself if there is none. The error is ErrState if it changes nothing.
func (m *Manager) apply(ctx context.Context, id string, endpoints []string, in fsm.Input) (Rollout, error) {
	m.mu.Lock()
	r := m.runners[id]
	m.mu.Unlock()
	if r != nil {
		return r.order(ctx, endpoints, in)
	}
	unlock := m.locks.Lock(id)
	defer unlock()
	record, err := m.db.Rollout(ctx, id)
	if err != nil {
		return record, err
	}
	r = newRunner(m, record)
	err = r.apply(ctx, endpoints, in)
	if err == nil {
		m.launch(r.record)
	}
	return r.record, err
}
