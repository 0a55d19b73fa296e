package fsm

import (
	"errors"
	"fmt"
	"time"
)

// Covers says what a Window restricts.
type Covers string

// What a window restricts.
const (
	CoversInstall Covers = "install" // members download at any time, and execute inside the window
	CoversAll     Covers = "all"     // members are admitted inside the window too
)

// ZoneDevice is the zone of a window that follows each device's own clock.
const ZoneDevice = "device"

// A Window is a part of some days of the week, by wall clocks. A window whose To is before its From
// crosses midnight, and belongs to the day on which it starts.
type Window struct {
	// Days are the days on which the window starts; empty means every day.
	Days []time.Weekday `record:"1"`
	// From and To are minutes since midnight, 0 to 1439. They differ.
	From int `record:"2"`
	To   int `record:"3"`
	// Zone is the name of a zone of the IANA database, or ZoneDevice.
	Zone string `record:"4"`
	// Fallback is the zone of devices that show none, if Zone is ZoneDevice.
	Fallback string `record:"5"`
	Covers   Covers `record:"6"`
}

func (w *Window) always() bool { return w.Zone == "" && w.From == w.To }

// Check returns an error that says what is wrong with the window. It does not look zones up.
func (w *Window) Check() error {
	for _, d := range w.Days {
		if d < time.Sunday || d > time.Saturday {
			return fmt.Errorf("days: %d is no day of the week", d)
		}
	}
	switch {
	case w.From < 0 || w.From >= minutesOfDay:
		return fmt.Errorf("from: %d is no minute of a day", w.From)
	case w.To < 0 || w.To >= minutesOfDay:
		return fmt.Errorf("to: %d is no minute of a day", w.To)
	case w.From == w.To:
		return errors.New("from and to are equal")
	case w.Zone == "":
		return errors.New("zone: there is none")
	case w.Zone == ZoneDevice && w.Fallback == "":
		return errors.New("fallback_zone: there is none, for devices that show no zone of their own")
	case w.Covers != CoversInstall && w.Covers != CoversAll:
		return fmt.Errorf("covers: %q is neither %q nor %q", w.Covers, CoversInstall, CoversAll)
	}
	return nil
}

const minutesOfDay = 24 * 60

// At reports whether the window is open at a time, by the wall clock of a zone, and when that
// changes next. A start inside the hour that clocks leave out in spring is the first instant after
// it. Of an hour that clocks repeat in autumn the first start and the last end count.
func (w *Window) At(at time.Time, zone *time.Location) (open bool, change time.Time) {
	local := at.In(zone)
	// The window that started yesterday may be open still; one starts within a week.
	for day := -1; day <= 8; day++ {
		date := time.Date(local.Year(), local.Month(), local.Day()+day, 12, 0, 0, 0, zone)
		if !w.on(date.Weekday()) {
			continue
		}
		start, end := w.of(date, zone)
		switch {
		case !start.Before(end): // the whole window is in the hour that is left out
		case at.Before(start):
			return false, start
		case at.Before(end):
			return true, w.joined(end, date, zone)
		}
	}
	return false, time.Time{} // not reached: each window is a minute long at least, but for one day a year
}

// joined returns the end of a window that ends at a time, or of the window that starts at once
// after it.
func (w *Window) joined(end, date time.Time, zone *time.Location) time.Time {
	for range 8 {
		date = date.AddDate(0, 0, 1)
		start, next := w.of(date, zone)
		if !w.on(date.Weekday()) || start.After(end) {
			break
		}
		end = next
	}
	return end
}

func (w *Window) on(day time.Weekday) bool {
	if len(w.Days) == 0 {
		return true
	}
	for _, d := range w.Days {
		if d == day {
			return true
		}
	}
	return false
}

// of returns the start and the end of the window that starts on a date.
func (w *Window) of(date time.Time, zone *time.Location) (start, end time.Time) {
	start = wall(date, w.From, zone, false)
	if w.To < w.From {
		date = date.AddDate(0, 0, 1)
	}
	return start, wall(date, w.To, zone, true)
}

// wall returns when the clock of a zone shows a minute of a date: the first time, or the last one,
// if it shows it twice; and if it leaves the minute out, the first instant after the gap.
func wall(date time.Time, minute int, zone *time.Location, last bool) time.Time {
	y, m, d := date.Date()
	shown := time.Date(y, m, d, minute/60, minute%60, 0, 0, time.UTC) // as a clock shows it
	guess := time.Date(y, m, d, minute/60, minute%60, 0, 0, zone)
	// Offsets on both sides of a change of clocks near the time: at most one change within a day.
	var found time.Time
	for _, near := range []time.Time{guess.Add(-24 * time.Hour), guess.Add(24 * time.Hour)} {
		_, offset := near.In(zone).Zone()
		at := shown.Add(-time.Duration(offset) * time.Second)
		if _, o := at.In(zone).Zone(); o != offset {
			continue // the clock does not show the minute with this offset
		}
		if found.IsZero() || last == at.After(found) {
			found = at
		}
	}
	if !found.IsZero() {
		return found.In(zone)
	}
	// The minute is left out. The gap ends where the offset changes.
	lo, hi := guess.Add(-24*time.Hour), guess.Add(24*time.Hour)
	_, before := lo.In(zone).Zone()
	for hi.Sub(lo) > time.Second {
		mid := lo.Add(hi.Sub(lo) / 2).Truncate(time.Second)
		if _, o := mid.In(zone).Zone(); o == before {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi.Truncate(time.Second).In(zone)
}
