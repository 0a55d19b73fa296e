package firmware_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestCallbacks has the functions of the configuration panic, and take ten seconds. Nothing gets lost.
func TestCallbacks(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic": func() { panic("a bug of the program") },
		"block": func() { time.Sleep(10 * time.Second) },
	} {
		for _, delivery := range []fsm.DeliveryMethod{fsm.PullOnly, fsm.PushOnly} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var started, ended, actions, failed atomic.Int64
				serve := firmware.DeliveryConfig{
					BaseURLs: func(_ lwm2m.Registration, p fsm.Protocol) string {
						if name == "block" {
							misbehave()
						} else if p != fsm.ProtocolCoAP {
							misbehave()
						}
						return map[fsm.Protocol]string{fsm.ProtocolCoAP: "coap://" + serverAddress + "/fw/"}[p]
					},
				}
				cfg := firmware.ManagerConfig{
					Hooks: firmware.Hooks{
						Started: func(firmware.Update) { started.Add(1); misbehave() },
						Ended:   func(firmware.Update) { ended.Add(1); misbehave() },
						Action:  func(firmware.Update, fsm.ActionKind, time.Duration, bool) { actions.Add(1); misbehave() },
						StoreFailed: func(error) {
							failed.Add(1)
							misbehave()
						},
					},
				}
				inWorldThatServes(t, serve, cfg, func(w *world) {
					var commits atomic.Int64
					w.restart(faultEvery(&commits, 7), nil)
					script := good()
					script.Delivery = delivery
					script.Pull = w.fetches("10.0.1.1")
					device := w.device(script)
					u := w.update(w.request())
					w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
					require.Equal(t, 1, count(device.Log(), "execute"))
					time.Sleep(time.Minute)
					require.Zero(t, w.mgr.Driven())
					r := w.request()
					r.Force = true
					u = w.begin(r)
					time.Sleep(5 * time.Second)
					u, err := w.mgr.Cancel(w.ctx, u.ID)
					require.NoError(t, err)
					require.Equal(t, fsm.OutcomeCancelled, u.Machine.Outcome)
					_, err = w.mgr.Cancel(w.ctx, u.ID)
					require.ErrorIs(t, err, firmware.ErrEnded)
					time.Sleep(time.Minute)
					require.Equal(t, int64(2), started.Load())
					require.Equal(t, int64(2), ended.Load())
					require.Greater(t, actions.Load(), int64(5))
					require.Positive(t, failed.Load())
				})
			})
		}
	}
}

// TestCallbacksCall has the functions of the configuration call the manager: they do not wait for themselves.
func TestCallbacksCall(t *testing.T) {
	var w *world
	var ended atomic.Int64
	order := func(u firmware.Update) {
		_, _ = w.mgr.Get(w.ctx, u.ID)
		_, _ = w.mgr.Hold(w.ctx, u.ID, "hook", "", time.Time{})
		_, _ = w.mgr.Release(w.ctx, u.ID, "hook")
		_ = w.mgr.Served(w.ctx, u.ID)
		_, _ = w.mgr.Device(w.ctx, u.Endpoint)
	}
	cfg := firmware.ManagerConfig{Hooks: firmware.Hooks{
		Started: order,
		Ended: func(u firmware.Update) {
			order(u)
			if _, err := w.mgr.Cancel(w.ctx, u.ID); err == firmware.ErrEnded {
				ended.Add(1)
			}
		},
		Action: func(u firmware.Update, _ fsm.ActionKind, _ time.Duration, _ bool) { order(u) },
	}}
	inWorld(t, cfg, func(world *world) {
		w = world
		w.device(firmwaretest.Script{Version: oldFW, PullTime: time.Second, Install: good().Install})
		u := w.update(w.request())
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		time.Sleep(time.Minute)
		require.Equal(t, int64(1), ended.Load())
		require.Zero(t, w.mgr.Driven())
	})
}
