package rollout_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	ufsm "github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

var kim = rollout.Order{Actor: "kim", Reason: "because"}

// slow installs for a long time.
func slow() firmwaretest.Install {
	return firmwaretest.Install{Version: newFW, Time: 20 * time.Minute, BootTime: 10 * time.Second}
}

// lines returns the lines of a rollout's journal with one name.
func (w *world) lines(id, name string) (list []rollout.Event) {
	for e, err := range w.all.Events(w.ctx, store.RolloutEventQuery{Rollout: id}) {
		require.NoError(w.t, err)
		if e.Name == name {
			list = append(list, e)
		}
	}
	return list
}

// TestManualUpdateInTheWay: the update of a person is neither replaced nor held; the member waits
// for its end, with its id, and is updated then. And a person's update waits for the rollout's.
func TestManualUpdateInTheWay(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(2, nil)
		u, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: name(0), Image: w.image.ID, Hold: holdOf("kim")})
		require.NoError(t, err)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all()})
		time.Sleep(3 * time.Hour)
		m := w.member(r.ID, name(0))
		require.Equal(t, fsm.MemberWaiting, m.Machine.State, "invariant 19: a person's update goes on")
		got := w.get(r.ID)
		why, until := w.all.Why(&got, &m)
		require.Equal(t, fsm.WaitingBusy, why)
		require.Equal(t, u.ID, m.Machine.Busy)
		require.False(t, until.IsZero())
		still, err := w.mgr.Get(w.ctx, u.ID)
		require.NoError(t, err)
		require.True(t, still.Active(), "invariant 19: a person's update goes on")
		require.Len(t, still.Machine.Holds, 1, "invariant 19: a person's update goes on")

		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		got = w.ended(r.ID, time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 2}, got.Machine.Total, w.journal(r.ID))
		w.once()

		// The other way round.
		w.device(9, slow(), clientDefault)
		time.Sleep(time.Minute)
		r = w.create(rollout.Request{Targets: rollout.Endpoints(name(9)), Stages: all()})
		w.until(r.ID, time.Hour, "it is not active", func(r rollout.Rollout) bool { return r.Machine.Total.Active == 1 })
		_, err = w.mgr.Start(w.ctx, updateOf(w, name(9)))
		require.ErrorIs(t, err, store.ErrActive)
		require.Equal(t, fsm.Counts{Succeeded: 1}, w.ended(r.ID, 3*time.Hour).Machine.Total)
	})
}

// TestManyRolloutsOfTheSameDevices: a device that is in several rollouts waits for its turn in one
// until the other one has ended with it.
func TestManyRolloutsOfTheSameDevices(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(6, nil)
		var ids []string
		for range 4 {
			ids = append(ids, w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 2}).ID)
		}
		var total fsm.Counts
		for _, id := range ids {
			got := w.ended(id, 10*time.Hour).Machine.Total
			total.Succeeded, total.Skipped = total.Succeeded+got.Succeeded, total.Skipped+got.Skipped
		}
		require.Equal(t, fsm.Counts{Succeeded: 6, Skipped: 18}, total)
		w.once()
	})
}

// TestLaterUpdateIsNoRollBack: what another update has done to a device since is not judged at the
// end of a soak.
func TestLaterUpdateIsNoRollBack(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(2, nil)
		higher, err := w.images.Add(w.ctx, store.Image{Name: "sensor", Version: "1.2.0"}, strings.NewReader(strings.Repeat("x", 4000)))
		require.NoError(t, err)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Share: 1, Soak: 2 * time.Hour}}})
		w.until(r.ID, time.Hour, "it does not soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
		w.devices[name(0)].SetInstall(firmwaretest.Install{Version: "1.2.0", BootTime: time.Second})
		u, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: name(0), Image: higher.ID})
		require.NoError(t, err)
		u, err = w.mgr.Wait(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, firmware.OutcomeSucceeded, u.Outcome())
		require.Equal(t, fsm.Counts{Succeeded: 2}, w.ended(r.ID, 5*time.Hour).Machine.Total, w.journal(r.ID))
	})
}

