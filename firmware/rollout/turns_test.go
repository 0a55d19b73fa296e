package rollout_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// TestSleepersAndAWindow: devices that are awake for a moment now and then have their turns inside
// of a short window.
func TestSleepersAndAWindow(t *testing.T) {
	for _, covers := range []fsm.Covers{fsm.CoversInstall, fsm.CoversAll} {
		inWorld(t, func(w *world) {
			var list []string
			for i := range 8 {
				w.device(i, good(), lwm2m.ClientConfig{Queue: true, Lifetime: 25 * time.Minute})
				list = append(list, name(i))
			}
			list = append(list, w.fleetFrom(100, 4)...)
			window := rollout.Window{From: 3 * 60, To: 4 * 60, Zone: "UTC", Covers: covers}
			r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 2, Window: window})
			got := w.ended(r.ID, 6*24*time.Hour)
			require.Equal(t, fsm.Counts{Succeeded: 12}, got.Machine.Total, w.journal(r.ID))
			for _, endpoint := range list {
				open, _ := window.At(w.executed(r.ID, endpoint), time.UTC)
				require.True(t, open, "invariant 22: %s was made to install outside of the window", endpoint)
			}
			w.once()
		})
	}
}

// TestDeadAtEachStep: devices fall silent at different steps of their updates, and stay so for two
// days. Meanwhile all others are updated.
func TestDeadAtEachStep(t *testing.T) {
	inWorld(t, func(w *world) {
		var list []string
		for i := range 24 {
			if i < 12 {
				w.slowPull(i, 10*time.Minute)
			} else {
				w.device(i, good(), clientDefault)
			}
			list = append(list, name(i))
		}
		time.Sleep(time.Minute)
		for i := range 4 {
			w.cut(i, true)
		}
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 6, MaxFailure: share(1), MissingAfter: time.Hour})
		died := map[int]bool{}
		w.until(r.ID, 12*time.Hour, "the others wait for the dead", func(r rollout.Rollout) bool {
			for i := 4; i < 12; i++ {
				place := w.member(r.ID, name(i)).Machine.Place
				if !died[i] && (place == fsm.PlaceTransferring && i < 9 || place == fsm.PlaceInstalling) {
					died[i] = true
					w.cut(i, true)
				}
			}
			if r.Machine.State == fsm.StatePaused {
				_, _ = w.all.Resume(w.ctx, r.ID, kim)
			}
			alive := 0
			for i := 12; i < 24; i++ {
				if w.member(r.ID, name(i)).Machine.State == fsm.MemberSucceeded {
					alive++
				}
			}
			return alive == 12
		})
		time.Sleep(48 * time.Hour)
		for i := range 12 {
			w.cut(i, false)
		}
		got := w.until(r.ID, 72*time.Hour, "it does not end", func(r rollout.Rollout) bool {
			if r.Machine.State == fsm.StatePaused {
				_, _ = w.all.Resume(w.ctx, r.ID, kim)
			}
			return r.Machine.State == fsm.StateEnded
		})
		require.Equal(t, 24, got.Machine.Total.Succeeded+got.Machine.Total.Failed, w.journal(r.ID))
		require.GreaterOrEqual(t, got.Machine.Total.Succeeded, 12+4, w.journal(r.ID))
		w.once()
	})
}

// TestRateOverEverything: restarts of the server, pauses, edits, devices that come and go, and
// others that are refused at once, make no two admissions follow each other sooner than the rate
// allows.
func TestRateOverEverything(t *testing.T) {
	inWorld(t, func(w *world) {
		rng := rand.New(rand.NewPCG(5, 6))
		list := w.fleet(30, nil)
		for i := range 6 {
			w.cut(i, true)
			u, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: list[29-i], Image: w.image.ID, Hold: holdOf("sam")})
			require.NoError(t, err)
			time.AfterFunc(3*time.Hour, func() { _, _ = w.mgr.Release(w.ctx, u.ID, "sam") })
		}
		const interval = 3 * time.Minute
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: oneThenAll(), Interval: interval, MaxFailure: share(1)})
		for range 100 {
			time.Sleep(time.Duration(rng.IntN(200)) * time.Second)
			switch rng.IntN(5) {
			case 0:
				w.stop()
				time.Sleep(time.Duration(rng.IntN(60)) * time.Second)
				w.start()
			case 1:
				_, _ = w.all.Pause(w.ctx, r.ID, kim)
			case 2:
				n := 1 + rng.IntN(20)
				_, _ = w.all.Edit(w.ctx, r.ID, rollout.Change{Concurrency: &n}, kim)
			case 3:
				w.cut(rng.IntN(6), rng.IntN(2) == 0)
			}
			_, _ = w.all.Resume(w.ctx, r.ID, kim)
		}
		for i := range 6 {
			w.cut(i, false)
		}
		w.until(r.ID, 48*time.Hour, "it does not end", func(r rollout.Rollout) bool {
			_, _ = w.all.Resume(w.ctx, r.ID, kim)
			return r.Machine.State == fsm.StateEnded
		})
		var begun []time.Time
		for u, err := range w.mgr.List(w.ctx, store.UpdateQuery{}) {
			require.NoError(t, err)
			if u.Key != "" {
				begun = append(begun, u.Created)
			}
		}
		slices.SortFunc(begun, time.Time.Compare)
		for i := range begun[1:] {
			// A restart may come between an admission and its update.
			require.Greater(t, begun[i+1].Sub(begun[i]), interval-time.Minute-time.Second, w.journal(r.ID))
		}
		require.LessOrEqual(t, len(begun), int(begun[len(begun)-1].Sub(begun[0])/interval)+1)
		w.once()
	})
}
