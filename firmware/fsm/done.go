package fsm

import (
	"slices"
	"time"
)

// done takes in the end of the action under way. The end of any other action is
// too late to matter.
func (m *machine) done(o Observation) {
	act := m.Doing()
	if act.Kind == ActionNone || o.Action != act.ID {
		return
	}
	m.Memory.Doing = doing{}
	if o.Fault != FaultNone {
		m.notDone(act, o)
		return
	}
	m.Memory.Reading.Silent = o.Code == CodeNone // of a read, the State's code says it
	switch act.Kind {
	case ActionRead:
		m.readDone(o)
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
	}
}

// notDone deals with an action that the server could not carry out: the device
// has no part in it.
func (m *machine) notDone(act Action, o Observation) {
	switch o.Fault {
	case FaultImage:
		m.fault(o)
	case FaultURI:
		m.Memory.History.Tried = append(slices.Clone(m.Memory.History.Tried), act.Protocol)
		why := "no Package URI can be made for " + act.Protocol.String() + ": " + detailOr(o, "unknown")
		if c := m.choose(); !c.ok {
			m.end(OutcomeFailed, ReasonNotServed, why)
			return
		}
		m.again(0, why, "")
	default:
		// What it rested on has changed, and is read again.
		m.log("stopped", "%s was not sent: %s", act.Kind, detailOr(o, "something has changed"))
		if act.Kind == ActionExecute {
			m.Memory.Installation = installation{}
			m.enter(PhaseTransferred)
		}
		m.readNow()
	}
}

// observeDone goes on to the read, with or without observations: without them
// the device is polled.
func (m *machine) observeDone(o Observation) {
	r := &m.Memory.Reading
	switch {
	case o.Code.OK():
		r.Observed, r.Fails = true, 0
	case o.Code == CodeNone || o.Code == CodeServiceUnavailable:
		if r.Fails++; r.Fails < 2 {
			m.readBy(m.now.Add(m.Plan.Limits.Poll))
			return
		}
		fallthrough
	default:
		r.Observed, r.Fails = true, 0
		m.log("poll", "observing State and Result failed (%s), so they are polled", answer(o))
	}
	m.readNow()
}

// resetDone: a refusal is no failure by itself, the read decides.
func (m *machine) resetDone(o Observation) {
	if !o.Code.OK() {
		m.log("reset", "refused or unknown: %s", answer(o))
	}
	m.readNow()
}

func (m *machine) writeDone(o Observation) {
	m.Memory.Attempt.Answered, m.Memory.Attempt.Answer = m.now, o.Code
	switch {
	case o.Code.OK():
		m.log("accepted", "the device accepted the Package URI")
		m.restartClock(m.now)
		m.readBy(m.now.Add(min(firstLook, m.Plan.Limits.Poll)))
	case o.Code == CodeNone || o.Code == CodeServiceUnavailable:
		m.log("unknown", "the Package URI was not acknowledged (%s)", answer(o))
		m.Memory.Attempt.Why = ""
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	default:
		m.log("refused", "the Package URI was answered %s", answer(o))
		m.Memory.Attempt.Why = ""
		m.readBy(m.now.Add(debounce))
	}
}

func (m *machine) pushDone(o Observation) {
	m.Memory.Attempt.Answered, m.Memory.Attempt.Answer = m.now, o.Code
	switch {
	case o.Code.OK():
		m.log("accepted", "the device has all bytes")
		m.Memory.Attempt.Why = "device to check the package"
		m.Memory.Attempt.Started = true
		m.hasPackage()
		m.restartClock(m.now)
		m.readBy(m.now.Add(debounce))
	case o.Code == CodeNone || o.Code == CodeServiceUnavailable:
		m.log("unknown", "the push broke off (%s)", answer(o))
		m.Memory.Attempt.Why = ""
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	default:
		m.log("refused", "the push was answered %s", answer(o))
		m.Memory.Attempt.Why = ""
		if o.Code == CodeTooLarge && o.Limit > 0 && o.Limit < m.Plan.Size {
			m.log("too_large", "the device takes at most %d bytes, the package has %d: it cannot be pushed", o.Limit, m.Plan.Size)
			m.Memory.History.TooLarge = true
		}
		m.readBy(m.now.Add(debounce))
	}
}

func (m *machine) executeDone(o Observation) {
	m.Memory.Installation.Code = o.Code
	switch {
	case o.Code.OK():
		m.log("accepted", "the device accepted Execute")
		m.readBy(m.now.Add(min(firstLook, m.Plan.Limits.Poll)))
	case o.Code == CodeNone || o.Code == CodeServiceUnavailable:
		m.log("unknown", "Execute was not acknowledged (%s)", answer(o))
		m.Memory.Attempt.Why = ""
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	default:
		// 4.05 can be the second copy of a request whose answer was lost.
		m.log("refused", "Execute was answered %s", answer(o))
		m.Memory.Attempt.Why = ""
		m.readBy(m.now.Add(debounce))
	}
}

// answer puts an answer and its cause into words.
func answer(o Observation) string {
	if text := detail(o); text != "" {
		return o.Code.String() + ", " + text
	}
	return o.Code.String()
}

// readDone takes in what was read and judges it.
func (m *machine) readDone(o Observation) {
	r, rd := o.Reading, &m.Memory.Reading
	r.Protocols.Value = known(r.Protocols.Value)
	rd.Silent = r.State.Code == CodeNone
	switch {
	case r.State.OK() && r.State.Value.Known():
		if why := rd.partial(r); why != "" {
			m.unread(why)
			return
		}
		rd.Missing = 0
		m.understood(r)
		m.judge(r)
	case r.State.OK():
		m.unusable(r, ReasonBadState, "5/0/3 shows state "+r.State.Value.String()+", which does not exist")
	case r.State.Code == CodeNotFound || r.State.Code == CodeMethodNotAllowed:
		m.unusable(r, ReasonNoObject, "5/0/3 is answered "+r.State.Code.String())
	default:
		why := r.State.Code.String()
		if text := detail(o); text != "" && r.State.Code == CodeNone {
			why += ", " + text
		}
		m.unread("5/0/3: " + why)
	}
}

