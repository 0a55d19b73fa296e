package fsm_test

import (
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// ledger is the simulation's own record of an update, to check the machine against the invariants.
// It does not use the machine's memory.
type ledger struct {
	habits habits

	wrote   bool // a URI or a push was sent in this update
	holds   bool // the stored facts name the package
	version string

	// Of the attempt, which begins with a URI or a push.
	attempted bool
	kind      fsm.ActionKind
	before    fsm.State // last read before
	refused   bool
	acked     bool
	served    bool

	// Of the installation.
	executed   bool // Execute was sent in this attempt
	ever       bool // Execute was sent in this update
	executing  fsm.Code
	registered bool      // the device registered since
	idleSince  time.Time // since when reads showed Idle, zero if the last did not

	last     fsm.Reading // the last reading with a State
	read     bool        // since the last Execute
	itself   bool        // the device lists that it installs by itself, or was seen to
	reported map[fsm.Result]bool
	silent   bool // the last action was not answered
	held     []string
}

func newLedger(h habits) ledger {
	l := ledger{habits: h, reported: map[fsm.Result]bool{}}
	for _, hold := range h.holds {
		l.held = append(l.held, hold.Holder)
	}
	return l
}

// observe records what the server learned, before the machine's step is checked.
func (l *ledger) observe(before fsm.Update, o fsm.Observation) {
	for _, h := range l.habits.holds {
		if !h.Until.IsZero() && !o.At.Before(h.Until) {
			l.held = slices.DeleteFunc(l.held, func(holder string) bool { return holder == h.Holder })
		}
	}
	switch o.Kind {
	case fsm.ObserveRegistered:
		l.registered, l.silent = true, false
	case fsm.ObserveResumed:
		l.registered = l.registered || o.Registered.After(before.Now())
	case fsm.ObserveHint, fsm.ObserveAwake, fsm.ObserveUpdated:
		l.silent = false
	case fsm.ObserveProgress:
		l.silent = false
		l.served = l.served || l.attempted && l.kind == fsm.ActionWriteURI && o.Bytes >= before.Plan.Size
	case fsm.ObserveHold:
		if !slices.Contains(l.held, o.Hold.Holder) {
			l.held = append(l.held, o.Hold.Holder)
		}
	case fsm.ObserveRelease:
		l.held = slices.DeleteFunc(l.held, func(h string) bool { return h == o.Hold.Holder })
	case fsm.ObserveDone:
		if o.Action == before.Doing().ID && before.Active() {
			l.done(before.Doing(), o)
		}
	}
}

func (l *ledger) done(a fsm.Action, o fsm.Observation) {
	code := o.Code
	if a.Kind == fsm.ActionRead {
		code = o.Reading.State.Code
	}
	l.silent = code == fsm.CodeNone
	switch a.Kind {
	case fsm.ActionWriteURI, fsm.ActionPush:
		l.refused = o.Code != fsm.CodeNone && !o.Code.OK()
		l.acked = o.Code.OK()
	case fsm.ActionExecute:
		l.executing = o.Code
	case fsm.ActionRead:
		r := o.Reading
		if v := r.Version; v.OK() {
			l.holds = l.holds && v.Value == l.version
			l.version = v.Value
		}
		if !r.State.OK() {
			return
		}
		l.last, l.read = r, true
		l.holds = l.holds && r.State.Value == fsm.Downloaded
		l.itself = l.itself || r.Auto.Value || r.State.Value == fsm.Updating && !l.executed && l.attempted
		if l.wrote && r.Result.OK() {
			l.reported[r.Result.Value] = true
		}
		switch {
		case r.State.Value != fsm.Idle || r.Result.Value != 0:
			l.idleSince = time.Time{}
		case l.idleSince.IsZero():
			l.idleSince = o.At
		}
	}
}

// begin records an action.
func (l *ledger) begin(a fsm.Action) {
	switch a.Kind {
	case fsm.ActionRead, fsm.ActionObserve, fsm.ActionNone:
		return
	case fsm.ActionWriteURI, fsm.ActionPush:
		l.wrote, l.attempted, l.kind = true, true, a.Kind
		l.before = l.last.State.Value
		l.refused, l.acked, l.served, l.executed, l.registered = false, false, false, false, false
	case fsm.ActionExecute:
		l.executed, l.ever, l.executing, l.registered, l.read, l.idleSince = true, true, fsm.CodeNone, false, false, time.Time{}
	}
	// Any request that changes the object clears the fact before it is sent.
	l.holds = false
}

// transferred reports that this attempt brought the package to the device: the first two proofs of
// invariant 1.
func (l *ledger) transferred() bool {
	if !l.attempted || l.last.State.Value != fsm.Downloaded {
		return false
	}
	idle := l.before == fsm.Idle || l.before == fsm.Downloading && l.kind == fsm.ActionPush && l.acked
	return idle && !l.refused || l.habits.plan.Profile.Reset == fsm.ResetNone && l.served
}

// invariants checks, after a step, what must always be true.
func (s *sim) invariants(before fsm.Update, o fsm.Observation, actions fsm.Actions) {
	u, a, l := s.update, actions.Do, &s.ledger
	l.observe(before, o)
	s.check(before.Active() || a.Kind == fsm.ActionNone, "an ended update does nothing more")
	s.check(u.Active() == (u.Result == fsm.ResultDefault), "result default means active")
	s.check(u.Active() || u.State == fsm.Idle && u.Phase == fsm.PhaseEnded, "an ended update is idle")
	s.check(a.Kind == fsm.ActionNone || before.Doing().Kind == fsm.ActionNone || actions.Abandon ||
		before.Doing().ID != u.Doing().ID, "one action at a time")
	s.check(before.Active() || before.MayStill == u.MayStill || o.Reading.State.OK(), "only a read changes may_still")

	// Invariant 6.
	s.check(u.Active() == (u.Wait.Reason != ""), "invariant 6: an active update says what it waits for")
	s.check(!u.Active() || isWaitSentence(u.Wait.Reason), "invariant 6: a wait is one of the sentences that are explained: %+v", u.Wait)
	s.check(!u.Active() || u.Wait.Until.After(s.now), "invariant 6: the wait has an end ahead: %+v", u.Wait)
	s.check(!u.Active() || u.Wake().After(s.now) && !u.Wake().After(u.Wait.Until), "invariant 6: the timer lies ahead, and not after the end of the wait: %s, %+v", u.Wake(), u.Wait)
	if u.Active() && u.Doing().Kind == fsm.ActionNone && u.Held() && u.Phase == fsm.PhaseTransferred && s.online && !l.silent && l.read && l.last.Result.Value == 0 {
		s.check(u.Wait.Whose == fsm.WhoseOperator, "invariant 6: a package that waits for a hold waits for the operator: %+v", u.Wait)
	}

	if want := u.Plan.Compatible.Model; want != "" && want != l.habits.model && !u.Plan.Force {
		switch a.Kind {
		case fsm.ActionReset, fsm.ActionWriteURI, fsm.ActionPush, fsm.ActionExecute:
			s.check(false, "invariant 9: nothing is written to a device for which the image is not made: %s", a.Kind)
		}
		s.check(u.Outcome != fsm.OutcomeSucceeded && u.Outcome != fsm.OutcomeRolledBack, "invariant 9: ended %s, %s", u.Outcome, u.Reason)
	}

	switch a.Kind {
	case fsm.ActionWriteURI, fsm.ActionPush:
		fixed := u.Plan.Profile.Reset == fsm.ResetNone
		s.check(fixed || l.last.State.Value == fsm.Idle || l.last.State.Value == fsm.Downloading && a.Kind == fsm.ActionPush,
			"a new package is not written into state %s", l.last.State.Value)
		s.check(actions.Persist, "a transfer is persisted before it begins")
	case fsm.ActionExecute:
		s.check(l.read && l.last.State.Value == fsm.Downloaded, "Execute follows a read of Downloaded")
		s.check(actions.Persist, "Execute is persisted before it is sent")
		s.check(l.transferred() || l.holds, "invariant 1: Execute needs a proof that the package is ours")
		s.check(len(l.held) == 0, "invariant of holds: nothing is executed while %v hold it", l.held)
	}
	if actions.Holds {
		s.check(l.transferred() || l.holds, "invariant 1: the fact that the device holds the package needs a proof")
		l.holds = true
	}
	if actions.Ended {
		s.outcome(before, actions)
	}
	l.begin(a)
}

// outcome checks an update that has just ended against the truth.
func (s *sim) outcome(before fsm.Update, actions fsm.Actions) {
	u, l := s.update, &s.ledger
	target, version, result := u.Plan.Target, l.last.Version.Value, l.last.Result.Value
	if u.Outcome == fsm.OutcomeSucceeded {
		ok := false
		switch u.Reason {
		case fsm.ReasonAlreadyRunning:
			ok = !l.wrote && !u.Plan.Force && l.version == target
		case fsm.ReasonVersion:
			ok = l.wrote && l.version == target && u.OldVersion != target
		case fsm.ReasonResult:
			ok = l.wrote && result == fsm.ResultSuccess && (u.Plan.Verify == fsm.VerifyResult || version == "")
		case fsm.ReasonSameVersion:
			ok = u.OldVersion == target && l.executed && (result == fsm.ResultSuccess ||
				l.executing.OK() && l.registered && !l.idleSince.IsZero() && s.now.Sub(l.idleSince) >= u.Plan.Limits.Settle)
		}
		s.check(ok, "invariant 2: succeeded, %s, is proven", u.Reason)
	}
	if u.Result == fsm.ResultConnectionLost {
		away := u.Outcome == fsm.OutcomeTimedOut && (!s.online || !s.device.reachable() || l.silent)
		s.check(l.reported[fsm.ResultConnectionLost] || away, "invariant 3: connection_lost was reported, or the device is away")
	}
	if s.faulty {
		s.check(u.Reason == fsm.ReasonImage, "invariant 3: a fault of the server is called so, not %s", u.Reason)
	}
	if u.Outcome == fsm.OutcomeCancelled {
		s.check(u.MayStill != "", "invariant 4: a cancelled update says what can follow")
		s.check(u.MayStill != fsm.MayStillNone || !l.ever && !l.itself, "invariant 4: none only if nothing can have been executed")
	}
	if before.Doing().Kind == fsm.ActionExecute {
		s.check(actions.Abandon || u.Doing().ID != before.Doing().ID && len(s.flying) == 0,
			"invariant 5: an Execute under way is given up when the update ends")
	}
	s.check(actions.Do.Kind == fsm.ActionNone || actions.Do.Kind == fsm.ActionCancel, "invariant 5: an update that ends executes nothing")
}
