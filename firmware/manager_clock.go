package firmware

import "time"

// A clock is the time of one update while it is driven. It begins with that of the wall, or with the latest that the update
// has seen where that is later, and then goes on at the pace of time, so that an update neither stands still nor runs out
// when somebody sets the wall clock.
type clock struct {
	start time.Time // with its monotonic reading
	ahead time.Duration
}

func newClock(seen time.Time) clock {
	start := time.Now()
	return clock{start: start, ahead: max(0, seen.Sub(start))}
}

func (c clock) now() time.Time { return c.start.Add(c.ahead + time.Since(c.start)).Round(0) }