// known keeps of a list of protocols only what can be stored: a device may send
// anything.
func known(list []Protocol) []Protocol {
	var known []Protocol
	for _, p := range list {
		if p.Number() >= 0 && !slices.Contains(known, p) {
			known = append(known, p)
		}
	}
	return known
}

// partial says what is missing of a reading that shows a State. A device that
// does not answer for the rest is asked again, three times.
func (rd *reading) partial(r Reading) string {
	silent := func(code Code) bool { return code == CodeNone || code == CodeServiceUnavailable }
	switch {
	case rd.Fails >= 3:
		return "" // good enough
	case silent(r.Result.Code):
		return "5/0/5: " + r.Result.Code.String()
	case silent(r.Version.Code):
		return "3/0/3: " + r.Version.Code.String()
	default:
		return ""
	}
}

// unread plans another read after one that told nothing.
func (m *machine) unread(why string) {
	r := &m.Memory.Reading
	r.Fails++
	if n := r.Fails; n&(n-1) == 0 {
		m.log("unread", "%s (%d in a row)", why, n)
	}
	m.readBy(m.now.Add(backoff(m.Plan.Limits.Poll, r.Fails-1)))
}

// unusable deals with a device that answers, but shows no Object 5 to work
// with. Before anything was written that ends the update at the second look.
// Later it says nothing: the device may be booting, or run a new firmware that
// has no such object; then its version tells, or the phase's limit.
func (m *machine) unusable(r Reading, reason Reason, why string) {
	rd := &m.Memory.Reading
	rd.Fails, m.Memory.Clock.Resumed = 0, time.Time{}
	rd.Missing++
	v := m.readVersion(r)
	wrote := m.Memory.History.Wrote || m.Memory.Attempt.Begun
	switch {
	case !wrote && !m.Plan.Force && v.is(m.Plan.Target):
		m.end(OutcomeSucceeded, ReasonAlreadyRunning, "the device runs the target version already; "+why)
		return
	case wrote && v.is(m.Plan.Target) && !rd.Old.is(m.Plan.Target):
		m.end(OutcomeSucceeded, ReasonVersion, "the device runs the target version; "+why)
		return
	case !wrote && rd.Missing >= 2:
		m.end(OutcomeFailed, reason, "the device has no Firmware Update object that can be used: "+why)
		return
	}
	if n := rd.Missing; n&(n-1) == 0 {
		m.log("unusable", "%s (%d in a row)", why, n)
	}
	m.readBy(m.now.Add(backoff(m.Plan.Limits.Poll, rd.Missing-1)))
}

// understood records what was read.
func (m *machine) understood(r Reading) {
	rd := &m.Memory.Reading
	first := rd.Last.IsZero()
	rd.Fails, rd.Last, m.Memory.Clock.Resumed = 0, m.now, time.Time{}
	result := resultOf(r)
	v := m.readVersion(r)
	if r.State.Value != m.State || result != ResultDefault && result != m.Reported && m.fresh(result) || first {
		text := v.String()
		if !r.Version.OK() {
			text = "unreadable (" + r.Version.Code.String() + ")"
		}
		m.log("read", "state %s, result %s, version %s", r.State.Value, result, text)
		rd.Polls = 0
	}
	m.State = r.State.Value
	if m.fresh(result) {
		m.report(result)
	}
	if r.Protocols.OK() {
		rd.Listed = r.Protocols.Value
	}
	if r.Delivery.OK() && r.Delivery.Value >= PullOnly && r.Delivery.Value <= PushAndPull {
		rd.Method, rd.HasMethod = r.Delivery.Value, true
	}
	if !m.Memory.Attempt.Begun {
		rd.Auto = r.Auto.OK() && r.Auto.Value
		rd.Offers = known(r.Offers)
	}
}

// readVersion takes in what 3/0/3 says. Before an installation it is the old
// version.
func (m *machine) readVersion(r Reading) version {
	rd := &m.Memory.Reading
	v, stripped := versionOf(r.Version)
	if stripped && v != rd.Version {
		m.log("stripped", "3/0/3 has blanks or a NUL around %q, which do not count", v.Text)
	}
	if r.Version.OK() {
		rd.Version, m.Version = v, v.Text
	}
	if v.says() && !rd.Looked && !m.Memory.Installation.Begun {
		rd.Looked, rd.Old, m.OldVersion = true, v, v.Text
	}
	return v
}

// resultOf is the Result of a reading; a device that does not tell it has none.
func resultOf(r Reading) Result {
	if !r.Result.OK() {
		return ResultDefault
	}
	return r.Result.Value
}

// fresh reports whether a Result can only be of this attempt. One that was there
// before, and is shown by a device that has not begun, can be old.
func (m *machine) fresh(result Result) bool {
	a := m.Memory.Attempt
	return a.Begun && (result != a.Before || a.Started || m.Memory.Installation.Begun)
}

// failure reports whether r is a failure that Object 5 of every version knows.
func (r Result) failure() bool { return r >= ResultNoStorage && r <= ResultUnsupProtocol }

// report notes a Result that belongs to this update.
func (m *machine) report(result Result) {
	if result == ResultDefault || result == m.Reported {
		return
	}
	m.Reported = result
	if result.failure() {
		m.Failure = result
	}
}
