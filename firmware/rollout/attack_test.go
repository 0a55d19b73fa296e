package rollout_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// TestStageOfCanariesAlone: one of two canaries is away. Other devices are heard meanwhile; the
// stage goes on with the one.
func TestStageOfCanariesAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(name(0), name(1), name(2), name(3)),
			Stages:  []rollout.Stage{{Size: 2, Only: true, Soak: time.Minute}, {Share: 1}},
			Only:    map[int]rollout.Only{0: {Endpoints: []string{name(0), name(1)}}},
		})
		time.Sleep(time.Minute)
		w.device(2, good(), lwm2m.ClientConfig{}) // heard first, and not named
		time.Sleep(time.Minute)
		w.device(0, good(), lwm2m.ClientConfig{})
		got := w.until(r.ID, time.Hour, "the stage of the canaries does not end", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 2 })
		require.Equal(t, 1, got.Machine.Stage)
		w.device(3, good(), lwm2m.ClientConfig{})
		time.Sleep(10 * time.Minute)
		w.device(1, good(), lwm2m.ClientConfig{})
		require.Equal(t, fsm.Counts{Succeeded: 4}, w.ended(r.ID, time.Hour).Machine.Total)
		w.once()
	})
}

// TestSlowRateAndSleepers: with one admission in ten minutes, devices that are awake for a minute
// have their turn beside those that always are.
func TestSlowRateAndSleepers(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(8, nil)
		for i := range 3 {
			w.device(100+i, good(), lwm2m.ClientConfig{Queue: true, Lifetime: 7 * time.Minute})
			list = append(list, name(100+i))
		}
		time.Sleep(5 * time.Minute)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Interval: 10 * time.Minute})
		got := w.ended(r.ID, 5*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 11}, got.Machine.Total, w.journal(r.ID))
		w.once()
	})
}

// TestConcurrencyIsLowered: an operator lowers the concurrency in the middle. From then on no more
// begin to install than he says.
func TestConcurrencyIsLowered(t *testing.T) {
	inWorld(t, func(w *world) {
		var list []string
		for i := range 12 {
			w.slowPull(i, time.Duration(i+1)*time.Minute)
			list = append(list, name(i))
		}
		time.Sleep(time.Minute)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 12})
		time.Sleep(30 * time.Second)
		one := 1
		_, err := w.all.Edit(w.ctx, r.ID, rollout.Change{Concurrency: &one}, rollout.Order{Actor: "kim"})
		require.NoError(t, err)
		for range 240 {
			time.Sleep(10 * time.Second)
			m := w.get(r.ID).Machine
			require.LessOrEqual(t, m.Slots.Installing+m.Slots.Granted, 1, w.journal(r.ID))
		}
		require.Equal(t, fsm.Counts{Succeeded: 12}, w.ended(r.ID, 3*time.Hour).Machine.Total)
		w.once()
	})
}

// TestSilentAfterExecute: a device is heard once after Execute, and then never again. It counts as
// missing, and when it comes back it does not.
func TestSilentAfterExecute(t *testing.T) {
	inWorld(t, func(w *world) {
		in := good()
		in.Time = 50 * time.Minute
		w.device(0, in, lwm2m.ClientConfig{Lifetime: 10 * time.Minute})
		list := append(w.fleetFrom(1, 3), name(0))
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), Stages: oneThenAll(),
			MissingAfter: 20 * time.Minute, MaxFailure: share(0.5),
		})
		w.until(r.ID, time.Hour, "it does not install", func(r rollout.Rollout) bool {
			return w.member(r.ID, name(0)).Machine.Place == fsm.PlaceInstalling
		})
		time.Sleep(15 * time.Minute) // it is heard every few minutes
		require.False(t, w.member(r.ID, name(0)).Machine.Missing)
		w.cut(0, true)
		time.Sleep(22 * time.Minute)
		require.True(t, w.member(r.ID, name(0)).Machine.Missing, w.journal(r.ID))
		w.cut(0, false)
		time.Sleep(9 * time.Minute)
		require.False(t, w.member(r.ID, name(0)).Machine.Missing, w.journal(r.ID))
		for w.get(r.ID).Machine.State == fsm.StatePaused { // it tripped the first stage
			_, _ = w.all.Resume(w.ctx, r.ID, rollout.Order{})
			time.Sleep(time.Minute)
		}
		require.Equal(t, fsm.Counts{Succeeded: 4}, w.ended(r.ID, 24*time.Hour).Machine.Total, w.journal(r.ID))
		require.Zero(t, w.get(r.ID).Machine.Since.Bad)
		w.once()
	})
}

