package fsm

import "time"

// hint plans a read soon, but not too soon after the last one. The server reads even if nothing is
// observed: something has happened.
func (m *machine) hint() {
	m.Memory.Reading.Polls = 0
	m.readBy(later(m.now.Add(debounce), m.Memory.Reading.Last.Add(readGap)))
}

func (m *machine) readNow() { m.Memory.Reading.Next = m.now }

// readBy plans the next read for at, unless an earlier one is planned.
func (m *machine) readBy(at time.Time) {
	if next := m.Memory.Reading.Next; next.IsZero() || at.Before(next) {
		m.Memory.Reading.Next = at
	}
}

// poll plans the next read by back-off, at the latest at until, and once more before the limit of
// the phase.
func (m *machine) poll(until ...time.Time) {
	at := m.now.Add(backoff(m.Plan.Limits.Poll, m.Memory.Reading.Polls))
	m.Memory.Reading.Polls++
	if limit := m.limitAt(); !limit.IsZero() && !at.Before(limit) {
		if last := limit.Add(-m.Plan.Limits.Poll); last.After(m.now) {
			at = last
		}
	}
	for _, t := range until {
		if t.After(m.now) {
			at = earlier(at, t)
		}
	}
	m.readBy(at)
	m.Memory.Reading.Watch = m.now
	if m.Memory.Reading.Unheard > 0 {
		m.Memory.Reading.Watch = m.now.Add(m.Plan.Limits.Poll)
	}
}

// pollFor polls, and sets what the update waits for.
func (m *machine) pollFor(why string, until ...time.Time) {
	m.Memory.Attempt.WaitReason, m.Memory.Attempt.SettleUntil = why, time.Time{}
	m.poll(until...)
}

// settle waits until the device has shown the same picture for some time, and then calls verdict.
// Clients show State Idle and Result 0 both before they report a Result and before they begin.
func (m *machine) settle(picture string, wait time.Duration, verdict func()) {
	a := &m.Memory.Attempt
	if why := waitSettle + picture; a.WaitReason != why || a.SettleUntil.IsZero() {
		a.SettleUntil, a.WaitReason = m.now.Add(wait), why
		m.log(EventSettling, "the device %s; the server watches it for %s", picture, wait)
	}
	if m.now.Before(a.SettleUntil) {
		m.poll(a.SettleUntil)
		return
	}
	verdict()
}

// firstLookIn plans the look that follows an accepted request even if nothing else says that it is
// time. The device has something to do, so the look is an Observe, whose answer shows the State.
func (m *machine) firstLookIn(d time.Duration) {
	m.readBy(m.now.Add(d))
	m.Memory.Reading.Watch = m.now.Add(d)
}

// expects reports whether a State is no news: the device does what the update waits for it to do.
func (m *machine) expects(state Field[State]) bool {
	a, in := m.Memory.Attempt, m.Memory.Installation
	switch {
	case !state.OK() || !a.SettleUntil.IsZero():
		return false
	case in.Begun:
		return state.Value == Updating && !in.Returned
	case a.Begun:
		return state.Value == Downloading && !m.declined() && (m.Delivery == DeliveryPull || a.Answer.OK())
	default:
		return false
	}
}

// look begins the Observe or the read that is due. The server observes only while it waits for the
// device to change. The answer to the Observe shows what has changed between a read and the
// Observe.
func (m *machine) look() {
	r := &m.Memory.Reading
	due := func(at time.Time) bool { return !at.IsZero() && !m.now.Before(at) }
	switch {
	case m.act.Kind != ActionNone:
	case !r.Observed && due(r.Watch):
		m.do(Action{Kind: ActionObserve})
	case due(r.Next):
		m.do(Action{Kind: ActionRead, Resources: m.resources()})
	}
}

// resources returns what the next read must show.
func (m *machine) resources() Resources {
	what := ReadState | ReadResult
	if m.Memory.Reading.ReadDefer {
		what |= ReadMaxDefer
	}
	if m.unfit() {
		what |= ReadDevice
	}
	switch {
	case !m.Memory.Attempt.Begun:
		return what | ReadVersion | ReadProtocols | ReadDelivery | ReadAuto
	case m.Memory.Installation.Begun:
		return what | ReadVersion
	default:
		return what | ReadVersionIfNews
	}
}

// do begins an action.
func (m *machine) do(a Action) {
	m.Memory.NextID++
	a.ID = m.Memory.NextID
	m.act, m.Memory.Doing = a, doing{Action: a}
	m.Memory.Reading.Watch = time.Time{}
	if a.Kind == ActionObserve {
		return // the read that is planned follows, unless the answer makes it needless
	}
	m.Memory.Reading.Next = time.Time{}
	switch a.Kind {
	case ActionRead:
		return
	case ActionWriteURI, ActionPush:
		m.Memory.History.Written = true
	case ActionExecute:
		m.Memory.History.Executed = true
	}
	m.hard = true
}

// waiting says what the update waits for, whose time that is, and when something happens at the
// latest.
func (m *machine) waiting() Wait {
	until := m.lapses()
	if next := m.nextLook(); m.held() && next.After(m.now) {
		until = earlier(until, next)
	}
	p, d, a := m.Memory.Presence, m.Memory.Doing, m.Memory.Attempt
	device := func(reason string) Wait { return Wait{reason, WhoseDevice, until} }
	switch {
	case !p.Online && !p.Seen:
		return device(waitRegister)
	case !p.Online && m.Phase == PhaseRestarting:
		return device(waitRestart)
	case !p.Online && p.Asleep:
		return device(waitAsleep)
	case !p.Online:
		return device(waitAway)
	case d.Kind != ActionNone && d.Queued:
		return Wait{waitTurn + d.Kind.words(), WhoseServer, until}
	case d.Kind == ActionPush && d.Stall == stallBusy && a.RefusedRepeat:
		return device(waitPushRefused)
	case d.Kind == ActionPush && d.Stall == stallBusy:
		return device(waitPushBusy)
	case d.Kind == ActionPush && d.Stall == stallSilent && d.Logged:
		return device(waitPushSilent)
	case d.Kind == ActionPush:
		return device(waitPush)
	case d.Kind != ActionNone:
		return device(d.Kind.answer())
	case m.Memory.Reading.Fails > 0 || m.Memory.Reading.Missing > 0:
		return device(waitReadAnswer)
	case m.now.Before(a.RetryAt):
		return Wait{a.WaitReason, WhoseServer, earlier(until, a.RetryAt)}
	case m.held() && (a.ReadyOnHold || a.HeldBack):
		return Wait{waitHold + ": " + m.holders(), WhoseOperator, until}
	case m.now.Before(m.Memory.Installation.DeferUntil):
		return Wait{waitDeferred, WhoseDevice, earlier(until, m.Memory.Installation.DeferUntil)}
	case !a.SettleUntil.IsZero():
		return Wait{a.WaitReason, WhoseDevice, earlier(until, a.SettleUntil)}
	case a.WaitReason != "":
		return device(a.WaitReason)
	default:
		return device(waitRead)
	}
}
