package fsm_test

import (
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

func clock(hour, minute int) int { return hour*60 + minute }

// TestWindow: a window opens and closes by the wall clock of its zone, also where clocks change.
func TestWindow(t *testing.T) {
	for name, c := range map[string]struct {
		window         fsm.Window
		zone           string
		at, start, end string // start: of the next window; end: of that window
		open           bool
	}{
		"before": {fsm.Window{From: clock(9, 0), To: clock(17, 0)}, "Europe/Oslo", "2026-06-01T08:00:00+02:00", "2026-06-01T09:00:00+02:00", "2026-06-01T17:00:00+02:00", false},
		"inside": {fsm.Window{From: clock(9, 0), To: clock(17, 0)}, "Europe/Oslo", "2026-06-01T09:00:00+02:00", "", "2026-06-01T17:00:00+02:00", true},
		"at its end": {
			fsm.Window{From: clock(9, 0), To: clock(17, 0)},
			"Europe/Oslo", "2026-06-01T17:00:00+02:00", "2026-06-02T09:00:00+02:00", "2026-06-02T17:00:00+02:00", false,
		},
		"after midnight it belongs to Monday": {
			fsm.Window{Days: []time.Weekday{time.Monday}, From: clock(22, 0), To: clock(4, 0)},
			"Europe/Oslo", "2026-06-02T03:59:00+02:00", "", "2026-06-02T04:00:00+02:00", true,
		},
		"Monday's early hours are Sunday's window": {
			fsm.Window{Days: []time.Weekday{time.Monday}, From: clock(22, 0), To: clock(4, 0)},
			"Europe/Oslo", "2026-06-01T03:00:00+02:00", "2026-06-01T22:00:00+02:00", "2026-06-02T04:00:00+02:00", false,
		},
		"a start in the hour that is left out": {
			fsm.Window{From: clock(2, 30), To: clock(5, 0)},
			"Europe/Oslo", "2026-03-29T01:59:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T05:00:00+02:00", false,
		},
		"an end in the hour that is left out": {
			fsm.Window{From: clock(1, 0), To: clock(2, 30)},
			"Europe/Oslo", "2026-03-29T01:30:00+01:00", "", "2026-03-29T03:00:00+02:00", true,
		},
		"a window that is left out whole": {
			fsm.Window{From: clock(2, 10), To: clock(2, 50)},
			"Europe/Oslo", "2026-03-29T01:30:00+01:00", "2026-03-30T02:10:00+02:00", "2026-03-30T02:50:00+02:00", false,
		},
		"of a repeated hour the first start": {
			fsm.Window{From: clock(2, 30), To: clock(5, 0)},
			"Europe/Oslo", "2026-10-25T02:29:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T05:00:00+01:00", false,
		},
		"of a repeated hour the last end": {
			fsm.Window{From: clock(1, 0), To: clock(2, 30)},
			"Europe/Oslo", "2026-10-25T02:45:00+02:00", "", "2026-10-25T02:30:00+01:00", true,
		},
		"New York in spring": {
			fsm.Window{From: clock(2, 0), To: clock(3, 0)},
			"America/New_York", "2026-03-08T01:00:00-05:00", "2026-03-09T02:00:00-04:00", "2026-03-09T03:00:00-04:00", false,
		},
		"New York in autumn": {
			fsm.Window{From: clock(1, 30), To: clock(1, 45)},
			"America/New_York", "2026-11-01T01:44:00-04:00", "", "2026-11-01T01:45:00-05:00", true,
		},
		"half an hour in Lord Howe": {
			fsm.Window{From: clock(2, 15), To: clock(4, 0)},
			"Australia/Lord_Howe", "2026-10-04T01:59:00+10:30", "2026-10-04T02:30:00+11:00", "2026-10-04T04:00:00+11:00", false,
		},
		"midnight is left out in Beirut": {
			fsm.Window{From: clock(0, 0), To: clock(4, 0)},
			"Asia/Beirut", "2026-03-28T23:00:00+02:00", "2026-03-29T01:00:00+03:00", "2026-03-29T04:00:00+03:00", false,
		},
		"all day but a minute, each day": {
			fsm.Window{From: clock(0, 1), To: clock(0, 0)},
			"UTC", "2026-06-01T12:00:00Z", "", "2026-06-02T00:00:00Z", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			zone, err := time.LoadLocation(c.zone)
			require.NoError(t, err)
			at := parse(t, c.at)
			open, change := c.window.At(at, zone)
			require.Equal(t, c.open, open)
			if !open {
				require.Equal(t, c.start, change.Format(time.RFC3339))
				open, change = c.window.At(change, zone)
				require.True(t, open)
			}
			require.Equal(t, c.end, change.Format(time.RFC3339))
			open, _ = c.window.At(change, zone)
			require.False(t, open)
			open, _ = c.window.At(change.Add(-time.Second), zone)
			require.True(t, open)
		})
	}
}

