package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// What goes wrong with rollouts elsewhere. Each test is named after a mistake.

func share(f float64) *float64 { return &f }

func all() []rollout.Stage { return []rollout.Stage{{Share: 1}} }

// oneThenAll is a plan whose first stage is over soon.
func oneThenAll() []rollout.Stage {
	return []rollout.Stage{{Size: 1, Soak: time.Minute}, {Share: 1}}
}

// TestPromotedBecauseItEnded: every device of the second stage fails. The third one never opens,
// whatever the limit.
func TestPromotedBecauseItEnded(t *testing.T) {
	inWorld(t, func(w *world) {
		odd := map[int]firmwaretest.Install{}
		for i := range 30 {
			odd[i] = fails()
		}
		list := w.fleet(30, odd)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), MaxFailure: share(1), Stages: []rollout.Stage{{Size: 1}, {Size: 5}, {Share: 1}}})
		r = w.state(r.ID, fsm.StatePaused, time.Hour)
		require.Equal(t, fsm.ReasonTrip, r.Machine.Reason)
		require.Equal(t, 0, r.Machine.Stage)
		_, err := w.all.Resume(w.ctx, r.ID, rollout.Order{Actor: "kim"})
		require.NoError(t, err)
		time.Sleep(3 * time.Hour)
		r = w.get(r.ID)
		require.Equal(t, 0, r.Machine.Stage, "a stage that updated none opened the next one\n%s", w.journal(r.ID))
	})
}

// TestThresholdOfTheGroup: all devices but the first ones fail. Not half of them have to die before
// the rollout stops.
func TestThresholdOfTheGroup(t *testing.T) {
	inWorld(t, func(w *world) {
		odd := map[int]firmwaretest.Install{}
		for i := range 100 {
			odd[i] = fails()
		}
		delete(odd, 42)
		list := w.fleet(100, odd)
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), Concurrency: 5, Only: map[int]rollout.Only{0: {Endpoints: []string{name(42)}}},
			Stages: []rollout.Stage{{Size: 1, Only: true, Soak: time.Minute}, {Share: 1}},
		})
		r = w.state(r.ID, fsm.StatePaused, 5*time.Hour)
		require.Equal(t, fsm.ReasonTrip, r.Machine.Reason)
		require.Equal(t, 1, r.Machine.Stage)
		require.LessOrEqual(t, r.Machine.Total.Failed, 6, "more failed than the limit, and those at the same time, allow")
		time.Sleep(time.Hour)
		require.LessOrEqual(t, w.get(r.ID).Machine.Total.Failed, 2+5+5, "devices were made to install after the trip")
	})
}

// TestThresholdOfTheEnded: a few failures come long before the first success. They are few of those
// admitted, and stop nothing.
func TestThresholdOfTheEnded(t *testing.T) {
	inWorld(t, func(w *world) {
		odd := map[int]firmwaretest.Install{}
		for i := range 60 {
			odd[i] = firmwaretest.Install{Version: newFW, Time: 50 * time.Minute, BootTime: 10 * time.Second}
		}
		odd[7], odd[23] = firmwaretest.Install{Result: 5, NoReboot: true, Time: time.Second}, firmwaretest.Install{Result: 5, NoReboot: true, Time: time.Second}
		list := w.fleet(60, odd)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Only: map[int]rollout.Only{0: {Endpoints: []string{name(0)}}},
			Stages: []rollout.Stage{{Size: 1, Only: true}, {Share: 1}}, MissingAfter: 2 * time.Hour})
		r = w.ended(r.ID, 10*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 58, Failed: 2}, r.Machine.Total, w.journal(r.ID))
	})
}

// TestStuckInCreating: the list of targets breaks off. The draft ends; nothing is updated.
func TestStuckInCreating(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(3, nil)
		broken := func(yield func(string, error) bool) {
			for i := range 51_000 {
				if !yield(fmt.Sprintf("x%d", i), nil) {
					return
				}
			}
			for _, endpoint := range list {
				if !yield(endpoint, nil) {
					return
				}
			}
			yield("", errBroken)
		}
		q := rollout.Request{Image: w.image.ID, Targets: broken, Start: true, Key: "once", Stages: all()}
		r, err := w.all.Create(w.ctx, q)
		require.ErrorIs(t, err, errBroken)
		got := w.ended(r.ID, time.Hour)
		require.Equal(t, fsm.Counts{Skipped: 50_000}, got.Machine.Total)
		require.Contains(t, got.Machine.Detail, errBroken.Error())
		for _, endpoint := range list {
			require.Zero(t, w.installs(endpoint))
		}
		// The caller tries again.
		q.Targets = rollout.Endpoints(list...)
		again, err := w.all.Create(w.ctx, q)
		require.NoError(t, err)
		require.Equal(t, fsm.Counts{Succeeded: 3}, w.ended(again.ID, time.Hour).Machine.Total)
		once, err := w.all.Create(w.ctx, q)
		require.NoError(t, err)
		require.Equal(t, again.ID, once.ID)
	})
}

