package rollout_test

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// situations bring a rollout of six devices, dev-000 to dev-005, to a state.
var situations = map[string]func(w *world) rollout.Rollout{
	"draft": func(w *world) rollout.Rollout {
		r, err := w.all.Create(w.ctx, rollout.Request{
			Image: w.image.ID, Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: oneThenAll(), EndAt: time.Now().Add(30 * time.Hour),
		})
		require.NoError(w.t, err)
		return r
	},
	"before its start": func(w *world) rollout.Rollout {
		return w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: oneThenAll(), StartAt: time.Now().Add(6 * time.Hour)})
	},
	"transferring": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.pulling(20 * time.Minute)...), Stages: all(), Concurrency: 4})
		time.Sleep(5 * time.Minute)
		require.Equal(w.t, 4, w.get(r.ID).Machine.Slots.Transferring)
		return r
	},
	"held by the window": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: all(), Window: closed()})
		return w.until(r.ID, time.Hour, "none is held", func(r rollout.Rollout) bool { return r.Machine.Slots.Ready == 6 })
	},
	"installing": func(w *world) rollout.Rollout {
		list := w.fleet(6, map[int]firmwaretest.Install{0: slow(), 1: slow(), 2: slow(), 3: slow(), 4: slow(), 5: slow()})
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 4})
		return w.until(r.ID, time.Hour, "none installs", func(r rollout.Rollout) bool { return r.Machine.Slots.Installing == 4 })
	},
	"soaking": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: []rollout.Stage{{Size: 2, Soak: time.Hour}, {Share: 1, Soak: time.Hour}}})
		return w.until(r.ID, time.Hour, "no soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
	},
	"soaking, with a late roll back": func(w *world) rollout.Rollout {
		late := firmwaretest.Install{Version: newFW, Time: time.Minute, BootTime: time.Second, RollsBack: 30 * time.Minute}
		list := w.fleet(6, map[int]firmwaretest.Install{0: late, 1: late, 2: late, 3: late})
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Size: 3, Soak: time.Hour}, {Share: 1, Soak: time.Hour}}})
		return w.until(r.ID, time.Hour, "no soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
	},
	"checking": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: []rollout.Stage{{Size: 6, Soak: time.Hour}, {Share: 1}}})
		w.until(r.ID, time.Hour, "no soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
		w.cut(3, true)
		return w.until(r.ID, 2*time.Hour, "no check", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageChecking })
	},
	"gate": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: []rollout.Stage{{Size: 2}, {Share: 1, Manual: true}}})
		return w.until(r.ID, time.Hour, "no gate", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageGate })
	},
	"health": func(w *world) rollout.Rollout {
		w.stop()
		until := time.Now().Add(3 * time.Hour)
		w.config.Health = func(context.Context, rollout.Rollout, int) (bool, string, error) {
			return time.Now().After(until), "not yet", nil
		}
		w.start()
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: []rollout.Stage{{Size: 2}, {Share: 1}}})
		return w.until(r.ID, time.Hour, "no health", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageHealth && r.Machine.Detail != "" })
	},
	"paused while some transfer": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.pulling(20 * time.Minute)...), Stages: all(), Concurrency: 4})
		time.Sleep(5 * time.Minute)
		r, err := w.all.Pause(w.ctx, r.ID, kim)
		require.NoError(w.t, err)
		return r
	},
	"tripped": func(w *world) rollout.Rollout {
		odd := map[int]firmwaretest.Install{}
		for i := range 6 {
			odd[i] = slow()
		}
		odd[2] = fails()
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, odd)...), Stages: all(), MaxFailure: share(0), Concurrency: 4})
		return w.state(r.ID, fsm.StatePaused, 5*time.Hour)
	},
	"paused because its canaries have failed": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{
			Targets: rollout.Endpoints(w.fleet(6, map[int]firmwaretest.Install{2: fails()})...),
			Stages:  []rollout.Stage{{Size: 1, Only: true}, {Share: 1}}, Only: map[int]rollout.Only{0: {Endpoints: []string{name(2)}}},
		})
		w.state(r.ID, fsm.StatePaused, time.Hour)
		_, err := w.all.Resume(w.ctx, r.ID, kim)
		require.NoError(w.t, err)
		return w.state(r.ID, fsm.StatePaused, time.Hour)
	},
	"stopping": func(w *world) rollout.Rollout {
		list := w.fleet(6, map[int]firmwaretest.Install{0: slow(), 1: slow(), 2: slow(), 3: slow(), 4: slow(), 5: slow()})
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 4})
		w.until(r.ID, time.Hour, "none installs", func(r rollout.Rollout) bool { return r.Machine.Slots.Installing == 4 })
		r, err := w.all.Stop(w.ctx, r.ID, false, kim)
		require.NoError(w.t, err)
		return r
	},
	"stopping with what waits for its window": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: all(), Window: closed()})
		w.until(r.ID, time.Hour, "none is held", func(r rollout.Rollout) bool { return r.Machine.Slots.Ready == 6 })
		r, err := w.all.Stop(w.ctx, r.ID, false, kim)
		require.NoError(w.t, err)
		return r
	},
	"cancelling": func(w *world) rollout.Rollout {
		list := w.fleet(6, map[int]firmwaretest.Install{0: slow(), 1: slow(), 2: slow(), 3: slow(), 4: slow(), 5: slow()})
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 2})
		w.until(r.ID, time.Hour, "none installs", func(r rollout.Rollout) bool { return r.Machine.Slots.Installing == 2 })
		r, err := w.all.Stop(w.ctx, r.ID, true, kim)
		require.NoError(w.t, err)
		return r
	},
	"done": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, map[int]firmwaretest.Install{4: fails()})...), Stages: []rollout.Stage{{Size: 1}, {Share: 1}}})
		for w.get(r.ID).Machine.State != fsm.StateEnded {
			_, _ = w.all.Resume(w.ctx, r.ID, kim)
			time.Sleep(time.Minute)
		}
		return w.get(r.ID)
	},
	"stopped": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: []rollout.Stage{{Size: 2, Soak: time.Hour}, {Share: 1}}})
		w.until(r.ID, time.Hour, "no soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
		_, err := w.all.Stop(w.ctx, r.ID, false, kim)
		require.NoError(w.t, err)
		return w.ended(r.ID, time.Hour)
	},
	"over": func(w *world) rollout.Rollout {
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(w.fleet(6, nil)...), Stages: []rollout.Stage{{Size: 2, Soak: time.Hour}, {Share: 1}}, EndAt: time.Now().Add(30 * time.Minute)})
		return w.ended(r.ID, time.Hour)
	},
	"away, and parked": func(w *world) rollout.Rollout {
		list := w.pulling(30 * time.Minute)
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Size: 2}, {Share: 1, Manual: true}}})
		w.until(r.ID, time.Hour, "none transfers", func(r rollout.Rollout) bool { return r.Machine.Slots.Transferring == 2 })
		time.Sleep(time.Minute)
		n := 0
		for i, endpoint := range list {
			if w.member(r.ID, endpoint).Machine.State == fsm.MemberActive {
				w.cut(i, true)
				if n++; n == 1 {
					w.t.Cleanup(func() { w.cut(i, false) })
				}
			}
		}
		w.until(r.ID, 3*time.Hour, "the others do not go on", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 2 && r.Machine.Slots.Away == 2 })
		for i, endpoint := range list {
			if w.member(r.ID, endpoint).Machine.State == fsm.MemberActive {
				w.cut(i, false)
				break
			}
		}
		return w.until(r.ID, 12*time.Hour, "none is parked", func(r rollout.Rollout) bool { return r.Machine.Slots.Parked == 1 })
	},
	"missing": func(w *world) rollout.Rollout {
		list := w.fleet(6, map[int]firmwaretest.Install{0: slow(), 1: slow(), 2: slow(), 3: slow(), 4: slow(), 5: slow()})
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), MissingAfter: 30 * time.Minute, MaxFailure: share(0)})
		w.until(r.ID, time.Hour, "none installs", func(r rollout.Rollout) bool { return r.Machine.Slots.Installing == 6 })
		w.cut(1, true)
		return w.until(r.ID, 3*time.Hour, "none is missing", func(r rollout.Rollout) bool { return r.Machine.Slots.Missing == 1 })
	},
	"invited": func(w *world) rollout.Rollout {
		var list []string
		for i := range 6 {
			w.device(i, good(), lwm2m.ClientConfig{Queue: true, Lifetime: 2 * time.Hour})
			list = append(list, name(i))
		}
		time.Sleep(10 * time.Minute)
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Concurrency: 3})
		return w.until(r.ID, time.Hour, "none is invited", func(r rollout.Rollout) bool { return r.Machine.Slots.Invited == 3 })
	},
	"busy": func(w *world) rollout.Rollout {
		list := w.fleet(6, nil)
		for _, endpoint := range list[:3] {
			u, err := w.mgr.Start(w.ctx, updateOf(w, endpoint))
			require.NoError(w.t, err)
			_, err = w.mgr.Hold(w.ctx, u.ID, holdOf("sam"))
			require.NoError(w.t, err)
			time.AfterFunc(20*time.Hour, func() { _, _ = w.mgr.Release(w.ctx, u.ID, "sam") })
		}
		r := w.begin(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all()})
		return w.until(r.ID, time.Hour, "the others do not go on", func(r rollout.Rollout) bool { return r.Machine.Total.Succeeded == 3 })
	},
}

// begin makes a rollout that starts, and is over after 30 hours.
func (w *world) begin(q rollout.Request) rollout.Rollout {
	if q.EndAt.IsZero() {
		q.EndAt = time.Now().Add(30 * time.Hour)
	}
	return w.create(q)
}

// closed is a window that is closed for some hours: tests begin at midnight.
func closed() rollout.Window {
	return rollout.Window{From: 20 * 60, To: 22 * 60, Zone: "UTC", Covers: fsm.CoversInstall}
}

// pulling starts six devices that take so long to download.
func (w *world) pulling(takes time.Duration) (list []string) {
	for i := range 6 {
		w.slowPull(i, takes)
		list = append(list, name(i))
	}
	time.Sleep(time.Minute)
	return list
}
