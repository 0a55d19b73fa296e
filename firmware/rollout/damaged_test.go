package rollout_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/store"
)

// spoiled is a store some of whose records cannot be read. A member is whole again once it has been
// written.
type spoiled struct {
	rollouttest.Store
	mu      sync.Mutex
	members map[string]bool // by endpoint
	rollout string          // id
	update  string          // id
}

func (s *spoiled) member(m store.Member, err error) (store.Member, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.members[m.Endpoint] {
		return store.Member{Rollout: m.Rollout, Endpoint: m.Endpoint}, &store.DamagedError{Kind: store.KindMember, Key: m.Endpoint}
	}
	return m, err
}

func (s *spoiled) Member(ctx context.Context, id, endpoint string) (store.Member, error) {
	return s.member(s.Store.Member(ctx, id, endpoint))
}

func (s *spoiled) Members(ctx context.Context, q store.MemberQuery) iter.Seq2[store.Member, error] {
	return func(yield func(store.Member, error) bool) {
		for m, err := range s.Store.Members(ctx, q) {
			if !yield(s.member(m, err)) {
				return
			}
		}
	}
}

func (s *spoiled) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	err := s.Store.CommitRollouts(ctx, changes...)
	for _, c := range changes {
		if c, ok := c.(store.PutMembers); ok && err == nil {
			s.mu.Lock()
			for _, m := range c.Members {
				delete(s.members, m.Endpoint)
			}
			s.mu.Unlock()
		}
	}
	return err
}

func (s *spoiled) RolloutList(ctx context.Context, q store.RolloutQuery) iter.Seq2[store.Rollout, error] {
	return func(yield func(store.Rollout, error) bool) {
		for r, err := range s.Store.RolloutList(ctx, q) {
			if s.spoils(r.ID) {
				r, err = store.Rollout{ID: r.ID}, &store.DamagedError{Kind: store.KindRollout, Key: r.ID}
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (s *spoiled) spoils(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return id == s.rollout
}

// spoil makes another rollout the one that cannot be read.
func (s *spoiled) spoil(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rollout = id
}

func (s *spoiled) Rollout(ctx context.Context, id string) (store.Rollout, error) {
	if s.spoils(id) {
		return store.Rollout{}, &store.DamagedError{Kind: store.KindRollout, Key: id}
	}
	return s.Store.Rollout(ctx, id)
}

func (s *spoiled) Update(ctx context.Context, id string) (store.Update, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.update {
		return store.Update{}, &store.DamagedError{Kind: store.KindUpdate, Key: id}
	}
	return s.Store.Update(ctx, id)
}

// TestDamagedMember: a member that waits, and one that is active, cannot be read. They are taken
// out of the rollout, which counts the others again, and ends.
func TestDamagedMember(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(6, nil)
		w.slowPull(6, 2*time.Hour)
		time.Sleep(time.Minute)
		list = append(list, name(6), "absent")
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), EndAt: time.Now().Add(24 * time.Hour)})
		w.until(r.ID, time.Hour, "they do not succeed", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 6 })
		w.stop()
		w.store = &spoiled{Store: w.db, members: map[string]bool{"absent": true, name(6): true}}
		w.start()
		got := w.ended(r.ID, 30*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 6, Skipped: 2}, got.Machine.Total, w.journal(r.ID))
		require.Equal(t, fsm.Slots{}, got.Machine.Slots)
		require.Len(t, w.lines(r.ID, rollout.EventRemoved), 2)
	})
}

// TestDamagedUpdate: the update of a member cannot be read. The others go on; when the update has
// been removed, the member is skipped.
func TestDamagedUpdate(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(6, nil)
		w.slowPull(6, time.Hour)
		time.Sleep(time.Minute)
		list = append(list, name(6))
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 2})
		w.until(r.ID, time.Hour, "it is not active", func(r rollout.Rollout) bool { return w.member(r.ID, name(6)).Machine.Update != "" })
		w.stop()
		bad := &spoiled{Store: w.db, update: w.member(r.ID, name(6)).Machine.Update}
		w.store = bad
		w.start()
		w.until(r.ID, 5*time.Hour, "the others do not succeed", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 6 })
	})
}

// TestDamagedRollout: a rollout that cannot be read does not run, keeps its image, and can be
// deleted.
func TestDamagedRollout(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.create(rollout.Request{Targets: rollout.Endpoints("absent"), Stages: all()})
		other := w.create(rollout.Request{Targets: rollout.Endpoints(w.fleet(2, nil)...), Stages: all()})
		w.stop()
		bad := &spoiled{Store: w.db, rollout: r.ID}
		w.store = bad
		w.start()
		w.ended(other.ID, time.Hour)
		_, err := w.all.Get(w.ctx, r.ID)
		require.ErrorIs(t, err, store.ErrDamaged)
		_, err = w.all.Pause(w.ctx, r.ID, kim)
		require.ErrorIs(t, err, store.ErrDamaged)
		n := 0
		for got, err := range w.all.List(w.ctx, store.RolloutQuery{}) {
			if n++; err != nil {
				require.ErrorIs(t, err, store.ErrDamaged)
				require.Equal(t, r.ID, got.ID)
			}
		}
		require.Equal(t, 2, n)
		require.ErrorIs(t, w.images.Delete(w.ctx, w.image.ID), firmware.ErrKept)
		bad.spoil("") // the store below can read it, and would not delete one that runs
		_, err = w.all.Stop(w.ctx, r.ID, false, kim)
		require.NoError(t, err)
		w.ended(r.ID, time.Minute)
		bad.spoil(r.ID)
		require.NoError(t, w.all.Delete(w.ctx, r.ID, kim))
		bad.spoil("")
		_, err = w.all.Get(w.ctx, r.ID)
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

// TestOneManagerAStore: two managers of one store do not run at the same time.
func TestOneManagerAStore(t *testing.T) {
	inWorld(t, func(w *world) {
		second, err := rollout.NewManager(w.srv, w.mgr, w.db, rollout.Config{})
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.ErrorIs(t, second.Run(w.ctx), firmware.ErrRunning)
	})
}

// TestRetain: a rollout is deleted some time after its end.
func TestRetain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stop()
		w.config.Retain = 24 * time.Hour
		w.start()
		r := w.create(rollout.Request{Targets: rollout.Endpoints(w.fleet(2, nil)...), Stages: all()})
		waits := w.create(rollout.Request{Targets: rollout.Endpoints("absent"), Stages: all()})
		w.ended(r.ID, time.Hour)
		time.Sleep(20 * time.Hour)
		w.get(r.ID)
		time.Sleep(10 * time.Hour)
		_, err := w.all.Get(w.ctx, r.ID)
		require.ErrorIs(t, err, store.ErrNotFound)
		for range w.all.Members(w.ctx, store.MemberQuery{Rollout: r.ID}) {
			require.Fail(t, "a member is left")
		}
		require.Equal(t, fsm.StateRunning, w.get(waits.ID).Machine.State)
	})
}
