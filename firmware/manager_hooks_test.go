package firmware_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestCallbacks makes the functions of the configuration panic, and take ten seconds. No update
// suffers.
func TestCallbacks(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic": func() { panic("a bug of the program") },
		"block": func() { time.Sleep(10 * time.Second) },
	} {
		for _, delivery := range []fsm.DeliverySupport{fsm.PullOnly, fsm.PushOnly} {
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
				config := firmware.ManagerConfig{
					Hooks: firmware.Hooks{
						Started: func(context.Context, firmware.Update) { started.Add(1); misbehave() },
						Ended:   func(context.Context, firmware.Update) { ended.Add(1); misbehave() },
						ActionEnd: func(context.Context, firmware.Update, fsm.ActionKind, error) {
							actions.Add(1)
							misbehave()
						},
						StoreFailed: func(context.Context, error) {
							failed.Add(1)
							misbehave()
						},
					},
				}
				inWorldThatServes(t, serve, config, func(w *world) {
					var commits atomic.Int64
					w.restart(faultEvery(&commits, 3), nil)
					script := good()
					script.Delivery = delivery
					script.Pull = w.fetches("10.0.1.1")
					device := w.device(script)
					u := w.update(w.request())
					w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
					require.Equal(t, 1, count(device.Log(), "execute"))
					time.Sleep(time.Minute)
					require.Zero(t, w.mgr.Runs())
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

// TestCallbacksCall makes the functions of the configuration call the manager: no deadlock follows.
func TestCallbacksCall(t *testing.T) {
	var w *world
	var ended atomic.Int64
	order := func(_ context.Context, u firmware.Update) {
		_, _ = w.mgr.Get(w.ctx, u.ID)
		_, _ = w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "hook"})
		_, _ = w.mgr.Release(w.ctx, u.ID, "hook")
		_ = w.mgr.Served(w.ctx, u.ID)
		_, _ = w.mgr.Device(w.ctx, u.Endpoint)
	}
	config := firmware.ManagerConfig{Hooks: firmware.Hooks{
		Started: order,
		Ended: func(ctx context.Context, u firmware.Update) {
			order(ctx, u)
			if _, err := w.mgr.Cancel(w.ctx, u.ID); err == firmware.ErrEnded {
				ended.Add(1)
			}
		},
		ActionEnd: func(ctx context.Context, u firmware.Update, _ fsm.ActionKind, _ error) { order(ctx, u) },
	}}
	inWorld(t, config, func(world *world) {
		w = world
		w.device(firmwaretest.Script{Version: oldFW, PullTime: time.Second, Install: good().Install})
		u := w.update(w.request())
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		time.Sleep(time.Minute)
		require.Equal(t, int64(1), ended.Load())
		require.Zero(t, w.mgr.Runs())
	})
}

// A hookLog records the calls of hooks, and misbehaves in one of them.
type hookLog struct {
	at        int // the call, from 1; 0 for none
	misbehave func()

	mu    sync.Mutex
	calls []string
	open  map[int64]fsm.ActionKind // actions that have started, by number
	next  int64
	wrong []string
}

type hookKey struct{}

func (l *hookLog) call(name string, fn func()) {
	l.mu.Lock()
	l.calls = append(l.calls, name)
	now := len(l.calls) == l.at
	fn()
	l.mu.Unlock()
	if now {
		l.misbehave()
	}
}

func (l *hookLog) hooks() firmware.Hooks {
	update := func(name string) func(context.Context, firmware.Update) {
		return func(_ context.Context, u firmware.Update) {
			l.call(name, func() {
				if u.Labels["site"] != "north" {
					l.wrong = append(l.wrong, name+" without labels")
				}
				if len(l.open) > 0 && name != "Resumed" {
					l.wrong = append(l.wrong, name+" during an action")
				}
			})
		}
	}
	return firmware.Hooks{
		Started: update("Started"), Resumed: update("Resumed"), Ended: update("Ended"),
		ActionStart: func(ctx context.Context, _ firmware.Update, kind fsm.ActionKind) context.Context {
			var n int64
			l.call("ActionStart", func() {
				if len(l.open) > 0 {
					l.wrong = append(l.wrong, "two actions at once")
				}
				l.next++
				n = l.next
				l.open[n] = kind
			})
			return context.WithValue(ctx, hookKey{}, n)
		},
		ActionEnd: func(ctx context.Context, _ firmware.Update, kind fsm.ActionKind, _ error) {
			l.call("ActionEnd", func() {
				n, ok := ctx.Value(hookKey{}).(int64)
				if !ok { // the earlier ActionStart panicked
					n = l.next
				}
				if l.open[n] != kind || kind == fsm.ActionNone {
					l.wrong = append(l.wrong, "ActionEnd without ActionStart: "+string(kind))
				}
				delete(l.open, n)
			})
		},
	}
}

// state describes the first error in the calls so far.
func (l *hookLog) state() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) == 0 && len(l.open) == 0 {
		return ""
	}
	return fmt.Sprint("wrong: ", l.wrong, ", without end: ", l.open, ", calls: ", l.calls)
}

func (l *hookLog) count(name string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, call := range l.calls {
		if call == name {
			n++
		}
	}
	return n
}