var errBroken = fmt.Errorf("the list is broken")

// TestOneSiteInOneWave: the first tenth of a rollout has devices of every site.
func TestOneSiteInOneWave(t *testing.T) {
	inWorld(t, func(w *world) {
		var list []string
		for site := range 10 {
			for i := range 100 {
				list = append(list, fmt.Sprintf("site-%d-%03d", site, i))
			}
		}
		run, err := w.all.Plan(w.ctx, rollout.Request{Image: w.image.ID, Targets: rollout.Endpoints(list...)})
		require.NoError(t, err)
		require.Equal(t, []int{1, 10, 100, 1000}, run.Stages)
		require.Len(t, run.First, 20)
		r, err := w.all.Create(w.ctx, rollout.Request{ID: run.ID, Image: w.image.ID, Targets: rollout.Endpoints(list...)})
		require.NoError(t, err)
		sites, order := map[string]int{}, []string{}
		for m, err := range w.all.Members(w.ctx, store.MemberQuery{Rollout: r.ID, State: fsm.MemberWaiting, Limit: 100}) {
			require.NoError(t, err)
			order = append(order, m.Endpoint)
			sites[m.Endpoint[:len("site-0")]]++
		}
		require.Equal(t, run.First, order[:20], "a dry run shows the order of the rollout")
		require.Len(t, sites, 10)
		for site, n := range sites {
			require.Less(t, n, 30, site)
		}
	})
}

// TestSiteThatIsHeardFirst: devices of one site are heard every few seconds, those of the others
// hardly ever. All can be reached, so the site gets no more turns than its share.
func TestSiteThatIsHeardFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		var list []string
		for i := range 120 {
			lifetime := 24 * time.Hour
			if i < 30 {
				lifetime = 20 * time.Second
			}
			w.device(i, good(), lwm2m.ClientConfig{Lifetime: lifetime})
			list = append(list, name(i))
		}
		time.Sleep(time.Minute)
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), Concurrency: 7,
			Stages: []rollout.Stage{{Size: 1, Soak: time.Minute}, {Size: 10, Soak: time.Minute}, {Size: 30, Soak: time.Hour}, {Share: 1}},
		})
		w.until(r.ID, 10*time.Hour, "no soak", func(r rollout.Rollout) bool { return r.Machine.Stage == 2 && r.Machine.StageState == fsm.StageSoaking })
		require.Equal(t, w.firsts(r.ID, list, 30), w.admitted(r.ID), "invariant 32: they had their turns before others")
		require.Equal(t, fsm.Counts{Succeeded: 120}, w.ended(r.ID, 24*time.Hour).Machine.Total)
		w.once()
	})
}

// TestSiteThatHasPowerAgain: all devices are away when the rollout begins, and come back in the
// same second. Those whose turns are first go first.
func TestSiteThatHasPowerAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		var list []string
		for i := range 40 {
			list = append(list, name(i))
		}
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Size: 3, Soak: time.Hour}, {Share: 1}}})
		time.Sleep(time.Hour)
		for i := range list {
			w.device(i, good(), lwm2m.ClientConfig{})
		}
		w.until(r.ID, time.Hour, "no soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
		require.Equal(t, w.firsts(r.ID, list, 3), w.admitted(r.ID), "invariant 32: they had their turns before others")
	})
}

// firsts returns the members of a list whose turns are first.
func (w *world) firsts(id string, list []string, n int) []string {
	list = slices.SortedFunc(slices.Values(list), func(a, b string) int {
		return strings.Compare(store.MemberOrder(id, a), store.MemberOrder(id, b))
	})[:n]
	slices.Sort(list)
	return list
}

// admitted returns the members that have been admitted.
func (w *world) admitted(id string) (list []string) {
	for m, err := range w.all.Members(w.ctx, store.MemberQuery{Rollout: id}) {
		require.NoError(w.t, err)
		if m.Machine.Attempt > 0 {
			list = append(list, m.Endpoint)
		}
	}
	return list
}

// TestRateWithoutConcurrency: devices take longer than the rate allows others to follow. The
// concurrency holds nevertheless, and so does the rate.
func TestRateWithoutConcurrency(t *testing.T) {
	inWorld(t, func(w *world) {
		odd := map[int]firmwaretest.Install{}
		for i := range 12 {
			odd[i] = firmwaretest.Install{Version: newFW, Time: 20 * time.Minute, BootTime: 10 * time.Second}
		}
		list := w.fleet(12, odd)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 3, Interval: time.Minute})
		begun := time.Now()
		for {
			got := w.get(r.ID)
			slots := got.Machine.Slots
			require.LessOrEqual(t, slots.Transferring, 3)
			require.LessOrEqual(t, slots.Granted+slots.Installing, 3)
			require.LessOrEqual(t, got.Machine.Total.Admitted(), int(time.Since(begun)/time.Minute)+1)
			if got.Machine.State == fsm.StateEnded {
				require.Equal(t, fsm.Counts{Succeeded: 12}, got.Machine.Total)
				return
			}
			require.Less(t, time.Since(begun), 10*time.Hour, w.journal(r.ID))
			time.Sleep(time.Second)
		}
	})
}

