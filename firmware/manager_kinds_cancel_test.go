package firmware_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

// replaces reports whether a call replaces an update.
func replaces(call storetest.Call) bool {
	return len(call.Changes) > 0 && is[store.ReplaceUpdate](call.Changes[0])
}

// TestCancelInConflict cancels updates in a store that reports random conflicts, although no other
// process has changed the record.
func TestCancelInConflict(t *testing.T) {
	for seed := range uint64(20) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				var mu sync.Mutex
				random := rand.New(rand.NewPCG(seed, 2))
				after := time.Duration(random.Int64N(int64(20 * time.Second)))
				conflict := func(_ context.Context, call storetest.Call) error {
					mu.Lock()
					defer mu.Unlock()
					if replaces(call) && random.Float64() < 0.3 {
						return store.ErrConflict
					}
					return nil
				}
				if seed%2 == 0 {
					w.restart(conflict, nil)
				} else {
					w.restart(nil, conflict) // the store reports a conflict although it made the change
				}
				tap := w.tap()
				w.device(good())
				u := w.begin(w.request())
				time.Sleep(after)
				got, err := w.mgr.Cancel(w.ctx, u.ID)
				stored, failed := w.db.Update(w.ctx, u.ID)
				require.NoError(t, failed)
				require.False(t, stored.Active())
				require.Equal(t, stored.Machine.Outcome, got.Machine.Outcome, "%v", err)
				if err != nil {
					require.ErrorIs(t, err, firmware.ErrEnded)
					require.NotEqual(t, fsm.OutcomeCancelled, got.Machine.Outcome)
				} else {
					require.Equal(t, fsm.OutcomeCancelled, got.Machine.Outcome)
				}
				executes := tap.executes()
				time.Sleep(time.Hour)
				require.Equal(t, executes, tap.executes(), "none after the end")
				require.Zero(t, w.mgr.Runs())
			})
		})
	}
}

// TestCancelAtOnce gives several orders at the same moment to two managers of one store. Each order
// returns its true result.
func TestCancelAtOnce(t *testing.T) {
	for _, driven := range []bool{true, false} {
		for range 20 {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				second := w.manager(w.db)
				u := w.begin(w.request())
				time.Sleep(time.Second)
				if !driven {
					w.stop()
				}
				var wg sync.WaitGroup
				var cancelled, held, released error
				wg.Go(func() { _, cancelled = second.Cancel(w.ctx, u.ID) })
				wg.Go(func() { _, held = w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op"}) })
				wg.Go(func() { _, released = second.Release(w.ctx, u.ID, "nobody") })
				wg.Wait()
				require.NoError(t, cancelled)
				for _, err := range []error{held, released} {
					if err != nil {
						require.ErrorIs(t, err, firmware.ErrEnded)
					}
				}
				stored, err := w.db.Update(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, fsm.OutcomeCancelled, stored.Machine.Outcome, w.journal(u.ID))
				if held == nil {
					require.Contains(t, w.journal(u.ID), "held")
				}
				_, err = w.mgr.Release(w.ctx, u.ID, "op") // now, at the latest, this manager knows of the end
				require.ErrorIs(t, err, firmware.ErrEnded)
				time.Sleep(time.Minute)
				require.Zero(t, w.mgr.Runs())
			})
		}
	}
}

// TestCancelAndStep cancels through a manager that does not run the update, at the moment when the
// other one makes a step.
func TestCancelAndStep(t *testing.T) {
	for n := range 40 {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			tap := w.tap()
			second := w.manager(w.db)
			var at atomic.Int64
			var commits atomic.Int64
			ended := make(chan error, 1)
			var id atomic.Value
			interfere := func(_ context.Context, call storetest.Call) error {
				if replaces(call) && commits.Add(1) == int64(n) {
					// The other manager reads and writes the record before this step does.
					at.Store(time.Now().UnixNano())
					_, err := second.Cancel(w.ctx, id.Load().(string))
					ended <- err
				}
				return nil
			}
			w.device(good())
			time.Sleep(time.Second)
			w.stop()
			u := w.begin(w.request())
			id.Store(u.ID)
			w.restart(interfere, nil)
			u = w.wait(u.ID, time.Hour)
			if at.Load() == 0 {
				w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
				return
			}
			require.NoError(t, <-ended)
			stored, err := w.db.Update(w.ctx, u.ID)
			require.NoError(t, err)
			require.Equal(t, fsm.OutcomeCancelled, stored.Machine.Outcome, w.journal(u.ID))
			executes := tap.executes()
			time.Sleep(time.Hour)
			require.Equal(t, executes, tap.executes())
			require.Zero(t, w.mgr.Runs())
		})
	}
}

// TestCancelWhileStoreFails cancels while the store fails for a minute, with a context that ends
// sooner and one that does not.
func TestCancelWhileStoreFails(t *testing.T) {
	for _, patience := range []time.Duration{10 * time.Second, time.Hour} {
		for _, driven := range []bool{true, false} {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				broken := w.breakable()
				u := w.begin(w.request())
				time.Sleep(time.Second)
				if !driven {
					w.stop()
				}
				broken.Store(true)
				time.AfterFunc(time.Minute, func() { broken.Store(false) })
				ctx, cancel := context.WithTimeout(w.ctx, patience)
				defer cancel()
				began := time.Now()
				u, err := w.mgr.Cancel(ctx, u.ID)
				switch {
				case !driven:
					require.ErrorIs(t, err, errDisk)
					return
				case patience < time.Minute:
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, patience, time.Since(began))
				default:
					require.NoError(t, err)
					require.Equal(t, fsm.OutcomeCancelled, u.Machine.Outcome)
					require.Less(t, time.Since(began), 3*time.Minute)
				}
				time.Sleep(3 * time.Minute) // the order stands, even if its caller has gone
				stored, err := w.db.Update(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, fsm.OutcomeCancelled, stored.Machine.Outcome)
			})
		}
	}
}
