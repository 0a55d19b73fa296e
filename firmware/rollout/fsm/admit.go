package fsm

import (
	"cmp"
	"time"
)

// Waiting says why a member that waits is not admitted now, at a time and in the zone of its clock;
// asleep and reachable are what is known of the device. It is "" if it may be admitted.
func (r *Rollout) Waiting(m *Member, at time.Time, zone *time.Location, reachable, asleep bool) Waiting {
	if at.Before(r.Now) {
		at = r.Now
	}
	stage := r.Plan.Stages[r.Stage]
	switch {
	case r.State == StateDraft, r.State == StateRunning && at.Before(r.Plan.StartAt):
		return WaitingNotStarted
	case r.State != StateRunning:
		return WaitingPaused
	case m.Busy != "" && at.Before(m.Until):
		return WaitingBusy
	case m.Failed != "" && at.Before(m.Until):
		return WaitingRetry
	case stage.Only && m.Only&(1<<r.Stage) == 0:
		return WaitingStage
	case r.StageState == StageGate, r.StageState == StageHealth:
		return WaitingGate
	case r.StageState == StageChecking, r.room() <= 0:
		return WaitingStage
	case r.Plan.Window.Covers == CoversAll && !r.inWindow(at, zone):
		return WaitingWindow
	case r.Plan.Interval > 0 && !r.Admitted.IsZero() && at.Before(r.Admitted.Add(r.Plan.Interval)):
		return WaitingRate
	case r.full(m, r.inWindow(at, zone)):
		return WaitingConcurrency
	case asleep:
		return WaitingAsleep
	case !reachable:
		return WaitingOffline
	}
	return ""
}

// full reports whether there is no place for the member to transfer. Places that are reserved for
// members which were asleep count, but not the member's own.
//
// While all places to install are taken or promised, a member is admitted to be held, which costs
// its update a few commits and reads. So three of four places to transfer stay free then: devices
// that take longer to install than to transfer do not get further by more of them.
func (r *Rollout) full(m *Member, window bool) bool {
	taken := r.Slots.Transferring + r.Slots.Reserved
	if m.Place == PlaceReserved {
		taken = r.Slots.Transferring // it waits longer than the others with a reserved place
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

// reach admits a member that can be reached, if it may be. A member that is asleep is invited: it
// is admitted when it is heard next.
func (x *machine) reach() {
	if !x.in.Asleep {
		x.heard()
	}
	if x.m.State != MemberWaiting {
		return
	}
	wait := x.Waiting(&x.m, x.Now, x.in.Zone, true, x.in.Asleep)
	x.out.Waiting = wait
	switch {
	case wait == "":
		x.admit()
	case wait == WaitingAsleep:
		x.invite()
	case wait == WaitingConcurrency && x.m.Place == PlaceInvited && !x.in.Asleep:
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

// lifetime is how long an invitation lasts: until the device must have been heard.
func lifetime(d time.Duration) time.Duration {
	if d <= 0 || d > 24*time.Hour {
		return 24 * time.Hour
	}
	return max(d, time.Minute)
}

// admit begins the member's update.
func (x *machine) admit() {
	granted := x.inWindow(x.Now, x.in.Zone) && x.promised() < x.Plan.Concurrency
	x.change(func(m *Member) {
		m.leave()
		m.State, m.Place, m.Stage, m.Epoch = MemberActive, PlaceStarting, x.Stage+1, x.Since.Epoch
		m.Update, m.Granted, m.Bad, m.End = "", granted, 0, EndingNone
		m.Attempt++
	})
	x.Admitted, x.Exhausted = x.Now, false
	x.Since.Admitted++
	if x.StageState == StageSoaking { // it soaked because no other could be reached
		x.StageState, x.Until = StageFilling, time.Time{}
	}
}

// forget takes an admission back that was none.
func (x *machine) forget() {
	if x.m.Epoch == x.Since.Epoch {
		x.Since.Admitted--
	}
}

// tryAgain is how long a member waits that another update is in the way of, or whose update could
// not be made.
const tryAgain = time.Minute

// refused takes back the admission of a member whose update was not made.
func (x *machine) refused() {
	if x.m.Place != PlaceStarting {
		return
	}
	x.forget()
	if x.in.Skip != "" {
		x.skip(x.in.Skip)
		return
	}
	x.wait()
	x.change(func(m *Member) {
		m.Busy, m.Until = x.in.Busy, x.Now.Add(tryAgain)
		if m.Busy == "" {
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

// retry makes a member wait again that has ended without success.
func (x *machine) retry() {
	late := x.State == StateEnded && x.Reason == ReasonDone && x.Now.Before(x.Plan.EndAt)
	if !x.m.State.Ended() || x.m.State == MemberSucceeded || x.State == StateStopping || x.State == StateEnded && !late {
		return
	}
	x.wait()
	x.change(func(m *Member) { m.Skip, m.Later, m.LaterAt = "", "", time.Time{} })
	x.Exhausted = false
	if late {
		x.State, x.Reason, x.Ended, x.StageState = StateRunning, ReasonNone, time.Time{}, StageFilling
		x.log(EventResumed, "%s", x.in.Text)
	}
}