// TestConcurrencyFilledByDeadDevices: devices that are registered, and answer nothing, do not keep
// the others from their turn; when they are back they have theirs.
func TestConcurrencyFilledByDeadDevices(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(12, nil)
		for i := range 6 {
			w.cut(i, true)
		}
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 2})
		w.until(r.ID, 30*time.Minute, "the living wait for the dead", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 6 })
		for i := range 6 {
			w.cut(i, false)
		}
		got := w.ended(r.ID, 48*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 12}, got.Machine.Total, w.journal(r.ID))
		w.once()
	})
}

// TestStageFilledBySilentDevices: a stage that has not enough devices which answer opens the next
// one, however many silent ones are tried again: after one turn of each, 270 * 30 s / 10.
func TestStageFilledBySilentDevices(t *testing.T) {
	inWorld(t, func(w *world) {
		w.blind = true // so that the version of each device is read when its update is to be made
		w.stop()
		w.start()
		var list []string
		for i := range 300 {
			w.device(i, good(), lwm2m.ClientConfig{Lifetime: 48 * time.Hour})
			list = append(list, name(i))
		}
		time.Sleep(time.Minute)
		for i := range 270 {
			w.cut(i, true)
		}
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Share: 0.5}, {Share: 1}}, Concurrency: 10,
		})
		w.until(r.ID, 30*time.Minute, "invariant 25: the stage waits for silent devices", func(r rollout.Rollout) bool {
			return r.Machine.Stage == 1 && r.Machine.Total.Succeeded == 30
		})
		for i := range 270 {
			w.cut(i, false)
		}
		got := w.ended(r.ID, 48*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 300}, got.Machine.Total, w.journal(r.ID))
		w.once()
	})
}

// TestSleepersHaveTheirTurn: devices that are awake for moments only are updated beside a crowd
// that is always there.
func TestSleepersHaveTheirTurn(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(20, nil)
		for i := range 5 {
			w.device(100+i, good(), lwm2m.ClientConfig{Queue: true, Lifetime: 10 * time.Minute})
			list = append(list, name(100+i))
		}
		time.Sleep(5 * time.Minute)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 2})
		got := w.ended(r.ID, 24*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 25}, got.Machine.Total, w.journal(r.ID))
		w.once()
	})
}

// TestSleepersThatAreUnknown: the same, with a server that has to read their versions first, and
// silent devices that are always registered.
func TestSleepersThatAreUnknown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.blind = true
		w.stop()
		w.start()
		var list []string
		for i := range 40 {
			w.device(i, good(), lwm2m.ClientConfig{Lifetime: 48 * time.Hour})
			list = append(list, name(i))
		}
		for i := range 8 {
			w.device(100+i, good(), lwm2m.ClientConfig{Queue: true, Lifetime: 10 * time.Minute})
			list = append(list, name(100+i))
		}
		time.Sleep(time.Minute)
		for i := range 20 {
			w.cut(i, true)
		}
		time.Sleep(5 * time.Minute)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 2})
		w.until(r.ID, 2*time.Hour, "the sleepers wait for others", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 28 })
		w.once()
	})
}

// TestSleepersThatSleepSoon: the server knows that devices sleep a few seconds after they were
// heard. They are invited, and take no places from the others before they are heard.
func TestSleepersThatSleepSoon(t *testing.T) {
	inWorld(t, func(w *world) {
		w.awake = 5 * time.Second
		w.stop()
		w.start()
		var list []string
		for i := range 6 {
			w.device(i, good(), lwm2m.ClientConfig{Queue: true, Lifetime: 30 * time.Minute})
			list = append(list, name(i))
		}
		time.Sleep(30 * time.Second)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 4})
		time.Sleep(5 * time.Second)
		got := w.check(r.ID).Machine
		require.Equal(t, []int{0, 4}, []int{got.Total.Active, got.Slots.Invited}, "devices that sleep have places")
		require.Equal(t, fsm.Counts{Succeeded: 6}, w.ended(r.ID, 5*time.Hour).Machine.Total, w.journal(r.ID))
		w.once()
	})
}

