package rollout_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
)

// TestTripWhileOthersTransfer: a device fails while all others download. The holds come before they
// have their packages, and none of them is executed, also after a restart of the server, until the
// rollout goes on.
func TestTripWhileOthersTransfer(t *testing.T) {
	for _, restarts := range []time.Duration{0, time.Second, 20 * time.Minute} {
		inWorld(t, func(w *world) {
			list := w.fleet(1, map[int]firmwaretest.Install{0: fails()})
			for i := 1; i < 20; i++ {
				w.slowPull(i, time.Duration(5+i)*time.Minute)
				list = append(list, name(i))
			}
			time.Sleep(time.Minute)
			r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all()})
			got := w.state(r.ID, fsm.StatePaused, time.Hour)
			require.Equal(t, "device dev-000 of the first stage failed", got.Machine.Detail)
			if restarts > 0 {
				time.Sleep(restarts)
				w.stop()
				w.start()
			}
			time.Sleep(12 * time.Hour)
			for _, endpoint := range list[1:] {
				require.Zero(t, w.installs(endpoint), "invariant 17: what is held is not executed")
				u, err := w.mgr.Get(w.ctx, w.member(r.ID, endpoint).Machine.Update)
				require.NoError(t, err)
				require.Len(t, u.Machine.Holds, 1)
			}
			require.Equal(t, 19, w.check(r.ID).Machine.Slots.Ready)
			_, err := w.all.Resume(w.ctx, r.ID, kim)
			require.NoError(t, err)
			require.Equal(t, fsm.Counts{Succeeded: 19, Failed: 1}, w.ended(r.ID, 5*time.Hour).Machine.Total)
			w.once()
		})
	}
}

// TestStageThatRollsBackLate: all devices of a stage go back to the version before during its soak,
// and the limit allows it. The stage opens nothing: the next device is tried.
func TestStageThatRollsBackLate(t *testing.T) {
	inWorld(t, func(w *world) {
		odd := map[int]firmwaretest.Install{}
		for i := range 4 {
			odd[i] = firmwaretest.Install{Version: newFW, Time: time.Minute, BootTime: time.Second, RollsBack: 30 * time.Minute}
		}
		list := w.fleet(12, odd)
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), MaxFailure: share(1),
			Stages: []rollout.Stage{{Size: 1, Only: true}, {Size: 4, Only: true, Soak: time.Hour}, {Share: 1, Manual: true}},
			Only:   map[int]rollout.Only{0: {Endpoints: list[11:]}, 1: {Endpoints: list[:6]}},
		})
		got := w.until(r.ID, 10*time.Hour, "no gate", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageGate })
		require.Equal(t, 1, got.Machine.Stage)
		require.Positive(t, got.Machine.Stages[1].Succeeded, w.journal(r.ID))
		for _, endpoint := range list[6:11] {
			require.Zero(t, w.member(r.ID, endpoint).Machine.Attempt, endpoint)
		}
	})
}

// TestDevicesThatRegisterAgain: devices restart again and again before their turns and before they
// install, so that they register again from other addresses, over a network that loses and repeats
// messages.
func TestDevicesThatRegisterAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.net.SetDefault(simnet.Conditions{Delay: 50 * time.Millisecond, Jitter: 100 * time.Millisecond, Loss: 0.1, Duplicate: 0.1})
		rng := rand.New(rand.NewPCG(3, 4))
		var list []string
		for i := range 40 {
			w.slowPull(i, time.Duration(rng.IntN(300))*time.Second)
			list = append(list, name(i))
		}
		time.Sleep(time.Minute)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: oneThenAll(), Concurrency: 10, MaxFailure: share(1)})
		for range 300 {
			time.Sleep(time.Duration(rng.IntN(8000)) * time.Millisecond)
			i := rng.IntN(len(list))
			// The device of a test forgets what it does when it restarts.
			if at := w.member(r.ID, list[i]).Machine; at.State != fsm.MemberActive || at.Place == fsm.PlaceReady && w.installs(list[i]) == 0 {
				w.devices[list[i]].Restart(time.Duration(rng.IntN(5)) * time.Second)
			}
			m := w.check(r.ID).Machine
			require.LessOrEqual(t, m.Slots.Transferring, 10)
			require.LessOrEqual(t, m.Slots.Granted+m.Slots.Installing, 10)
			if m.State == fsm.StatePaused {
				_, _ = w.all.Resume(w.ctx, r.ID, kim)
			}
		}
		got := w.until(r.ID, 48*time.Hour, "it does not end", func(r rollout.Rollout) bool {
			if r.Machine.State == fsm.StatePaused {
				_, _ = w.all.Resume(w.ctx, r.ID, kim)
			}
			return r.Machine.State == fsm.StateEnded
		})
		require.Equal(t, fsm.Counts{Succeeded: 40}, got.Machine.Total, w.journal(r.ID))
		w.once()
	})
}