// TestSoak: at the end of a soak devices are read again. One that shows another version is a late
// roll back, which its update shows beside the outcome; one that does not answer is missing. Both
// count as bad.
func TestSoak(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(12, map[int]firmwaretest.Install{
			4: {Version: newFW, Time: time.Minute, BootTime: time.Second, RollsBack: 30 * time.Minute},
		})
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), MaxFailure: share(0.05), Stages: []rollout.Stage{
			{Size: 1, Only: true}, {Size: 12, Soak: time.Hour}, {Share: 1},
		}, Only: map[int]rollout.Only{0: {Endpoints: list[:1]}}})
		w.until(r.ID, time.Hour, "it does not soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
		w.cut(5, true)
		got := w.state(r.ID, fsm.StatePaused, 5*time.Hour)
		require.Equal(t, fsm.ReasonTrip, got.Machine.Reason)
		m := w.member(r.ID, name(4))
		require.Equal(t, fsm.MemberRolledBack, m.Machine.State, w.journal(r.ID))
		require.Equal(t, oldFW, m.Machine.Later)
		u, err := w.mgr.Get(w.ctx, m.Machine.Update)
		require.NoError(t, err)
		require.Equal(t, firmware.OutcomeSucceeded, u.Outcome())
		require.Equal(t, oldFW, u.Later.Version)
		require.False(t, u.Later.Time.IsZero())
		require.True(t, w.member(r.ID, name(5)).Machine.Missing)
		require.Equal(t, 2, got.Machine.Since.Bad)
	})
}

// TestTripHolds: at a trip, updates that have not begun to install are held, and are not executed.
// Those that have begun go on.
func TestTripHolds(t *testing.T) {
	inWorld(t, func(w *world) {
		odd := map[int]firmwaretest.Install{0: fails(), 1: slow(), 2: slow()}
		for i := 3; i < 40; i++ {
			odd[i] = slow()
		}
		list := w.fleet(40, odd)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 40, MaxFailure: share(0)})
		got := w.state(r.ID, fsm.StatePaused, time.Hour)
		require.Equal(t, fsm.ReasonTrip, got.Machine.Reason)
		begun := 0
		for _, endpoint := range list {
			begun += w.installs(endpoint)
		}
		time.Sleep(12 * time.Hour)
		after := 0
		for _, endpoint := range list {
			after += w.installs(endpoint)
		}
		require.Equal(t, begun, after, "invariant 17: what is held is not executed")
		got = w.get(r.ID)
		require.Zero(t, got.Machine.Slots.Granted, "an active member is not held")
		require.Equal(t, fsm.StatePaused, got.Machine.State)
		w.once()
	})
}

// TestHoldAndExecuteInBothOrders: an update whose hold was stored before its step to executing is
// never executed; one whose step came first is under way, and its journal says so.
func TestHoldAndExecuteInBothOrders(t *testing.T) {
	for _, test := range []struct {
		name  string
		phase ufsm.Phase
		runs  bool
	}{
		{"hold first", ufsm.PhaseTransferring, false},
		{"step first", ufsm.PhaseExecuting, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.device(0, slow(), clientDefault)
				w.slowPull(1, 10*time.Minute)
				time.Sleep(time.Minute)
				target := name(1)
				if test.runs {
					target = name(0)
				}
				r := w.create(rollout.Request{Targets: rollout.Endpoints(target), Stages: all()})
				w.phase(r.ID, target, test.phase)
				_, err := w.all.Pause(w.ctx, r.ID, kim)
				require.NoError(t, err)
				time.Sleep(6 * time.Hour)
				u, err := w.mgr.Get(w.ctx, w.member(r.ID, target).Machine.Update)
				require.NoError(t, err)
				require.Equal(t, !test.runs, u.Active(), "invariant 17: what is held is not executed")
				if test.runs {
					require.Equal(t, firmware.OutcomeSucceeded, u.Outcome())
					require.Equal(t, 1, w.installs(target))
				} else {
					require.Zero(t, w.installs(target))
					require.Equal(t, ufsm.PhaseTransferred, u.Phase())
					require.Equal(t, "rollout/"+r.ID, u.Machine.Holds[0].Holder)
				}
				_, err = w.all.Resume(w.ctx, r.ID, kim)
				require.NoError(t, err)
				require.Equal(t, fsm.Counts{Succeeded: 1}, w.ended(r.ID, 5*time.Hour).Machine.Total)
				require.Equal(t, 1, w.installs(target))
			})
		})
	}
}

