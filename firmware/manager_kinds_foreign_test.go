package firmware_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

const foreignFW = "6.6.6"

// good is a device that does everything right.
func good() firmwaretest.Script {
	return firmwaretest.Script{
		Version: oldFW, PullTime: 3 * time.Second,
		Install: firmwaretest.Install{Version: newFW, Time: 2 * time.Second, BootTime: 3 * time.Second},
	}
}

// TestForeignKept has clients that hold another server's package and cannot be reset. The server
// never executes that package. It executes the right one once it is proven to have replaced the
// other.
func TestForeignKept(t *testing.T) {
	fromHere := func(w *world) func(context.Context, string) fsm.Result { return w.fetches("10.0.1.1") }
	late := func(w *world) func(context.Context, string) fsm.Result {
		return func(ctx context.Context, uri string) fsm.Result {
			time.Sleep(4 * time.Minute)
			return w.fetches("10.0.1.1")(ctx, uri)
		}
	}
	elsewhere := func(*world) func(context.Context, string) fsm.Result { return nil }
	for name, test := range map[string]struct {
		foreign firmwaretest.Foreign
		pull    func(*world) func(context.Context, string) fsm.Result
		served  time.Duration // when the program calls Served; 0: never
		reason  fsm.Reason
	}{
		"4.00":               {foreign: firmwaretest.Foreign{}, reason: fsm.ReasonCannotProve},
		"4.05":               {foreign: firmwaretest.Foreign{Refusal: lwm2m.CodeMethodNotAllowed}, reason: fsm.ReasonCannotProve},
		"5.00":               {foreign: firmwaretest.Foreign{Refusal: lwm2m.CodeInternal}, reason: fsm.ReasonCannotProve},
		"ignored":            {foreign: firmwaretest.Foreign{URI: firmwaretest.IgnoresURI}, reason: fsm.ReasonCannotProve},
		"named alike":        {foreign: firmwaretest.Foreign{URI: firmwaretest.IgnoresURI, PkgVersion: newFW}, reason: fsm.ReasonCannotProve},
		"fetched here":       {foreign: firmwaretest.Foreign{URI: firmwaretest.TakesURI}, pull: fromHere, reason: fsm.ReasonVersion},
		"fetched here, late": {foreign: firmwaretest.Foreign{URI: firmwaretest.TakesURI}, pull: late, reason: fsm.ReasonVersion},
		"fetched elsewhere": {
			foreign: firmwaretest.Foreign{URI: firmwaretest.TakesURI}, pull: elsewhere, reason: fsm.ReasonCannotProve,
		},
		"fetched elsewhere, and vouched for": {
			foreign: firmwaretest.Foreign{URI: firmwaretest.TakesURI}, pull: elsewhere, served: 4 * time.Minute, reason: fsm.ReasonVersion,
		},
	} {
		for _, force := range []bool{false, true} {
			t.Run(name+" force "+strconv.FormatBool(force), func(t *testing.T) {
				t.Parallel()
				inWorld(t, firmware.ManagerConfig{}, func(w *world) {
					script := good()
					foreign := test.foreign
					foreign.Version = foreignFW
					script.Habits.Foreign = &foreign
					if test.pull != nil {
						script.Pull = test.pull(w)
					}
					device := w.device(script)
					r := w.request()
					r.Profile, r.Force = "fixed-host", force
					u := w.begin(r)
					if test.served > 0 {
						w.phase(u.ID, fsm.PhaseTransferring)
						time.Sleep(test.served)
						require.NoError(t, w.mgr.Served(w.ctx, u.ID))
					}
					u = w.wait(u.ID, 48*time.Hour)
					require.Equal(t, test.reason, u.Machine.Reason, w.journal(u.ID))
					want, executes := oldFW, 0
					if test.reason == fsm.ReasonVersion {
						want, executes = newFW, 1
					}
					require.Equal(t, want, device.Version())
					require.Equal(t, executes, count(device.Log(), "execute"))
					require.Less(t, u.Machine.Ended.Sub(u.Created), 10*time.Minute, w.journal(u.ID))
				})
			})
		}
	}
}

