package firmware_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

// TestServerCrashes kills the server before and after each of its commits and each datagram that it
// sends, restarts it with the same store, and expects the outcome of an undisturbed update.
func TestServerCrashes(t *testing.T) {
	good := firmwaretest.Install{Version: newFW, Time: time.Second, BootTime: 5 * time.Second}
	for _, test := range []struct {
		name    string
		script  firmwaretest.Script
		outcome fsm.Outcome
		follows bool // somebody follows the events, so that soft steps are stored within a second
	}{
		{"pull", firmwaretest.Script{Version: oldFW, PullTime: 10 * time.Second, Install: good}, fsm.OutcomeSucceeded, false},
		{"pull, followed", firmwaretest.Script{Version: oldFW, PullTime: 10 * time.Second, Install: good}, fsm.OutcomeSucceeded, true},
		{"push", firmwaretest.Script{Version: oldFW, Delivery: fsm.PushOnly, Install: good}, fsm.OutcomeSucceeded, false},
		{"rollback", firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Forgets: true, BootTime: time.Second}},
			fsm.OutcomeRolledBack, true},
		{"failure", firmwaretest.Script{Version: oldFW, Pull: fails(1000, fsm.ResultIntegrityFailed), Install: good},
			fsm.OutcomeFailed, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			points := crashAt(t, test.script, storetest.Cut{}, test.outcome, test.follows)
			require.Greater(t, points, 10)
			t.Logf("%d commits and datagrams", points)
			for cut := range storetest.Cuts(points) {
				t.Run(cut.String(), func(t *testing.T) {
					t.Parallel()
					crashAt(t, test.script, cut, test.outcome, test.follows)
				})
			}
		})
	}
}

// crashAt runs an update with a crash at the cut and returns how many points there were.
func crashAt(t *testing.T, script firmwaretest.Script, cut storetest.Cut, want fsm.Outcome, follows bool) (points int) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.stop()
		dead := make(chan struct{})
		crash := storetest.NewCrash(w.db, cut, func() { w.crash(); close(dead) })
		w.openImages(crash)
		w.effect = crash.Effect
		w.start(crash)
		w.effect = nil
		device := w.device(script)

		u, err := w.mgr.Start(w.ctx, w.request())
		ended := make(chan struct{})
		if err == nil {
			go waitQuietly(w.ctx, w.mgr, u.ID, follows, ended)
		} else {
			require.ErrorIs(t, err, storetest.ErrCrashed)
		}
		select {
		case <-dead:
			w.stop()
			w.openImages(w.db)
			time.Sleep(3 * time.Second)
			w.start(w.db)
		case <-ended:
		}
		if err != nil { // the operator asks again, and does not know whether the first request arrived
			if u, err = w.mgr.Start(w.ctx, w.request()); err != nil {
				id := activeID(err)
				require.NotEmpty(t, id, "%v", err)
				u.ID = id
			}
		}
		u = w.wait(u.ID, 48*time.Hour)
		require.Equal(t, want, u.Machine.Outcome, w.journal(u.ID))
		require.NotEqual(t, fsm.ResultDefault, u.Machine.Result)
		if want == fsm.OutcomeSucceeded {
			require.Equal(t, newFW, device.Version())
		}
		require.LessOrEqual(t, count(device.Log(), "execute"), 2, "%v", device.Log())
		points = crash.Points()
	})
	return points
}

// waitQuietly closes ended when the update has ended, unless the world ends first.
func waitQuietly(ctx context.Context, mgr *firmware.Manager, id string, follows bool, ended chan struct{}) {
	if !follows {
		if u, err := mgr.Wait(ctx, id); err == nil && !u.Active() {
			close(ended)
		}
		return
	}
	for e, err := range mgr.Events(ctx, 0) {
		if err != nil {
			return
		}
		if e.Update == id && e.Outcome != fsm.OutcomeNone {
			close(ended)
			return
		}
	}
}

func activeID(err error) string {
	if active, ok := errors.AsType[*store.UpdateError](err); ok {
		return active.ID
	}
	return ""
}