// TestOperatorCancelsAnUpdate: a member whose update a person cancels is skipped, and counts for
// nothing bad.
func TestOperatorCancelsAnUpdate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.slowPull(0, time.Hour)
		w.device(1, good(), clientDefault)
		time.Sleep(time.Minute)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(name(0), name(1)), Stages: all()})
		u := w.phase(r.ID, name(0), ufsm.PhaseTransferring)
		_, err := w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		got := w.ended(r.ID, 5*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 1, Skipped: 1}, got.Machine.Total, w.journal(r.ID))
		require.Equal(t, fsm.SkipCancelled, w.member(r.ID, name(0)).Machine.Skip)
	})
}

// TestKeepsWhatItPointsAt: what an unfinished rollout points at is not deleted; when it has ended,
// it may be.
func TestKeepsWhatItPointsAt(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(3, nil)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(append(list, "absent")...), Stages: all()})
		w.until(r.ID, time.Hour, "none has succeeded", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 3 })
		u := w.member(r.ID, name(0)).Machine.Update
		const stays = "invariant 21: what an unfinished rollout points at stays"
		require.ErrorIs(t, w.images.Delete(w.ctx, w.image.ID), firmware.ErrKept, stays)
		require.ErrorIs(t, w.mgr.DeleteDevice(w.ctx, name(0)), firmware.ErrKept, stays)
		require.ErrorIs(t, w.mgr.DeleteUpdate(w.ctx, u), firmware.ErrKept, stays)
		require.ErrorIs(t, w.all.Delete(w.ctx, r.ID, kim), rollout.ErrState)
		_, err := w.all.Stop(w.ctx, r.ID, false, kim)
		require.NoError(t, err)
		w.ended(r.ID, time.Hour)
		require.NoError(t, w.mgr.DeleteUpdate(w.ctx, u))
		require.NoError(t, w.mgr.DeleteDevice(w.ctx, name(1)))
		require.NoError(t, w.all.Delete(w.ctx, r.ID, kim))
		_, err = w.all.Get(w.ctx, r.ID)
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

// TestStop: updates that run finish or are cancelled; a dry run has said how many.
func TestStop(t *testing.T) {
	for _, cancels := range []bool{false, true} {
		inWorld(t, func(w *world) {
			list := w.fleet(4, nil)
			for i := 4; i < 6; i++ {
				w.slowPull(i, time.Hour)
				list = append(list, name(i))
			}
			time.Sleep(time.Minute)
			for i := range 4 {
				w.devices[name(i)].SetInstall(slow())
			}
			list = append(list, "absent-1", "absent-2")
			r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all()})
			w.until(r.ID, time.Hour, "they do not install", func(r rollout.Rollout) bool { return r.Machine.Slots.Installing == 4 && r.Machine.Total.Active == 6 })
			finish, never, err := w.all.StopPlan(w.ctx, r.ID, cancels)
			require.NoError(t, err)
			_, err = w.all.Stop(w.ctx, r.ID, cancels, kim)
			require.NoError(t, err)
			got := w.ended(r.ID, 12*time.Hour)
			require.Equal(t, finish, got.Machine.Total.Succeeded, w.journal(r.ID))
			require.Equal(t, never, got.Machine.Total.Skipped)
			require.Equal(t, map[bool]int{false: 6, true: 4}[cancels], finish)
			_, err = w.all.Resume(w.ctx, r.ID, kim)
			require.ErrorIs(t, err, rollout.ErrState)
			_, err = w.all.Retry(w.ctx, r.ID, []rollout.Outcome{rollout.OutcomeSkipped}, kim)
			require.ErrorIs(t, err, rollout.ErrState)
		})
	}
}

// TestStopWithADeviceAway: a device that does not come back keeps a rollout that stops from its end
// until end_at, and no longer.
func TestStopWithADeviceAway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.slowPull(0, 30*time.Minute)
		time.Sleep(time.Minute)
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(name(0)), Stages: all(), EndAt: time.Now().Add(24 * time.Hour),
			Update: firmware.Request{Deadline: 2 * time.Hour},
		})
		w.phase(r.ID, name(0), ufsm.PhaseTransferring)
		w.cut(0, true)
		w.until(r.ID, 2*time.Hour, "it is not away", func(r rollout.Rollout) bool { return r.Machine.Slots.Away == 1 })
		_, err := w.all.Stop(w.ctx, r.ID, false, kim)
		require.NoError(t, err)
		time.Sleep(10 * time.Hour)
		require.Equal(t, fsm.StateStopping, w.get(r.ID).Machine.State)
		got := w.ended(r.ID, 24*time.Hour)
		require.Equal(t, fsm.Counts{Skipped: 1}, got.Machine.Total)
		require.WithinDuration(t, got.Machine.Plan.EndAt, got.Machine.Ended, time.Minute)
	})
}

