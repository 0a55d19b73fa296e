package fsm

import "time"

// downtimeCounts is how much of a time without a server counts, at most, against the deadline.
const downtimeCounts = 10 * time.Minute

// Pauses that are not configurable.
const (
	// debounce gathers notifications of State and Result that belong together.
	debounce = 200 * time.Millisecond
	// readGap is the least time between two reads that hints ask for.
	readGap = 500 * time.Millisecond
	// firstLook is the time from an accepted Write to the read that follows even without a
	// notification: an unchanged Result can be a new failure.
	firstLook = 3 * time.Second
	// stale is how long after a write the device may still show the Result from before.
	stale = 5 * time.Second
	// unseen is how long, in settle times, a device may show no download after it acknowledged the
	// URI.
	unseen = 5
	// writeGrace is the default of Profile.WriteGrace.
	writeGrace = time.Minute
	// executeGrace is how long a device may show Downloaded after it accepted Execute.
	executeGrace = 30 * time.Second
	// resumeGrace is how long after a restart of the server no limit ends an update whose device
	// has not been read yet.
	resumeGrace = 2 * time.Minute
	// stallAfter is how long a push may go unanswered before the journal says so.
	stallAfter = 20 * time.Second
	// heldLook is the time between reads of a device whose update is on hold without an end.
	heldLook = time.Hour
	// loose is how long a message may travel (EXCHANGE_LIFETIME, RFC 7252 section 4.8.2).
	loose = 247 * time.Second
	// doublings bounds all back-off: 64 times the first pause.
	doublings = 6
)

// backoff returns the n-th pause of a doubling series; the first is 0.
func backoff(first time.Duration, n int) time.Duration {
	return first << min(max(n, 0), doublings)
}

// retryPause returns the n-th pause before something is tried again; the first is 0. The pause is
// up to half as much longer than the doubling series says. The creation time of the update
// determines by how much, so that devices of a fleet that failed together do not come back
// together, and the same update always has the same pauses.
func (u *Update) retryPause(n int) time.Duration {
	pause := backoff(u.Plan.Limits.Retry, n)
	// The mixing function of SplitMix64.
	h := uint64(u.Created.UnixMicro()) + uint64(n+1)*0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return pause + pause/1000*time.Duration(h%501)
}

// limit returns the limit of the current phase; 0 means none.
func (u *Update) limit() time.Duration {
	limits := u.Plan.Limits
	switch u.Phase {
	case PhaseWaiting:
		return limits.Waiting
	case PhasePreparing:
		return limits.Preparing
	case PhaseTransferring:
		return limits.Transferring
	case PhaseTransferred:
		return limits.Transferred
	case PhaseExecuting:
		return limits.Executing
	case PhaseRestarting:
		// A device in queue mode may sleep for its lifetime before it says that it is back.
		if p := u.Memory.Presence; p.Queue && !p.Online {
			return limits.Restarting + p.Lifetime
		}
		return limits.Restarting
	case PhaseVerifying:
		return limits.Verifying
	default:
		return 0
	}
}

// PhaseSince returns when the time of the phase began to count: when the update entered it, or at
// the end of the last pause before a retry, which may be to come.
func (u *Update) PhaseSince() time.Time { return u.Memory.Clock.Since }

// counts reports whether the time that passes now is part of the phase. It is not while an operator
// holds the update, while an action waits in a queue of the server, or while the device is away or
// asleep. Absence counts while the server waits for the first registration, and while the device
// restarts.
func (u *Update) counts() bool {
	switch {
	case u.held() || u.Memory.Doing.Queued:
		return false
	case u.Memory.Presence.Online:
		return true
	default:
		return u.Phase == PhaseWaiting || u.Phase == PhaseRestarting
	}
}

// limitAt returns when the limit of the phase ends the update; zero if there is no limit, or while
// the time of the phase does not count.
func (u *Update) limitAt() time.Time {
	limit := u.limit()
	if limit <= 0 || !u.counts() {
		return time.Time{}
	}
	return u.Memory.Clock.Since.Add(limit + u.Memory.Clock.Free)
}

