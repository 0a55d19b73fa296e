package rollout_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
)

// TestCrowd: a rollout over a crowd of which some fail, roll back, fall silent, sleep, come late or
// are away, while the server is killed again and again. It stops where it must; an operator resumes
// it. In the end each device has the end that its behaviour leads to, and none has installed twice.
func TestCrowd(t *testing.T) {
	seeds, devices := uint64(2), 70
	if testing.Short() || testkit.Race {
		seeds, devices = 1, 40
	}
	for seed := range seeds {
		inWorld(t, func(w *world) { w.crowd(seed, devices) })
	}
}

func (w *world) crowd(seed uint64, n int) {
	random := rand.New(rand.NewPCG(seed, 0))
	want := map[string]fsm.MemberState{}
	var list []string
	for i := range n {
		in, config, state := good(), lwm2m.ClientConfig{}, fsm.MemberSucceeded
		late := time.Duration(0)
		switch k := random.IntN(20); {
		case k == 0:
			in, state = fails(), fsm.MemberFailed
		case k == 1:
			in, state = firmwaretest.Install{Time: time.Minute, BootTime: 5 * time.Second, Forgets: true}, fsm.MemberRolledBack
		case k == 2:
			in, state = firmwaretest.Install{Version: newFW, Silent: true}, fsm.MemberFailed
		case k < 6:
			config = lwm2m.ClientConfig{Queue: true, Lifetime: time.Duration(5+random.IntN(60)) * time.Minute}
		case k < 8:
			late = time.Duration(random.IntN(20)) * time.Hour
		case k == 8:
			w.slowPull(i, time.Duration(random.IntN(90))*time.Minute)
			want[name(i)], list = state, append(list, name(i))
			continue
		}
		want[name(i)], list = state, append(list, name(i))
		if late == 0 {
			w.device(i, in, config)
			continue
		}
		d := firmwaretest.NewDevice(w.client(i, config), firmwaretest.Script{Version: oldFW, Install: in})
		w.devices[name(i)] = d
		w.running.Go(func() {
			select {
			case <-time.After(late):
				_ = d.Run(w.ctx)
			case <-w.ctx.Done():
			}
		})
	}
	for i := range 4 {
		want[name(900+i)], list = fsm.MemberSkipped, append(list, name(900+i)) // never there
	}
	time.Sleep(time.Minute)
	r := w.create(rollout.Request{
		Targets: rollout.Endpoints(list...), Concurrency: 10, MaxFailure: share(0.05), EndAt: time.Now().Add(6 * 24 * time.Hour),
		Stages: []rollout.Stage{{Size: 2, Soak: 10 * time.Minute}, {Share: 0.2, Soak: 10 * time.Minute}, {Share: 1}},
	})

	for step := 0; ; step++ {
		require.Less(w.t, step, 400, w.journal(r.ID))
		time.Sleep(time.Duration(random.IntN(60*60)) * time.Second)
		got := w.get(r.ID)
		if got.Machine.State == fsm.StateEnded {
			break
		}
		if step < 60 && random.IntN(3) == 0 {
			w.stop()
			time.Sleep(time.Duration(5+random.IntN(120)) * time.Second)
			w.start()
			require.Equal(w.t, counted(w, r.ID), w.get(r.ID).Machine.Total)
		}
		if got.Machine.State == fsm.StatePaused {
			require.Equal(w.t, fsm.ReasonTrip, got.Machine.Reason)

			_, err := w.all.Resume(w.ctx, r.ID, kim)
			require.NoError(w.t, err)
		}
	}
	w.once()
	for endpoint, state := range want {
		m := w.member(r.ID, endpoint)
		got := m.Machine.State
		if state == fsm.MemberFailed && w.devices[endpoint] != nil && got == fsm.MemberRolledBack {
			continue // one that is silent for ever may be judged either way
		}
		require.Equal(w.t, state, got, "%s %+v\n%s", endpoint, m.Machine, w.journal(r.ID))
	}
}
