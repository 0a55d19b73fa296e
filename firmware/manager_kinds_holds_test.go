package firmware_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

// guardHolds looks, at each datagram that changes a Firmware Update object, that the store has no claim of what the device
// holds. It returns how often it looked.
func (w *world) guardHolds() *atomic.Int64 {
	var looked atomic.Int64
	w.net.Tap(func(p simnet.Packet) {
		method, path := requestOf(p)
		changes := method == "PUT" || method == "POST" || method == "DELETE" || method == "iPATCH"
		if !changes || method != "iPATCH" && !strings.HasPrefix(path+"/", "/5/") && !strings.HasPrefix(path+"/", "/33629/") {
			return
		}
		looked.Add(1)
		d, err := w.db.Device(w.ctx, endpoint)
		if err == nil && d.Firmware.Holds != "" {
			w.t.Errorf("%s %s while the store says that the device holds %s", method, path, d.Firmware.Holds)
		}
	})
	return &looked
}

// held is the world's request, held by "op".
func (w *world) held() firmware.Request {
	r := w.request()
	r.Hold = fsm.Hold{Holder: "op"}
	return r
}

// waits waits until an update waits for its hold, with its package on the device.
func (w *world) waits(id string) firmware.Update {
	w.t.Helper()
	return w.until(id, "wait for the hold", func(u firmware.Update) bool {
		return u.Machine.Phase == fsm.PhaseTransferred && strings.HasPrefix(u.Machine.Wait.Reason, "hold to be released")
	})
}

// touches are requests of the program's own that change a Firmware Update object.
var touches = map[string]func(context.Context, *lwm2m.Server) error{
	"empty URI": func(ctx context.Context, s *lwm2m.Server) error {
		return s.WriteValue(ctx, endpoint, lwm2m.NewPath(5, 0, 1), lwm2m.String(""))
	},
	"URI": func(ctx context.Context, s *lwm2m.Server) error {
		return s.WriteValue(ctx, endpoint, lwm2m.NewPath(5, 0, 1), lwm2m.String("coap://203.0.113.1/x"))
	},
	"NUL": func(ctx context.Context, s *lwm2m.Server) error {
		return s.WriteValue(ctx, endpoint, lwm2m.NewPath(5, 0, 0), lwm2m.Opaque([]byte{0}))
	},
	"package": func(ctx context.Context, s *lwm2m.Server) error {
		return s.WriteStream(ctx, endpoint, lwm2m.NewPath(5, 0, 0), bytes.NewReader(make([]byte, 3000)), 3000, lwm2m.WriteStreamOptions{})
	},
	"cancel": func(ctx context.Context, s *lwm2m.Server) error {
		return s.Execute(ctx, endpoint, lwm2m.NewPath(5, 0, 10), "")
	},
	"partial write": func(ctx context.Context, s *lwm2m.Server) error {
		return s.WritePartial(ctx, endpoint, lwm2m.NewPath(5, 0), []lwm2m.Entry{
			{Path: lwm2m.NewPath(5, 0, 1), Value: lwm2m.String("")},
		})
	},
	"composite": func(ctx context.Context, s *lwm2m.Server) error {
		return s.WriteComposite(ctx, endpoint, []lwm2m.Entry{{Path: lwm2m.NewPath(5, 0, 1), Value: lwm2m.String("")}})
	},
	"create": func(ctx context.Context, s *lwm2m.Server) error {
		_, err := s.Create(ctx, endpoint, lwm2m.NewPath(5), []lwm2m.Entry{{Path: lwm2m.NewPath(5, 1, 1), Value: lwm2m.String("")}})
		return err
	},
	"delete": func(ctx context.Context, s *lwm2m.Server) error { return s.Delete(ctx, endpoint, lwm2m.NewPath(5, 0)) },
	"advanced": func(ctx context.Context, s *lwm2m.Server) error {
		return s.Execute(ctx, endpoint, lwm2m.NewPath(33629, 0, 2), "")
	},
}

