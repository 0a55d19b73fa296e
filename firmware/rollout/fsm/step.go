package fsm

import (
	"slices"
	"sync"
	"time"
)

// machine is a step on its way: the rollout, the member that it concerns, and what follows.
type machine struct {
	Rollout
	m   Member
	in  Input
	out Actions
	why string // the member is bad
}

// machines are used again: a step has a kilobyte, which would be on the heap.
var machines = sync.Pool{New: func() any { return new(machine) }}

// Step returns the rollout and the member after an input, and what follows. The member is the zero
// value if the input concerns none, or if it is new. The rollout and the member must be stored in
// one commit: the counters of the one include the other.
func (r Rollout) Step(m Member, in Input) (Rollout, Member, Actions) {
	x := machines.Get().(*machine)
	*x = machine{Rollout: r, m: m, in: in}
	defer machines.Put(x)
	x.Stages, x.Opened = slices.Clone(r.Stages), slices.Clone(r.Opened)
	if in.At.After(x.Now) {
		x.Now = in.At
	}
	x.apply()
	x.settle()
	x.reconcile()
	return x.Rollout, x.m, x.out
}

// change changes the member, and the counters with it.
func (x *machine) change(f func(m *Member)) {
	x.account(&x.m, -1)
	f(&x.m)
	x.account(&x.m, +1)
	x.out.Persist = true
}

// apply applies the input.
func (x *machine) apply() {
	switch x.in.Kind {
	case InputFilled:
		x.set(func() { x.Filled = true }, x.State == StateDraft && !x.Filled)
	case InputStart:
		x.start()
	case InputPause:
		if x.State == StateRunning {
			x.pause(ReasonOperator, x.in.Text)
		}
	case InputResume:
		x.resume()
	case InputOpen:
		x.openByHand()
	case InputStop:
		x.stop(ReasonOperator, x.in.Text, x.in.Cancels, x.State == StateRunning && !x.in.Cancels)
	case InputEdit:
		x.set(func() { x.Plan = x.in.Plan; x.log(EventEdited, "%s", x.in.Text) }, x.Active())
	case InputExhausted:
		x.exhausted()
	case InputChecked:
		if x.State == StateRunning && x.StageState == StageChecking {
			x.after()
		}
	case InputHealth:
		x.health()
	case InputTick:
		x.tick()
	default:
		x.member()
	}
}

// set changes the rollout, if something is true of it.
func (x *machine) set(change func(), valid bool) {
	if valid {
		change()
		x.out.Persist = true
	}
}

// member applies what has happened to a member.
func (x *machine) member() {
	switch x.in.Kind {
	case InputAdd:
		x.add()
	case InputReach:
		x.reach()
	case InputStarted:
		if x.m.Place == PlaceStarting {
			x.change(func(m *Member) { m.Update, m.Place = x.in.Update, PlaceTransferring })
		}
	case InputRefused:
		x.refused()
	case InputSeen:
		x.seen()
	case InputHeld:
		x.seen() // the hold may have come too late
		if x.m.State == MemberActive && x.m.Granted && x.m.Place != PlaceStarting && x.m.Place != PlaceInstalling {
			x.change(func(m *Member) { m.Granted = false })
		}
	case InputShown:
		x.shown()
	case InputRetry:
		x.retry()
	case InputRemove:
		if x.m.State == MemberWaiting {
			x.skip(SkipRemoved)
		}
	case InputFinish:
		if x.State == StateStopping && x.m.State == MemberWaiting {
			x.skip(x.left())
		}
	}
}

// add adds a new member.
func (x *machine) add() {
	if x.m.State != "" || x.State == StateStopping || !x.Active() && !x.reopens() {
		return
	}
	x.change(func(m *Member) {
		m.State, m.Only, m.Skip = MemberWaiting, x.in.Only, x.in.Skip
		if m.Skip != "" {
			m.State = MemberSkipped
		}
	})
	x.Exhausted = false
	if x.m.State == MemberWaiting {
		x.reopen()
	}
}

