package firmware_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// held is the world's request, held by "op".
func (w *world) held() firmware.Request {
	r := w.request()
	r.Hold = fsm.Hold{Holder: "op"}
	return r
}

// waits waits until an update is on hold, with its package on the device.
func (w *world) waits(id string) firmware.Update {
	w.t.Helper()
	return w.until(id, "wait for the hold", func(u firmware.Update) bool {
		return u.Machine.Phase == fsm.PhaseTransferred && strings.HasPrefix(u.Machine.Wait.Reason, "hold to be released")
	})
}

// TestHolders gives an update two holds, and releases them.
func TestHolders(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		tap := w.tap()
		device := w.device(good())
		u := w.begin(w.held())
		hold := func(holder string, until time.Time) error {
			_, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: holder, Reason: "because", Until: until})
			return err
		}
		release := func(holder string) {
			t.Helper()
			_, err := w.mgr.Release(w.ctx, u.ID, holder)
			require.NoError(t, err)
			time.Sleep(time.Minute)
		}
		require.NoError(t, hold("second", time.Time{}))
		require.NoError(t, hold("third", time.Now().Add(time.Hour)))
		u = w.waits(u.ID)
		require.Contains(t, u.Machine.Wait.Reason, "op, second, third")
		require.Equal(t, fsm.WhoseOperator, u.Machine.Wait.Whose)
		release("op")
		release("a stranger")
		release("second")
		require.Zero(t, tap.executes())
		u, err := w.mgr.Get(w.ctx, u.ID)
		require.NoError(t, err)
		require.Len(t, u.Machine.Holds, 1)
		u = w.wait(u.ID, 2*time.Hour)
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.InDelta(t, time.Hour, u.Machine.Ended.Sub(u.Created), float64(time.Minute))
		require.Equal(t, 1, count(device.Log(), "execute"))
		require.ErrorIs(t, hold("late", time.Time{}), firmware.ErrEnded)
		_, err = w.mgr.Release(w.ctx, u.ID, "op")
		require.ErrorIs(t, err, firmware.ErrEnded)
	})
}

// TestTooManyHolds gives an update too many holds, and invalid ones.
func TestTooManyHolds(t *testing.T) {
	for _, running := range []bool{true, false} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			u := w.begin(w.request())
			if !running {
				w.stop()
			}
			for i := range fsm.MaxHolds {
				_, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: fmt.Sprint("holder ", i)})
				require.NoError(t, err)
			}
			bad := func(holder, reason string, until time.Time) {
				t.Helper()
				_, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: holder, Reason: reason, Until: until})
				var wrong *firmware.RequestError
				require.ErrorAs(t, err, &wrong)
			}
			bad("one more", "", time.Time{})
			bad("", "", time.Time{})
			bad("a\x00", "", time.Time{})
			bad("\xff", "", time.Time{})
			bad(strings.Repeat("h", fsm.MaxHolder+1), "", time.Time{})
			bad("holder 1", strings.Repeat("h", fsm.MaxHoldReason+1), time.Time{})
			bad("holder 1", "", time.Now().Add(-time.Second))
			bad("holder 1", "", time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC))
			bad("holder 1", "", time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC))
			_, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "holder 3", Reason: "again", Until: time.Now().Add(time.Hour)})
			require.NoError(t, err, "in place of his own")
			stored, err := w.db.Update(w.ctx, u.ID)
			require.NoError(t, err)
			require.Len(t, stored.Machine.Holds, fsm.MaxHolds)
			_, err = w.mgr.Hold(w.ctx, "no such", firmware.Hold{Holder: "op"})
			require.ErrorIs(t, err, store.ErrNotFound)
		})
	}
}