// TestRetry: members are tried again by the way in which they ended.
func TestRetry(t *testing.T) {
	inWorld(t, func(w *world) {
		odd := map[int]firmwaretest.Install{0: fails(), 1: {BootTime: time.Second, Forgets: true}}
		list := w.fleet(3, odd)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Size: 2}, {Share: 1}}, MaxFailure: share(1)})
		for range 3 {
			got := w.until(r.ID, 5*time.Hour, "it goes on for ever", func(r rollout.Rollout) bool { return r.Machine.State != fsm.StateRunning })
			if got.Machine.State == fsm.StatePaused {
				_, err := w.all.Resume(w.ctx, r.ID, kim)
				require.NoError(t, err)
			}
		}
		got := w.ended(r.ID, 5*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 1, Failed: 1, RolledBack: 1}, got.Machine.Total, w.journal(r.ID))
		_, err := w.all.Retry(w.ctx, r.ID, []rollout.Outcome{rollout.OutcomeTimedOut}, kim)
		require.ErrorIs(t, err, rollout.ErrState)
		_, err = w.all.Retry(w.ctx, r.ID, []rollout.Outcome{"odd"}, kim)
		require.ErrorIs(t, err, rollout.ErrInvalid)
		w.devices[name(0)].SetInstall(good())
		_, err = w.all.Retry(w.ctx, r.ID, []rollout.Outcome{rollout.OutcomeFailed}, kim)
		require.NoError(t, err)
		got = w.ended(r.ID, 5*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 2, RolledBack: 1}, got.Machine.Total, w.journal(r.ID))
		line := w.lines(r.ID, rollout.EventRetried)
		require.Len(t, line, 1)
		require.Equal(t, "kim", line[0].Actor)
	})
}

// TestEdit: an edit counts at once, and the journal has who did it, and both values.
func TestEdit(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(6, nil)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 1, Interval: 24 * time.Hour})
		w.until(r.ID, time.Hour, "none has succeeded", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 1 })
		none, many, notes := time.Duration(0), 5, "in a hurry"
		_, err := w.all.Edit(w.ctx, r.ID, rollout.Change{Interval: &none, Concurrency: &many, Notes: &notes}, kim)
		require.NoError(t, err)
		line := w.lines(r.ID, fsm.EventEdited)
		require.Len(t, line, 1)
		require.Equal(t, "kim", line[0].Actor)
		require.Equal(t, `concurrency from 1 to 5, rate from 0.0006944 a minute to none, notes from "" to "in a hurry": because`, line[0].Detail)
		same, err := w.all.Edit(w.ctx, r.ID, rollout.Change{Concurrency: &many}, kim)
		require.NoError(t, err, "it is so already")
		require.Equal(t, r.ID, same.ID)
		require.Len(t, w.lines(r.ID, fsm.EventEdited), 1)
		zero := 0
		_, err = w.all.Edit(w.ctx, r.ID, rollout.Change{Concurrency: &zero}, kim)
		require.ErrorIs(t, err, rollout.ErrInvalid)
		var field *firmware.RequestError
		require.ErrorAs(t, err, &field)
		require.Equal(t, "concurrency", field.Field)
		_, err = w.all.Edit(w.ctx, r.ID, rollout.Change{Window: &rollout.Window{From: 60, To: 120, Zone: "Mars/Base", Covers: fsm.CoversAll}}, kim)
		require.ErrorAs(t, err, &field)
		require.Equal(t, "window.zone", field.Field)
		require.Equal(t, fsm.Counts{Succeeded: 6}, w.ended(r.ID, time.Hour).Machine.Total)
		q, err := rollout.RequestOf(w.get(r.ID))
		require.NoError(t, err)
		require.Equal(t, notes, q.Notes)
	})
}

