package rollout_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// slowStore takes a minute to store what a rollout notes of its members once it is slow, so that
// holds which follow an update come long after the device could have installed.
type slowStore struct {
	rollouttest.Store
	slow func(*store.Rollout) bool
	was  atomic.Bool
}

func (s *slowStore) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	for _, change := range changes {
		// The first one is not slow: virtual time stands still while others wait for a lock.
		if c, ok := change.(store.ReplaceRollout); ok && s.was.Swap(s.slow(&c.Rollout)) && s.was.Load() {
			defer time.Sleep(time.Minute)
		}
	}
	return s.Store.CommitRollouts(ctx, changes...)
}

// unread starts a server that knows no versions, and devices that install in an instant.
func (w *world) unread(slow func(*store.Rollout) bool, odd map[int]firmwaretest.Install) (list []string) {
	w.stop()
	w.blind, w.store = true, &slowStore{Store: w.db, slow: slow}
	w.start()
	for i := range 6 {
		in, ok := odd[i]
		if !ok {
			in = firmwaretest.Install{Version: newFW, Time: time.Millisecond, BootTime: time.Second}
		}
		w.device(i, in, lwm2m.ClientConfig{Lifetime: 48 * time.Hour})
		list = append(list, name(i))
	}
	time.Sleep(time.Minute)
	return list
}

// TestTripWhileVersionsAreRead: a device fails while the versions of all others are being read. The
// updates that are made after the trip are made on hold, however late the rollout comes to hold
// them, also if the server restarts meanwhile. They go on after the resumption.
func TestTripWhileVersionsAreRead(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		inWorld(t, func(w *world) {
			list := w.unread(func(r *store.Rollout) bool { return r.Machine.State == fsm.StatePaused },
				map[int]firmwaretest.Install{0: {Result: 5, Time: time.Millisecond, NoReboot: true}})
			for i := 1; i < 6; i++ {
				w.cut(i, true)
			}
			r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all()})
			w.state(r.ID, fsm.StatePaused, 20*time.Second)
			if restarts {
				w.stop()
				w.start()
			}
			for i := 1; i < 6; i++ {
				w.cut(i, false)
			}
			time.Sleep(time.Hour)
			made := 0
			for i := 1; i < 6; i++ {
				require.Zero(t, w.installs(name(i)), "invariant 17: an update that was made after the trip was executed")
				if w.member(r.ID, name(i)).Machine.Update != "" {
					made++
				}
			}
			if !restarts { // a restart may end the reads before their updates are made
				require.Positive(t, made, "no version was being read")
			}
			_, err := w.all.Resume(w.ctx, r.ID, kim)
			require.NoError(t, err)
			got := w.ended(r.ID, 24*time.Hour)
			require.Equal(t, fsm.Counts{Succeeded: 5, Failed: 1}, got.Machine.Total, w.journal(r.ID))
			w.once()
		})
	}
}

// TestWindowEndsWhileVersionsAreRead: devices are admitted in the last seconds of a window, and
// answer after its end. None installs before the next one.
func TestWindowEndsWhileVersionsAreRead(t *testing.T) {
	inWorld(t, func(w *world) {
		end := time.Now().Truncate(time.Hour).Add(10 * time.Minute)
		list := w.unread(func(r *store.Rollout) bool { return time.Now().After(end) && time.Since(end) < time.Hour }, nil)
		time.Sleep(time.Until(end) - 8*time.Second)
		for i := range 6 {
			w.cut(i, true)
		}
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), Stages: all(),
			Window: rollout.Window{From: 0, To: 10, Zone: "UTC", Covers: fsm.CoversInstall},
		})
		time.Sleep(time.Until(end) + time.Second)
		require.Equal(t, 6, w.get(r.ID).Machine.Slots.Granted, "they were not admitted inside the window")
		for i := range 6 {
			w.cut(i, false)
		}
		got := w.ended(r.ID, 48*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 6}, got.Machine.Total, w.journal(r.ID))
		for i := range 6 {
			at := w.executed(r.ID, name(i))
			require.Equal(t, end.Add(24*time.Hour).YearDay(), at.YearDay(), "%s was executed outside of the window, at %s", name(i), at)
			require.Less(t, at.Hour()*60+at.Minute(), 10)
		}
		w.once()
	})
}

// TestEditWhileVersionsAreRead: an operator edits the notes of a rollout while the versions of its
// devices are being read. Their updates are made on hold, and are released at once.
func TestEditWhileVersionsAreRead(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.unread(func(*store.Rollout) bool { return false }, nil)
		for i := range 6 {
			w.cut(i, true)
		}
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all()})
		time.Sleep(time.Second)
		notes := "ask Sam"
		_, err := w.all.Edit(w.ctx, r.ID, rollout.Change{Notes: &notes}, kim)
		require.NoError(t, err)
		for i := range 6 {
			w.cut(i, false)
		}
		require.Equal(t, fsm.Counts{Succeeded: 6}, w.ended(r.ID, 5*time.Minute).Machine.Total, w.journal(r.ID))
		w.once()
	})
}

// TestSilentDevicesOneByOne: one place is free at a time, and a device in five is registered and
// answers nothing. Its turn is over in half a minute, also if its version was read before; the
// update of a good one takes 70 s.
func TestSilentDevicesOneByOne(t *testing.T) {
	for _, blind := range []bool{false, true} {
		inWorld(t, func(w *world) {
			w.stop()
			w.blind = blind
			w.start()
			var list []string
			for i := range 30 {
				w.device(i, good(), lwm2m.ClientConfig{Lifetime: 48 * time.Hour})
				list = append(list, name(i))
			}
			time.Sleep(time.Minute)
			for i := range 6 {
				w.cut(5*i, true)
			}
			r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: oneThenAll(), Concurrency: 1})
			w.until(r.ID, 24*75*time.Second+6*35*time.Second, "invariant 25: the others wait for silent devices",
				func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 24 })
			for i := range 6 {
				w.cut(5*i, false)
			}
			require.Equal(t, fsm.Counts{Succeeded: 30}, w.ended(r.ID, 5*time.Hour).Machine.Total, w.journal(r.ID))
			w.once()
		})
	}
}

// TestServerListensLate: the turn of a rollout's first devices comes before anything can be sent to
// them. They are not silent, and get their updates at once.
func TestServerListensLate(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(4, nil)
		w.stop()
		w.late = time.Second
		w.start()
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 2})
		time.Sleep(30 * time.Second)
		require.GreaterOrEqual(t, w.get(r.ID).Machine.Total.Active, 2, w.journal(r.ID))
		require.Equal(t, fsm.Counts{Succeeded: 4}, w.ended(r.ID, time.Hour).Machine.Total)
		w.once()
	})
}
