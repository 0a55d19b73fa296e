package rollouttest

import (
	"context"
	"iter"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

// A Crash is a store as a process that dies at a [storetest.Cut] sees it, as [storetest.Crash] is
// for a program without rollouts. Its points are the commits of both kinds, and calls of Effect, in
// one count.
type Crash struct {
	*storetest.Crash
	below store.Rollouts
}

// NewCrash returns a store over s that crashes at the cut. It then calls stop, if that is not nil,
// once and before the call returns: there a test cancels the parts of the process. Stop must not
// wait for the process, which may wait for it.
func NewCrash(s Store, cut storetest.Cut, stop func()) *Crash {
	return &Crash{Crash: storetest.NewCrash(s, cut, stop), below: s}
}

func (c *Crash) check() error {
	select {
	case <-c.Crashed():
		return storetest.ErrCrashed
	default:
		return nil
	}
}

// CommitRollouts implements store.Rollouts. It is a point if there are changes.
func (c *Crash) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	if len(changes) == 0 {
		return c.check()
	}
	return c.Effect(func() error { return c.below.CommitRollouts(ctx, changes...) })
}

// Rollout implements store.Rollouts.
func (c *Crash) Rollout(ctx context.Context, id string) (store.Rollout, error) {
	if err := c.check(); err != nil {
		return store.Rollout{}, err
	}
	return c.below.Rollout(ctx, id)
}

// RolloutList implements store.Rollouts.
func (c *Crash) RolloutList(ctx context.Context, q store.RolloutQuery) iter.Seq2[store.Rollout, error] {
	return unless(c.check, c.below.RolloutList(ctx, q))
}

// Member implements store.Rollouts.
func (c *Crash) Member(ctx context.Context, rollout, endpoint string) (store.Member, error) {
	if err := c.check(); err != nil {
		return store.Member{}, err
	}
	return c.below.Member(ctx, rollout, endpoint)
}

// Members implements store.Rollouts.
func (c *Crash) Members(ctx context.Context, q store.MemberQuery) iter.Seq2[store.Member, error] {
	return unless(c.check, c.below.Members(ctx, q))
}

// MembersOf implements store.Rollouts.
func (c *Crash) MembersOf(ctx context.Context, endpoints []string) iter.Seq2[store.Member, error] {
	return unless(c.check, c.below.MembersOf(ctx, endpoints))
}

// RolloutEvents implements store.Rollouts.
func (c *Crash) RolloutEvents(ctx context.Context, q store.RolloutEventQuery) iter.Seq2[store.RolloutEvent, error] {
	return unless(c.check, c.below.RolloutEvents(ctx, q))
}

func unless[T any](fails func() error, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err := fails(); err != nil {
			var zero T
			yield(zero, err)
			return
		}
		seq(yield)
	}
}
