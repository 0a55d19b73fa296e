package rollout_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// TestAllWell: a rollout over thirty devices goes through its stages.
func TestAllWell(t *testing.T) {
	inWorld(t, func(w *world) {
		r, err := w.all.Create(w.ctx, rollout.Request{Name: "spring", Image: w.image.ID, Targets: rollout.Endpoints(w.fleet(30, nil)...), Start: true})
		require.NoError(t, err)
		got := w.ended(r.ID, 3*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 30}, got.Machine.Total, w.journal(r.ID))
		require.Equal(t, fsm.ReasonDone, got.Machine.Reason)
		t.Log("\n" + w.journal(r.ID))
	})
}

// TestTrips: the first device of a rollout fails; nothing else is updated until an operator resumes
// it.
func TestTrips(t *testing.T) {
	inWorld(t, func(w *world) {
		odd := map[int]firmwaretest.Install{}
		for i := range 10 {
			odd[i] = fails()
		}
		list := w.fleet(10, odd)
		r, err := w.all.Create(w.ctx, rollout.Request{Image: w.image.ID, Targets: rollout.Endpoints(list...), Start: true})
		require.NoError(t, err)
		got := w.until(r.ID, time.Hour, "it has not tripped", func(r rollout.Rollout) bool { return r.Machine.State == fsm.StatePaused })
		require.Equal(t, fsm.ReasonTrip, got.Machine.Reason)
		time.Sleep(24 * time.Hour)
		got, err = w.all.Get(w.ctx, r.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.Counts{Waiting: 9, Failed: 1}, got.Machine.Total)
		_, err = w.all.Start(w.ctx, r.ID, rollout.Order{})
		require.ErrorIs(t, err, rollout.ErrState)
		_, err = w.all.Stop(w.ctx, r.ID, false, rollout.Order{Actor: "kim", Reason: "a bad image"})
		require.NoError(t, err)
		got = w.ended(r.ID, time.Hour)
		require.Equal(t, fsm.Counts{Skipped: 9, Failed: 1}, got.Machine.Total)
	})
}

// TestRestart: the server restarts in the middle of a rollout. Nothing is forgotten.
func TestRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(20, nil)
		r, err := w.all.Create(w.ctx, rollout.Request{
			Image: w.image.ID, Targets: rollout.Endpoints(list...), Start: true, Concurrency: 3, Stages: []rollout.Stage{{Share: 1}},
		})
		require.NoError(t, err)
		for range 6 {
			time.Sleep(70 * time.Second)
			w.stop()
			time.Sleep(10 * time.Second)
			w.start()
		}
		got := w.ended(r.ID, 10*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 20}, got.Machine.Total, w.journal(r.ID))
	})
}
