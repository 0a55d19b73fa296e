package rollout_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// everyOrder are all orders that there are.
var everyOrder = map[string]func(w *world, id string) error{
	"start":  func(w *world, id string) error { _, err := w.all.Start(w.ctx, id, kim); return err },
	"pause":  func(w *world, id string) error { _, err := w.all.Pause(w.ctx, id, kim); return err },
	"resume": func(w *world, id string) error { _, err := w.all.Resume(w.ctx, id, kim); return err },
	"open":   func(w *world, id string) error { _, err := w.all.Open(w.ctx, id, kim); return err },
	"finish": func(w *world, id string) error { _, err := w.all.Stop(w.ctx, id, false, kim); return err },
	"cancel": func(w *world, id string) error { _, err := w.all.Stop(w.ctx, id, true, kim); return err },
	"retry": func(w *world, id string) error {
		_, err := w.all.Retry(w.ctx, id, []rollout.Outcome{rollout.OutcomeFailed, rollout.OutcomeRolledBack, rollout.OutcomeTimedOut, rollout.OutcomeSkipped}, kim)
		return err
	},
	"add": func(w *world, id string) error {
		if w.devices[name(77)] == nil {
			w.device(77, good(), lwm2m.ClientConfig{})
		}
		_, err := w.all.Add(w.ctx, id, name(77), kim)
		return err
	},
	"add one that is away": func(w *world, id string) error { _, err := w.all.Add(w.ctx, id, "absent", kim); return err },
	"remove": func(w *world, id string) (failed error) {
		for i := range 6 {
			_, err := w.all.Remove(w.ctx, id, name(i), kim)
			failed = errors.Join(failed, err)
		}
		return failed
	},
	"edit concurrency": func(w *world, id string) error {
		one := 1
		_, err := w.all.Edit(w.ctx, id, rollout.Change{Concurrency: &one}, kim)
		return err
	},
	"edit window": func(w *world, id string) error {
		night := rollout.Window{From: 60, To: 90, Zone: "Australia/Sydney", Covers: fsm.CoversAll}
		_, err := w.all.Edit(w.ctx, id, rollout.Change{Window: &night}, kim)
		return err
	},
	"edit rate": func(w *world, id string) error {
		hour := time.Hour
		_, err := w.all.Edit(w.ctx, id, rollout.Change{Interval: &hour}, kim)
		return err
	},
	"edit end": func(w *world, id string) error {
		soon := time.Now().Add(10 * time.Minute)
		_, err := w.all.Edit(w.ctx, id, rollout.Change{EndAt: &soon}, kim)
		return err
	},
	"nothing": func(*world, string) error { return nil },
}

// TestEveryOrderInEveryState gives each order in each state, restarts the server, and gives it
// again. Whatever the order did, an operator who resumes and opens then comes to the end: each
// member has ended, the counters are right, and no device has installed more often than it was
// asked to. OTAGO_EVERY=1 tries all combinations.
func TestEveryOrderInEveryState(t *testing.T) {
	n, every := 0, 4
	if testing.Short() || testkit.Race {
		every = 23
	}
	if text := os.Getenv("OTAGO_EVERY"); text != "" {
		var err error
		every, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	for _, situation := range slices.Sorted(maps.Keys(situations)) {
		reach := situations[situation]
		for _, what := range slices.Sorted(maps.Keys(everyOrder)) {
			order := everyOrder[what]
			if n++; n%every != 0 {
				continue
			}
			t.Run(situation+", "+what, func(t *testing.T) {
				inWorld(t, func(w *world) { everyOrderIn(w, reach(w), order) })
			})
		}
	}
}

func everyOrderIn(w *world, r rollout.Rollout, order func(w *world, id string) error) {
	retried := map[string]int{}
	give := func() {
		before := map[string]fsm.MemberState{}
		for m, err := range w.all.Members(w.ctx, store.MemberQuery{Rollout: r.ID}) {
			require.NoError(w.t, err)
			before[m.Endpoint] = m.Machine.State
		}
		if err := order(w, r.ID); err != nil && !errors.Is(err, rollout.ErrInvalid) { // an end before its start
			require.ErrorIs(w.t, err, rollout.ErrState)
		}
		for endpoint, state := range before {
			if state.Ended() && !w.member(r.ID, endpoint).Machine.State.Ended() {
				retried[endpoint]++
			}
		}
		w.check(r.ID)
	}
	give()
	w.stop()
	w.start()
	give()
	time.Sleep(10 * time.Second)
	w.check(r.ID)
	begun := time.Now()
	for i := range 6 {
		time.AfterFunc(2*time.Hour, func() { w.cut(i, false) })
	}
	var got rollout.Rollout
	for time.Since(begun) < 40*time.Hour {
		time.Sleep(7 * time.Minute)
		if got = w.check(r.ID); got.Machine.State == fsm.StateEnded {
			break
		}
		switch {
		case time.Since(begun) < time.Hour:
		case got.Machine.State == fsm.StateDraft && !time.Now().Before(got.Machine.Plan.EndAt):
			why, _ := rollout.Describe(got)
			require.Contains(w.t, why, "cannot start")
			_, err := w.all.Stop(w.ctx, r.ID, false, kim)
			require.NoError(w.t, err)
		case got.Machine.State == fsm.StateDraft:
			_, err := w.all.Start(w.ctx, r.ID, kim)
			require.NoError(w.t, err)
		case got.Machine.State == fsm.StatePaused && got.Machine.Reason == fsm.ReasonStage:
			_, err := w.all.Open(w.ctx, r.ID, kim)
			require.NoError(w.t, err)
		case got.Machine.State == fsm.StatePaused:
			_, err := w.all.Resume(w.ctx, r.ID, kim)
			require.NoError(w.t, err)
		case got.Machine.State == fsm.StateRunning && got.Machine.StageState == fsm.StageGate:
			_, err := w.all.Open(w.ctx, r.ID, kim)
			require.NoError(w.t, err)
		}
	}
	require.Equal(w.t, fsm.StateEnded, got.Machine.State, "%+v\n%s", got.Machine, w.journal(r.ID))
	text := fmt.Sprintf("%s\nafter %s", w.journal(r.ID), time.Since(begun))
	require.Zero(w.t, got.Machine.Total.Waiting+got.Machine.Total.Active, text)
	for endpoint, d := range w.devices {
		require.LessOrEqual(w.t, w.installs(endpoint), 1+retried[endpoint], text)
		m, err := w.db.Member(w.ctx, r.ID, endpoint)
		if err != nil {
			continue
		}
		switch m.Machine.State {
		case fsm.MemberSucceeded:
			require.Equal(w.t, newFW, d.Version(), text)
		case fsm.MemberSkipped:
			switch m.Machine.Skip {
			case fsm.SkipUnreachable:
				require.NotEqual(w.t, fsm.ReasonDone, got.Machine.Reason, text)
			case fsm.SkipCurrent:
				require.Equal(w.t, newFW, d.Version(), text)
			}
		}
	}
	if got.Machine.Reason == fsm.ReasonDone {
		require.Less(w.t, time.Since(begun), 28*time.Hour, text)
	}
}
