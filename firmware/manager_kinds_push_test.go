package firmware_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// losesPush loses the blocks of a push after some that arrive.
func (w *world) losesPush(after int) {
	blocks := 0
	w.net.SetLink(serverHost, deviceHost, simnet.Conditions{Delay: 20 * time.Millisecond, Drop: func(p simnet.Packet) bool {
		if method, path := requestOf(p); method+" "+path != "PUT /5/0/0" {
			return false
		}
		blocks++
		return blocks > after
	}})
}

// TestPushBreaks pushes over a link that loses everything after some blocks. By default the update
// then changes to another way: at once if no bytes moved, after a second try if some did. An update
// whose request names a delivery keeps it.
func TestPushBreaks(t *testing.T) {
	for _, test := range []struct {
		after    int
		delivery fsm.DeliveryMode
		method   fsm.DeliverySupport
		ways     string
		ok       bool
	}{
		{0, fsm.DeliveryAuto, fsm.PushAndPull, "push coap", true},
		{2, fsm.DeliveryAuto, fsm.PushAndPull, "push push coap", true},
		{0, fsm.DeliveryPush, fsm.PushAndPull, "push push push", false},
		{2, fsm.DeliveryAuto, fsm.PushOnly, "push push push", false},
		{0, fsm.DeliveryPull, fsm.PushAndPull, "coap", true},
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				script := good()
				script.Delivery = test.method
				w.device(script)
				time.Sleep(time.Second)
				w.losesPush(test.after)
				r := w.request()
				r.Delivery, r.Attempts = test.delivery, 3
				u := w.update(r)
				require.Equal(t, test.ok, u.Machine.Outcome == fsm.OutcomeSucceeded, w.journal(u.ID))
				require.Equal(t, test.ways, w.ways(u.ID), w.journal(u.ID))
				if test.ok && strings.Contains(test.ways, " ") {
					require.Regexp(t, "moved no byte|did not reach their end", w.journal(u.ID))
				}
			})
		})
	}
}

// TestTooLarge: the device names the largest push that it takes. The update never pushes again.
func TestTooLarge(t *testing.T) {
	for _, limit := range []uint32{100, 4999, 5000, 1 << 20} {
		for _, method := range []fsm.DeliverySupport{fsm.PushOnly, fsm.PushAndPull} {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				inWorld(t, firmware.ManagerConfig{}, func(w *world) {
					p := &puppet{method: method, limit: limit}
					p.answer = func(asked string) error {
						switch asked {
						case "push":
							return lwm2m.ErrTooLarge
						case "uri":
							go p.show(fsm.Downloaded, fsm.ResultDefault)
						}
						return nil
					}
					w.puppet(p)
					u := w.begin(w.request())
					if method == fsm.PushAndPull {
						w.phase(u.ID, fsm.PhaseExecuting)
						require.Equal(t, "push coap", w.ways(u.ID), w.journal(u.ID))
						return
					}
					u = w.wait(u.ID, time.Hour)
					require.Equal(t, fsm.OutcomeFailed, u.Machine.Outcome)
					if int64(limit) < w.image.Size {
						require.Equal(t, fsm.ReasonRefused, u.Machine.Reason)
						require.Equal(t, 1, u.Machine.Attempt, w.journal(u.ID))
					} else {
						require.Equal(t, fsm.DefaultAttempts, u.Machine.Attempt, w.journal(u.ID))
					}
				})
			})
		}
	}
}

// TestSmallBuffer pushes to a device whose buffer is too small for a block of 1024 bytes.
func TestSmallBuffer(t *testing.T) {
	for _, buffer := range []int{1024, 600, 300} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Delivery, script.Habits.Buffer = fsm.PushOnly, buffer
			device := w.device(script)
			u := w.update(w.request())
			w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.Equal(t, 1, u.Machine.Attempt, w.journal(u.ID))
			require.Equal(t, 1, count(device.Log(), "push 5000"))
		})
	}
}

// TestPushStalls pushes to a device that falls silent, and to one that answers 5.03: the journal
// and Wait report it soon.
func TestPushStalls(t *testing.T) {
	for name, habits := range map[string]firmwaretest.Habits{"silent": {}, "busy": {LocksInPush: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				script := good()
				script.Delivery, script.Habits = fsm.PushOnly, habits
				w.device(script)
				time.Sleep(time.Second)
				if name == "silent" {
					w.losesPush(2)
				} else {
					// The answer to the second block is lost. When the block comes again, the
					// device takes it for another one.
					answers := 0
					w.net.SetLink(deviceHost, serverHost, simnet.Conditions{Delay: 20 * time.Millisecond, Drop: func(p simnet.Packet) bool {
						if len(p.Data) > 1 && p.Data[1] == 2<<5|31 {
							answers++
							return answers == 2
						}
						return false
					}})
				}
				u := w.begin(w.request())
				u = w.phase(u.ID, fsm.PhaseTransferring)
				require.Equal(t, "push to finish", u.Machine.Wait.Reason)
				time.Sleep(30 * time.Second)
				u, err := w.mgr.Get(w.ctx, u.ID)
				require.NoError(t, err)
				require.Contains(t, u.Machine.Wait.Reason, "push to go on: the device", w.journal(u.ID))
				require.Regexp(t, "silent |busy ", w.journal(u.ID))
				w.net.SetLink(serverHost, deviceHost, simnet.Conditions{})
				w.ends(w.wait(u.ID, 10*time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
				time.Sleep(time.Hour) // its sockets linger
			})
		})
	}
}