// reopens reports whether a rollout that has ended takes members again: its time is not over, and
// no operator has stopped it.
func (x *machine) reopens() bool {
	return x.State == StateEnded && x.Reason == ReasonDone && x.Now.Before(x.Plan.EndAt)
}

// reopen makes a rollout that has ended run again, for a member that waits.
func (x *machine) reopen() {
	if x.State == StateEnded {
		x.State, x.Reason, x.Ended, x.StageState = StateRunning, ReasonNone, time.Time{}, StageFilling
		x.Since = Since{Epoch: x.Since.Epoch + 1}
		x.log(EventResumed, "%s", x.in.Text)
	}
}

// skip ends a member that was not updated.
func (x *machine) skip(why SkipReason) {
	x.change(func(m *Member) {
		m.State, m.Skip = MemberSkipped, why
		m.leave()
	})
}

// left says why members that wait are skipped when the rollout stops.
func (x *machine) left() SkipReason {
	if x.Reason == ReasonEndAt {
		return SkipUnreachable
	}
	return SkipCancelled
}

// leave clears what a member has only while it waits for its turn or is active.
func (m *Member) leave() {
	m.Place, m.Granted, m.Returned, m.Missing = PlaceNone, false, false, false
	m.Gone, m.Executed, m.Until = time.Time{}, time.Time{}, time.Time{}
	m.Silence, m.Busy, m.Failed = 0, "", ""
}

// start starts a draft that has all its members, and at least one, before its time is over.
func (x *machine) start() {
	if x.State != StateDraft || !x.Filled || x.Total == (Counts{}) || !x.Now.Before(x.Plan.EndAt) {
		return
	}
	x.State, x.Started, x.out.Persist = StateRunning, x.Now, true
	x.log(EventStarted, "%s", x.in.Text)
	x.open(0)
}

// pause stops admissions, and holds the updates that run.
func (x *machine) pause(why Reason, detail string) {
	x.State, x.Reason, x.Detail, x.out.Persist = StatePaused, why, detail, true
	event := EventPaused
	if why == ReasonTrip {
		event = EventTripped
	}
	x.log(event, "%s", detail)
}

// resume goes on after a pause. What went wrong before does not count any more.
func (x *machine) resume() {
	if x.State != StatePaused {
		return
	}
	x.State, x.Reason, x.Detail, x.out.Persist = StateRunning, ReasonNone, "", true
	x.Since = Since{Epoch: x.Since.Epoch + 1}
	x.Exhausted = false
	x.log(EventResumed, "%s", x.in.Text)
}

// stop ends the rollout, as soon as its last member has ended.
func (x *machine) stop(why Reason, detail string, cancels, grants bool) {
	if !x.Active() || x.State == StateStopping && (x.Cancels || !cancels) {
		return
	}
	x.State, x.Reason, x.Detail, x.out.Persist = StateStopping, why, detail, true
	x.Cancels, x.Grants = cancels, grants
	x.log(EventStopping, "%s", detail)
}

// settle does what follows from the counters and from time alone.
func (x *machine) settle() {
	if (x.State == StateRunning || x.State == StatePaused) && !x.Now.Before(x.Plan.EndAt) {
		x.stop(ReasonEndAt, "the time of the rollout is over", false, false)
	}
	// What a rollout that stops holds still, such as the update of a device that is away, does not
	// time out by itself.
	x.set(func() { x.Grants = false }, x.State == StateStopping && x.Grants && !x.Now.Before(x.Plan.EndAt))
	if x.State == StateRunning && x.tripped() {
		x.pause(ReasonTrip, x.tripText())
	}
	switch {
	case x.State == StateRunning:
		x.promote()
	case x.State == StateStopping && x.none():
		x.end(x.Reason)
	}
}

// end ends the rollout.
func (x *machine) end(why Reason) {
	x.State, x.Reason, x.Ended, x.Until, x.out.Persist = StateEnded, why, x.Now, time.Time{}, true
	x.log(EventEnded, "%d succeeded, %d failed, %d rolled back, %d skipped", x.Total.Succeeded, x.Total.Failed,
		x.Total.RolledBack, x.Total.Skipped)
}