// TestAddAndRemove: a device that joins later is updated; one that is removed is not.
func TestAddAndRemove(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(3, nil)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list[:2]...), Stages: []rollout.Stage{{Size: 1}, {Share: 1, Manual: true}}})
		w.until(r.ID, time.Hour, "it does not wait", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageGate })
		for range 2 {
			_, err := w.all.Add(w.ctx, r.ID, list[2], kim)
			require.NoError(t, err)
		}
		_, err := w.all.Add(w.ctx, r.ID, "", kim)
		require.ErrorIs(t, err, rollout.ErrInvalid)
		_, err = w.all.Remove(w.ctx, r.ID, "no-member", kim)
		require.ErrorIs(t, err, store.ErrNotFound)
		gone := list[0]
		if w.member(r.ID, gone).Machine.State != fsm.MemberWaiting {
			gone = list[1]
		}
		for range 2 {
			_, err = w.all.Remove(w.ctx, r.ID, gone, kim)
			require.NoError(t, err)
		}
		_, err = w.all.Open(w.ctx, r.ID, kim)
		require.NoError(t, err)
		got := w.ended(r.ID, time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 2, Skipped: 1}, got.Machine.Total)
		require.Zero(t, w.installs(gone))
		require.Len(t, w.lines(r.ID, rollout.EventAdded), 1)
		require.Len(t, w.lines(r.ID, rollout.EventRemoved), 1)
	})
}

// TestOrdersThatFindItSo: an order that finds the rollout as it wants it changes nothing, and is no
// error; one that the state does not allow says where the rollout stands.
func TestOrdersThatFindItSo(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(2, nil)
		r, err := w.all.Create(w.ctx, rollout.Request{Image: w.image.ID, Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Size: 1}, {Share: 1, Manual: true}}})
		require.NoError(t, err)
		orders := map[string]func() (rollout.Rollout, error){
			"start":  func() (rollout.Rollout, error) { return w.all.Start(w.ctx, r.ID, kim) },
			"pause":  func() (rollout.Rollout, error) { return w.all.Pause(w.ctx, r.ID, kim) },
			"resume": func() (rollout.Rollout, error) { return w.all.Resume(w.ctx, r.ID, kim) },
			"open":   func() (rollout.Rollout, error) { return w.all.Open(w.ctx, r.ID, kim) },
			"finish": func() (rollout.Rollout, error) { return w.all.Stop(w.ctx, r.ID, false, kim) },
			"cancel": func() (rollout.Rollout, error) { return w.all.Stop(w.ctx, r.ID, true, kim) },
			"edit":   func() (rollout.Rollout, error) { return w.all.Edit(w.ctx, r.ID, rollout.Change{}, kim) },
		}
		// finds tries orders that must change nothing: those of same are no error, all others
		// but do are.
		finds := func(same []string, do ...string) {
			t.Helper()
			before := w.get(r.ID)
			for name, order := range orders {
				if slices.Contains(do, name) {
					continue
				}
				got, err := order()
				if slices.Contains(same, name) {
					require.NoError(t, err, name)
					require.Equal(t, before.Machine.State, got.Machine.State, name)
				} else {
					require.ErrorIs(t, err, rollout.ErrState, name)
					require.ErrorContains(t, err, "it is "+string(before.Machine.State), name)
				}
			}
			require.Equal(t, before.Lines, w.get(r.ID).Lines, "an order that changed nothing is in the journal")
		}
		give := func(name string) {
			t.Helper()
			_, err := orders[name]()
			require.NoError(t, err)
		}
		finds([]string{"edit"}, "start", "finish", "cancel")
		_, err = orders["open"]()
		require.ErrorContains(t, err, "it is draft: it waits for its start, with 2 devices")
		give("start")
		finds([]string{"start", "resume", "edit"}, "pause", "finish", "cancel")
		give("pause")
		finds([]string{"pause", "edit"}, "resume", "finish", "cancel")
		give("resume")
		w.until(r.ID, time.Hour, "no gate", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageGate })
		finds([]string{"start", "resume", "edit"}, "open", "pause", "finish", "cancel")
		w.devices[name(0)].SetInstall(slow())
		w.devices[name(1)].SetInstall(slow())
		give("open")
		w.until(r.ID, time.Hour, "it does not install", func(r rollout.Rollout) bool { return r.Machine.Slots.Installing == 1 })
		finds([]string{"start", "resume", "edit"}, "pause", "finish", "cancel")
		give("finish")
		finds([]string{"finish"}, "cancel")
		give("cancel")
		finds([]string{"cancel"})
		w.ended(r.ID, time.Hour)
		finds([]string{"cancel"})
		finish, never, err := w.all.StopPlan(w.ctx, r.ID, true)
		require.NoError(t, err)
		require.Equal(t, []int{0, 0}, []int{finish, never})
		_, _, err = w.all.StopPlan(w.ctx, r.ID, false)
		require.ErrorIs(t, err, rollout.ErrState)
	})
}

