package firmware_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// fails returns a download that fails n times.
func fails(n int64, result fsm.Result) func(context.Context, string) fsm.Result {
	var calls atomic.Int64
	return func(context.Context, string) fsm.Result {
		if calls.Add(1) > n {
			return fsm.ResultDefault
		}
		return result
	}
}

// TestOutcomes is the truth table, from the outside: which outcome each kind of device leads to,
// and what the journal says.
func TestOutcomes(t *testing.T) {
	good := firmwaretest.Install{Version: newFW, Time: 2 * time.Second, BootTime: 3 * time.Second}
	for _, test := range []struct {
		name     string
		script   firmwaretest.Script
		request  firmware.Request
		outcome  fsm.Outcome
		result   fsm.Result
		executes int // at most
	}{
		{name: "pull", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Version: oldFW, PullTime: 10 * time.Second, Install: good}},
		{name: "push", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Version: oldFW, Delivery: fsm.PushOnly, Install: good}},
		{name: "runs the target already", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 0,
			script: firmwaretest.Script{Version: newFW, Install: good}},
		{name: "forced", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			request: firmware.Request{Force: true},
			script:  firmwaretest.Script{Version: newFW, Install: good}},
		{name: "never notifies", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Version: oldFW, PullTime: time.Minute, Install: good,
				Habits: firmwaretest.Habits{Mute: true}}},
		{name: "hides downloading", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Version: oldFW, Install: good,
				Habits: firmwaretest.Habits{HidesDownloading: true}}},
		{name: "forgets", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Version: oldFW,
				Install: firmwaretest.Install{Version: newFW, Forgets: true}}},
		{name: "result comes late", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			request: firmware.Request{Verify: fsm.VerifyResult},
			script: firmwaretest.Script{Version: oldFW,
				Install: firmwaretest.Install{Result: fsm.ResultSuccess, Late: 20 * time.Second}}},
		{name: "no reboot", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			request: firmware.Request{Verify: fsm.VerifyResult},
			script: firmwaretest.Script{Version: oldFW,
				Install: firmwaretest.Install{Result: fsm.ResultSuccess, NoReboot: true}}},
		{name: "no version resource", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Install: firmwaretest.Install{Result: fsm.ResultSuccess}}},
		{name: "read resource by resource", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Version: oldFW, Install: good,
				Habits: firmwaretest.Habits{NoInstanceRead: true}}},
		{name: "loses the connection twice", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Version: oldFW, Pull: fails(2, fsm.ResultConnectionLost), Install: good}},

		{name: "rolls back", outcome: fsm.OutcomeRolledBack, result: fsm.ResultUpdateFailed, executes: 1,
			script: firmwaretest.Script{Version: oldFW,
				Install: firmwaretest.Install{Result: fsm.ResultUpdateFailed}}},
		{name: "rolls back and forgets", outcome: fsm.OutcomeRolledBack, result: fsm.ResultUpdateFailed, executes: 1,
			script: firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Forgets: true}}},
		{name: "lies", outcome: fsm.OutcomeFailed, result: fsm.ResultUpdateFailed, executes: 1,
			script: firmwaretest.Script{Version: oldFW,
				Install: firmwaretest.Install{Version: "0.9.9", Result: fsm.ResultSuccess}}},
		{name: "never comes back", outcome: fsm.OutcomeTimedOut, result: fsm.ResultConnectionLost, executes: 1,
			script: firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW, Silent: true}}},
		{name: "never downloads", outcome: fsm.OutcomeTimedOut, result: fsm.ResultUpdateFailed, executes: 0,
			script: firmwaretest.Script{Version: oldFW, PullTime: 1000 * time.Hour, Install: good}},

		{name: "no storage", outcome: fsm.OutcomeFailed, result: fsm.ResultNoStorage,
			script: firmwaretest.Script{Version: oldFW, Pull: fails(100, fsm.ResultNoStorage), Install: good}},
		{name: "connection lost always", outcome: fsm.OutcomeFailed, result: fsm.ResultConnectionLost,
			script: firmwaretest.Script{Version: oldFW, Pull: fails(100, fsm.ResultConnectionLost), Install: good}},
		{name: "integrity", outcome: fsm.OutcomeFailed, result: fsm.ResultIntegrityFailed,
			script: firmwaretest.Script{Version: oldFW, Pull: fails(100, fsm.ResultIntegrityFailed), Install: good}},
		{name: "not a package", outcome: fsm.OutcomeFailed, result: fsm.ResultUnsupFirmware,
			script: firmwaretest.Script{Version: oldFW, Delivery: fsm.PushOnly, Install: good,
				Pushed: func(int64) fsm.Result { return fsm.ResultUnsupFirmware }}},
		{name: "invalid URI", outcome: fsm.OutcomeFailed, result: fsm.ResultInvalidURI,
			script: firmwaretest.Script{Version: oldFW, Pull: fails(100, fsm.ResultInvalidURI), Install: good}},
		{name: "invalid URI once", outcome: fsm.OutcomeSucceeded, result: fsm.ResultSuccess, executes: 1,
			script: firmwaretest.Script{Version: oldFW, Pull: fails(1, fsm.ResultInvalidURI), Install: good}},
		{name: "unsupported protocol", outcome: fsm.OutcomeFailed, result: fsm.ResultUnsupProtocol,
			script: firmwaretest.Script{Version: oldFW, Pull: fails(100, fsm.ResultUnsupProtocol), Install: good}},
		{name: "install fails twice", outcome: fsm.OutcomeFailed, result: fsm.ResultUpdateFailed, executes: 2,
			script: firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{
				Result: fsm.ResultUpdateFailed, NoReboot: true, Kept: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				device := w.device(test.script)
				r := test.request
				r.Endpoint, r.Image = endpoint, w.image.ID
				u := w.update(r)
				t.Logf("after %v\n%s", u.Machine.Ended.Sub(u.Created), w.journal(u.ID))
				require.Equal(t, test.outcome, u.Machine.Outcome, "outcome")
				require.Equal(t, test.result, u.Machine.Result, "result")
				require.Equal(t, fsm.Idle, u.Machine.State, "state")
				require.LessOrEqual(t, count(device.Log(), "execute"), test.executes, "executes")
				stored, err := w.db.Update(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, u.Machine.Outcome, stored.Machine.Outcome, "what is stored")
			})
		})
	}
}

