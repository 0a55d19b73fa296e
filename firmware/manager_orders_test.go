package firmware_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
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

// within fails the test if fn has not returned after a time.
func within(t *testing.T, limit time.Duration, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Errorf("%s has not returned after %s", what, limit)
	}
}

// writes reports whether a commit has a journal line of that name.
func writes(call storetest.Call, name string) bool {
	return slices.ContainsFunc(call.Changes, func(c store.Change) bool {
		lines, ok := c.(store.AppendEvents)
		return ok && slices.ContainsFunc(lines.Events, func(e store.Event) bool { return e.Name == name })
	})
}

// TestOrdersSurviveConflicts has another process win each time that an order is to be stored: the
// manager applies the order again.
func TestOrdersSurviveConflicts(t *testing.T) {
	for name, line := range map[string]string{"cancel": "cancelled", "hold": "held", "release": "released", "served": firmware.EventPackageFetched} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				var conflicts atomic.Int64
				w.restart(func(_ context.Context, call storetest.Call) error {
					if writes(call, line) && !creates(call) && conflicts.Add(1) <= 3 {
						return store.ErrConflict
					}
					return nil
				}, nil)
				w.device(firmwaretest.Script{Version: oldFW, PullTime: 10 * time.Hour, Install: firmwaretest.Install{Version: newFW}})
				r := w.request()
				r.Hold = fsm.Hold{Holder: "other"}
				u, err := w.mgr.Start(w.ctx, r)
				require.NoError(t, err)
				time.Sleep(time.Minute)
				within(t, 10*time.Minute, "invariant 7: the call", func() {
					switch name {
					case "cancel":
						u, err = w.mgr.Cancel(w.ctx, u.ID)
					case "hold":
						u, err = w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "operator"})
					case "release":
						u, err = w.mgr.Release(w.ctx, u.ID, "other")
					case "served":
						err = w.mgr.Served(w.ctx, u.ID)
					}
				})
				require.NoError(t, err)
				require.Contains(t, w.journal(u.ID), line, "invariant 7")
				require.GreaterOrEqual(t, conflicts.Load(), int64(4))
				_, _ = w.mgr.Cancel(w.ctx, u.ID)
			})
		})
	}
}

// TestOrdersAreNotEarlier cancels an update while no manager runs. A process with a later clock has
// advanced the update without a line in the journal: the end is not before that.
func TestOrdersAreNotEarlier(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.stop()
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		later := u.Machine.Now().Add(time.Hour)
		u.Machine, _ = u.Machine.Step(fsm.Observation{Kind: fsm.ObserveTimer, At: later})
		_, err = w.db.Commit(w.ctx, store.ReplaceUpdate{Update: u})
		require.NoError(t, err)

		cancelled, err := w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		require.False(t, cancelled.Machine.Ended.Before(later), "%v", cancelled.Machine.Ended)
		next, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		require.False(t, next.Created.Before(later), "%v", next.Created)
	})
}

// TestOrdersEndWithRun ends Run while orders wait behind a step that the store refuses: each call
// returns, and reports that the order was not carried out.
func TestOrdersEndWithRun(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		broken := w.breakable()
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		time.Sleep(time.Minute)
		broken.Store(true)
		var ended atomic.Int64
		for range 3 {
			go func() {
				if _, err := w.mgr.Cancel(context.Background(), u.ID); errors.Is(err, errDisk) {
					ended.Add(1)
				}
			}()
		}
		time.Sleep(time.Minute)
		require.Zero(t, ended.Load(), "the manager insists")
		w.stop()
		time.Sleep(time.Minute)
		require.EqualValues(t, 3, ended.Load(), "invariant 7: every call returns")
		broken.Store(false)
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err, "without a Run")
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.ErrorIs(t, err, firmware.ErrEnded)
	})
}

// TestNoExecuteAfterTheEnd cancels an update whose Execute a device leaves unanswered: once the end
// is stored, no Execute is sent any more.
func TestNoExecuteAfterTheEnd(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var executes atomic.Int64
		w.filter = func(datagram []byte) bool {
			if !bytes.Contains(datagram, []byte("\xb15\x010\x012")) || datagram[1] != 2 {
				return false
			}
			executes.Add(1)
			return true // lost
		}
		var atEnd atomic.Int64
		w.restart(nil, func(_ context.Context, call storetest.Call) error {
			if writes(call, "cancelled") {
				atEnd.Store(executes.Load())
				time.Sleep(20 * time.Second) // it is durable, and the manager does not know that yet
			}
			return nil
		})
		w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		for executes.Load() == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		u, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.MayStillUnknown, u.Machine.MayStill)
		time.Sleep(5 * time.Minute)
		require.Equal(t, atEnd.Load(), executes.Load(), "invariant 5: Executes that were sent")
	})
}

// TestExecuteWaitsForTheStore makes the store refuse for some time to clear the fact that the
// device holds the package: Execute is not sent before that is durable, and the journal does not
// blame the device.
func TestExecuteWaitsForTheStore(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var refused atomic.Int64
		w.restart(func(_ context.Context, call storetest.Call) error {
			clears := func(c store.Change) bool { return c == store.PutHolds{Endpoint: endpoint} }
			if slices.ContainsFunc(call.Changes, clears) && refused.Add(1) <= 20 {
				return errDisk
			}
			return nil
		}, nil)
		device := w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW, BootTime: time.Second}})
		u := w.begin(w.held())
		w.waits(u.ID)
		_, err := w.mgr.Release(w.ctx, u.ID, "op")
		require.NoError(t, err)
		u = w.wait(u.ID, time.Hour)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u.ID))
		require.Contains(t, w.journal(u.ID), "did not send Execute")
		require.Greater(t, refused.Load(), int64(20))
		require.Equal(t, 1, count(device.Log(), "execute"))
		require.Equal(t, 1, count(device.Log(), "uri"))
	})
}
