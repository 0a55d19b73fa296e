package fsm

import (
	"cmp"
	"time"
)

// Waiting says why a member that waits is not admitted now, or why an active one does not go on,
// and until when, if time alone ends that. at is now, zone that of the member's clock; reachable
// and asleep are what is known of its device. It returns "" if the member may be admitted, or goes
// on.
func (r *Rollout) Waiting(m *Member, at time.Time, zone *time.Location, reachable, asleep bool) (why Waiting, until time.Time) {
	if at.Before(r.Now) {
		at = r.Now
	}
	switch {
	case m.State == MemberActive:
		return r.standing(m, at, zone)
	case m.State.Ended():
		return "", time.Time{}
	case r.State == StateDraft:
		return WaitingNotStarted, time.Time{}
	case r.State != StateRunning:
		return WaitingPaused, time.Time{}
	case at.Before(r.Plan.StartAt):
		return WaitingNotStarted, r.Plan.StartAt
	case m.Busy != "" && at.Before(m.Until):
		return WaitingBusy, m.Until
	case m.Failed != "" && at.Before(m.Until):
		return WaitingRetry, m.Until
	}
	stage := r.Plan.Stages[r.Stage]
	switch rate := r.Admitted.Add(r.Plan.Interval); {
	case r.StageState == StageGate, r.StageState == StageHealth:
		return WaitingGate, r.Until
	case stage.Only && m.Only&(1<<r.Stage) == 0:
		return WaitingStage, time.Time{}
	case r.StageState == StageChecking, r.room() <= 0:
		return WaitingStage, r.Until
	case r.Plan.Window.Covers == CoversAll && !r.inWindow(at, zone):
		return WaitingWindow, r.opens(at, zone)
	case r.Plan.Interval > 0 && !r.Admitted.IsZero() && at.Before(rate):
		return WaitingRate, rate
	case r.full(m, r.inWindow(at, zone)):
		return WaitingConcurrency, time.Time{}
	case !reachable:
		return WaitingOffline, time.Time{}
	case asleep && m.Place != PlaceReserved:
		return WaitingAsleep, m.Until
	}
	return "", time.Time{}
}

// standing says why an active member does not go on.
func (r *Rollout) standing(m *Member, at time.Time, zone *time.Location) (Waiting, time.Time) {
	switch {
	case m.Place == PlaceAway || m.Missing:
		return WaitingOffline, time.Time{}
	case m.Place == PlaceParked:
		return WaitingStage, time.Time{}
	case m.Place != PlaceReady || m.Granted:
		return "", time.Time{}
	case r.State == StatePaused:
		return WaitingPaused, time.Time{}
	case !r.inWindow(at, zone):
		return WaitingWindow, r.opens(at, zone)
	}
	return WaitingConcurrency, time.Time{}
}

// full reports whether there is no place for the member to transfer. Places that are reserved for
// members which were asleep count, but not the member's own.
//
// While all places to install are taken or promised, a member is admitted to be held, which costs
// its update a few commits and reads. So three of four places to transfer stay free then: devices
// that take longer to install than to transfer do not get further by more of them.
func (r *Rollout) full(m *Member, window bool) bool {
	taken := r.Slots.Transferring
	if m.Place != PlaceReserved && !r.Plan.Stages[r.Stage].Only { // which may not name those with a reserved place
		taken += r.Slots.Reserved
	}
	if window && r.promised() >= r.Plan.Concurrency {
		return taken >= (r.Plan.Concurrency+3)/4
	}
	return taken >= r.Plan.Concurrency
}

// promised returns how many members install or are to install next.
func (r *Rollout) promised() int { return r.Slots.Granted + r.Slots.Installing + r.Slots.Ready }

func (r *Rollout) inWindow(at time.Time, zone *time.Location) bool {
	if r.Plan.Window.always() {
		return true
	}
	open, _ := r.Plan.Window.At(at, cmp.Or(zone, time.UTC))
	return open
}

