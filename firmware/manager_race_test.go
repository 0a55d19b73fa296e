package firmware_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

// TestCancelWhileStarted cancels an update between its creation and its first step. The hooks hear
// of the start first, also if the store does not say that it has created the update.
func TestCancelWhileStarted(t *testing.T) {
	for _, answer := range []error{nil, errDisk} {
		calls := make(chan string, 8)
		note := func(name string) func(context.Context, firmware.Update) {
			return func(context.Context, firmware.Update) { calls <- name }
		}
		hooks := firmware.Hooks{Started: note("started"), Resumed: note("resumed"), Ended: note("ended")}
		inWorld(t, firmware.ManagerConfig{Hooks: hooks}, func(w *world) {
			var id string
			w.restart(nil, func(_ context.Context, call storetest.Call) error {
				if !creates(call) {
					return nil
				}
				id = call.Changes[0].(store.CreateUpdate).Update.ID
				_, err := w.mgr.Hold(w.ctx, id, firmware.Hold{Holder: "op"})
				require.NoError(t, err)
				u, err := w.mgr.Cancel(w.ctx, id)
				require.NoError(t, err)
				require.Equal(t, fsm.OutcomeCancelled, u.Machine.Outcome)
				return answer
			})
			time.Sleep(time.Second)
			u, err := w.mgr.Start(w.ctx, w.request())
			require.ErrorIs(t, err, answer)
			require.Equal(t, answer != nil, u.Active()) // there is none after an error
			time.Sleep(time.Minute)
			require.Zero(t, w.mgr.Runs(), "what has ended is not driven")
			require.Equal(t, fsm.OutcomeCancelled, w.wait(id, time.Second).Machine.Outcome)
		})
		close(calls)
		var heard []string
		for name := range calls {
			heard = append(heard, name)
		}
		require.Equal(t, []string{"started", "ended"}, heard)
	}
}

// TestCancelWhileStopping cancels an update whose end the store refuses, and ends Run meanwhile.
func TestCancelWhileStopping(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		broken := w.breakable()
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		time.Sleep(time.Second)
		broken.Store(true)
		cancelled := make(chan error, 1)
		go func() {
			_, err := w.mgr.Cancel(context.Background(), u.ID)
			cancelled <- err
		}()
		time.Sleep(time.Minute)
		broken.Store(false)
		w.stop()
		select {
		case err := <-cancelled:
			require.NoError(t, err)
		case <-time.After(time.Hour):
			require.Fail(t, "Cancel waits for a run that has stopped")
		}
		u, err = w.mgr.Get(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.OutcomeCancelled, u.Machine.Outcome)
	})
}

// TestRunTwice: at most one Run runs, also while the one before is still ending.
func TestRunTwice(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var slow atomic.Bool
		w.restart(func(_ context.Context, call storetest.Call) error {
			if len(call.Changes) > 0 && slow.Load() {
				time.Sleep(20 * time.Second)
			}
			return nil
		}, nil)
		time.Sleep(time.Second)
		require.ErrorIs(t, w.mgr.Run(w.ctx), firmware.ErrRunning)
		u := w.begin(w.request())
		slow.Store(true)
		go w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op"})
		time.Sleep(5 * time.Second) // the step is being stored
		w.crash()
		time.Sleep(time.Second)
		require.ErrorIs(t, w.mgr.Run(w.ctx), firmware.ErrRunning)
		w.stop()
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		require.NoError(t, w.mgr.Run(ctx))
	})
}

// TestStartBeforeRun starts an update, and cancels another one, while no Run runs.
func TestStartBeforeRun(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.stop()
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		r := w.request()
		r.Endpoint = "another"
		other, err := w.mgr.Start(w.ctx, r)
		require.NoError(t, err)
		other, err = w.mgr.Cancel(w.ctx, other.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.OutcomeCancelled, other.Machine.Outcome)
		w.start(w.db)
		w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		require.Equal(t, fsm.OutcomeSucceeded, w.wait(u.ID, time.Hour).Machine.Outcome)
	})
}

// TestTwoManagers has two managers run the same update, by mistake. They take turns, and the device
// gets one Execute.
func TestTwoManagers(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var commits atomic.Int64
		w.stop()
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		w.restart(func(_ context.Context, call storetest.Call) error {
			if len(call.Changes) > 0 && is[store.ReplaceUpdate](call.Changes[0]) {
				commits.Add(1)
			}
			return nil
		}, nil)
		ctx, cancel := context.WithCancel(w.ctx)
		ended := make(chan error)
		second := w.manager(w.db)
		go func() { ended <- second.Run(ctx) }()
		device := w.device(firmwaretest.Script{Version: oldFW, PullTime: 10 * time.Second,
			Install: firmwaretest.Install{Version: newFW, BootTime: time.Second}})
		u = w.wait(u.ID, 4*time.Hour)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u.ID))
		require.LessOrEqual(t, count(device.Log(), "execute"), 1, "%v", device.Log())
		t.Logf("%d commits by one, after %v\n%s", commits.Load(), u.Machine.Ended.Sub(u.Created), w.journal(u.ID))
		require.Less(t, commits.Load(), int64(50))
		require.Equal(t, 1, count(device.Log(), "uri"), "one lets the other go on: %v", device.Log())
		require.Eventually(t, func() bool { return w.mgr.Runs()+second.Runs() == 0 }, 48*time.Hour, time.Minute)
		cancel()
		require.NoError(t, <-ended)
	})
}

// TestClockSetBack resumes an update whose last time lies in the future.
func TestClockSetBack(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.stop()
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		u.Machine, _ = u.Machine.Step(fsm.Observation{Kind: fsm.ObserveStarted, At: u.Machine.Now().Add(3 * time.Hour)})
		_, err = w.db.Commit(w.ctx, store.ReplaceUpdate{Update: u})
		require.NoError(t, err)
		w.start(w.db)
		w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		require.Equal(t, fsm.OutcomeSucceeded, w.wait(u.ID, 10*time.Minute).Machine.Outcome)
	})
}