// TestTouched has the program itself change the Firmware Update object in the middle of an update. What was proven before
// counts no more, whatever the device answers and shows: the package is transferred again before it is executed.
func TestTouched(t *testing.T) {
	for name, touch := range touches {
		for _, when := range []fsm.State{fsm.Downloading, fsm.Downloaded} {
			t.Run(name+" in "+when.String(), func(t *testing.T) {
				t.Parallel()
				inWorld(t, firmware.Config{}, func(w *world) {
					looked, tap := w.guardHolds(), w.tap()
					p := &puppet{}
					p.answer = func(asked string) error {
						if asked == "reset" {
							go p.show(fsm.Idle, fsm.ResultDefault)
						}
						return nil
					}
					w.puppet(p)
					u := w.begin(w.held())
					w.phase(u.ID, fsm.PhaseTransferring)
					for p.asked("uri") == 0 {
						time.Sleep(time.Second)
					}
					p.show(fsm.Downloading, fsm.ResultDefault)
					time.Sleep(time.Second)
					if when == fsm.Downloaded {
						p.show(fsm.Downloaded, fsm.ResultDefault)
						w.waits(u.ID)
						require.Equal(t, w.image.SHA256, w.holds())
					}
					before := p.asked("uri")
					resets := p.asked("reset")
					p.answer = nil
					_ = touch(w.ctx, w.srv)
					require.Empty(t, w.holds())
					own := p.asked("uri") - before
					p.answer = func(asked string) error {
						if asked == "reset" {
							go p.show(fsm.Idle, fsm.ResultDefault)
						}
						return nil
					}
					p.show(fsm.Downloaded, fsm.ResultDefault)
					time.Sleep(10 * time.Second)
					require.Empty(t, w.holds(), "nothing proves it")
					_, err := w.mgr.Release(w.ctx, u.ID, "op")
					require.NoError(t, err)
					w.until(u.ID, "a new transfer", func(firmware.Update) bool {
						require.Zero(t, tap.executes(), w.journal(u.ID))
						return p.asked("uri") > before+own
					})
					require.Greater(t, p.asked("reset"), resets, "of the other package first")
					require.Contains(t, w.journal(u.ID), "touched")
					time.Sleep(5 * time.Second)
					p.show(fsm.Downloaded, fsm.ResultDefault)
					w.phase(u.ID, fsm.PhaseExecuting)
					require.Positive(t, looked.Load())
				})
			})
		}
	}
}

// TestHoldsForgotten shows what takes the stored fact back that a device holds a package: another State, and another version.
func TestHoldsForgotten(t *testing.T) {
	for name, change := range map[string]func(p *puppet){
		"state": func(p *puppet) { p.show(fsm.Idle, fsm.ResultDefault) },
		"version": func(p *puppet) {
			p.mu.Lock()
			p.version = "1.0.1"
			p.mu.Unlock()
		},
		"state and result": func(p *puppet) { p.show(fsm.Idle, fsm.ResultIntegrityFailed) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.Config{}, func(w *world) {
				w.guardHolds()
				p := &puppet{}
				w.puppet(p)
				u := w.begin(w.held())
				w.phase(u.ID, fsm.PhaseTransferring)
				time.Sleep(time.Second)
				require.Empty(t, w.holds())
				p.show(fsm.Downloaded, fsm.ResultDefault)
				w.waits(u.ID)
				require.Equal(t, w.image.SHA256, w.holds())
				w.stop()
				change(p)
				w.openImages(w.db)
				w.start(w.db)
				time.Sleep(time.Minute)
				if name == "version" {
					// It still shows Downloaded, and what it showed before proves it to this update. A later one has to see.
					return
				}
				require.Empty(t, w.holds())
			})
		})
	}
}

// TestHoldsUsed cancels an update whose device is away, with the package. A new one of the same image executes at once, one of
// another image never does before it is transferred.
func TestHoldsUsed(t *testing.T) {
	for name, test := range map[string]struct {
		other    bool // another image
		silent   bool // the device is there, for all that the server knows, but its farewell gets lost
		adopts   bool
		restarts bool
	}{
		"same image":                  {adopts: true},
		"same image, after a restart": {adopts: true, restarts: true},
		"another image":               {other: true},
		"farewell lost":               {silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.Config{}, func(w *world) {
				w.guardHolds()
				d := w.switched(good())
				u := w.begin(w.held())
				w.waits(u.ID)
				if test.silent {
					w.unreachable(true)
				} else {
					d.off()
					time.Sleep(time.Second)
				}
				u, err := w.mgr.Cancel(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, fsm.MayStillNone, u.Machine.MayStill)
				if test.silent {
					time.Sleep(5 * time.Second)
					require.Empty(t, w.holds())
					time.Sleep(5 * time.Minute)
					w.unreachable(false)
				} else {
					time.Sleep(time.Minute)
					require.Equal(t, w.image.SHA256, w.holds())
				}
				if test.restarts {
					w.stop()
					w.openImages(w.db)
					w.start(w.db)
				}
				r := w.request()
				if test.other {
					img, err := w.images.Add(w.ctx, store.Image{Name: "sensor", Version: newFW + "-b"}, bytes.NewReader(make([]byte, 6000)))
					require.NoError(t, err)
					r.Image = img.ID
				}
				if !test.silent {
					d.on()
				}
				before := count(d.device.Log(), "uri")
				u = w.begin(r)
				if test.adopts {
					w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
					require.Equal(t, before, count(d.device.Log(), "uri"))
					require.Contains(t, w.journal(u.ID), "adopted")
					return
				}
				w.phase(u.ID, fsm.PhaseExecuting)
				require.Equal(t, before+1, count(d.device.Log(), "uri"))
				require.NotContains(t, w.journal(u.ID), "adopted")
			})
		})
	}
}

