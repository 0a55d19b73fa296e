package firmware_test

import (
	"context"
	"errors"
	"sync"
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

// TestOrderNotStorable gives orders whose step the store calls invalid: the caller gets an error,
// and the update goes on.
func TestOrderNotStorable(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var broken atomic.Bool
		w.restart(func(_ context.Context, call storetest.Call) error {
			if broken.Load() && (writes(call, "held") || writes(call, "cancelled")) {
				return store.ErrInvalid
			}
			return nil
		}, nil)
		u := w.begin(w.request())
		time.Sleep(time.Minute)
		broken.Store(true)
		within(t, time.Hour, "Hold", func() {
			_, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op"})
			require.ErrorIs(t, err, store.ErrInvalid)
		})
		within(t, time.Hour, "Cancel", func() {
			got, err := w.mgr.Cancel(w.ctx, u.ID)
			require.ErrorIs(t, err, store.ErrInvalid)
			require.Equal(t, u.ID, got.ID)
			require.True(t, got.Active())
		})
		broken.Store(false)
		w.device(good())
		w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
	})
}

// drops loses the server's requests of a kind on their way to the device.
func (w *world) drops(lost ...string) {
	w.net.SetLink(serverHost, deviceHost, simnet.Conditions{Delay: 20 * time.Millisecond, Drop: func(p simnet.Packet) bool {
		method, path := requestOf(p)
		for _, l := range lost {
			if method+" "+path == l {
				return true
			}
		}
		return false
	}})
}

// TestReadsThatCount: a reading counts if the device has answered at least one of its requests.
func TestReadsThatCount(t *testing.T) {
	for name, tc := range map[string]struct {
		lost     []string
		resource bool // the device is read resource by resource
		read     bool
	}{
		"whole, but no version":          {lost: []string{"GET /3/0/3"}, read: true},
		"by resource, but no version":    {lost: []string{"GET /3/0/3"}, resource: true, read: true},
		"nothing":                        {lost: []string{"GET /5/0", "GET /3/0/3"}},
		"no resource":                    {lost: []string{"GET /5/0/5"}, resource: true},
		"everything, resource by itself": {resource: true, read: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			reads := map[bool]int{}
			config := firmware.ManagerConfig{Hooks: firmware.Hooks{ActionEnd: func(_ context.Context, _ firmware.Update, kind fsm.ActionKind, err error) {
				mu.Lock()
				defer mu.Unlock()
				if kind == fsm.ActionRead && !errors.Is(err, firmware.ErrGivenUp) {
					reads[err == nil]++
				}
			}}}
			inWorld(t, config, func(w *world) {
				script := good()
				script.PullTime = time.Hour
				script.Habits.NoInstanceRead = tc.resource
				w.device(script)
				time.Sleep(10 * time.Second)
				w.drops(tc.lost...)
				u := w.begin(w.request())
				time.Sleep(5 * time.Minute)
				mu.Lock()
				require.Equal(t, tc.read, reads[true] > 0, "%v\n%s", reads, w.journal(u.ID))
				require.Equal(t, tc.read, reads[false] == 0, "%v\n%s", reads, w.journal(u.ID))
				mu.Unlock()
				w.drops()
				_, err := w.mgr.Cancel(w.ctx, u.ID)
				require.NoError(t, err)
			})
		})
	}
}

// TestBusyDevice: a device that is busy, as ours is before it restarts, is not asked for each
// resource.
func TestBusyDevice(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		p := &puppet{}
		w.puppet(p)
		u := w.begin(w.request())
		time.Sleep(10 * time.Second)
		p.show(fsm.Downloading, fsm.ResultDefault)
		time.Sleep(time.Second)
		s := w.sequence()
		p.busy.Store(true)
		p.show(fsm.Downloaded, fsm.ResultDefault) // no read shows it
		time.Sleep(5 * time.Minute)
		for _, what := range s.names(0) {
			require.Contains(t, []string{"GET /5/0", "observe GET /5/0/3"}, what)
		}
		require.Contains(t, s.names(0), "GET /5/0")
		p.busy.Store(false)
		w.phase(u.ID, fsm.PhaseExecuting)
	})
}

// TestRepeatedRequest: defaults that come from the configuration do not make a request a different
// one.
func TestRepeatedRequest(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Deadline: time.Hour, Attempts: 7}, func(w *world) {
		r := w.request()
		r.Key = "k"
		u := w.begin(r)
		require.Equal(t, 7, u.Machine.Plan.Attempts)
		require.Equal(t, time.Hour, u.Machine.Plan.Deadline)
		r.Deadline, r.Attempts = time.Hour, 7
		require.Equal(t, u.ID, w.begin(r).ID)
		for field, change := range map[string]func(*firmware.Request){
			"deadline": func(r *firmware.Request) { r.Deadline = firmware.MaxDeadline + 1 },
			"attempts": func(r *firmware.Request) { r.Attempts = 101 },
			"image":    func(r *firmware.Request) { r.Image = "" },
			"endpoint": func(r *firmware.Request) { r.Endpoint = "" },
		} {
			other := w.request()
			change(&other)
			_, err := w.mgr.Start(w.ctx, other)
			var bad *firmware.RequestError
			require.ErrorAs(t, err, &bad, field)
			require.Equal(t, field, bad.Field)
		}
		most := w.request()
		most.Endpoint, most.Deadline, most.Attempts = "another", 365*24*time.Hour, 100
		u = w.begin(most)
		require.Equal(t, 100, u.Machine.Plan.Attempts)
	})
}

