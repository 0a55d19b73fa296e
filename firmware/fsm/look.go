package fsm

import "time"

// hint plans a read soon, but not too soon after the last one.
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
	if why := "second look, because the device " + picture; a.WaitReason != why || a.SettleUntil.IsZero() {
		a.SettleUntil, a.WaitReason = m.now.Add(wait), why
		m.log(EventSettling, "the device %s; the server watches it for %s", picture, wait)
	}
	if m.now.Before(a.SettleUntil) {
		m.poll(a.SettleUntil)
		return
	}
	verdict()
}

// startRead begins the read that is due. After a registration it observes first, so that no change
// is missed between the two.
func (m *machine) startRead() {
	r := &m.Memory.Reading
	if m.act.Kind != ActionNone || r.Next.IsZero() || m.now.Before(r.Next) {
		return
	}
	if !r.Observed {
		m.do(Action{Kind: ActionObserve})
		return
	}
	what := ReadState | ReadResult | ReadVersion
	if !m.Memory.Attempt.Begun {
		what |= ReadProtocols | ReadDelivery | ReadAuto
	}
	if r.ReadDefer {
		what |= ReadMaxDefer
	}
	m.do(Action{Kind: ActionRead, Resources: what})
}

// do begins an action.
func (m *machine) do(a Action) {
	m.Memory.NextID++
	a.ID = m.Memory.NextID
	m.act, m.Memory.Doing = a, doing{Action: a}
	m.Memory.Reading.Next = time.Time{}
	switch a.Kind {
	case ActionRead, ActionObserve:
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
	if next := m.nextRead(); m.Held() && next.After(m.now) {
		until = earlier(until, next)
	}
	p, d, a := m.Memory.Presence, m.Memory.Doing, m.Memory.Attempt
	device := func(reason string) Wait { return Wait{reason, WhoseDevice, until} }
	switch {
	case !p.Online && !p.Seen:
		return device("device to register")
	case !p.Online && m.Phase == PhaseRestarting:
		return device("device to restart and register")
	case !p.Online && p.Asleep:
		return device("sleeping device to wake")
	case !p.Online:
		return device("device to come back")
	case d.Kind != ActionNone && d.Queued:
		return Wait{"turn in this server's queue for " + d.Kind.words(), WhoseServer, until}
	case d.Kind == ActionPush && d.Stall == stallBusy && a.RefusedRepeat:
		return device("push to go on: the device refuses a block that the server sent again")
	case d.Kind == ActionPush && d.Stall == stallBusy:
		return device("push to go on: the device is busy")
	case d.Kind == ActionPush && d.Stall == stallSilent && d.Logged:
		return device("push to go on: the device does not answer")
	case d.Kind == ActionPush:
		return device("push to finish")
	case d.Kind != ActionNone:
		return device("answer to " + d.Kind.words())
	case m.Memory.Reading.Fails > 0 || m.Memory.Reading.Missing > 0:
		return device("device to answer a read")
	case m.now.Before(a.RetryAt):
		return Wait{a.WaitReason, WhoseServer, earlier(until, a.RetryAt)}
	case m.Held() && (a.ReadyOnHold || a.HeldBack):
		return Wait{"hold to be released: " + m.holders(), WhoseOperator, until}
	case m.now.Before(m.Memory.Installation.DeferUntil):
		return Wait{"device to start the deferred update", WhoseDevice, earlier(until, m.Memory.Installation.DeferUntil)}
	case !a.SettleUntil.IsZero():
		return Wait{a.WaitReason, WhoseDevice, earlier(until, a.SettleUntil)}
	case a.WaitReason != "":
		return device(a.WaitReason)
	default:
		return device("device to be read")
	}
}
