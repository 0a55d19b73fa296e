package firmware_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// link lets datagrams through, or loses them all.
func (w *world) link(up bool) {
	conditions := simnet.Conditions{Delay: 20 * time.Millisecond}
	if !up {
		conditions.Loss = 1
	}
	w.net.SetDefault(conditions)
}

// TestLinkLostWhileDownloading: a device that loses its link during the download, and registers
// again with its old version, goes on downloading. That is no failure, and the URI is not written
// again.
func TestLinkLostWhileDownloading(t *testing.T) {
	for _, away := range []time.Duration{30 * time.Second, 3 * time.Minute, 20 * time.Minute} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.PullTime = 40 * time.Minute
			device := w.device(script)
			u := w.begin(w.request())
			w.phase(u.ID, fsm.PhaseTransferring)
			time.Sleep(5 * time.Minute)
			w.link(false)
			time.Sleep(away)
			w.link(true)
			u = w.wait(u.ID, 2*time.Hour)
			w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.Equal(t, 1, u.Machine.Attempt)
			require.Equal(t, 1, count(device.Log(), "uri"), "%v", device.Log())
			require.Equal(t, 1, count(device.Log(), "execute"))
		})
	}
}

// TestMadeWhileAway: an update of a device that is not there begins when the device registers, and
// does not fail by the old version that the device then shows.
func TestMadeWhileAway(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		u := w.begin(w.request())
		time.Sleep(3 * time.Hour)
		device := w.device(good())
		w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Equal(t, 1, count(device.Log(), "uri"))
	})
}

// TestSilentFromSomePoint: a device that stops answering, wherever in the update, does not keep it
// active for ever.
func TestSilentFromSomePoint(t *testing.T) {
	for phase, result := range map[fsm.Phase]fsm.Result{
		fsm.PhasePreparing: fsm.ResultConnectionLost, fsm.PhaseTransferring: fsm.ResultConnectionLost,
		fsm.PhaseRestarting: fsm.ResultConnectionLost,
	} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.PullTime = time.Hour
			if phase == fsm.PhaseRestarting {
				script.PullTime, script.Install.Time = time.Second, time.Minute
			}
			w.device(script)
			u := w.begin(w.request())
			w.phase(u.ID, phase)
			w.link(false)
			u = w.wait(u.ID, 25*time.Hour)
			require.Equal(t, fsm.OutcomeTimedOut, u.Machine.Outcome, w.journal(u.ID))
			require.Equal(t, result, u.Machine.Result)
			require.LessOrEqual(t, u.Machine.Ended.Sub(u.Created), 24*time.Hour)
		})
	}
}

// TestReportsAfterTheEnd: what a device shows, and where it registers, after the end of its update
// changes nothing, and the device gets no further request.
func TestReportsAfterTheEnd(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		script := good()
		script.Install = firmwaretest.Install{Version: newFW, BootTime: time.Second, RollsBack: 2 * time.Minute}
		device := w.device(script)
		u := w.update(w.request())
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		log := device.Log()
		time.Sleep(time.Hour) // it rolls back, with Result 8, and registers again
		require.Equal(t, oldFW, device.Version())
		now, err := w.mgr.Get(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, u.Machine, now.Machine)
		require.Equal(t, log, device.Log())
	})
}
