package firmware_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

var errDisk = errors.New("disk full")

// creates reports whether a call creates an update.
func creates(call storetest.Call) bool {
	return len(call.Changes) > 0 && is[store.CreateUpdate](call.Changes[0])
}

func is[T store.Change](c store.Change) bool {
	_, ok := c.(T)
	return ok
}

// restart restarts the server with a store that calls before and after.
func (w *world) restart(before, after func(context.Context, storetest.Call) error) {
	w.stop()
	faulty := &storetest.Faulty{Store: w.db, Before: before, After: after}
	w.openImages(faulty)
	w.start(faulty)
}

// breakable restarts the server with a store that refuses all changes while the returned value is
// true.
func (w *world) breakable() *atomic.Bool {
	broken := new(atomic.Bool)
	w.restart(func(_ context.Context, call storetest.Call) error {
		if len(call.Changes) > 0 && broken.Load() {
			return errDisk
		}
		return nil
	}, nil)
	return broken
}

// TestStoreFails makes the store fail for half an hour from each of its commits on. In every other
// run the commits that fail take place nevertheless. Meanwhile the device gets no request that the
// store does not know of; afterwards the update goes on.
func TestStoreFails(t *testing.T) {
	script := firmwaretest.Script{Version: oldFW, PullTime: time.Second,
		Install: firmwaretest.Install{Version: newFW, Time: time.Second, BootTime: time.Second}}
	var total atomic.Int64
	run := func(t *testing.T, n int64) {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			var calls, inVain atomic.Int64
			var until atomic.Int64
			fault := func(_ context.Context, call storetest.Call) error {
				if len(call.Changes) == 0 || !is[store.ReplaceUpdate](call.Changes[0]) {
					return nil
				}
				if calls.Add(1) == n {
					until.Store(time.Now().Add(30 * time.Minute).UnixNano())
				}
				if time.Now().UnixNano() < until.Load() {
					inVain.Add(1)
					return errDisk
				}
				return nil
			}
			if n%2 == 0 {
				w.restart(fault, nil)
			} else {
				w.restart(nil, fault)
			}
			device := w.device(script)
			u, err := w.mgr.Start(w.ctx, w.request())
			require.NoError(t, err)
			for time.Sleep(5 * time.Minute); inVain.Load() > 0 && time.Now().UnixNano() < until.Load(); time.Sleep(time.Minute) {
				stored, err := w.db.Update(w.ctx, u.ID)
				require.NoError(t, err)
				log := device.Log()
				if count(log, "execute") > 0 {
					require.True(t, stored.Machine.Executed() || !stored.Active(), "%v", log)
				}
				if count(log, "write") > 0 {
					require.True(t, stored.Machine.Attempt > 0 && len(stored.Tokens) > 0 || !stored.Active(), "%v", log)
				}
			}
			u = w.wait(u.ID, 48*time.Hour)
			require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u.ID))
			require.Equal(t, 1, count(device.Log(), "execute"), "%v", device.Log())
			require.Less(t, inVain.Load(), int64(100), "tries in half an hour")
			require.Zero(t, w.mgr.Runs())
			if n == 0 {
				total.Store(calls.Load())
			}
		})
	}
	run(t, 0)
	require.GreaterOrEqual(t, total.Load(), int64(3), "the URI, Execute, the end")
	for n := range total.Load() {
		t.Run("", func(t *testing.T) { t.Parallel(); run(t, n+1) })
	}
}

// TestStartUnknown loses the store's answer to the creation of an update. The caller gets an error,
// the update goes on.
func TestStartUnknown(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.restart(nil, func(_ context.Context, call storetest.Call) error {
			if creates(call) {
				return errDisk
			}
			return nil
		})
		w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		time.Sleep(time.Second) // Run has loaded the active updates
		_, err := w.mgr.Start(w.ctx, w.request())
		require.ErrorIs(t, err, errDisk)
		_, err = w.mgr.Start(w.ctx, w.request())
		id := activeID(err)
		require.NotEmpty(t, id, "%v", err)
		require.Equal(t, fsm.OutcomeSucceeded, w.wait(id, time.Hour).Machine.Outcome)
	})
}

// TestNoSpace fills the store's disk, at the start of an update and in the middle of one: new
// requests get an error, and the running update goes on when there is space again.
func TestNoSpace(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		full := new(atomic.Bool)
		w.restart(func(_ context.Context, call storetest.Call) error {
			if len(call.Changes) > 0 && full.Load() {
				return fmt.Errorf("store: commit: %w", store.ErrNoSpace)
			}
			return nil
		}, nil)
		w.device(firmwaretest.Script{Version: oldFW, PullTime: time.Minute, Install: firmwaretest.Install{Version: newFW}})
		time.Sleep(time.Second) // Run has loaded the active updates
		full.Store(true)
		_, err := w.mgr.Start(w.ctx, w.request())
		require.ErrorIs(t, err, store.ErrNoSpace)
		full.Store(false)
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		time.Sleep(30 * time.Second) // it downloads
		full.Store(true)
		time.Sleep(3 * time.Hour)
		still, err := w.db.Update(w.ctx, u.ID)
		require.NoError(t, err)
		require.True(t, still.Active())
		full.Store(false)
		require.Equal(t, fsm.OutcomeSucceeded, w.wait(u.ID, time.Hour).Machine.Outcome)
	})
}

