package rollout

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

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
			q.After = q.Cursor(&member) // a damaged one has it too
			if err == nil && outcome.has(&member.Machine) {
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