// TestHoldAtAnyTime holds an update at random moments of its life. After Hold has returned, no
// Execute goes out, unless the journal says that it was sent before.
func TestHoldAtAnyTime(t *testing.T) {
	for seed := range uint64(40) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				random := rand.New(rand.NewPCG(seed, 1))
				if seed%2 == 1 {
					w.lossy(0.2)
				}
				tap := w.tap()
				script := good()
				script.Delivery = fsm.DeliverySupport(seed % 3)
				w.device(script)
				u := w.begin(w.request())
				time.Sleep(time.Duration(random.Int64N(int64(6 * time.Second))))
				u, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op"})
				if !u.Active() {
					require.ErrorIs(t, err, firmware.ErrEnded)
					return
				}
				require.NoError(t, err)
				before, sent := strings.Contains(w.journal(u.ID), " execute "), tap.executes()
				require.True(t, before || sent == 0, w.journal(u.ID))
				time.Sleep(2 * time.Hour)
				if !before {
					require.Zero(t, tap.executes(), w.journal(u.ID))
					held := w.waits(u.ID)
					require.Equal(t, fsm.PhaseTransferred, held.Machine.Phase)
				}
				_, err = w.mgr.Release(w.ctx, u.ID, "op")
				if before && err != nil {
					require.ErrorIs(t, err, firmware.ErrEnded)
				} else {
					require.NoError(t, err)
				}
				w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
			})
		})
	}
}

// TestHeldForDays holds an update for longer than its deadline, across restarts of the server.
func TestHeldForDays(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		device := w.device(good())
		r := w.held()
		r.Deadline = time.Hour
		u := w.begin(r)
		w.waits(u.ID)
		time.Sleep(36 * time.Hour)
		w.stop()
		time.Sleep(12 * time.Hour)
		w.openImages(w.db)
		w.start(w.db)
		time.Sleep(24 * time.Hour)
		u, err := w.mgr.Get(w.ctx, u.ID)
		require.NoError(t, err)
		require.True(t, u.Active(), w.journal(u.ID))
		require.Equal(t, w.image.SHA256, w.holds())
		_, err = w.mgr.Release(w.ctx, u.ID, "op")
		require.NoError(t, err)
		u = w.wait(u.ID, 10*time.Minute)
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Equal(t, 1, u.Machine.Attempt)
		require.Equal(t, 1, count(device.Log(), "uri"))
	})
}

// TestLostOnHold: a device loses its package, and its power, while its update is held. That costs
// no attempt.
func TestLostOnHold(t *testing.T) {
	for _, method := range []fsm.DeliverySupport{fsm.PullOnly, fsm.PushOnly} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			d := w.switched(firmwaretest.Script{
				Version: oldFW, Delivery: method, PullTime: time.Second, Install: good().Install,
			})
			r := w.held()
			r.Attempts = 1
			u := w.begin(r)
			w.waits(u.ID)
			d.exchange()
			time.Sleep(3 * time.Hour)
			u, err := w.mgr.Get(w.ctx, u.ID)
			require.NoError(t, err)
			require.True(t, u.Active(), w.journal(u.ID))
			require.Empty(t, w.holds())
			_, err = w.mgr.Release(w.ctx, u.ID, "op")
			require.NoError(t, err)
			w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		})
	}
}

// TestHeldAsleep holds an update while its device sleeps in queue mode, and then releases or
// cancels it.
func TestHeldAsleep(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			tap := w.tap()
			device := w.switched(good(), sleeps).device
			r := w.held()
			r.Deadline = 3 * time.Hour
			u := w.begin(r)
			w.waits(u.ID)
			time.Sleep(24 * time.Hour)
			require.Zero(t, tap.executes())
			if cancelled {
				u, err := w.mgr.Cancel(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, fsm.MayStillNone, u.Machine.MayStill)
				time.Sleep(time.Hour)
				require.Zero(t, tap.executes())
				return
			}
			_, err := w.mgr.Release(w.ctx, u.ID, "op")
			require.NoError(t, err)
			w.ends(w.wait(u.ID, 3*time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.Equal(t, 1, count(device.Log(), "uri"))
		})
	}
}

// TestHoldNotDriven holds and releases an update while no Run runs.
func TestHoldNotDriven(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		tap := w.tap()
		device := w.device(good())
		w.stop()
		u := w.begin(w.request())
		u, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op", Reason: "why not"})
		require.NoError(t, err)
		require.True(t, u.Machine.Held())
		w.start(w.db)
		w.waits(u.ID)
		time.Sleep(time.Hour)
		require.Zero(t, tap.executes())
		w.stop()
		u, err = w.mgr.Release(w.ctx, u.ID, "op")
		require.NoError(t, err)
		require.False(t, u.Machine.Held())
		w.openImages(w.db)
		w.start(w.db)
		w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Equal(t, 1, count(device.Log(), "uri"))
	})
}