// TestStartUnread: Start returns an update as it is stored, without reading it, even if the
// caller's context ends during the creation.
func TestStartUnread(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		ctx, leave := context.WithCancel(w.ctx)
		w.restart(func(_ context.Context, call storetest.Call) error {
			if creates(call) {
				leave()
			}
			return nil
		}, nil)
		w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		u, err := w.mgr.Start(ctx, w.request())
		require.NoError(t, err)
		stored, err := w.db.Update(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, stored.Since, u.Since)
		require.Equal(t, stored.Created, u.Created)
		require.Equal(t, fsm.OutcomeSucceeded, w.wait(u.ID, time.Hour).Machine.Outcome)
		_, err = w.mgr.Start(ctx, w.request())
		require.ErrorIs(t, err, context.Canceled, "one who has left before")
	})
}

// TestImageUnread makes the store fail while the manager reads the image's record for a public
// path.
func TestImageUnread(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var until time.Time
		w.restart(func(_ context.Context, call storetest.Call) error {
			switch {
			case creates(call):
				until = time.Now().Add(10 * time.Minute)
			case call.Method == "Image" && time.Now().Before(until):
				return errDisk
			}
			return nil
		}, nil)
		w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		r := w.request()
		r.Profile = "fixed-host"
		u := w.update(r)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u.ID))
		require.Equal(t, 1, u.Machine.Attempt, w.journal(u.ID))
	})
}

// TestKnownFirmwareStays reads a device while the store cannot return what was known of it.
func TestKnownFirmwareStays(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		_, err := w.db.Commit(w.ctx, store.PutFirmware{Endpoint: endpoint, Firmware: store.Firmware{
			Version: "0.9.0", Protocols: []int{0, 2}, Read: time.Now(),
		}})
		require.NoError(t, err)
		until := time.Now().Add(2 * time.Second)
		w.restart(func(_ context.Context, call storetest.Call) error {
			if call.Method == "Device" && time.Now().Before(until) {
				return errDisk
			}
			return nil
		}, nil)
		w.device(firmwaretest.Script{Version: oldFW, PullTime: time.Minute, Install: firmwaretest.Install{Version: newFW},
			Habits: firmwaretest.Habits{NoInstanceRead: true}})
		w.update(w.request())
		d, err := w.db.Device(w.ctx, endpoint)
		require.NoError(t, err)
		require.Equal(t, newFW, d.Firmware.Version)
		require.Nil(t, d.Firmware.Protocols, "which this device does not tell any more")
	})
}

// TestFleetWhileStoreFails has thousands of updates with something to store while the store fails:
// they queue, and go on when it works again.
func TestFleetWhileStoreFails(t *testing.T) {
	const fleet = 2000
	config := firmware.ManagerConfig{Limits: fsm.Limits{Waiting: time.Hour}}
	inWorld(t, config, func(w *world) {
		broken := w.breakable()
		for i := range fleet {
			_, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: fmt.Sprint("device-", i), Image: w.image.ID})
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		broken.Store(true)
		time.Sleep(2 * time.Hour)
		require.Equal(t, fleet, w.mgr.Runs())
		require.Less(t, runtime.NumGoroutine(), 1000)
		broken.Store(false)
		time.Sleep(time.Minute)
		require.Zero(t, w.mgr.Runs())
	})
}

// TestSeesWhatIsStored gets an update as soon as a step of it is stored: a caller that has read the
// step's line in the journal must not get the update before it.
func TestSeesWhatIsStored(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var steps atomic.Int64
		w.restart(nil, func(ctx context.Context, call storetest.Call) error {
			for _, change := range call.Changes {
				put, ok := change.(store.ReplaceUpdate)
				if !ok {
					continue
				}
				steps.Add(1)
				u, err := w.mgr.Get(ctx, put.Update.ID)
				assert.NoError(t, err)
				assert.Equal(t, put.Update.Machine, u.Machine)
				for u, err := range w.mgr.List(ctx, store.UpdateQuery{}) {
					assert.NoError(t, err)
					assert.Equal(t, put.Update.Machine, u.Machine)
				}
			}
			return nil
		})
		w.device(good())
		u := w.update(w.request())
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome)
		require.GreaterOrEqual(t, steps.Load(), int64(3))
	})
}
