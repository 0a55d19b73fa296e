package fsm

import "time"

// Pauses that no operator has asked to change.
const (
	// debounce gathers notifications of State and Result that belong together.
	debounce = 200 * time.Millisecond
	// readGap is the least time between two reads that hints ask for.
	readGap = 500 * time.Millisecond
	// firstLook is the time from an acknowledged write to the read that is due
	// even without a notification: an unchanged Result can be a new failure.
	firstLook = 3 * time.Second
	// stale is how long after a write the Result from before may still show.
	stale = 5 * time.Second
	// unseen is how long a device may show no download that it acknowledged.
	unseen = 5 * time.Minute
	// writeGrace is the default of Profile.WriteGrace.
	writeGrace = time.Minute
	// executeGrace is how long a device may show Downloaded after it accepted
	// Execute.
	executeGrace = 30 * time.Second
	// resumeGrace is how long after a restart of the server no limit strikes
	// before the device was looked at.
	resumeGrace = 2 * time.Minute
	// doublings bounds all back-off: 64 times the first pause.
	doublings = 6
)

// backoff is the n-th pause (the first is 0) of a doubling series.
func backoff(first time.Duration, n int) time.Duration {
	return first << min(max(n, 0), doublings)
}

// retryPause is the n-th pause (the first is 0) before something is tried
// again: up to half as much more than the doubling series has it, by when the
// update was created, so that a fleet that failed at once does not come back at
// once. The same update always has the same pauses.
func (u Update) retryPause(n int) time.Duration {
	pause := backoff(u.Plan.Limits.Retry, n)
	// The mixing function of SplitMix64.
	h := uint64(u.Created.UnixMicro()) + uint64(n+1)*0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return pause + pause/1000*time.Duration(h%501)
}

// limit is that of the current phase; 0 means none.
func (u Update) limit() time.Duration {
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
		return limits.Restarting
	case PhaseVerifying:
		return limits.Verifying
	default:
		return 0
	}
}

// absenceCounts reports whether the device's absence is part of the phase:
// always while waiting for it, and while a restart ends its registration.
func (u Update) absenceCounts() bool {
	return u.Phase == PhaseWaiting || u.Phase == PhaseRestarting && !u.Memory.Asleep
}

// limitAt is when the phase's limit strikes; zero when it does not, or not
// while the device is away.
func (u Update) limitAt() time.Time {
	limit := u.limit()
	if limit <= 0 || !u.Memory.Online && !u.absenceCounts() {
		return time.Time{}
	}
	return u.Memory.Since.Add(limit + u.Memory.Away)
}

// lapses is when time ends the update, unless something happens before.
func (u Update) lapses() time.Time {
	at := u.Deadline
	if limit := u.limitAt(); !limit.IsZero() {
		at = earlier(at, limit)
	}
	if !u.Memory.Resumed.IsZero() {
		// Until the device was looked at, the limits pause for this long.
		at = later(at, u.Memory.Resumed.Add(resumeGrace))
	}
	return at
}

// goAway notes that the device cannot be reached.
func (m *machine) goAway(asleep bool) {
	if !m.Memory.Online && m.Memory.Asleep == asleep {
		return
	}
	m.countAbsence()
	m.Memory.Online, m.Memory.Asleep, m.Memory.AwayFrom = false, asleep, m.now
}

// comeBack notes that the device can be reached.
func (m *machine) comeBack() {
	m.countAbsence()
	m.Memory.Online, m.Memory.Asleep, m.Memory.Seen = true, false, true
	m.Memory.AwayFrom = time.Time{}
	if m.Phase == PhaseWaiting {
		m.enter(PhasePreparing)
	}
}

// countAbsence adds the absence that ends now to the time that does not count.
func (m *machine) countAbsence() {
	if m.Memory.Online || m.Memory.AwayFrom.IsZero() || m.absenceCounts() {
		return
	}
	if from := later(m.Memory.AwayFrom, m.Memory.Since); m.now.After(from) {
		m.Memory.Away += m.now.Sub(from)
	}
	m.Memory.AwayFrom = m.now
}

// enter starts a phase and its clock; a phase that goes on keeps its clock.
func (m *machine) enter(phase Phase) {
	if m.Phase != phase {
		m.Phase = phase
		m.hard = true
		m.restartClock(m.now)
	}
}

// restartClock lets the phase count from at on.
func (m *machine) restartClock(at time.Time) {
	m.Memory.Since, m.Memory.Away = at, 0
	if !m.Memory.Online && !m.Memory.AwayFrom.IsZero() {
		m.Memory.AwayFrom = later(m.Memory.AwayFrom, m.now)
	}
}

// overdue reports that the deadline has passed: nothing new is begun, and the
// step ends the update.
func (m *machine) overdue() bool { return !m.now.Before(m.Deadline) }

// enforceLimits ends an update whose time is over.
func (m *machine) enforceLimits() {
	if !m.Memory.Resumed.IsZero() {
		if m.Memory.Online && m.now.Before(m.Memory.Resumed.Add(resumeGrace)) {
			return
		}
		m.Memory.Resumed = time.Time{}
	}
	if m.overdue() {
		m.timeOut(ReasonDeadline, "deadline of "+m.Plan.Deadline.String()+" passed while "+string(m.Phase))
		return
	}
	if limit := m.limitAt(); !limit.IsZero() && !m.now.Before(limit) {
		m.timeOut(ReasonPhaseLimit, string(m.Phase)+" took longer than "+m.limit().String())
	}
}

// timeOut ends the update by the clock, unless the device runs the target
// version and only fails to say that it has finished.
func (m *machine) timeOut(reason Reason, detail string) {
	if m.Memory.Executed && m.runsTarget() {
		m.end(OutcomeSucceeded, ResultSuccess, ReasonVersion, detail+", but the device runs the target version")
		return
	}
	result := ResultConnectionLost
	if m.Memory.Executed || m.Phase == PhaseTransferred {
		result = ResultUpdateFailed
	}
	m.favour()
	m.end(OutcomeTimedOut, result, reason, detail)
}