// lapses returns when time ends the update if nothing happens before. For an update on hold it
// returns when the server reads the device next.
func (u *Update) lapses() time.Time {
	c := u.Memory.Clock
	if u.held() {
		at := c.Now.Add(heldLook)
		if until := u.nextUntil(); !until.IsZero() {
			at = earlier(at, until)
		}
		return at
	}
	at := u.Deadline
	if limit := u.limitAt(); !limit.IsZero() {
		at = earlier(at, limit)
	}
	if !c.Resumed.IsZero() {
		// Until the device was read, the limits pause for this long.
		at = later(at, c.Resumed.Add(resumeGrace))
	}
	return at
}

// advance lets time pass up to at. It ends the holds whose time is over by then. down says that no
// server ran meanwhile.
func (m *machine) advance(at time.Time, down bool) {
	for {
		end := at
		if last := m.lastUntil(); m.held() && !last.IsZero() {
			end = later(earlier(at, last), m.now)
		}
		m.pass(end.Sub(m.now), down)
		m.now = end
		m.Memory.Clock.Now = end
		m.expireHolds()
		if end.Equal(at) {
			return
		}
	}
}

// pass accounts for the time d that has passed since m.now.
func (m *machine) pass(d time.Duration, down bool) {
	c := &m.Memory.Clock
	if d <= 0 {
		return
	}
	if down || !m.counts() {
		if from := later(m.now, c.Since); m.now.Add(d).After(from) {
			c.Free += m.now.Add(d).Sub(from)
		}
	}
	switch {
	case m.held():
		m.Deadline = m.Deadline.Add(d)
	case down:
		m.Deadline = m.Deadline.Add(max(0, d-downtimeCounts))
	}
}

// deviceAway records that the device cannot be reached.
func (m *machine) deviceAway(asleep bool) {
	p := &m.Memory.Presence
	if asleep && !p.Asleep {
		p.Slept = m.now
	}
	p.Online, p.Asleep = false, asleep
	if m.Memory.Installation.Sent {
		m.restarts("the device went away after Execute, as for a restart")
	}
}

// restarts records a sign that the device carries out Execute.
func (m *machine) restarts(why string) {
	if m.Phase == PhaseExecuting {
		m.enter(PhaseRestarting)
		m.line(EventRestarting, why)
	}
}

// deviceBack records that the device can be reached.
func (m *machine) deviceBack() {
	p, c := &m.Memory.Presence, &m.Memory.Clock
	if p.Asleep && m.Phase == PhaseRestarting && !m.held() {
		// It only slept, so that was not time of its restart.
		c.Free += max(0, m.now.Sub(later(p.Slept, c.Since)))
	}
	p.Online, p.Asleep, p.Seen, p.Slept = true, false, true, time.Time{}
	if m.Phase == PhaseWaiting {
		m.enter(PhasePreparing)
	}
}

// enter begins a phase and its clock. A phase that continues keeps its clock.
func (m *machine) enter(phase Phase) {
	if m.Phase != phase {
		m.Phase = phase
		m.restartClock(m.now)
	}
}

// restartClock makes the time of the phase count from at.
func (m *machine) restartClock(at time.Time) {
	m.Memory.Clock.Since, m.Memory.Clock.Free = at, 0
}

// overdue reports whether the deadline has passed. The machine then begins nothing, and the step
// ends the update.
func (m *machine) overdue() bool { return !m.held() && !m.now.Before(m.Deadline) }

// enforceLimits ends an update that has reached its deadline or the limit of its phase.
func (m *machine) enforceLimits() {
	if resumed := m.Memory.Clock.Resumed; !resumed.IsZero() && m.now.Before(resumed.Add(resumeGrace)) {
		return
	}
	if m.overdue() {
		m.timeOut(ReasonDeadline, "the deadline of "+m.Plan.Deadline.String()+" passed in phase "+string(m.Phase))
		return
	}
	if limit := m.limitAt(); !limit.IsZero() && !m.now.Before(limit) {
		m.timeOut(ReasonPhaseLimit, "phase "+string(m.Phase)+" took longer than "+m.limit().String())
	}
}