// TestHooksPair lets each call of the hooks misbehave in turn, or ends the update or Run there.
// Nevertheless each ActionStart has one ActionEnd, in order.
func TestHooksPair(t *testing.T) {
	const (
		ends   = iota // the update, with success
		cancel        // the update
		stop          // Run, and start it again
	)
	run := func(t *testing.T, at, what int, delivery fsm.DeliverySupport, misbehave func()) int {
		l := &hookLog{at: at, misbehave: misbehave, open: map[int64]fsm.ActionKind{}}
		var fired atomic.Bool
		if what != ends {
			l.misbehave = func() { fired.Store(true) }
		}
		inWorld(t, firmware.ManagerConfig{Hooks: l.hooks()}, func(w *world) {
			script := good()
			script.Delivery = delivery
			w.device(script)
			time.Sleep(time.Second) // Run runs
			r := w.request()
			r.Labels = map[string]string{"site": "north"}
			u := w.begin(r)
			for end := time.Now().Add(time.Hour); what != ends && !fired.Load() && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			resumed := 0
			switch what {
			case cancel:
				_, _ = w.mgr.Cancel(w.ctx, u.ID)
			case stop:
				w.stop()
				require.Empty(t, l.state())
				if now, err := w.db.Update(w.ctx, u.ID); err == nil && now.Active() {
					resumed = 1
				}
				w.start(w.db)
			}
			w.wait(u.ID, 48*time.Hour)
			time.Sleep(2 * time.Hour)
			require.Empty(t, l.state())
			require.Equal(t, 1, l.count("Started"))
			require.Equal(t, resumed, l.count("Resumed"))
			require.Equal(t, 1, l.count("Ended"))
			require.Equal(t, l.count("ActionStart"), l.count("ActionEnd"))
		})
		return len(l.calls)
	}
	for _, delivery := range []fsm.DeliverySupport{fsm.PullOnly, fsm.PushOnly} {
		calls := run(t, 0, ends, delivery, nil)
		require.Greater(t, calls, 12)
		for at := 1; at <= calls; at++ {
			for name, misbehave := range map[string]func(){
				"panic": func() { panic("a bug of the program") }, "exit": runtime.Goexit, "block": func() { time.Sleep(time.Hour) },
			} {
				t.Run(fmt.Sprintf("%s/%s/%d", delivery, name, at), func(t *testing.T) {
					t.Parallel()
					run(t, at, ends, delivery, misbehave)
				})
			}
			t.Run(fmt.Sprintf("%s/cancel/%d", delivery, at), func(t *testing.T) {
				t.Parallel()
				run(t, at, cancel, delivery, nil)
			})
			t.Run(fmt.Sprintf("%s/stop/%d", delivery, at), func(t *testing.T) {
				t.Parallel()
				run(t, at, stop, delivery, nil)
			})
		}
	}
}

// TestHooksBlock: hooks that never return delay no update, and Run only for a limited time; the
// queue behind them is bounded.
func TestHooksBlock(t *testing.T) {
	var began atomic.Int64
	var gate chan struct{}
	config := firmware.ManagerConfig{Hooks: firmware.Hooks{
		ActionStart: func(context.Context, firmware.Update, fsm.ActionKind) context.Context {
			began.Add(1)
			<-gate
			return nil
		},
	}}
	inWorld(t, config, func(w *world) {
		gate = make(chan struct{})
		const n = 100
		var ids []string
		for i := range n {
			script := good()
			name := fmt.Sprint("dev", i)
			w.deviceNamed(name, fmt.Sprintf("10.0.2.%d", i+1), script)
			u, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: name, Image: w.image.ID})
			require.NoError(t, err)
			ids = append(ids, u.ID)
		}
		for _, id := range ids {
			u := w.wait(id, time.Hour)
			require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome)
		}
		require.Equal(t, int64(32), began.Load(), "hooks that run at once")
		before := time.Now()
		w.stop()
		require.Equal(t, 5*time.Second, time.Since(before).Truncate(time.Second))
		close(gate)
		synctest.Wait()
		require.Greater(t, began.Load(), int64(n))
	})
}

// TestPhaseHooks: each phase that an update leaves is reported once, in order, with its time and
// its bytes, also if the server restarts meanwhile.
func TestPhaseHooks(t *testing.T) {
	var mu sync.Mutex
	var phases []firmware.Phase
	var times []time.Duration
	var sent int64
	hooks := firmware.Hooks{PhaseEnded: func(_ context.Context, _ firmware.Update, phase firmware.Phase, took time.Duration, bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		phases, times, sent = append(phases, phase), append(times, took), sent+bytes
	}}
	inWorld(t, firmware.ManagerConfig{Hooks: hooks}, func(w *world) {
		u := w.begin(w.request())
		time.Sleep(time.Minute)
		require.Equal(t, map[firmware.Phase]int{firmware.PhaseWaiting: 1}, w.mgr.Phases())
		w.stop()
		require.Empty(t, w.mgr.Phases())
		w.start(w.db)
		time.Sleep(time.Minute)
		script := good()
		script.Delivery = fsm.PushOnly
		script.Install.Time = 10 * time.Second // the server sees it install
		w.device(script)
		u = w.wait(u.ID, time.Hour)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		var all time.Duration
		for _, took := range times {
			all += took
		}
		require.Equal(t, []firmware.Phase{
			firmware.PhaseWaiting, firmware.PhasePreparing, firmware.PhaseTransferring, firmware.PhaseExecuting,
			firmware.PhaseRestarting, firmware.PhaseVerifying,
		}, phases)
		require.InDelta(t, 120, times[0].Seconds(), 1)
		require.InDelta(t, u.Machine.Ended.Sub(u.Machine.Created).Seconds(), all.Seconds(), 1)
		require.Equal(t, w.image.Size, sent)
	})
}
