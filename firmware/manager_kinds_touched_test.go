package firmware_test

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

// guardHolds checks, at each datagram that changes a Firmware Update object, that the store does
// not say that the device holds a package. It returns the number of checks.
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

// touches are requests of the program itself that change a Firmware Update object.
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
		return s.WriteStream(ctx, endpoint, lwm2m.NewPath(5, 0, 0), bytes.NewReader(make([]byte, 3000)), 3000)
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

// TestTouched has the program itself change the Firmware Update object in the middle of an update.
// Whatever the device answers and shows, earlier proofs no longer count: the server transfers the
// package again before it executes it.
func TestTouched(t *testing.T) {
	for name, touch := range touches {
		for _, when := range []fsm.State{fsm.Downloading, fsm.Downloaded} {
			t.Run(name+" in "+when.String(), func(t *testing.T) {
				t.Parallel()
				inWorld(t, firmware.ManagerConfig{}, func(w *world) {
					looked, tap := w.guardHolds(), w.tap()
					p := &puppet{}
					obeys := func(asked string) error {
						if asked == "reset" {
							go p.show(fsm.Idle, fsm.ResultDefault)
						}
						return nil
					}
					p.answer = obeys
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
					p.answers(nil)
					_ = touch(w.ctx, w.srv)
					require.Empty(t, w.holds())
					own := p.asked("uri") - before
					p.answers(obeys)
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
					require.Contains(t, w.journal(u.ID), fsm.EventObjectChanged)
					time.Sleep(5 * time.Second)
					p.show(fsm.Downloaded, fsm.ResultDefault)
					w.phase(u.ID, fsm.PhaseExecuting)
					require.Positive(t, looked.Load())
				})
			})
		}
	}
}

// TestHoldsForgotten shows which readings clear the stored fact that a device holds a package:
// another State, and another version.
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
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
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
					// The device still shows Downloaded, and earlier readings are proof enough for
					// this update. A later update must read again.
					return
				}
				require.Empty(t, w.holds())
			})
		})
	}
}

// TestHoldsUsed cancels an update while its device, which has the package, is away. A new update of
// the same image executes at once; one of another image never does so before its transfer.
func TestHoldsUsed(t *testing.T) {
	for name, test := range map[string]struct {
		other    bool // another image
		silent   bool // for the server the device is there, but ActionCancel gets lost
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
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
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

// TestHoldsUnknown loses the store's answers to the commits that store that the device holds the
// package. The fact is cleared before Execute nevertheless.
func TestHoldsUnknown(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
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
		u := w.begin(w.held())
		w.waits(u.ID)
		_, err := w.mgr.Release(w.ctx, u.ID, "op")
		require.NoError(t, err)
		w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Positive(t, lost.Load())
		require.Positive(t, looked.Load())
		require.Empty(t, w.holds())
	})
}