// TestForeignDropped has clients that hold another server's package, whatever its version, and can
// be reset.
func TestForeignDropped(t *testing.T) {
	for name, script := range map[string]firmwaretest.Script{
		"pull": {Delivery: fsm.PullOnly}, "push": {Delivery: fsm.PushOnly}, "both": {Delivery: fsm.PushAndPull},
	} {
		for _, foreign := range []firmwaretest.Foreign{
			{}, {PkgVersion: newFW}, {URI: firmwaretest.IgnoresURI, PkgVersion: newFW},
			{URI: firmwaretest.TakesURI, Refusal: lwm2m.CodeMethodNotAllowed},
		} {
			for _, force := range []bool{false, true} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					inWorld(t, firmware.ManagerConfig{}, func(w *world) {
						foreign := foreign
						foreign.Version = foreignFW
						script := script
						script.Version, script.Install, script.Habits.Foreign = oldFW, good().Install, &foreign
						device := w.device(script)
						r := w.request()
						r.Force = force
						u := w.update(r)
						w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
						require.Equal(t, 1, u.Machine.Attempt)
						log := device.Log()
						require.Equal(t, "reset", log[0], "%v", log)
						require.Equal(t, 1, count(log, "execute"), "%v", log)
						require.Equal(t, newFW, device.Version())
					})
				})
			}
		}
	}
}

// TestForeignForced has a device that holds a package with the target's version, and runs that
// version too.
func TestForeignForced(t *testing.T) {
	for _, force := range []bool{false, true} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Version = newFW
			script.Habits.Foreign = &firmwaretest.Foreign{Version: foreignFW, PkgVersion: newFW}
			device := w.device(script)
			r := w.request()
			r.Force = force
			u := w.update(r)
			if !force {
				w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonAlreadyRunning)
				require.Empty(t, device.Log())
				return
			}
			w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonSameVersion)
			require.Equal(t, newFW, device.Version(), "not the foreign one")
			require.Equal(t, 1, count(device.Log(), "uri"))
		})
	}
}

// TestForeignMeanwhile: the device refuses our package, and another server's transfer then ends in
// State Downloaded.
func TestForeignMeanwhile(t *testing.T) {
	for _, profile := range []string{"", "fixed-host", "push", "pull"} {
		for _, code := range []lwm2m.ResponseCode{lwm2m.CodeBadRequest, lwm2m.CodeMethodNotAllowed, lwm2m.CodeInternal, lwm2m.CodeUnavailable} {
			for _, refused := range []string{"uri", "push"} {
				t.Run(profile+" "+refused+" "+code.String(), func(t *testing.T) {
					t.Parallel()
					inWorld(t, firmware.ManagerConfig{}, func(w *world) {
						p := &puppet{method: fsm.PushAndPull}
						p.answer = func(asked string) error {
							switch asked {
							case "uri", "push":
								// The other server's transfer begins just now, and ends soon.
								time.AfterFunc(time.Second, func() { p.show(fsm.Downloading, fsm.ResultDefault) })
								time.AfterFunc(5*time.Second, func() { p.show(fsm.Downloaded, fsm.ResultDefault) })
								return &lwm2m.ResponseError{Code: code}
							case "reset", "cancel":
								return lwm2m.ErrMethodNotAllowed
							}
							return nil
						}
						w.puppet(p)
						r := w.request()
						r.Profile, r.Deadline = profile, 6*time.Hour
						if refused == "push" {
							r.Delivery = fsm.DeliveryPush
						}
						u := w.update(r)
						require.Equal(t, fsm.OutcomeFailed, u.Machine.Outcome, w.journal(u.ID))
						require.Zero(t, p.asked("execute"), w.journal(u.ID))
						require.Empty(t, w.holds())
					})
				})
			}
		}
	}
}
