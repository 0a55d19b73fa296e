package fsm

import "time"

// seen takes what the update of an active member shows.
func (x *machine) seen() {
	if x.m.State != MemberActive || x.m.Place == PlaceStarting {
		return
	}
	seen := x.in.Seen
	if seen.End != EndingNone {
		x.ended(seen.End)
		return
	}
	if seen.Place == PlaceInstalling {
		x.installing(seen)
		return
	}
	place := x.m.Place
	if place != PlaceAway || seen.Online {
		place = seen.Place
	}
	if place == PlaceReady && (x.m.Returned || x.m.Place == PlaceAway) {
		place = x.parked()
	}
	gone := x.m.Gone
	switch {
	case seen.Online:
		gone = time.Time{}
	case gone.IsZero():
		gone = x.Now
	}
	if place == x.m.Place && gone.Equal(x.m.Gone) {
		return
	}
	x.change(func(m *Member) {
		m.Returned = (m.Returned || m.Place == PlaceAway && place != PlaceAway) && place != PlaceReady
		m.Place, m.Gone, m.Executed, m.Silence = place, gone, time.Time{}, 0
	})
}

// parked returns the place of a member that was away and has the package now: it goes on if it
// finds room in the open stage.
func (x *machine) parked() Place {
	room := x.room()
	if x.m.Place == PlaceParked || x.m.Place == PlaceAway {
		room-- // it does not take any yet
	}
	if room < 0 {
		return PlaceParked
	}
	return PlaceReady
}

// installing notes that Execute is out.
func (x *machine) installing(seen Seen) {
	if x.m.Place != PlaceInstalling {
		x.change(func(m *Member) {
			m.Place, m.Gone, m.Executed, m.Silence = PlaceInstalling, time.Time{}, x.Now, seen.Silence
		})
	}
	if !seen.Heard.After(x.m.Executed) {
		return
	}
	x.heard()
	if !x.Now.Before(x.m.Executed.Add(x.m.Silence)) { // sooner it makes no difference
		x.change(func(m *Member) { m.Executed = seen.Heard })
	}
}

// ended ends an active member as its update has ended.
func (x *machine) ended(how Ending) {
	if how != EndingTimedOut && how != EndingAway {
		x.heard()
	}
	stay := func(s MemberState) {
		x.change(func(m *Member) {
			m.leave()
			m.State, m.End = s, how
		})
	}
	switch how {
	case EndingSucceeded:
		stay(MemberSucceeded)
	case EndingCurrent:
		x.skip(SkipCurrent)
	case EndingIncompatible:
		x.skip(SkipIncompatible)
	case EndingCancelled:
		x.skip(SkipCancelled)
	case EndingAway:
		if x.State == StateStopping {
			x.skip(SkipUnreachable)
		} else {
			x.wait()
		}
	case EndingRolledBack:
		stay(MemberRolledBack)
	default:
		stay(MemberFailed)
	}
	switch {
	case x.m.State == MemberRolledBack:
		x.bad("rolled back")
	case x.m.State == MemberFailed && how == EndingTimedOut:
		x.bad("has not ended its update in time")
	case x.m.State == MemberFailed:
		x.bad("failed")
	}
}

// tick applies the time that has passed for a member.
func (x *machine) tick() {
	wake := x.m.Wake()
	if wake.IsZero() || x.Now.Before(wake) {
		return
	}
	switch {
	case x.m.State == MemberWaiting: // an invitation that was not used, or a pause that is over
		x.change((*Member).leave)
	case x.m.Place == PlaceInstalling:
		x.change(func(m *Member) { m.Missing = true })
		x.log(EventMissing, "a device has not been heard for %s since Execute", x.m.Silence)
		x.bad("is missing")
	default:
		x.change(func(m *Member) { m.Place = PlaceAway })
	}
}

// heard notes that a missing member was heard.
func (x *machine) heard() {
	if !x.m.Missing {
		return
	}
	x.change(func(m *Member) {
		m.Missing, m.Bad = false, 0
		if m.Place == PlaceInstalling {
			m.Executed = x.Now
		}
	})
}

// shown takes what a member that succeeded showed at the end of the soak.
func (x *machine) shown() {
	if x.m.State != MemberSucceeded || x.State != StateRunning {
		return
	}
	switch x.in.Shown {
	case ShownOther:
		x.change(func(m *Member) {
			m.State, m.Later, m.LaterAt, m.Missing = MemberRolledBack, x.in.Text, x.Now, false
		})
		x.log(EventLate, "a device that was updated shows version %q", x.in.Text)
		x.bad("went back to another version")
	case ShownSilent:
		x.change(func(m *Member) { m.Missing = true })
		x.log(EventMissing, "a device that was updated does not answer")
		x.bad("does not answer after its update")
	}
}

// bad counts the member as bad, unless it is. If there are too many, settle pauses the rollout.
func (x *machine) bad(why string) {
	x.why = why
	if x.m.Bad == 0 {
		x.change(func(m *Member) { m.Bad = x.Since.Epoch })
	}
}

// reconcile makes the hold of the member's update what it has to be now.
func (x *machine) reconcile() {
	m := &x.m
	if m.Place == PlaceParked && x.parked() == PlaceReady {
		x.change(func(m *Member) { m.Place, m.Returned = PlaceReady, false })
	}
	switch {
	case m.State != MemberActive || m.Place == PlaceInstalling:
	case m.Place == PlaceStarting:
		x.out.Do = ActionStart
	case x.State == StateStopping && (x.Cancels || m.Place == PlaceParked || !x.Grants && !m.Granted):
		x.out.Do = ActionCancel
	case m.Granted && (!x.mayRun() || x.Slots.Granted+x.Slots.Installing > x.Plan.Concurrency):
		x.out.Do = ActionHold
	case !m.Granted && m.Place == PlaceReady && x.grantable():
		x.change(func(m *Member) { m.Granted = true })
		x.out.Do = ActionRelease
	case m.Granted && x.in.Kind == InputGrant:
		x.out.Do = ActionRelease // the one before may not have been carried out
	}
}

// HoldTime is how long before the end of a window the grants are taken back, so that their holds
// are durable when it ends.
const HoldTime = 5 * time.Second

// mayRun reports whether a granted member may stay so.
func (x *machine) mayRun() bool {
	return (x.State == StateRunning || x.State == StateStopping) && x.m.Place != PlaceAway && x.m.Place != PlaceParked &&
		x.mayExecute()
}

// mayExecute reports whether the window is open for the member, and stays so for a moment.
func (x *machine) mayExecute() bool {
	return x.inWindow(x.Now, x.in.Zone) && x.inWindow(x.Now.Add(HoldTime), x.in.Zone)
}

// grantable reports whether a member may be granted.
func (x *machine) grantable() bool {
	return x.mayRun() && (x.State == StateRunning || x.Grants) &&
		x.Slots.Granted+x.Slots.Installing < x.Plan.Concurrency
}