func (w *world) fleetFrom(first, n int) (list []string) {
	for i := range n {
		w.device(first+i, good(), lwm2m.ClientConfig{})
		list = append(list, name(first+i))
	}
	time.Sleep(time.Minute)
	return list
}

// TestAnything: devices fail, are lost for a while or sleep, operators pause, edit and retry, and
// the server restarts, all at random. No device installs twice, no more than allowed install at
// once, and in the end each member has ended.
func TestAnything(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() || testkit.Race {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(w *world) { anything(w, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func anything(w *world, rng *rand.Rand) {
	const devices = 24
	var list []string
	for i := range devices {
		in := good()
		config := lwm2m.ClientConfig{Lifetime: 30 * time.Minute}
		switch rng.IntN(10) {
		case 0:
			in = fails()
		case 1:
			in = firmwaretest.Install{Version: oldFW, Result: 8, Time: time.Minute, BootTime: 10 * time.Second}
		case 2, 3:
			config = lwm2m.ClientConfig{Queue: true, Lifetime: 15 * time.Minute}
		}
		w.device(i, in, config)
		list = append(list, name(i))
	}
	time.Sleep(time.Minute)
	q := rollout.Request{
		Targets: rollout.Endpoints(list...), Concurrency: 1 + rng.IntN(4), MaxFailure: share(0.3), MissingAfter: 20 * time.Minute,
		Stages: []rollout.Stage{{Size: 2, Soak: 2 * time.Minute}, {Share: 0.5, Soak: time.Minute}, {Share: 1}},
	}
	if rng.IntN(2) == 0 {
		q.Interval = 2 * time.Minute
	}
	if rng.IntN(2) == 0 {
		q.Window = rollout.Window{From: 30, To: 23 * 60, Zone: "Europe/Oslo", Covers: fsm.CoversInstall}
	}
	switch rng.IntN(4) {
	case 0:
		q.Stages[0].Only, q.Only = true, map[int]rollout.Only{0: {Endpoints: list[:3]}}
	case 1:
		q.Stages[1].Manual = true
	}
	r := w.create(q)
	cut := map[int]bool{}
	more := map[string]int{} // updates that operators made or asked for again
	for range 150 {
		time.Sleep(time.Duration(rng.IntN(180)) * time.Second)
		o := rollout.Order{Actor: "kim"}
		switch k := rng.IntN(20); k {
		case 0, 1, 2, 3:
			i := rng.IntN(devices)
			cut[i] = !cut[i]
			w.cut(i, cut[i])
		case 4:
			_, _ = w.all.Pause(w.ctx, r.ID, o)
		case 5, 6, 7, 8, 9:
			_, _ = w.all.Resume(w.ctx, r.ID, o)
		case 10:
			n := 1 + rng.IntN(4)
			_, _ = w.all.Edit(w.ctx, r.ID, rollout.Change{Concurrency: &n}, o)
		case 12:
			for i, endpoint := range list {
				if m := w.member(r.ID, endpoint); m.Machine.State == fsm.MemberFailed || m.Machine.State == fsm.MemberRolledBack {
					more[list[i]]++
				}
			}
			_, _ = w.all.Retry(w.ctx, r.ID, []rollout.Outcome{rollout.OutcomeFailed, rollout.OutcomeRolledBack, rollout.OutcomeTimedOut}, o)
		case 13, 14:
			endpoint := list[rng.IntN(devices)]
			if _, err := w.mgr.Start(w.ctx, updateOf(w, endpoint)); err == nil {
				more[endpoint]++
			}
		case 15:
			if m := w.member(r.ID, list[rng.IntN(devices)]); m.Machine.Update != "" {
				_, _ = w.mgr.Cancel(w.ctx, m.Machine.Update)
			}
		case 16:
			_, _ = w.all.Open(w.ctx, r.ID, o)
		case 11:
			w.stop()
			time.Sleep(time.Duration(rng.IntN(60)) * time.Second)
			w.start()
		}
		w.check(r.ID)
	}
	for i := range cut {
		w.cut(i, false)
	}
	for range 600 {
		got := w.check(r.ID)
		if got.Machine.State == fsm.StateEnded {
			break
		}
		if got.Machine.State == fsm.StatePaused {
			_, _ = w.all.Resume(w.ctx, r.ID, rollout.Order{})
		}
		_, _ = w.all.Open(w.ctx, r.ID, rollout.Order{}) // ErrState, if it is not for an operator to open
		time.Sleep(10 * time.Minute)
	}
	got := w.check(r.ID)
	require.Equal(w.t, fsm.StateEnded, got.Machine.State, "%+v\n%s", got.Machine, w.journal(r.ID))
	for _, endpoint := range list {
		m := w.member(r.ID, endpoint)
		require.LessOrEqual(w.t, w.installs(endpoint), 1+more[endpoint], endpoint)
		if m.Machine.State == fsm.MemberSkipped {
			require.Contains(w.t, []fsm.SkipReason{fsm.SkipCancelled, fsm.SkipCurrent}, m.Machine.Skip, w.journal(r.ID))
		}
		if m.Machine.State == fsm.MemberSucceeded {
			require.Equal(w.t, newFW, w.devices[endpoint].Version(), endpoint)
		}
	}
}

// check checks the counters of a rollout against its members, and the reasons of those that wait.
func (w *world) check(id string) rollout.Rollout {
	w.t.Helper()
	for range 20 { // members and record are read one after the other
		before := w.get(id)
		var total fsm.Counts
		var slots fsm.Slots
		var bad, admitted int
		why := ""
		for m, err := range w.all.Members(w.ctx, store.MemberQuery{Rollout: id}) {
			require.NoError(w.t, err)
			s := m.Machine
			for state, n := range map[fsm.MemberState]*int{
				fsm.MemberWaiting: &total.Waiting, fsm.MemberActive: &total.Active, fsm.MemberSucceeded: &total.Succeeded,
				fsm.MemberFailed: &total.Failed, fsm.MemberRolledBack: &total.RolledBack, fsm.MemberSkipped: &total.Skipped,
			} {
				if s.State == state {
					*n++
				}
			}
			for place, n := range map[fsm.Place]*int{
				fsm.PlaceStarting: &slots.Transferring, fsm.PlaceTransferring: &slots.Transferring, fsm.PlaceReady: &slots.Ready,
				fsm.PlaceInstalling: &slots.Installing, fsm.PlaceAway: &slots.Away, fsm.PlaceParked: &slots.Parked,
				fsm.PlaceInvited: &slots.Invited, fsm.PlaceReserved: &slots.Reserved,
			} {
				if s.Place == place {
					*n++
				}
			}
			if s.Granted && s.Place != fsm.PlaceInstalling {
				slots.Granted++
			}
			if s.Missing && s.State == fsm.MemberActive {
				slots.Missing++
			}
			if s.Bad == before.Machine.Since.Epoch {
				bad++
			}
			if s.Epoch == before.Machine.Since.Epoch && s.State != fsm.MemberWaiting && s.State != fsm.MemberSkipped {
				admitted++
			}
			if reason, _ := w.all.Why(&before, &m); s.State == fsm.MemberWaiting && reason == "" {
				why = m.Endpoint
			}
		}
		if after := w.get(id); after.Revision != before.Revision {
			continue
		}
		require.Equal(w.t, total, before.Machine.Total, "the counters are not those of the members")
		require.Equal(w.t, slots, before.Machine.Slots, "the places are not those of the members")
		require.Equal(w.t, bad, before.Machine.Since.Bad)
		require.Equal(w.t, admitted, before.Machine.Since.Admitted)
		require.Empty(w.t, why, "a member waits for no reason")
		return before
	}
	return w.get(id)
}
