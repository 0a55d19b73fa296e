package firmware_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// risesOnly checks that the times never go back in the journal of an update. Lines of several
// updates are less than 30 s out of order.
func (w *world) risesOnly() {
	w.t.Helper()
	var latest time.Time
	last := map[string]time.Time{}
	for e, err := range w.db.Events(w.ctx, store.EventQuery{}) {
		require.NoError(w.t, err)
		require.False(w.t, e.Time.Before(last[e.Update]), "%s after %s", e.Time, last[e.Update])
		require.Less(w.t, latest.Sub(e.Time), 30*time.Second)
		if last[e.Update] = e.Time; e.Time.After(latest) {
			latest = e.Time
		}
	}
}

// TestDowntime leaves an update without a server for three days, in each phase that lasts. No limit
// ends it, and each downtime costs the deadline ten minutes at most.
func TestDowntime(t *testing.T) {
	slow := good()
	slow.PullTime, slow.Install.Time = time.Hour, 30*time.Minute
	quick := slow
	quick.PullTime = time.Second
	for name, test := range map[string]struct {
		script firmwaretest.Script
		phase  fsm.Phase
	}{
		"transferring": {slow, fsm.PhaseTransferring}, "restarting": {quick, fsm.PhaseRestarting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				w.device(test.script)
				r := w.request()
				r.Deadline = 5 * time.Hour
				u := w.begin(r)
				u = w.phase(u.ID, test.phase)
				time.Sleep(time.Minute)
				deadline := u.Machine.Deadline
				for range 3 {
					w.stop()
					down := 24 * time.Hour
					time.Sleep(down)
					w.openImages(w.db)
					w.start(w.db)
					time.Sleep(time.Second)
					var err error
					u, err = w.mgr.Get(w.ctx, u.ID)
					require.NoError(t, err)
					if !u.Active() && u.Machine.Outcome == fsm.OutcomeSucceeded {
						break // the device came back sooner
					}
					require.True(t, u.Active(), w.journal(u.ID))
					lost := down - u.Machine.Deadline.Sub(deadline)
					require.LessOrEqual(t, lost, 10*time.Minute+time.Second)
					deadline = u.Machine.Deadline
				}
				u = w.wait(u.ID, 5*time.Hour)
				w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
				w.risesOnly()
				d, err := w.mgr.Device(w.ctx, endpoint)
				require.NoError(t, err)
				require.True(t, d.Online)
			})
		})
	}
}

// TestSetBack starts a server on a store with times in the future, as after the wall clock was set
// back by days. The times of active updates, new updates and orders only rise, and limits end
// updates in time.
func TestSetBack(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Limits: fsm.Limits{Transferring: time.Hour}}, func(w *world) {
		w.stop()
		waiting := w.request()
		waiting.Endpoint, waiting.Deadline = "another", 30*24*time.Hour
		old := w.begin(waiting)
		const ahead = 5 * 24 * time.Hour
		at := time.Now().Add(ahead)
		o := fsm.Observation{Kind: fsm.ObserveStarted, At: at}
		next, actions := old.Machine.Step(o)
		old.Machine, old.Changed = next, next.Now()
		var lines []store.Event
		for _, e := range actions.Journal {
			lines = append(lines, store.Event{Update: old.ID, Endpoint: old.Endpoint, Time: at, Name: e.Event, Phase: next.Phase})
		}
		_, err := w.db.Commit(w.ctx, store.ReplaceUpdate{Update: old}, store.AppendEvents{Events: lines})
		require.NoError(t, err)
		w.openImages(w.db)
		w.start(w.db)
		device := w.switched(good())
		began := time.Now()
		u := w.update(w.request())
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Less(t, time.Since(began), time.Minute)
		require.False(t, u.Created.Before(at))
		_, err = w.mgr.Hold(w.ctx, old.ID, firmware.Hold{Holder: "op"})
		require.NoError(t, err)
		old, err = w.mgr.Cancel(w.ctx, old.ID)
		require.NoError(t, err)
		require.False(t, old.Machine.Ended.Before(u.Machine.Ended))
		w.risesOnly()
		d, err := w.mgr.Device(w.ctx, endpoint)
		require.NoError(t, err)
		require.True(t, d.Online)

		// An update that stands still ends by the clock that goes on, not by the wall clock.
		device.off()
		w.puppet(&puppet{})
		stuck := w.begin(w.request())
		began = time.Now()
		w.ends(w.wait(stuck.ID, 48*time.Hour), fsm.OutcomeFailed, fsm.ReasonAttempts)
		require.Less(t, time.Since(began), 2*time.Hour)
	})
}

// TestNotDrivenSetBack gives orders with such a store while no Run runs.
func TestNotDrivenSetBack(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		u := w.begin(w.request())
		time.Sleep(time.Second)
		w.stop()
		stored, err := w.db.Update(w.ctx, u.ID)
		require.NoError(t, err)
		at := time.Now().Add(72 * time.Hour)
		_, err = w.db.Commit(w.ctx, store.ReplaceUpdate{Update: stored}, store.AppendEvents{Events: []store.Event{
			{Update: u.ID, Endpoint: endpoint, Time: at, Name: "from the future", Phase: fsm.PhaseWaiting},
		}})
		require.NoError(t, err)
		mgr := w.manager(w.db)
		_, err = mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op", Until: at.Add(time.Hour)})
		require.NoError(t, err)
		_, err = mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		r := w.request()
		r.Endpoint = "another"
		_, err = mgr.Start(w.ctx, r)
		require.NoError(t, err)
		w.risesOnly()
	})
}

// TestNeverReturns executes on a device in queue mode that never comes back, and on one that merely
// sleeps. The server gives the first one up after its lifetime plus the limit of a restart.
func TestNeverReturns(t *testing.T) {
	t.Run("gone", func(t *testing.T) {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Install.Silent = true
			w.switched(script, sleeps)
			u := w.update(w.request())
			w.ends(u, fsm.OutcomeTimedOut, fsm.ReasonPhaseLimit)
			require.Equal(t, fsm.ResultConnectionLost, u.Machine.Result)
			require.Equal(t, fsm.MayStillInstall, u.Machine.MayStill)
			took := u.Machine.Ended.Sub(u.Created)
			require.InDelta(t, 3*time.Hour, took, float64(5*time.Minute), "%s\n%s", took, w.journal(u.ID))
		})
	})
	t.Run("asleep", func(t *testing.T) {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Install.BootTime = 2*time.Hour + 50*time.Minute
			w.switched(script, sleeps)
			w.ends(w.update(w.request()), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		})
	})
	t.Run("wakes in between", func(t *testing.T) {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Install.Time = 20 * time.Hour
			script.Install.BootTime = time.Minute
			w.switched(script, sleeps)
			r := w.request()
			r.Deadline = 48 * time.Hour
			u := w.update(r)
			w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		})
	})
}
