package firmware_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
)

// The numbers are those of the invariants in CONTRIBUTING.md, for which testdata/faults has faults.

// TestDurableBeforeItIsSent looks into the store when a request that changes the device goes out.
func TestDurableBeforeItIsSent(t *testing.T) {
	durable := map[string]func(u store.Update) bool{
		"PUT /5/0/1":  func(u store.Update) bool { return u.Machine.Memory.Attempt.Begun && len(u.Tokens) > 0 },
		"PUT /5/0/0":  func(u store.Update) bool { return u.Machine.Memory.Attempt.Begun },
		"POST /5/0/2": func(u store.Update) bool { return u.Machine.Memory.History.Executed },
	}
	for way, delivery := range map[string]fsm.DeliverySupport{"PUT /5/0/1": fsm.PullOnly, "PUT /5/0/0": fsm.PushOnly} {
		t.Run(delivery.String(), func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				var mu sync.Mutex
				var sent, early []string
				w.net.Tap(func(p simnet.Packet) {
					method, path := requestOf(p)
					what := method + " " + path
					if durable[what] == nil {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					sent = append(sent, what)
					for u, err := range w.db.Updates(w.ctx, store.UpdateQuery{Endpoint: endpoint, Active: true}) {
						if err != nil || !durable[what](u) {
							early = append(early, what)
						}
					}
				})
				script := good()
				script.Delivery = delivery
				w.device(script)
				w.ends(w.update(w.request()), fsm.OutcomeSucceeded, fsm.ReasonVersion)
				mu.Lock()
				defer mu.Unlock()
				require.Subset(t, sent, []string{way, "POST /5/0/2"})
				require.Empty(t, early, "invariant 10: the step is durable before the device is changed")
			})
		})
	}
}

// TestSeenIsDurable looks into the store for each journal line that a follower of events and a
// reader of the journal see.
func TestSeenIsDurable(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var mu sync.Mutex
		var seen, early []string
		check := func(e firmware.Event) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, e.Name)
			for line, err := range w.db.Events(w.ctx, store.EventQuery{Update: e.Update}) {
				if err == nil && line.Seq == e.Seq && line.Name == e.Name && line.Detail == e.Detail {
					return
				}
			}
			early = append(early, e.Name)
		}
		w.device(good())
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		go func() {
			for e, err := range w.mgr.Events(w.ctx, 0) {
				if err == nil && e.Name != firmware.EventProgress {
					check(e)
				}
			}
		}()
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			for e, err := range w.mgr.Journal(w.ctx, u.ID) {
				require.NoError(t, err)
				check(e)
			}
		}
		w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		mu.Lock()
		defer mu.Unlock()
		require.Subset(t, seen, []string{fsm.EventURIAccepted, fsm.EventExecuteAccepted, fsm.EventRegistered})
		require.Empty(t, early, "invariant 9: what is seen is durable")
	})
}

// TestRetentionLeavesTheActive holds an update for longer than ended ones stay.
func TestRetentionLeavesTheActive(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Retain: firmware.Retain{Age: 24 * time.Hour}}, func(w *world) {
		w.device(good())
		r := w.request()
		r.Hold = firmware.Hold{Holder: "night shift"}
		u, err := w.mgr.Start(w.ctx, r)
		require.NoError(t, err)
		gone := w.cancelled("other", 2)
		time.Sleep(3 * 24 * time.Hour)
		require.Empty(t, w.left("other"), gone)
		require.Equal(t, []string{u.ID}, w.left(endpoint), "invariant 11: an active update stays")
		require.NoError(t, errOf(w.mgr.Release(w.ctx, u.ID, "night shift")))
		w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
	})
}

func errOf(_ firmware.Update, err error) error { return err }

// TestReadsWhatMayHaveChanged has a device that registers again, and one that says that its State
// has changed: the server reads it within a second.
func TestReadsWhatMayHaveChanged(t *testing.T) {
	reads := func(s *sequence, after time.Time) bool {
		return slices.ContainsFunc(s.all(), func(r sentRequest) bool {
			return r.what == "GET /5/0" && r.at.After(after) && r.at.Before(after.Add(time.Second))
		})
	}
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		p := &puppet{}
		w.puppet(p)
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		s := w.sequence()
		for p.asked("uri") == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second) // the server observes the State
		p.show(fsm.Downloading, fsm.ResultDefault)
		time.Sleep(10 * time.Second)
		at := time.Now()
		p.show(fsm.Downloaded, fsm.ResultDefault)
		time.Sleep(2 * time.Second)
		require.True(t, reads(s, at), "invariant 14: a notification of another State is followed by a read: %q", s.names(0))
		w.phase(u.ID, fsm.PhaseExecuting)

		p.client.Stop(nil) // without a De-register
		time.Sleep(10 * time.Second)
		w.device(firmwaretest.Script{Version: newFW})
		at = time.Now()
		time.Sleep(2 * time.Second)
		require.True(t, reads(s, at), "invariant 14: a Register is followed by a read: %q", s.names(0))
		w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
	})
}

// TestFollowerBehindTheJournal follows from positions that the journal no longer has, and does not
// have yet.
func TestFollowerBehindTheJournal(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		id := w.cancelled("a", 1)[0]
		w.cancelled("b", 1)
		before, err := w.mgr.Span(w.ctx)
		require.NoError(t, err)
		require.Zero(t, before.Deleted)
		require.NoError(t, w.mgr.DeleteUpdate(w.ctx, id))
		span, err := w.mgr.Span(w.ctx)
		require.NoError(t, err)
		require.Greater(t, span.Deleted, before.First, "invariant 15: a follower learns that lines are gone")
		require.Greater(t, span.First, before.First)
		require.Equal(t, before.Last, span.Last)
		ctx, cancel := context.WithTimeout(w.ctx, time.Hour)
		defer cancel()
		for e, err := range w.mgr.Events(ctx, span.Last+1) {
			require.ErrorIs(t, err, firmware.ErrPosition, "invariant 15: a follower learns that its position is of another journal: %v", e)
			return
		}
		t.Error("invariant 15: a follower learns that its position is of another journal: Events has ended without an error")
	})
}
