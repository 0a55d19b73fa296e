package firmware_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

// commits counts the commits of a store that are no registrations.
type commits struct {
	mu    sync.Mutex
	calls []string
}

// note is for storetest.Faulty.
func (c *commits) note(_ context.Context, call storetest.Call) error {
	if len(call.Changes) == 0 || is[store.PutRegistration](call.Changes[0]) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var text string
	for _, change := range call.Changes {
		text += fmt.Sprintf(" %T", change)
		if lines, ok := change.(store.AppendEvents); ok {
			for _, e := range lines.Events {
				text += " " + e.Name
			}
		}
	}
	c.calls = append(c.calls, text)
	return nil
}

func (c *commits) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

// TestCommits counts the commits of an update without followers. Each has a reason: the update is
// created, a request that changes the device goes out, the update ends.
func TestCommits(t *testing.T) {
	for name, delivery := range map[string]fsm.DeliverySupport{"pull": fsm.PullOnly, "push": fsm.PushOnly} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				var c commits
				w.restart(c.note, nil)
				w.device(firmwaretest.Script{Version: oldFW, Delivery: delivery, PullTime: time.Second,
					Install: firmwaretest.Install{Version: newFW, Result: fsm.ResultSuccess, BootTime: time.Second}})
				time.Sleep(time.Minute)
				for range 3 {
					r := w.request()
					r.Force = true
					u, err := w.mgr.Start(w.ctx, r)
					require.NoError(t, err)
					u, err = w.mgr.Wait(w.ctx, u.ID)
					require.NoError(t, err)
					w.ends(u, fsm.OutcomeSucceeded, u.Machine.Reason)
					calls := c.take()
					require.LessOrEqual(t, len(calls), 5, "%q", calls)
					t.Logf("%d commits: %q", len(calls), calls)
					time.Sleep(time.Minute)
				}
			})
		})
	}
}

// TestCommitsOfMany counts the commits of a thousand updates that wait for their devices, which
// register together: their soft steps share commits.
func TestCommitsOfMany(t *testing.T) {
	const fleet = 1000
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		for i := range fleet {
			r := w.request()
			r.Endpoint = fmt.Sprintf("device-%d", i)
			_, err := w.mgr.Start(w.ctx, r)
			require.NoError(t, err)
		}
		var c commits
		w.restart(c.note, nil)
		time.Sleep(time.Minute)
		calls := c.take()
		require.LessOrEqual(t, len(calls), 10)
		lines := 0
		for e, err := range w.db.Events(w.ctx, store.EventQuery{}) {
			require.NoError(t, err)
			if e.Name == firmware.EventResumed {
				lines++
			}
		}
		require.Equal(t, fleet, lines)
	})
}

// stored returns the names of the journal lines in the store.
func (w *world) stored(id string) (names []string) {
	w.t.Helper()
	for e, err := range w.db.Events(w.ctx, store.EventQuery{Update: id}) {
		require.NoError(w.t, err)
		names = append(names, e.Name)
	}
	return names
}

// TestWhenSoftStepsAreStored looks into the store while a device downloads: the lines that are no
// reason for a commit are there after 30 s, and after 1 s with a follower or a reader. Journal
// returns all of them at once, and Run stores them when it stops.
func TestWhenSoftStepsAreStored(t *testing.T) {
	for name, test := range map[string]struct {
		reads  func(w *world, id string)
		within time.Duration
	}{
		"no reader": {func(*world, string) {}, 30 * time.Second},
		"get":       {func(w *world, id string) { _, _ = w.mgr.Get(w.ctx, id) }, time.Second},
		"follower":  {func(w *world, _ string) { go follow(w) }, time.Second},
		"journal": {func(w *world, id string) {
			for range w.mgr.Journal(w.ctx, id) {
			}
		}, 0},
		"stop": {func(w *world, _ string) { w.stop() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				p := &puppet{}
				w.puppet(p)
				u, err := w.mgr.Start(w.ctx, w.request())
				require.NoError(t, err)
				for p.asked("uri") == 0 {
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(200 * time.Millisecond)
				require.NotContains(t, w.stored(u.ID), fsm.EventURIAccepted)
				time.Sleep(time.Second)
				require.NotContains(t, w.stored(u.ID), fsm.EventURIAccepted)
				test.reads(w, u.ID)
				time.Sleep(test.within)
				require.Contains(t, w.stored(u.ID), fsm.EventURIAccepted, "invariant 7: what was observed is stored")
			})
		})
	}
}

// follow reads the events of all updates until the world ends.
func follow(w *world) {
	for range w.mgr.Events(w.ctx, 0) {
	}
}

// TestSoftStepsWhileTheStoreFails makes each commit of several updates fail, in every other run
// after it has taken place: the updates are stored one by one, each line once.
func TestSoftStepsWhileTheStoreFails(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				time.Sleep(time.Second)
				for i := range 10 {
					r := w.request()
					r.Endpoint = fmt.Sprintf("device-%d", i)
					_, err := w.mgr.Start(w.ctx, r)
					require.NoError(t, err)
				}
				var failed atomic.Int64
				fault := func(_ context.Context, call storetest.Call) error {
					if len(call.Changes) > 2 && is[store.ReplaceUpdate](call.Changes[1]) {
						failed.Add(1)
						return errDisk
					}
					return nil
				}
				if before {
					w.restart(fault, nil)
				} else {
					w.restart(nil, fault)
				}
				time.Sleep(time.Minute)
				require.Positive(t, failed.Load())
				for u, err := range w.db.Updates(w.ctx, store.UpdateQuery{}) {
					require.NoError(t, err)
					require.Equal(t, []string{"created", "started", "resumed"}, w.stored(u.ID))
					current, err := w.mgr.Get(w.ctx, u.ID)
					require.NoError(t, err)
					require.Equal(t, u.Revision, current.Revision)
				}
			})
		})
	}
}