// TestOrdersWhileTheManagerStarts: an order that comes while the runner of its rollout starts is
// not lost to it.
func TestOrdersWhileTheManagerStarts(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(40, nil)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 1})
		for i := 0; w.get(r.ID).Machine.Total.Succeeded < 35; i++ {
			time.Sleep(10 * time.Second)
			_, err := w.all.Pause(w.ctx, r.ID, kim)
			require.NoError(t, err)
			time.Sleep(5 * time.Minute)
			before := w.get(r.ID).Machine.Total.Succeeded
			w.stop()
			w.start()
			for range i {
				runtime.Gosched()
			}
			_, err = w.all.Resume(w.ctx, r.ID, kim)
			require.NoError(t, err)
			w.until(r.ID, time.Hour, "the order is lost", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded > before })
		}
		require.Equal(t, fsm.Counts{Succeeded: 40}, w.ended(r.ID, 5*time.Hour).Machine.Total)
		w.once()
	})
}

// TestOrdersToARolloutThatEnds: orders that come while a rollout ends are answered.
func TestOrdersToARolloutThatEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.create(rollout.Request{Targets: rollout.Endpoints("absent"), Stages: all()})
		done := make(chan error, 40)
		for i := range 20 {
			go func() {
				_, err := w.all.Stop(w.ctx, r.ID, i%2 == 0, kim)
				done <- err
			}()
			go func() {
				_, err := w.all.Pause(w.ctx, r.ID, kim)
				done <- err
			}()
		}
		ok := 0
		for range 40 {
			err := <-done
			if err == nil {
				ok++
			} else {
				require.ErrorIs(t, err, rollout.ErrState)
			}
		}
		require.Positive(t, ok)
		w.ended(r.ID, time.Minute)
	})
}

// TestProgramsFunctions: Health and Allow may refuse, fail, panic, block or answer late; the
// rollout and its orders go on.
func TestProgramsFunctions(t *testing.T) {
	inWorld(t, func(w *world) {
		w.stop()
		var asked atomic.Int32
		w.config.Health = func(ctx context.Context, r rollout.Rollout, stage int) (bool, string, error) {
			switch asked.Add(1) {
			case 1:
				return false, "error rate is up", nil
			case 2:
				return true, "", errors.New("no answer from the monitor")
			case 3:
				panic("health")
			case 4:
				<-w.ctx.Done() // does not care for its context
				return true, "", nil
			case 5:
				time.Sleep(10 * time.Minute)
				return true, "", nil
			}
			require.Equal(t, 2, stage)
			return true, "", nil
		}
		w.config.Allow = func(ctx context.Context, actor string, action rollout.Action, r rollout.Rollout) error {
			switch actor {
			case "eve":
				return errors.New("she may not")
			case "panic":
				panic("allow")
			case "slow":
				<-w.ctx.Done()
			}
			return nil
		}
		w.start()
		list := w.fleet(3, nil)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Size: 1}, {Share: 1}}})
		got := w.ended(r.ID, 5*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 3}, got.Machine.Total, w.journal(r.ID))
		require.GreaterOrEqual(t, asked.Load(), int32(6))
		require.Len(t, w.lines(r.ID, fsm.EventHealth), 4, w.journal(r.ID))
		for _, actor := range []string{"eve", "panic", "slow"} {
			_, err := w.all.Retry(w.ctx, r.ID, []rollout.Outcome{rollout.OutcomeFailed}, rollout.Order{Actor: actor})
			require.ErrorIs(t, err, rollout.ErrRefused, actor)
		}
		time.Sleep(15 * time.Minute) // until the call that sleeps is back
	})
}
