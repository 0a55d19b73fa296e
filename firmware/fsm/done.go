package fsm

import (
	"slices"
	"time"
)

// done records the end of the action under way. It ignores the end of any other action, which is
// late.
func (m *machine) done(o *Observation) {
	act := m.Memory.Doing.Action
	if act.Kind == ActionNone || o.Action != act.ID {
		return
	}
	m.Memory.Doing = doing{}
	if o.Fault != FaultNone {
		m.notDone(act, o)
		return
	}
	m.Memory.Reading.Silent = o.Code == CodeNone // after a read, the State's code says it
	switch act.Kind {
	case ActionRead:
		m.readDone(o, act.Resources)
	case ActionObserve:
		m.observeDone(o)
	case ActionReset:
		m.resetDone(o)
	case ActionWriteURI:
		m.writeDone(o)
	case ActionPush:
		m.pushDone(o)
	case ActionExecute:
		m.executeDone(o)
		return
	}
	if o.Code == CodeNone && m.Memory.Installation.Code.OK() {
		m.restarts("the device accepted Execute and does not answer, as during a restart")
	}
}

// notDone handles an action that the server could not carry out. The device had no part in it.
func (m *machine) notDone(act Action, o *Observation) {
	switch o.Fault {
	case FaultImage:
		m.fault(o)
	case FaultURI:
		m.Memory.History.Unsupported = append(slices.Clone(m.Memory.History.Unsupported), act.Protocol)
		why := "this server has no Package URI for " + act.Protocol.String() + ": " + detailOr(o, "unknown")
		if c := m.choose(); !c.ok {
			m.end(OutcomeFailed, ReasonNotServed, why)
			return
		}
		m.again(0, why, "")
	default:
		m.log(EventNotSent, "this server did not send %s: %s", act.Kind.words(), detailOr(o, "something has changed"))
		switch act.Kind {
		case ActionExecute:
			// Read again what the action was based on.
			m.Memory.Installation = installation{}
			m.enter(PhaseTransferred)
		case ActionWriteURI, ActionPush:
			n := m.Memory.Attempt.NotSent
			m.again(m.retryPause(n), "this server did not send "+act.Kind.words(), "")
			m.Memory.Attempt.NotSent = min(n+1, doublings)
			return
		}
		m.readBy(m.now.Add(backoff(m.Plan.Limits.Poll, m.Memory.Attempt.NotSent)))
		m.Memory.Attempt.NotSent++
	}
}

// observeDone takes the answer to an Observe as a look at the State. If the device refused it, the
// server polls.
func (m *machine) observeDone(o *Observation) {
	r, state := &m.Memory.Reading, o.Reading.State
	if o.Code == CodeNone || o.Code == codeServiceUnavailable {
		if r.Unheard++; r.Unheard < 2 {
			r.Watch = m.now.Add(m.Plan.Limits.Poll)
			return
		}
	}
	r.Observed, r.Unheard = true, 0
	switch unchanged := state.OK() && state.Value == m.State; {
	case !o.Code.OK():
		m.log(EventPolling, "%s; the server reads it now and then", answer(o, "Observe 5/0/3"))
	case unchanged && r.Next.After(m.now):
		// Nothing has happened since the read.
	case m.expects(state):
		r.Next = time.Time{}
		m.recordState(state.Value)
		m.judge(o.Reading)
	case !unchanged:
		m.readNow()
	}
}

// resetDone does not take a refused reset as a failure; the next read decides. It leaves out the
// version, which was read just before the reset.
func (m *machine) resetDone(o *Observation) {
	if !o.Code.OK() {
		m.line(EventResetFailed, answer(o, "the reset"))
	}
	m.readNow()
	if o.Code.OK() && m.Memory.Presence.Online {
		m.do(Action{Kind: ActionRead, Resources: m.resources() &^ ReadVersion})
	}
}

func (m *machine) writeDone(o *Observation) {
	m.Memory.Attempt.Answered, m.Memory.Attempt.Answer = m.now, o.Code
	switch {
	case o.Code.OK():
		m.line(EventURIAccepted, "the device accepted the Package URI")
		m.restartClock(m.now)
		m.firstLookIn(min(firstLook, m.Plan.Limits.Poll))
	case o.Code == CodeNone || o.Code == codeServiceUnavailable:
		m.line(EventURIUnanswered, answer(o, "Write 5/0/1"))
		m.Memory.Attempt.WaitReason = ""
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	case !m.declined():
		m.log(EventURIAccepted, "%s, and requests the package: it refused a repetition", answer(o, "Write 5/0/1"))
		m.restartClock(m.now)
		m.firstLookIn(min(firstLook, m.Plan.Limits.Poll))
	default:
		m.hard = true // what the device downloads now is not this package
		m.line(EventURIRefused, answer(o, "Write 5/0/1"))
		m.Memory.Attempt.WaitReason = ""
		m.readBy(m.now.Add(debounce))
	}
}

func (m *machine) pushDone(o *Observation) {
	m.Memory.Attempt.Answered, m.Memory.Attempt.Answer = m.now, o.Code
	switch {
	case o.Code.OK():
		m.line(EventPushAccepted, "the device accepted all bytes")
		m.Memory.Attempt.WaitReason = waitCheck
		m.Memory.Attempt.Started = true
		m.hasPackage()
		m.restartClock(m.now)
		m.readBy(m.now.Add(debounce))
	case o.Code == CodeNone || o.Code == codeServiceUnavailable:
		m.line(EventPushBroken, answer(o, "a block of the push"))
		m.Memory.Attempt.WaitReason = ""
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	default:
		m.hard = true // what the device takes now is not this package
		m.line(EventPushRefused, answer(o, "the push"))
		m.Memory.Attempt.WaitReason = ""
		if o.Code == codeTooLarge && o.Limit > 0 && o.Limit < m.Plan.Size {
			m.log(EventPushTooLarge, "the device takes at most %d bytes by push, and the package has %d", o.Limit, m.Plan.Size)
			m.Memory.History.TooLarge = true
		}
		m.readBy(m.now.Add(debounce))
	}
}

func (m *machine) executeDone(o *Observation) {
	m.Memory.Installation.Code = o.Code
	switch {
	case o.Code.OK():
		m.line(EventExecuteAccepted, "the device accepted Execute")
		m.firstLookIn(min(firstLook, m.Plan.Limits.Poll))
	case o.Code == CodeNone || o.Code == codeServiceUnavailable:
		m.line(EventExecuteUnanswered, answer(o, "Execute"))
		m.Memory.Attempt.WaitReason = ""
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	default:
		// 4.05 can answer a second copy of a request whose first answer was lost.
		m.line(EventExecuteRefused, answer(o, "Execute"))
		m.Memory.Attempt.WaitReason = ""
		m.readBy(m.now.Add(debounce))
	}
}

// answer says how the device answered a request, and the cause if it is known.
func answer(o *Observation, request string) string {
	text := "the device answered " + o.Code.String() + " to " + request
	if o.Code == CodeNone {
		text = "the device did not answer " + request
	}
	if cause := detail(o); cause != "" {
		text += " (" + cause + ")"
	}
	return text
}
