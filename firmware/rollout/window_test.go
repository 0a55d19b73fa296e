package rollout_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// clock starts a device that shows where its clock is.
func (w *world) clock(i int, in firmwaretest.Install, shows lwm2m.DeviceObjectConfig) {
	d := firmwaretest.NewDevice(w.client(i, clientDefault), firmwaretest.Script{Version: oldFW, Install: in, Device: shows})
	w.devices[name(i)] = d
	w.running.Go(func() { _ = d.Run(w.ctx) })
}

// executed returns when the update of a member was executed.
func (w *world) executed(id, endpoint string) (at time.Time) {
	w.t.Helper()
	for e, err := range w.mgr.Journal(w.ctx, w.member(id, endpoint).Machine.Update) {
		require.NoError(w.t, err)
		if e.Name == firmware.EventExecute {
			at = e.Time
		}
	}
	return at
}

// TestFixedOffsets: windows follow wall clocks over both changes of daylight saving, in two zones.
// A start inside the hour that is left out is the first instant after it; of an hour that comes
// twice the first start and the last end count. Each device follows its own clock.
func TestFixedOffsets(t *testing.T) {
	utc := func(text string) time.Time {
		at, err := time.Parse("2006-01-02 15:04", text)
		require.NoError(t, err)
		return at
	}
	for _, test := range []struct {
		name, zone string
		from, to   int // minutes of the window
		begin      time.Time
		start, end time.Time // of the window
	}{
		{"spring in Oslo", "Europe/Oslo", 2*60 + 30, 4 * 60, utc("2000-03-26 00:00"), utc("2000-03-26 01:00"), utc("2000-03-26 02:00")},
		{"autumn in Oslo", "Europe/Oslo", 2*60 + 30, 2*60 + 45, utc("2000-10-28 23:00"), utc("2000-10-29 00:30"), utc("2000-10-29 01:45")},
		{"spring in New York", "America/New_York", 2*60 + 30, 4 * 60, utc("2000-04-02 06:00"), utc("2000-04-02 07:00"), utc("2000-04-02 08:00")},
		{"spring in Sydney", "Australia/Sydney", 2*60 + 30, 4 * 60, utc("2000-08-26 15:00"), utc("2000-08-26 16:00"), utc("2000-08-26 17:00")},
		{"autumn in Sydney", "Australia/Sydney", 2*60 + 30, 2*60 + 45, utc("2001-03-24 14:00"), utc("2001-03-24 15:30"), utc("2001-03-24 16:45")},
		{"spring in Santiago, at midnight", "America/Santiago", 23*60 + 30, 30, utc("2000-10-15 02:00"), utc("2000-10-15 03:30"), utc("2000-10-15 04:00")},
		{"autumn in New York", "America/New_York", 60 + 30, 60 + 45, utc("2000-10-29 04:00"), utc("2000-10-29 05:30"), utc("2000-10-29 06:45")},
	} {
		for _, zone := range []string{test.zone, fsm.ZoneDevice} {
			t.Run(test.name+" by "+zone, func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.stop()
					time.Sleep(time.Until(test.begin))
					w.start()
					for i := range 3 {
						w.clock(i, good(), lwm2m.DeviceObjectConfig{Timezone: test.zone})
					}
					time.Sleep(time.Minute)
					r := w.create(rollout.Request{
						Targets: rollout.Endpoints(name(0), name(1), name(2)), Stages: all(), Concurrency: 1,
						Window: rollout.Window{From: test.from, To: test.to, Zone: zone, Fallback: "Asia/Tokyo", Covers: fsm.CoversInstall},
					})
					time.Sleep(time.Until(test.start) - time.Second)
					for i := range 3 {
						require.Zero(t, w.installs(name(i)), "before the window")
					}
					got := w.ended(r.ID, 8*24*time.Hour)
					require.Equal(t, fsm.Counts{Succeeded: 3}, got.Machine.Total, w.journal(r.ID))
					first := time.Time{}
					for i := range 3 {
						at := w.executed(r.ID, name(i))
						require.False(t, at.Before(test.start), at)
						require.True(t, at.Before(test.end), at)
						if first.IsZero() || at.Before(first) {
							first = at
						}
					}
					require.Less(t, first.Sub(test.start), 5*time.Second, "the window opens at once")
				})
			})
		}
	}
}

// TestWindowEnds: at the end of a window updates that have not begun to install are held, and go on
// in the next one. No Execute is sent outside.
func TestWindowEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		var list []string
		for i := range 8 {
			w.slowPull(i, time.Duration(10+10*i)*time.Minute)
			list = append(list, name(i))
		}
		window := rollout.Window{From: 60, To: 2 * 60, Zone: "UTC", Covers: fsm.CoversInstall}
		midnight := time.Now().Truncate(24 * time.Hour)
		time.Sleep(time.Until(midnight.Add(90 * time.Minute)))
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Window: window})
		got := w.ended(r.ID, 10*24*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 8}, got.Machine.Total, w.journal(r.ID))
		days := map[int]int{}
		for _, endpoint := range list {
			at := w.executed(r.ID, endpoint)
			open, _ := window.At(at, time.UTC)
			require.True(t, open, "invariant 22: %s was made to install at %s, outside of the window", endpoint, at)
			days[int(at.Sub(midnight)/(24*time.Hour))]++
		}
		require.Equal(t, map[int]int{0: 2, 1: 6}, days)
		w.once()
	})
}

// TestWindowOfEachDevice: with covers all and the zones of devices, a device whose window is closed
// does not stop those whose window is open.
func TestWindowOfEachDevice(t *testing.T) {
	inWorld(t, func(w *world) {
		zones := []string{"Asia/Tokyo", "America/New_York", "Europe/Oslo"}
		var list []string
		for i := range 12 {
			shows := lwm2m.DeviceObjectConfig{Timezone: zones[i%3]}
			if i >= 9 { // devices that show an offset, or nothing
				shows = lwm2m.DeviceObjectConfig{UTCOffset: []string{"+09:00", "-05:00", ""}[i-9]}
			}
			w.clock(i, good(), shows)
			list = append(list, name(i))
		}
		time.Sleep(time.Minute)
		window := rollout.Window{From: 2 * 60, To: 3 * 60, Zone: fsm.ZoneDevice, Fallback: "UTC", Covers: fsm.CoversAll}
		r := w.create(rollout.Request{Targets: rollout.Endpoints(list...), Stages: all(), Window: window})
		got := w.ended(r.ID, 48*time.Hour)
		require.Equal(t, fsm.Counts{Succeeded: 12}, got.Machine.Total, w.journal(r.ID))
		require.Less(t, time.Since(r.Created), 26*time.Hour)
		for i, endpoint := range list {
			zone := []string{"Asia/Tokyo", "America/New_York", "Europe/Oslo"}[i%3]
			if i >= 9 {
				zone = []string{"Asia/Tokyo", "America/Bogota", "UTC"}[i-9]
			}
			location, err := time.LoadLocation(zone)
			require.NoError(t, err)
			require.Equal(t, 2, w.executed(r.ID, endpoint).In(location).Hour(), endpoint)
		}
	})
}