// TestHoldsUnknown loses the store's answers to the commits by which it learns that the device holds the package. It is cleared
// before Execute all the same.
func TestHoldsUnknown(t *testing.T) {
	inWorld(t, firmware.Config{}, func(w *world) {
		looked := w.guardHolds()
		var lost atomic.Int64
		w.restart(nil, func(_ context.Context, call storetest.Call) error {
			for _, c := range call.Changes {
				if holds, ok := c.(store.PutHolds); ok && holds.Holds != "" && lost.Add(1) < 3 {
					return errDisk
				}
			}
			return nil
		})
		w.device(good())
		u := w.update(w.request())
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Positive(t, lost.Load())
		require.Positive(t, looked.Load())
		require.Empty(t, w.holds())
	})
}

// TestHolders holds an update twice over, and releases it.
func TestHolders(t *testing.T) {
	inWorld(t, firmware.Config{}, func(w *world) {
		tap := w.tap()
		device := w.device(good())
		u := w.begin(w.held())
		hold := func(holder string, until time.Time) error {
			_, err := w.mgr.Hold(w.ctx, u.ID, holder, "because", until)
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

// TestTooManyHolds holds an update more often than it can be held, and in ways that are nonsense.
func TestTooManyHolds(t *testing.T) {
	for _, running := range []bool{true, false} {
		inWorld(t, firmware.Config{}, func(w *world) {
			u := w.begin(w.request())
			if !running {
				w.stop()
			}
			for i := range fsm.MaxHolds {
				_, err := w.mgr.Hold(w.ctx, u.ID, fmt.Sprint("holder ", i), "", time.Time{})
				require.NoError(t, err)
			}
			bad := func(holder, reason string, until time.Time) {
				t.Helper()
				_, err := w.mgr.Hold(w.ctx, u.ID, holder, reason, until)
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
			_, err := w.mgr.Hold(w.ctx, u.ID, "holder 3", "again", time.Now().Add(time.Hour))
			require.NoError(t, err, "in place of his own")
			stored, err := w.db.Update(w.ctx, u.ID)
			require.NoError(t, err)
			require.Len(t, stored.Machine.Holds, fsm.MaxHolds)
			_, err = w.mgr.Hold(w.ctx, "no such", "op", "", time.Time{})
			require.ErrorIs(t, err, store.ErrNotFound)
		})
	}
}

// TestHoldAtAnyTime holds an update at random moments of its life. After Hold has returned no Execute leaves that the journal
// does not say was sent before.
func TestHoldAtAnyTime(t *testing.T) {
	for seed := range uint64(40) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.Config{}, func(w *world) {
				random := rand.New(rand.NewPCG(seed, 1))
				if seed%2 == 1 {
					w.lossy(0.2)
				}
				tap := w.tap()
				script := good()
				script.Delivery = fsm.DeliveryMethod(seed % 3)
				w.device(script)
				u := w.begin(w.request())
				time.Sleep(time.Duration(random.Int64N(int64(6 * time.Second))))
				u, err := w.mgr.Hold(w.ctx, u.ID, "op", "", time.Time{})
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

// TestHeldForDays holds an update for longer than its deadline, over restarts of the server.
func TestHeldForDays(t *testing.T) {
	inWorld(t, firmware.Config{}, func(w *world) {
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

// TestLostOnHold has a device lose its package, and its power, while its update is held: that costs no attempt.
func TestLostOnHold(t *testing.T) {
	for _, method := range []fsm.DeliveryMethod{fsm.PullOnly, fsm.PushOnly} {
		inWorld(t, firmware.Config{}, func(w *world) {
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

// TestHeldAsleep holds an update of a device in queue mode that sleeps meanwhile, and cancels one.
func TestHeldAsleep(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		inWorld(t, firmware.Config{}, func(w *world) {
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
	inWorld(t, firmware.Config{}, func(w *world) {
		tap := w.tap()
		device := w.device(good())
		w.stop()
		u := w.begin(w.request())
		u, err := w.mgr.Hold(w.ctx, u.ID, "op", "why not", time.Time{})
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
