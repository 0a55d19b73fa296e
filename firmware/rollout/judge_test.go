package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	ufsm "github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// TestSkips: devices that run the image already, for which it is not made, or which it would lower,
// are skipped with the reason, whether their facts are known when the rollout is created or not.
func TestSkips(t *testing.T) {
	for _, blind := range []bool{false, true} {
		inWorld(t, func(w *world) {
			w.stop()
			w.blind = blind
			w.start()
			image, err := w.images.Add(w.ctx, store.Image{
				Name: "sensor", Version: "1.5.0", Compatible: store.Compatible{Model: "One"},
			}, strings.NewReader("an image for model One"))
			require.NoError(t, err)
			var list []string
			for i, d := range []struct{ version, model string }{
				{"1.4.9", "One"}, {"1.5.0", "One"}, {"1.5.1", "One"}, {"build 7", "One"}, {"1.4.9", "Two"},
			} {
				device := firmwaretest.NewDevice(w.client(i, clientDefault), firmwaretest.Script{
					Version: d.version, Device: lwm2m.DeviceObjectConfig{Model: d.model}, Install: firmwaretest.Install{Version: "1.5.0"},
				})
				w.devices[name(i)] = device
				w.running.Go(func() { _ = device.Run(w.ctx) })
				list = append(list, name(i))
			}
			time.Sleep(time.Minute)
			q := rollout.Request{Image: image.ID, Targets: rollout.Endpoints(list...), Stages: all()}
			run, err := w.all.Plan(w.ctx, q)
			require.NoError(t, err)
			require.Equal(t, map[bool]int{false: 1, true: 5}[blind], run.Targets)
			got := w.ended(w.create(q).ID, 5*time.Hour)
			require.Equal(t, fsm.Counts{Succeeded: 1, Skipped: 4}, got.Machine.Total, w.journal(got.ID))
			for i, want := range []fsm.SkipReason{"", fsm.SkipCurrent, fsm.SkipNotComparable, fsm.SkipNotComparable, fsm.SkipIncompatible} {
				require.Equal(t, want, w.member(got.ID, name(i)).Machine.Skip, name(i))
				if want != "" {
					require.Zero(t, w.installs(name(i)))
				}
			}
			// An operator may want it nevertheless.
			q.Targets, q.Downgrade = rollout.Endpoints(name(2)), true
			require.Equal(t, fsm.Counts{Succeeded: 1}, w.ended(w.create(q).ID, 5*time.Hour).Machine.Total)
		})
	}
}

// TestOnlyByLabel: a first stage for the devices with a label admits no other.
func TestOnlyByLabel(t *testing.T) {
	inWorld(t, func(w *world) {
		list := w.fleet(10, nil)
		_, err := w.mgr.SetLabels(w.ctx, name(6), map[string]string{"ring": "canary"})
		require.NoError(t, err)
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Size: 3, Only: true, Soak: time.Hour}, {Share: 1}},
			Only: map[int]rollout.Only{0: {Labels: map[string]string{"ring": "canary"}}},
		})
		for i, labels := range map[int]map[string]string{6: nil, 7: {"ring": "canary"}} { // too late
			_, err := w.mgr.SetLabels(w.ctx, name(i), labels)
			require.NoError(t, err)
		}
		w.until(r.ID, time.Hour, "it does not soak", func(r rollout.Rollout) bool { return r.Machine.StageState == fsm.StageSoaking })
		require.Equal(t, fsm.MemberSucceeded, w.member(r.ID, name(6)).Machine.State)
		require.Equal(t, 1, w.get(r.ID).Machine.Total.Succeeded)
		require.Equal(t, fsm.Counts{Succeeded: 10}, w.ended(r.ID, 5*time.Hour).Machine.Total)

		_, err = w.all.Create(w.ctx, rollout.Request{
			Image: w.image.ID, Targets: rollout.Endpoints(list...), Stages: []rollout.Stage{{Size: 3, Only: true}, {Share: 1}},
		})
		var field *firmware.RequestError
		require.ErrorAs(t, err, &field)
		require.Equal(t, "stages[0].only", field.Field)
	})
}

// TestAwayBeforeExecute: an update whose device is away before Execute occupies no place, and does
// not time out: it goes on when the device is back.
func TestAwayBeforeExecute(t *testing.T) {
	inWorld(t, func(w *world) {
		w.slowPull(0, 30*time.Minute)
		w.device(1, good(), clientDefault)
		time.Sleep(time.Minute)
		r := w.create(rollout.Request{
			Targets: rollout.Endpoints(name(0), name(1)), Stages: all(), Update: firmware.Request{Deadline: 2 * time.Hour}, Concurrency: 1,
		})
		first := w.phase(r.ID, name(0), ufsm.PhaseTransferring)
		w.cut(0, true)
		got := w.until(r.ID, 2*time.Hour, "it is not away", func(r rollout.Rollout) bool { return r.Machine.Slots.Away == 1 })
		m := w.member(r.ID, name(0))
		why, _ := w.all.Why(&got, &m)
		require.Equal(t, fsm.WaitingOffline, why)
		time.Sleep(10 * time.Hour)
		require.Equal(t, fsm.Counts{Active: 1, Succeeded: 1}, w.get(r.ID).Machine.Total)
		w.cut(0, false)
		got = w.ended(r.ID, 24*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 2}, got.Machine.Total, w.journal(r.ID))
		require.Equal(t, first.ID, w.member(r.ID, name(0)).Machine.Update)
		w.once()
	})
}