// TestDisabledDevicesInTheDenominator: devices that are skipped are no targets, so shares and
// thresholds do not count them.
func TestDisabledDevicesInTheDenominator(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(10, nil)
		for i := range 90 {
			d := firmwaretest.NewDevice(w.client(200+i, lwm2m.ClientConfig{}), firmwaretest.Script{Version: newFW})
			w.running.Go(func() { _ = d.Run(w.ctx) })
			list = append(list, name(200+i))
		}
		time.Sleep(time.Minute)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Share: 0.1, Soak: time.Hour}, {Share: 1}}})
		require.Equal(t, 90, r.Machine.Total.Skipped, "they run the version already")
		require.Equal(t, 1, r.Machine.Ceiling())
		got := w.ended(r.ID, 24*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 10, Skipped: 90}, got.Machine.Total)
	})
}

// TestTagEditStartsNoUpdate: a device that gets the label of a selector later is no member.
func TestTagEditStartsNoUpdate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fleet(4, nil)
		for i := range 2 {
			_, err := w.mgr.SetLabels(w.ctx, name(i), map[string]string{"ring": "a"})
			require.NoError(t, err)
		}
		r := w.create(rollout.Request{Select: &rollout.Selector{Labels: map[string]string{"ring": "a"}}, Stages: oneThenAll()})
		_, err := w.mgr.SetLabels(w.ctx, name(2), map[string]string{"ring": "a"})
		require.NoError(t, err)
		_, err = w.mgr.SetLabels(w.ctx, name(1), nil)
		require.NoError(t, err)
		got := w.ended(r.ID, 24*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 2}, got.Machine.Total)
		require.Zero(t, w.installs(name(2)))
		require.Equal(t, 1, w.installs(name(1)))
	})
}

// TestStuckWithoutAReason: at every moment of a rollout each member that waits says why.
func TestStuckWithoutAReason(t *testing.T) {
	inWorld(t, func(w *world) {
		list := append(w.fleet(8, nil), "absent")
		w.device(50, good(), lwm2m.ClientConfig{Queue: true, Lifetime: time.Hour})
		list = append(list, name(50))
		u, err := w.mgr.Start(w.ctx, updateOf(w, name(1)))
		require.NoError(t, err)
		_, err = w.mgr.Hold(w.ctx, u.ID, holdOf("kim"))
		require.NoError(t, err)
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), StartAt: time.Now().Add(time.Hour), Interval: 2 * time.Minute, Concurrency: 2, MaxFailure: share(1),
			Stages: []rollout.Stage{{Size: 2, Soak: 10 * time.Minute}, {Share: 1, Manual: true}}, EndAt: time.Now().Add(30 * time.Hour),
		})
		seen := map[fsm.Waiting]bool{}
		opened := false
		for range 40 * 60 {
			got := w.get(r.ID)
			if got.Machine.State == fsm.StateEnded {
				break
			}
			for m, err := range w.all.Members(w.ctx, store.MemberQuery{Rollout: r.ID, State: fsm.MemberWaiting, AnyPlace: true}) {
				require.NoError(t, err)
				why, _ := w.all.Why(&got, &m)
				require.NotEmpty(t, why, m.Endpoint)
				seen[why] = true
			}
			if got.Machine.StageState == fsm.StageGate && !opened {
				opened = true
				_, err := w.all.Open(w.ctx, r.ID, rollout.Order{})
				require.NoError(t, err)
			}
			time.Sleep(time.Minute)
		}
		got := w.ended(r.ID, time.Hour)
		require.Zero(t, got.Machine.Total.Waiting)
		require.Equal(t, fsm.ReasonEndAt, got.Machine.Reason)
		for _, why := range []fsm.Waiting{
			fsm.WaitingNotStarted, fsm.WaitingStage, fsm.WaitingGate, fsm.WaitingRate, fsm.WaitingOffline, fsm.WaitingBusy,
		} {
			require.True(t, seen[why], "%s was not seen: %v\n%s", why, seen, w.journal(r.ID))
		}
	})
}

// TestDoneInOneSecond: a rollout whose devices are all away is not done; one that has updated none
// opens nothing.
func TestDoneInOneSecond(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.create(rollout.Request{Targets: rollout.Endpoints("a", "b", "c"), Stages: oneThenAll(), EndAt: time.Now().Add(48 * time.Hour)})
		time.Sleep(47 * time.Hour)
		got := w.get(r.ID)
		require.Equal(t, fsm.StateRunning, got.Machine.State)
		require.Equal(t, 0, got.Machine.Stage)
		got = w.ended(r.ID, 48*time.Hour)
		require.Equal(t, fsm.Counts{Skipped: 3}, got.Machine.Total)
		for m, err := range w.all.Members(w.ctx, store.MemberQuery{Rollout: r.ID}) {
			require.NoError(t, err)
			require.Equal(t, fsm.SkipUnreachable, m.Machine.Skip)
		}
		require.True(t, strings.Contains(w.journal(r.ID), "0 succeeded"))
	})
}
