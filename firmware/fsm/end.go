package fsm

// end gives the update its outcome, and stops the action under way.
func (m *machine) end(outcome Outcome, reason Reason, detail string) {
	if m.act.Kind != ActionCancel {
		m.giveUp()
		m.act = Action{}
	}
	m.hard = true
	m.log(endEvents[outcome], "%s", detail)
	if outcome == OutcomeSucceeded && m.Attempt > 0 {
		m.hasPackage()
	}
	m.Result = m.storedResult(outcome, reason)
	m.Phase, m.State = PhaseEnded, Idle
	m.Outcome, m.Reason = outcome, reason
	m.Ended, m.Wait, m.Holds = m.now, Wait{}, nil
	// ActionCancel's read needs the rest.
	m.Memory = memory{
		Clock: clock{Now: m.now}, Doing: doing{Action: m.act}, NextID: m.Memory.NextID,
		History: history{StrayUntil: m.Memory.History.StrayUntil},
	}
}

// endEvents names the last line of the journal for each outcome.
var endEvents = map[Outcome]string{
	OutcomeSucceeded: EventSucceeded, OutcomeRolledBack: EventRolledBack, OutcomeFailed: EventFailed,
	OutcomeCancelled: EventCancelled, OutcomeTimedOut: EventTimedOut,
}

// storedResult returns the Result to store with an outcome: the one that the device reported, if it
// fits. Otherwise it is connection_lost only if the device was away, or did not answer, when the
// time was over.
func (m *machine) storedResult(outcome Outcome, reason Reason) Result {
	switch {
	case outcome == OutcomeSucceeded:
		return ResultSuccess
	case outcome == OutcomeCancelled:
		return ResultCancelled
	case reason == ReasonNoDelivery || reason == ReasonNotServed:
		return ResultUnsupProtocol
	case outcome == OutcomeFailed && m.Reported.failure():
		return m.Reported
	case outcome == OutcomeTimedOut && m.Failure != ResultDefault:
		return m.Failure
	case outcome == OutcomeTimedOut && m.unanswering():
		return ResultConnectionLost
	default:
		return ResultUpdateFailed
	}
}

// unanswering reports whether the device is away, asleep, or has left the last request unanswered.
func (m *machine) unanswering() bool { return !m.Memory.Presence.Online || m.Memory.Reading.Silent }

// timeOut ends the update because its time is over, unless the last reading says more.
func (m *machine) timeOut(reason Reason, detail string) {
	in := m.Memory.Installation
	switch {
	case in.Begun && m.runsTarget():
		m.end(OutcomeSucceeded, ReasonVersion, detail+", but the device runs the target version")
		return
	case in.Sent && in.Returned && m.Memory.Reading.Missing > 0 && m.runsOld():
		// The device has been back for a long time, without a usable Object 5.
		m.end(OutcomeRolledBack, ReasonOldVersion, detail+"; the device is back with its old version")
		return
	case in.Failed:
		m.endFailed(detail + "; ")
		return
	}
	m.cancelOnDevice()
	m.end(OutcomeTimedOut, reason, detail)
}

// cancel ends the update for the operator.
func (m *machine) cancel(detail string) {
	if detail == "" {
		detail = "an operator cancelled the update"
	}
	if m.State == Updating {
		detail += "; the device is updating and cannot be stopped"
	}
	m.cancelOnDevice()
	m.end(OutcomeCancelled, ReasonOperator, detail)
}

// cancelOnDevice gives up the action under way and asks the device, best effort, to drop the
// package. The device is read afterwards; see afterEnd.
func (m *machine) cancelOnDevice() {
	m.MayStill = m.mayStill()
	m.giveUp()
	if !m.Memory.Presence.Online || !m.Memory.History.Written && !m.Memory.Attempt.Begun && m.MayStill == MayStillNone {
		return
	}
	m.do(Action{Kind: ActionCancel, Reset: m.Plan.Profile.Reset})
}

// mayStill says what can follow on the device, as far as that is known before ActionCancel.
func (m *machine) mayStill() MayStill {
	in, h := m.Memory.Installation, m.Memory.History
	switch {
	case !h.Executed && !h.AutoUpgraded && !m.Memory.Reading.Auto:
		return MayStillNone
	case m.State == Updating || in.Begun && (in.Seen || in.Code.OK()):
		return MayStillInstall
	default:
		return MayStillUnknown
	}
}

// afterEnd records what ActionCancel read from the device of an ended update. A device that is Idle
// installs nothing, unless an Execute can still arrive, or it has installed already, which its
// version shows. If it was seen to install, State Idle counts only together with a version.
func (u *Update) afterEnd(o *Observation) Actions {
	if o.Kind != ObserveDone || u.Memory.Doing.Kind != ActionCancel || o.Action != u.Memory.Doing.ID {
		return Actions{}
	}
	// The journal's time is that of the observation.
	u.Memory.Doing = doing{}
	u.Memory.Clock.Now = later(u.Memory.Clock.Now, o.At.Round(0).UTC())
	state := o.Reading.State
	if u.MayStill == "" || u.MayStill == MayStillNone || !state.OK() || u.Memory.Clock.Now.Before(u.Memory.History.StrayUntil) {
		return Actions{}
	}
	before := u.MayStill
	v, _ := versionOf(o.Reading.Version)
	tells := v.says() && u.Plan.Target != u.OldVersion
	installed := tells && v.is(u.Plan.Target)
	switch {
	case state.Value == Updating || state.Value == Idle && installed:
		u.MayStill = MayStillInstall
	case state.Value == Idle && (tells || before != MayStillInstall):
		u.MayStill = MayStillNone
	}
	if u.MayStill == before && !installed {
		return Actions{}
	}
	detail := "the device shows state " + state.Value.String()
	if v.says() {
		detail += ", version " + v.String()
	}
	detail += " after the end of the update; "
	if installed {
		detail += "the device has installed it"
	} else {
		detail += "may still install: " + string(u.MayStill)
	}
	return Actions{Persist: true, Journal: []Entry{{Event: EventAfterEnd, Detail: detail}}}
}

// giveUp drops the action under way. A read follows, whatever the action was.
func (m *machine) giveUp() {
	switch m.Memory.Doing.Kind {
	case ActionNone:
		return
	case ActionWriteURI, ActionPush:
		m.Memory.Attempt.Answered, m.Memory.Attempt.Answer = m.now, CodeNone
		m.log(EventInterrupted, "the server gave up %s before its end", m.Memory.Doing.Kind.words())
	case ActionExecute:
		m.Memory.History.StrayUntil = m.now.Add(loose)
		m.line(EventInterrupted, "the server gave up Execute before its end")
	}
	m.Memory.Doing = doing{}
	m.abandon = true
}
