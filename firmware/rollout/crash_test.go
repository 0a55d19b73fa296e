package rollout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

// TestCrashes kills the server before and after each of its commits, restarts it with the same
// store, and expects the outcome of a rollout without a crash: each device ends as it must, and
// none installs twice.
func TestCrashes(t *testing.T) {
	t.Run("all well", func(t *testing.T) {
		crashes(t, nil, fsm.Counts{Succeeded: 4})
	})
	t.Run("it stops by itself", func(t *testing.T) {
		crashes(t, map[int]firmwaretest.Install{1: fails(), 0: slow()}, fsm.Counts{Succeeded: 3, Failed: 1})
	})
	t.Run("one fails", func(t *testing.T) {
		crashes(t, map[int]firmwaretest.Install{2: fails(), 3: {BootTime: time.Second, Forgets: true}}, fsm.Counts{Succeeded: 2, Failed: 1, RolledBack: 1})
	})
}

func crashes(t *testing.T, odd map[int]firmwaretest.Install, want fsm.Counts) {
	points := crashAt(t, odd, storetest.Cut{}, want)
	t.Logf("%d commits", points)
	require.Greater(t, points, 20)
	cuts := slices.Collect(storetest.Cuts(points))
	if testing.Short() || testkit.Race {
		cuts = slices.DeleteFunc(cuts, func(c storetest.Cut) bool { return c.Point%7 != 0 })
	}
	for _, cut := range cuts {
		t.Run(cut.String(), func(t *testing.T) { crashAt(t, odd, cut, want) })
	}
}

func crashAt(t *testing.T, odd map[int]firmwaretest.Install, cut storetest.Cut, want fsm.Counts) (points int) {
	inWorld(t, func(w *world) {
		list := w.fleet(4, odd)
		w.stop()
		crash := rollouttest.NewCrash(w.db, cut, func() { w.die() })
		w.store = crash
		w.start()
		q := rollout.Request{
			Key: "once", Image: w.image.ID, Targets: rollout.Endpoints(list...), Start: true, Concurrency: 2, MaxFailure: share(1),
			Stages: []rollout.Stage{{Size: 2, Only: true, Soak: 10 * time.Minute}, {Share: 1, Soak: time.Minute}},
			Only:   map[int]rollout.Only{0: {Endpoints: list[:2]}},
		}
		r, err := w.all.Create(w.ctx, q)
		select {
		case <-crash.Crashed():
		case <-time.After(3 * time.Hour):
		}
		points = crash.Points()
		w.stop()
		w.store = nil
		time.Sleep(5 * time.Second) // an Execute that is on its way arrives before the server asks again
		w.start()
		if err != nil { // the caller repeats what had no answer
			r, err = w.all.Create(w.ctx, q)
		}
		require.NoError(t, err)
		got := w.until(r.ID, 24*time.Hour, "it does not end", func(r rollout.Rollout) bool {
			if r.Machine.State == fsm.StatePaused { // a device of the first stage has failed
				_, err := w.all.Resume(w.ctx, r.ID, kim)
				require.NoError(t, err)
			}
			return r.Machine.State == fsm.StateEnded
		})
		require.Equal(t, want, got.Machine.Total, "invariant 18: a crash changes no outcome\n%s", w.journal(r.ID))
		require.Equal(t, counted(w, r.ID), got.Machine.Total)
		w.once()
		n := 0
		for _, err := range w.all.List(w.ctx, store.RolloutQuery{}) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 1, n, "a repeated Create makes no second rollout")
		updates := 0
		for _, err := range w.mgr.List(w.ctx, store.UpdateQuery{}) {
			require.NoError(t, err)
			updates++
		}
		require.Equal(t, 4, updates, "invariant 18: a crash changes no outcome: there is a second update of a device")
	})
	return points
}

// counted counts members one by one.
func counted(w *world, id string) (c fsm.Counts) {
	for m, err := range w.all.Members(w.ctx, store.MemberQuery{Rollout: id}) {
		require.NoError(w.t, err)
		switch m.Machine.State {
		case fsm.MemberWaiting:
			c.Waiting++
		case fsm.MemberActive:
			c.Active++
		case fsm.MemberSucceeded:
			c.Succeeded++
		case fsm.MemberFailed:
			c.Failed++
		case fsm.MemberRolledBack:
			c.RolledBack++
		case fsm.MemberSkipped:
			c.Skipped++
		}
	}
	return c
}

// TestCreationGoesOn: the server dies before and after each commit of a creation from a selector.
// The rollout has all its members in the end, each once.
func TestCreationGoesOn(t *testing.T) {
	for cut := range storetest.Cuts(6) {
		t.Run(cut.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.stop()
				var changes []store.Change
				for i := range 2500 {
					changes = append(changes, store.PutLabels{Endpoint: fmt.Sprintf("dev-%05d", i), Labels: map[string]string{"ring": "a"}})
				}
				_, err := w.db.Commit(w.ctx, changes...)
				require.NoError(t, err)
				crash := rollouttest.NewCrash(w.db, cut, func() { w.die() })
				w.store = crash
				w.start()
				q := rollout.Request{
					Key: "once", Image: w.image.ID, Select: &rollout.Selector{Labels: map[string]string{"ring": "a"}},
					EndAt: time.Now().Add(time.Hour), Start: true,
				}
				_, _ = w.all.Create(w.ctx, q)
				select {
				case <-crash.Crashed():
				case <-time.After(10 * time.Minute):
				}
				w.stop()
				w.store = nil
				w.start()
				time.Sleep(time.Minute)
				r, err := w.all.Create(w.ctx, q)
				require.NoError(t, err)
				time.Sleep(time.Minute)
				got := w.get(r.ID)
				require.Equal(t, fsm.StateRunning, got.Machine.State, "invariant 20: a creation goes on")
				require.Equal(t, fsm.Counts{Waiting: 2500}, got.Machine.Total)
				require.Equal(t, got.Machine.Total, counted(w, r.ID))
			})
		})
	}
}