func count(log []string, prefix string) (n int) {
	for _, line := range log {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// TestOneActive starts a hundred updates of one endpoint at once.
func TestOneActive(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var won []firmware.Update
		lost := map[string]int{}
		for range 100 {
			wg.Go(func() {
				u, err := w.mgr.Start(w.ctx, w.request())
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, u)
					return
				}
				var active *store.UpdateError
				if w.assertAs(err, &active) {
					lost[active.ID]++
				}
			})
		}
		wg.Wait()
		require.Len(t, won, 1)
		require.Equal(t, map[string]int{won[0].ID: 99}, lost)
	})
}

func (w *world) assertAs(err error, target any) bool {
	w.t.Helper()
	require.ErrorAs(w.t, err, target)
	return true
}

func TestIdempotencyKey(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		r := w.request()
		r.Key = "k1"
		first, err := w.mgr.Start(w.ctx, r)
		require.NoError(t, err)
		again, err := w.mgr.Start(w.ctx, r)
		require.NoError(t, err)
		require.Equal(t, first.ID, again.ID)
		for name, change := range map[string]func(*firmware.Request){
			"endpoint": func(r *firmware.Request) { r.Endpoint = "another" },
			"verify":   func(r *firmware.Request) { r.Verify = fsm.VerifyResult },
			"delivery": func(r *firmware.Request) { r.Delivery = fsm.DeliveryPush },
			"protocol": func(r *firmware.Request) { r.Protocol = fsm.ProtocolCoAP },
			"force":    func(r *firmware.Request) { r.Force = true },
			"deadline": func(r *firmware.Request) { r.Deadline = time.Hour },
			"attempts": func(r *firmware.Request) { r.Attempts = 77 },
			"profile":  func(r *firmware.Request) { r.Profile = "push" },
		} {
			other := r
			change(&other)
			_, err = w.mgr.Start(w.ctx, other)
			var bad *firmware.RequestError
			require.ErrorAs(t, err, &bad, name)
			require.Equal(t, "key", bad.Field, name)
		}
	})
}