// opens returns when the window opens next.
func (r *Rollout) opens(at time.Time, zone *time.Location) time.Time {
	_, change := r.Plan.Window.At(at, cmp.Or(zone, time.UTC))
	return change
}

// reach admits a member that can be reached, if it may be. A member that is asleep is invited: it
// is admitted when it is heard next, or if there is no place then, as soon as there is one.
func (x *machine) reach() {
	if !x.in.Asleep {
		x.heard()
	}
	if x.m.State != MemberWaiting {
		return
	}
	wait, _ := x.Waiting(&x.m, x.Now, x.in.Zone, true, x.in.Asleep)
	x.out.Waiting = wait
	switch {
	case wait == "":
		x.admit()
	case wait == WaitingAsleep:
		x.invite()
	case (wait == WaitingConcurrency || wait == WaitingRate) && x.m.Place == PlaceInvited && !x.in.Asleep:
		x.change(func(m *Member) { m.Place, m.Until = PlaceReserved, x.Now.Add(lifetime(x.in.Lifetime)) })
	}
}

// invite promises a member that sleeps the next place when it is heard.
func (x *machine) invite() {
	if x.m.Place == PlaceNone && x.Slots.Invited+x.Slots.Reserved < x.Plan.Concurrency {
		x.change(func(m *Member) {
			m.Place, m.Until, m.Busy, m.Failed = PlaceInvited, x.Now.Add(lifetime(x.in.Lifetime)), "", ""
		})
	}
}

// lifetime is how long an invitation lasts: until the device must have been heard, or its
// registration ends.
func lifetime(d time.Duration) time.Duration {
	if d <= 0 {
		return 24 * time.Hour
	}
	return max(d, time.Minute)
}

// admit begins the member's update.
func (x *machine) admit() {
	granted := x.mayExecute() && x.promised() < x.Plan.Concurrency
	x.change(func(m *Member) {
		m.leave()
		m.State, m.Place, m.Stage, m.Epoch = MemberActive, PlaceStarting, x.Stage+1, x.Since.Epoch
		m.Update, m.Granted, m.Bad, m.End = "", granted, 0, EndingNone
		m.Attempt++
	})
	x.Admitted, x.Exhausted = x.Now, false
	if x.StageState == StageSoaking { // it soaked because no other could be reached
		x.StageState, x.Until = StageFilling, time.Time{}
	}
}

// tryAgain is how long a member waits that another update is in the way of, or whose update could
// not be made. In the second case the pause grows with its admissions, because each of them takes a
// turn from the others.
const (
	tryAgain     = time.Minute
	tryAgainMost = time.Hour
)

// refused takes back the admission of a member whose update was not made.
func (x *machine) refused() {
	if x.m.Place != PlaceStarting {
		return
	}
	if x.in.Skip != "" {
		x.skip(x.in.Skip)
		return
	}
	x.wait()
	x.change(func(m *Member) {
		m.Busy, m.Until = x.in.Busy, x.Now.Add(tryAgain)
		if m.Busy == "" {
			m.Until = x.Now.Add(min(tryAgain<<min(m.Attempt-1, 6), tryAgainMost))
			m.Failed = cmp.Or(x.in.Text, "the update could not be made")
		}
	})
}

// wait makes an active member wait again.
func (x *machine) wait() {
	x.change(func(m *Member) {
		m.leave()
		m.State, m.Stage = MemberWaiting, 0
	})
}

// retry makes a member wait again that has ended without success. It does not count as bad any
// more.
func (x *machine) retry() {
	if !x.m.State.Ended() || x.m.State == MemberSucceeded || x.State == StateStopping || !x.Active() && !x.reopens() {
		return
	}
	x.wait()
	x.change(func(m *Member) { m.Skip, m.Bad, m.Later, m.LaterAt = "", 0, "", time.Time{} })
	x.Exhausted = false
	x.reopen()
}