// TestWindowEveryMinute compares a window with the clock itself, over two years in which clocks
// change: apart from the hours that are left out or repeated, it is open at the minutes that it
// names, and the change that it announces is the next one.
func TestWindowEveryMinute(t *testing.T) {
	for _, name := range []string{"Europe/Oslo", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"} {
		zone, err := time.LoadLocation(name)
		require.NoError(t, err)
		w := fsm.Window{Days: []time.Weekday{time.Saturday, time.Sunday, time.Monday}, From: clock(22, 0), To: clock(5, 0)}
		var change time.Time
		was := false
		for at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2028; at = at.Add(15 * time.Minute) {
			local := at.In(zone)
			minute, day := local.Hour()*60+local.Minute(), local.Weekday()
			want := minute >= w.From && w.Days != nil && (day == 6 || day == 0 || day == 1) ||
				minute < w.To && (day == 0 || day == 1 || day == 2)
			open, next := w.At(at, zone)
			require.Equal(t, want, open, local)
			require.True(t, next.After(at))
			if !change.IsZero() {
				require.Equal(t, open != was, !at.Before(change), "%s: announced for %s", local, change)
			}
			change, was = next, open
		}
	}
}

// TestWindowAnnouncesItsChange takes random windows of zones whose clocks change at odd times, at
// random times and around changes: nothing changes before the time that is announced, and something
// does then.
func TestWindowAnnouncesItsChange(t *testing.T) {
	zones := []string{
		"Europe/Oslo", "Europe/Dublin", "America/New_York", "America/St_Johns", "America/Havana", "America/Santiago", "America/Asuncion",
		"Australia/Lord_Howe", "Asia/Beirut", "Asia/Gaza", "Africa/Cairo", "Africa/Casablanca", "Antarctica/Troll", "Pacific/Chatham",
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		zone, err := time.LoadLocation(zones[rng.IntN(len(zones))])
		require.NoError(t, err)
		w := fsm.Window{From: rng.IntN(1440), To: rng.IntN(1440)}
		if rng.IntN(2) == 0 { // when clocks change
			w.From, w.To = rng.IntN(240), rng.IntN(240)
		}
		if w.From == w.To {
			continue
		}
		for day := range 7 {
			if rng.IntN(3) == 0 {
				w.Days = append(w.Days, time.Weekday(day))
			}
		}
		at := start.Add(time.Duration(rng.IntN(3*365*24*60)) * time.Minute)
		if _, end := at.In(zone).ZoneBounds(); !end.IsZero() && rng.IntN(2) == 0 {
			at = end.Add(time.Duration(rng.IntN(8*3600)-4*3600) * time.Second)
		}
		open, change := w.At(at, zone)
		require.True(t, change.After(at), "%s %+v at %s", zone, w, at.In(zone))
		for _, same := range []time.Time{at.Add(time.Duration(rng.Int64N(int64(change.Sub(at))))), change.Add(-time.Second)} {
			stays, until := w.At(same, zone)
			require.Equal(t, open, stays, "%s %+v at %s", zone, w, same.In(zone))
			require.True(t, until.Equal(change), "%s %+v at %s", zone, w, same.In(zone))
		}
		turned, _ := w.At(change, zone)
		require.NotEqual(t, open, turned, "%s %+v at %s", zone, w, change.In(zone))
	}
}

func parse(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	require.NoError(t, err)
	return at
}