// TestCancel cancels in each phase that lasts.
func TestCancel(t *testing.T) {
	for _, test := range []struct {
		phase  fsm.Phase
		script *firmwaretest.Script
		log    string // the requests that the device must have got
	}{
		{phase: fsm.PhaseWaiting},
		{phase: fsm.PhaseTransferring, script: &firmwaretest.Script{Version: oldFW, PullTime: time.Hour}, log: "cancel"},
		{phase: fsm.PhaseRestarting, script: &firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Time: time.Hour}}},
	} {
		t.Run(string(test.phase), func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				var device *firmwaretest.Device
				if test.script != nil {
					device = w.device(*test.script)
				}
				u, err := w.mgr.Start(w.ctx, w.request())
				require.NoError(t, err)
				for u.Machine.Phase != test.phase {
					time.Sleep(time.Second)
					u, err = w.mgr.Get(w.ctx, u.ID)
					require.NoError(t, err)
					require.True(t, u.Active(), w.journal(u.ID))
				}
				u, err = w.mgr.Cancel(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, fsm.OutcomeCancelled, u.Machine.Outcome)
				require.Equal(t, fsm.ResultCancelled, u.Machine.Result)
				_, err = w.mgr.Cancel(w.ctx, u.ID)
				require.ErrorIs(t, err, firmware.ErrEnded)
				time.Sleep(time.Minute)
				if test.log != "" {
					require.Contains(t, device.Log(), test.log)
				}
			})
		})
	}
}

// TestBadRequests lists refused requests, which leave nothing behind.
func TestBadRequests(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		for field, change := range map[string]func(*firmware.Request){
			"endpoint": func(r *firmware.Request) { r.Endpoint = "a\nb" },
			"image":    func(r *firmware.Request) { r.Image = strings.Repeat("x", 1000) },
			"profile":  func(r *firmware.Request) { r.Profile = "no such" },
			"deadline": func(r *firmware.Request) { r.Deadline = -1 },
			"attempts": func(r *firmware.Request) { r.Attempts = 1000 },
			"protocol": func(r *firmware.Request) { r.Delivery, r.Protocol = fsm.DeliveryPush, fsm.ProtocolHTTP },
			"key":      func(r *firmware.Request) { r.Key = strings.Repeat("k", 256) },
		} {
			r := w.request()
			change(&r)
			_, err := w.mgr.Start(w.ctx, r)
			var bad *firmware.RequestError
			require.ErrorAs(t, err, &bad, field)
			require.Equal(t, field, bad.Field)
		}
		r := w.request()
		r.Image = "0123"
		_, err := w.mgr.Start(w.ctx, r)
		require.ErrorIs(t, err, store.ErrNotFound)
		for u := range w.mgr.List(w.ctx, store.UpdateQuery{}) {
			require.Fail(t, "an update was made", u.ID)
		}
	})
}

// TestEvents follows an update from its beginning, twice: once live, and once from the middle.
func TestEvents(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.device(firmwaretest.Script{Version: oldFW, Delivery: fsm.PushOnly, Install: firmwaretest.Install{Version: newFW}})
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		var seqs []uint64
		var last firmware.Event
		for e, err := range w.mgr.Events(w.ctx, u.Since) {
			require.NoError(t, err)
			last = e
			if e.Name != firmware.EventProgress {
				seqs = append(seqs, e.Seq)
			}
			if e.Outcome != fsm.OutcomeNone {
				break
			}
		}
		require.Equal(t, fsm.OutcomeSucceeded, last.Outcome)
		require.IsIncreasing(t, seqs)
		middle := seqs[len(seqs)/2]
		for e, err := range w.mgr.Events(w.ctx, middle) {
			require.NoError(t, err)
			require.Greater(t, e.Seq, middle)
			break
		}
	})
}

// TestFleet updates a hundred devices at once over a network that loses a tenth of the datagrams.
func TestFleet(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.lossy(0.1)
		var ids []string
		for i := range 100 {
			name := fmt.Sprintf("device-%d", i)
			w.deviceNamed(name, fmt.Sprintf("10.1.0.%d", i+1), firmwaretest.Script{
				Version: oldFW, Delivery: fsm.DeliverySupport(i % 2), PullTime: time.Duration(i) * time.Second,
				Install: firmwaretest.Install{Version: newFW, Time: time.Second, BootTime: time.Second},
			})
			u, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: name, Image: w.image.ID})
			require.NoError(t, err)
			ids = append(ids, u.ID)
		}
		for _, id := range ids {
			u := w.wait(id, 24*time.Hour)
			require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(id))
		}
	})
}