// TestTwoVersions: the devices of a rollout are those of a second one, to a higher version. In the
// end all run the higher one, and none has gone back.
func TestTwoVersions(t *testing.T) {
	for _, lowerFirst := range []bool{true, false} {
		inWorld(t, func(w *world) {
			list := w.fleet(10, nil)
			higher, err := w.images.Add(w.ctx, store.Image{Name: "sensor", Version: "1.2.0"}, zeros(4000))
			require.NoError(t, err)
			versions := map[string]string{w.image.ID: newFW, higher.ID: "1.2.0"}
			done := make(chan struct{})
			defer close(done)
			go func() { // a device runs what its package has
				for ; ; time.Sleep(time.Second) {
					select {
					case <-done:
						return
					default:
					}
					for u, err := range w.mgr.List(w.ctx, store.UpdateQuery{Active: true}) {
						if err == nil {
							w.devices[u.Endpoint].SetInstall(firmwaretest.Install{Version: versions[u.Image], Time: time.Minute, BootTime: time.Second})
						}
					}
				}
			}()
			images := []string{w.image.ID, higher.ID}
			if !lowerFirst {
				images = []string{higher.ID, w.image.ID}
			}
			var ids []string
			for _, image := range images {
				ids = append(ids, w.create(rollout.Request{Image: image, Targets: rollout.Endpoints(list...), Stages: oneThenAll(), Concurrency: 3}).ID)
			}
			for _, id := range ids {
				got := w.ended(id, 24*time.Hour)
				require.Zero(t, got.Machine.Total.Failed+got.Machine.Total.RolledBack, w.journal(id))
				if got.Image == higher.ID {
					require.Equal(t, fsm.Counts{Succeeded: 10}, got.Machine.Total, w.journal(id))
				}
			}
			for _, endpoint := range list {
				require.Equal(t, "1.2.0", w.devices[endpoint].Version())
				require.LessOrEqual(t, w.installs(endpoint), 2)
			}
		})
	}
}

// TestImageIsGone: the image of a rollout has vanished from the store, as after an older backup was
// restored. Its members wait, and say why; the rollout can be stopped.
func TestImageIsGone(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(3, nil)
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), StartAt: time.Now().Add(time.Hour)})
		w.stop()
		_, err := w.db.Commit(w.ctx, store.DeleteImage{ID: w.image.ID})
		require.NoError(t, err)
		w.start()
		time.Sleep(3 * time.Hour)
		got := w.check(r.ID)
		require.Equal(t, fsm.StateRunning, got.Machine.State)
		for _, endpoint := range list {
			m := w.member(r.ID, endpoint)
			why, until := w.all.Why(&got, &m)
			require.Equal(t, fsm.WaitingRetry, why)
			require.False(t, until.IsZero())
			require.Contains(t, m.Machine.Failed, "image")
		}
		_, err = w.all.Stop(w.ctx, r.ID, false, kim)
		require.NoError(t, err)
		require.Equal(t, fsm.Counts{Skipped: 3}, w.ended(r.ID, time.Hour).Machine.Total)
	})
}

// TestEndInEachPlace: the end of a rollout comes while its members are everywhere that they can be.
func TestEndInEachPlace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.slowPull(0, 55*time.Minute) // downloads at the end
		w.slowPull(1, 20*time.Minute) // installs at the end
		w.devices[name(1)].SetInstall(firmwaretest.Install{Version: newFW, Time: 45 * time.Minute})
		w.slowPull(2, 55*time.Minute)                                                  // is away at the end
		w.device(3, good(), lwm2m.ClientConfig{Queue: true, Lifetime: 12 * time.Hour}) // sleeps at the end
		w.device(4, good(), clientDefault)                                             // is updated by a person
		list := []string{name(0), name(1), name(2), name(3), name(4), "absent"}
		time.Sleep(5 * time.Minute)
		u, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: name(4), Image: w.image.ID, Hold: holdOf("sam")})
		require.NoError(t, err)
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), Stages: all(), EndAt: time.Now().Add(40 * time.Minute), MissingAfter: 10 * time.Hour,
			Update: firmware.Request{Deadline: 24 * time.Hour},
		})
		time.Sleep(5 * time.Minute)
		w.cut(2, true)
		time.Sleep(40 * time.Minute)
		got := w.check(r.ID)
		require.Equal(t, fsm.StateStopping, got.Machine.State, w.journal(r.ID))
		for endpoint, why := range map[string]fsm.SkipReason{name(3): fsm.SkipUnreachable, name(4): fsm.SkipUnreachable, "absent": fsm.SkipUnreachable} {
			require.Equal(t, why, w.member(r.ID, endpoint).Machine.Skip, endpoint)
		}
		got = w.ended(r.ID, 48*time.Hour)
		require.Equal(t, fsm.ReasonEndAt, got.Machine.Reason)
		require.Equal(t, fsm.Counts{Succeeded: 2, Skipped: 4}, got.Machine.Total, w.journal(r.ID))
		u, err = w.mgr.Get(w.ctx, u.ID)
		require.NoError(t, err)
		require.True(t, u.Active(), "invariant 19: a person's update goes on")
		w.cut(2, false)
		time.Sleep(24 * time.Hour)
		require.Zero(t, w.installs(name(2))+w.installs(name(3))+w.installs(name(4)))
	})
}
