package rollout

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

// damaged notes that a member cannot be read. The rollout is mended before it goes on.
func (r *runner) damaged(endpoint string, err error) {
	if !r.broken {
		r.m.log.Error("a member of a rollout is damaged", "rollout", r.id, "endpoint", endpoint, "error", err)
	}
	r.broken = true
}

// readable yields the members that the query selects and that can be read.
func (r *runner) readable(ctx context.Context, q store.MemberQuery) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		for m, err := range r.m.db.Members(ctx, q) {
			if errors.Is(err, store.ErrDamaged) {
				r.damaged(m.Endpoint, err)
				continue
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// mend takes members that cannot be read out of the rollout: they become skipped, and all others
// are counted again, because nothing says how the damaged ones were counted.
func (r *runner) mend(ctx context.Context) error {
	b := r.begin()
	var lost []Member
	var failed error
	all := func(yield func(*fsm.Member) bool) {
		for m, err := range r.m.db.Members(ctx, store.MemberQuery{Rollout: r.id}) {
			switch {
			case errors.Is(err, store.ErrDamaged):
				m = Member{Rollout: r.id, Endpoint: m.Endpoint, Machine: fsm.Member{State: fsm.MemberSkipped, Skip: fsm.SkipRemoved}}
				lost = append(lost, m)
			case err != nil:
				failed = err
				return
			}
			if !yield(&m.Machine) {
				return
			}
		}
	}
	b.record.Machine.Recount(all)
	if failed != nil {
		return failed
	}
	for i := range lost {
		b.put(&lost[i])
		b.log(lost[i].Endpoint, EventRemoved, "its record is damaged; what its device does is not known")
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	r.broken = false
	r.walk.restart()
	return nil
}

const (
	defaultRetain = 365 * 24 * time.Hour
	sweepStart    = time.Minute // after Run has begun
	sweepPause    = time.Hour
)

// sweep deletes rollouts that ended long ago.
func (m *Manager) sweep(ctx context.Context) {
	if m.config.Retain < 0 {
		return
	}
	for pause := sweepStart; work.Sleep(ctx, pause); pause = sweepPause {
		if err := m.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("old rollouts stay for now", "error", err)
		}
	}
}

func (m *Manager) sweepOnce(ctx context.Context) error {
	age := m.config.Retain
	if age == 0 {
		age = defaultRetain
	}
	before := time.Now().Add(-age)
	for r, err := range m.db.RolloutList(ctx, store.RolloutQuery{}) {
		switch {
		case errors.Is(err, store.ErrDamaged):
			continue
		case err != nil:
			return err
		case r.Machine.Active() || r.Machine.Ended.After(before):
			continue
		}
		if err := m.remove(ctx, r.ID, false); err != nil && !errors.Is(err, store.ErrInUse) {
			return fmt.Errorf("deleting rollout %s: %w", r.ID, err)
		}
		m.log.Info("rollout deleted", "rollout", r.ID, "ended", r.Machine.Ended)
	}
	return nil
}

// remove deletes a rollout, in small commits.
func (m *Manager) remove(ctx context.Context, id string, damaged bool) error {
	for first := true; ; first = false {
		err := m.db.CommitRollouts(ctx, store.DeleteRollout{ID: id, Limit: deleteChunk, Damaged: damaged})
		if !first && errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
