package firmware_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
)

// loses makes the network lose every Execute to the device from now on.
func (w *world) loses() {
	w.net.SetLink(serverHost, deviceHost, simnet.Conditions{Delay: 20 * time.Millisecond, Drop: func(p simnet.Packet) bool {
		method, path := requestOf(p)
		return method+" "+path == "POST /5/0/2"
	}})
}

// TestMayStill cancels in each phase. What MayStill says can happen does happen.
func TestMayStill(t *testing.T) {
	slow := good()
	slow.PullTime, slow.Install.Time, slow.Install.BootTime = time.Hour, 10*time.Minute, 10*time.Minute
	quick := slow
	quick.PullTime = time.Second
	late := good()
	late.Install.Late, late.Install.Version, late.Install.Result = time.Hour, oldFW, fsm.ResultSuccess
	for name, test := range map[string]struct {
		script    *firmwaretest.Script
		held      bool
		lost      bool
		cut       bool
		wait      time.Duration
		phase     fsm.Phase
		may, then fsm.MayStill // at once, and after ActionCancel
	}{
		"waiting":      {phase: fsm.PhaseWaiting, may: fsm.MayStillNone, then: fsm.MayStillNone},
		"transferring": {script: &slow, phase: fsm.PhaseTransferring, may: fsm.MayStillNone, then: fsm.MayStillNone},
		"transferring, unreachable": {script: &slow, phase: fsm.PhaseTransferring, cut: true,
			may: fsm.MayStillNone, then: fsm.MayStillNone},
		"transferred": {script: &quick, held: true, phase: fsm.PhaseTransferred, may: fsm.MayStillNone, then: fsm.MayStillNone},
		"transferred, unreachable": {script: &quick, held: true, phase: fsm.PhaseTransferred, cut: true,
			may: fsm.MayStillNone, then: fsm.MayStillNone},
		// The lost Execute may still arrive.
		"executing": {script: &quick, lost: true, phase: fsm.PhaseExecuting, wait: 5 * time.Second,
			may: fsm.MayStillUnknown, then: fsm.MayStillUnknown},
		"executing, unreachable": {script: &quick, lost: true, cut: true, phase: fsm.PhaseExecuting, wait: 5 * time.Second,
			may: fsm.MayStillUnknown, then: fsm.MayStillUnknown},
		"updating": {script: &quick, phase: fsm.PhaseRestarting, wait: time.Second, may: fsm.MayStillInstall, then: fsm.MayStillInstall},
		"restarting": {script: &quick, phase: fsm.PhaseRestarting, wait: 11 * time.Minute,
			may: fsm.MayStillInstall, then: fsm.MayStillInstall},
		"verifying": {script: &late, phase: fsm.PhaseVerifying, wait: time.Second, may: fsm.MayStillInstall, then: fsm.MayStillNone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				tap := w.tap()
				if test.script != nil {
					w.device(*test.script)
				}
				r := w.request()
				if test.held {
					r = w.held()
				}
				u := w.begin(r)
				time.Sleep(10 * time.Millisecond)
				if test.lost {
					w.loses()
				}
				w.phase(u.ID, test.phase)
				time.Sleep(test.wait)
				if test.cut {
					w.unreachable(true)
				}
				u, err := w.mgr.Cancel(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, fsm.OutcomeCancelled, u.Machine.Outcome)
				require.Equal(t, test.may, u.Machine.MayStill, w.journal(u.ID))
				executes := tap.executes()
				time.Sleep(2 * time.Minute)
				u, err = w.mgr.Get(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, test.then, u.Machine.MayStill, w.journal(u.ID))
				time.Sleep(time.Hour)
				require.Equal(t, executes, tap.executes())
			})
		})
	}
}

// TestNoExecuteIsSentAfterTheEnd ends updates, by limits and by orders, while Execute is
// retransmitted to a device that does not answer. Once the end is durable, no Execute goes out.
func TestNoExecuteIsSentAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(w *world, id string){
		"cancel": func(w *world, id string) {
			_, err := w.mgr.Cancel(w.ctx, id)
			require.NoError(w.t, err)
		},
		"phase limit": func(*world, string) {},
		"deadline":    func(*world, string) {},
		"cancel, and the server ends": func(w *world, id string) {
			cancelled := make(chan error, 1)
			go func() {
				_, err := w.mgr.Cancel(w.ctx, id)
				cancelled <- err
			}()
			w.stop()
			require.NoError(w.t, <-cancelled)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := firmware.ManagerConfig{}
			if name == "phase limit" {
				config.Limits.Executing = 10 * time.Second
			}
			inWorld(t, config, func(w *world) {
				tap := w.tap()
				w.device(good())
				r := w.request()
				if name == "deadline" {
					r.Deadline = 12 * time.Second
				}
				u := w.begin(r)
				w.loses()
				w.phase(u.ID, fsm.PhaseExecuting)
				time.Sleep(3 * time.Second)
				require.Positive(t, tap.executes())
				end(w, u.ID)
				var stored store.Update
				for stored.Machine.Outcome == fsm.OutcomeNone {
					var err error
					stored, err = w.db.Update(w.ctx, u.ID)
					require.NoError(t, err)
					time.Sleep(time.Millisecond)
				}
				executes := tap.executes()
				time.Sleep(10 * time.Minute)
				require.Equal(t, executes, tap.executes(), w.journal(u.ID))
			})
		})
	}
}
