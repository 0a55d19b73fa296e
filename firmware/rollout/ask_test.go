package rollout_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// TestDescribe: at every moment a rollout says in a sentence why it stands where it stands, and
// each member that waits has a reason.
func TestDescribe(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(3, map[int]firmwaretest.Install{})
		list = append(list, "absent")
		q := rollout.Request{Image: w.image.ID, Targets: rollout.Endpoints(list...), Key: "k", Fingerprint: "1", Stages: []rollout.Stage{
			{Size: 1, Soak: time.Hour}, {Share: 1, Manual: true},
		}}
		r, err := w.all.Create(w.ctx, q)
		require.NoError(t, err)
		says := func(want string, why fsm.Waiting) {
			t.Helper()
			r, err := w.all.Get(w.ctx, r.ID)
			require.NoError(t, err)
			got, _ := rollout.Describe(r)
			require.Equal(t, want, got)
			m, err := w.db.Member(w.ctx, r.ID, "absent")
			require.NoError(t, err)
			reason, _ := w.all.Why(&r, &m)
			require.Equal(t, why, reason)
		}
		says("it waits for its start, with 4 devices", fsm.WaitingNotStarted)
		again, err := w.all.Create(w.ctx, q)
		require.NoError(t, err)
		require.Equal(t, r.ID, again.ID, "the key makes it repeatable")
		q.Fingerprint = "2"
		_, err = w.all.Create(w.ctx, q)
		require.ErrorIs(t, err, rollout.ErrInvalid)

		_, err = w.all.Start(w.ctx, r.ID, rollout.Order{Actor: "kim"})
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
		says("stage 1 of 2: 1 of at most 1 admitted", fsm.WaitingStage)
		_, err = w.all.Pause(w.ctx, r.ID, rollout.Order{Actor: "kim", Reason: "lunch"})
		require.NoError(t, err)
		says("it was paused by kim: lunch", fsm.WaitingPaused)
		_, err = w.all.Resume(w.ctx, r.ID, rollout.Order{})
		require.NoError(t, err)
		w.until(r.ID, time.Hour, "no soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
		says("stage 1 of 2 has ended, and its devices are watched", fsm.WaitingStage)
		w.until(r.ID, 2*time.Hour, "no gate", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageGate })
		says("an operator opens stage 2 of 2", fsm.WaitingGate)
		_, err = w.all.Open(w.ctx, r.ID, rollout.Order{Reason: "all is well"})
		require.NoError(t, err)
		w.until(r.ID, time.Hour, "they do not end", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 3 })
		time.Sleep(time.Minute)
		says("stage 2 of 2: 3 of at most 4 admitted, and no other device can be reached", fsm.WaitingOffline)

		finish, never, err := w.all.StopPlan(w.ctx, r.ID, false)
		require.NoError(t, err)
		require.Equal(t, []int{0, 1}, []int{finish, never})
		require.ErrorIs(t, w.all.Delete(w.ctx, r.ID, rollout.Order{}), rollout.ErrState)
		_, err = w.all.Stop(w.ctx, r.ID, false, rollout.Order{Reason: "enough"})
		require.NoError(t, err)
		w.ended(r.ID, time.Hour)
		says("an operator stopped it: enough: 3 succeeded, 0 failed, 0 rolled back, 1 skipped", "")
		require.NoError(t, w.all.Delete(w.ctx, r.ID, rollout.Order{}))
		_, err = w.all.Get(w.ctx, r.ID)
		require.ErrorIs(t, err, store.ErrNotFound)
		require.ErrorIs(t, w.all.Delete(w.ctx, r.ID, rollout.Order{}), store.ErrNotFound)

		r, err = w.all.Create(w.ctx, rollout.Request{
			Image: w.image.ID, Select: &rollout.Selector{Labels: map[string]string{"site": "nowhere"}}, Start: true,
		})
		require.NoError(t, err)
		got, _ := rollout.Describe(r)
		require.Equal(t, "it has no device, and cannot start", got)

		r, err = w.all.Create(w.ctx, rollout.Request{Image: w.image.ID, Targets: rollout.Endpoints("absent"), EndAt: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		says("it cannot start any more, because its end_at has passed", fsm.WaitingNotStarted)
	})
}