// TestHooksTell: each hook is called once, with the update as it then is.
func TestHooksTell(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	actions := map[fsm.ActionKind]int{}
	config := firmware.ManagerConfig{Hooks: firmware.Hooks{
		Started: func(_ context.Context, u firmware.Update) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, "started "+string(u.Machine.Outcome))
		},
		Ended: func(_ context.Context, u firmware.Update) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, "ended "+string(u.Machine.Outcome))
		},
		ActionStart: func(ctx context.Context, _ firmware.Update, _ fsm.ActionKind) context.Context {
			return context.WithValue(ctx, hookKey{}, time.Now())
		},
		ActionEnd: func(ctx context.Context, _ firmware.Update, kind fsm.ActionKind, err error) {
			mu.Lock()
			defer mu.Unlock()
			took := time.Since(ctx.Value(hookKey{}).(time.Time))
			if err == nil && took >= 40*time.Millisecond && took < time.Minute {
				actions[kind]++
			}
		},
	}}
	inWorld(t, config, func(w *world) {
		w.device(good())
		w.ends(w.update(w.request()), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		time.Sleep(time.Minute)
		w.stop()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []string{"started ", "ended succeeded"}, calls)
		require.Equal(t, 1, actions[fsm.ActionWriteURI])
		require.Equal(t, 1, actions[fsm.ActionExecute])
		require.Equal(t, 1, actions[fsm.ActionObserve], "for the download")
		require.Equal(t, 3, actions[fsm.ActionRead], "at the start, after the download, after the restart")
	})
}

// TestSendIsAHint: a Send about the firmware makes the manager read the device at once; other Sends
// do not.
func TestSendIsAHint(t *testing.T) {
	for _, tc := range []struct {
		path lwm2m.Path
		hint bool
	}{{lwm2m.NewPath(5, 0, 3), true}, {lwm2m.NewPath(3, 0, 3), true}, {lwm2m.NewPath(3, 0, 9), false}} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			s := w.sequence()
			p := &puppet{}
			end := w.puppet(p)
			u := w.begin(w.request())
			w.phase(u.ID, fsm.PhaseTransferring)
			time.Sleep(time.Minute + 500*time.Millisecond)
			before := len(s.all())
			v := lwm2m.Integer(1)
			if tc.path == lwm2m.NewPath(3, 0, 3) {
				v = lwm2m.String(oldFW)
			}
			require.NoError(t, p.client.Send(w.ctx, []lwm2m.Entry{{Path: tc.path, Value: v}}))
			time.Sleep(300 * time.Millisecond)
			require.Equal(t, tc.hint, len(s.all()) > before, "%s: %v", tc.path, s.names(before))
			_, err := w.mgr.Cancel(w.ctx, u.ID)
			require.NoError(t, err)
			end()
		})
	}
}

// TestEventsInTime: events of this process are yielded within 20 ms, those that another process
// writes to the store within 5 s.
func TestEventsInTime(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		u := w.begin(w.request())
		time.Sleep(time.Minute)
		last, err := w.db.Commit(w.ctx)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		got := make(chan time.Time, 10)
		go func() {
			for range w.mgr.Events(ctx, last) {
				got <- time.Now()
			}
		}()
		time.Sleep(time.Second)
		began := time.Now()
		_, err = w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op"})
		require.NoError(t, err)
		require.Equal(t, 20*time.Millisecond, (<-got).Sub(began))
		time.Sleep(time.Second)
		began = time.Now()
		_, err = w.db.Commit(w.ctx, store.AppendEvents{Events: []store.Event{{
			Update: u.ID, Endpoint: u.Endpoint, Name: "foreign", Time: time.Now(),
		}}})
		require.NoError(t, err)
		require.InDelta(t, 4*time.Second, (<-got).Sub(began), float64(100*time.Millisecond))
	})
}

// TestLateStep: the manager acts on a step that the store takes in less than half a minute; after a
// longer time it reads the device first.
func TestLateStep(t *testing.T) {
	for took, late := range map[time.Duration]bool{29 * time.Second: false, 31 * time.Second: true} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			var once atomic.Bool
			w.restart(func(_ context.Context, call storetest.Call) error {
				if writes(call, "held") && once.CompareAndSwap(false, true) {
					time.Sleep(took)
				}
				return nil
			}, nil)
			s := w.sequence()
			script := good()
			script.PullTime = time.Hour
			w.device(script)
			u := w.begin(w.request())
			w.phase(u.ID, fsm.PhaseTransferring)
			time.Sleep(10 * time.Second)
			before := len(s.all())
			_, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op"})
			require.NoError(t, err)
			time.Sleep(time.Second)
			names := s.names(before)
			if late {
				require.Contains(t, names, "observe GET /5/0/3")
			} else {
				require.NotContains(t, names, "observe GET /5/0/3")
			}
			_, err = w.mgr.Cancel(w.ctx, u.ID)
			require.NoError(t, err)
		})
	}
}

// TestRemoveDamagedStoreFails: while the store fails, a record is not removed as damaged.
func TestRemoveDamagedStoreFails(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var reads, removals atomic.Int64
		w.restart(func(_ context.Context, call storetest.Call) error {
			switch {
			case call.Method == "Update" && reads.Add(1) == 1:
				return store.ErrDamaged
			case call.Method == "Update":
				return errDisk
			case len(call.Changes) > 0 && is[store.RemoveDamaged](call.Changes[0]):
				removals.Add(1)
			}
			return nil
		}, nil)
		require.ErrorIs(t, w.mgr.RemoveDamaged(w.ctx, "u"), errDisk)
		require.ErrorIs(t, w.mgr.RemoveDamaged(w.ctx, "u"), errDisk)
		require.Zero(t, removals.Load())
	})
}
