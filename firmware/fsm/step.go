package fsm

import (
	"fmt"
	"time"
)

// machine is an Update in the middle of a step.
type machine struct {
	Update
	now     time.Time
	before  time.Time // the last step's
	hard    bool      // something changed that must not be lost
	journal []Entry
	abandon bool
	act     Action
}

// Step returns the update that follows o, and what the shell owes. It changes
// nothing else. An update that has ended does not change any more.
func (u Update) Step(o Observation) (Update, Actions) {
	if !u.Active() {
		return u, Actions{}
	}
	m := machine{Update: u, before: u.Memory.Now, now: later(u.Memory.Now, o.At.Round(0).UTC())}
	m.Memory.Now = m.now
	m.fold(o)
	if m.Active() {
		m.enforceLimits()
	}
	if m.Active() && m.Memory.Online && m.Memory.Doing.Kind == ActionNone {
		m.look()
	}
	if m.Active() {
		m.Wait = m.waiting()
	}
	return m.Update, Actions{
		Persist: m.hard || len(m.journal) > 0, Journal: m.journal,
		Abandon: m.abandon, Do: m.act, Ended: !m.Active(),
	}
}

// fold takes the observation in.
func (m *machine) fold(o Observation) {
	//exhaustive:enforce
	switch o.Kind {
	case ObserveStarted:
		m.log("started", "target version %q", m.Plan.Target)
		m.presence(o.Online)
		m.readNow()
	case ObserveResumed:
		m.resume(o)
	case ObserveRegistered:
		m.registered()
	case ObserveUpdated, ObserveAwake:
		if m.Memory.Online {
			m.hint()
			return
		}
		m.comeBack()
		m.readNow()
	case ObserveAsleep:
		m.goAway(true)
	case ObserveAway:
		m.away()
	case ObserveDone:
		m.done(o)
	case ObserveProgress:
		m.progress(o.Bytes)
	case ObserveHint:
		m.hint()
	case ObserveCancel:
		detail := "by the operator"
		if o.Detail != "" {
			detail = o.Detail
		}
		if m.State == Updating {
			detail += "; the device is updating and cannot be stopped"
		}
		m.favour()
		m.end(OutcomeCancelled, ResultCancelled, ReasonOperator, detail)
	case ObserveTimer, observationEnd: // time has passed, no more
	}
}

func (m *machine) presence(online bool) {
	if online {
		m.comeBack()
	} else {
		m.Memory.Online = true // so that the absence begins now
		m.goAway(false)
	}
}

// resume takes up an update after a restart of the server. The time in between
// is not the device's.
func (m *machine) resume(o Observation) {
	if !m.Memory.Told {
		m.log("resumed", "in phase %s", m.Phase)
	}
	m.Memory.Told = true
	m.giveUp()
	if from := later(m.before, m.Memory.Since); (m.Memory.Online || m.absenceCounts()) && m.now.After(from) {
		m.Memory.Away += m.now.Sub(from)
	}
	m.countAbsence()
	if m.Memory.Begun {
		m.Memory.Interrupted = true
	}
	m.Memory.Observed, m.Memory.Fails, m.Memory.Polls = false, 0, 0
	m.Memory.Resumed = m.now
	m.presence(o.Online)
	switch {
	case m.Memory.Executed && !m.Memory.Returned && o.Registered.After(m.Memory.ExecutedAt),
		!m.Memory.Executed && m.Memory.Begun && !m.Memory.Lost && o.Registered.After(m.Memory.BegunAt):
		m.reregistered()
	}
	m.readNow()
}

// registered takes in a new registration: nothing that was under way with the
// old one counts, and only a read tells what the device did meanwhile.
func (m *machine) registered() {
	m.giveUp()
	m.comeBack()
	m.Memory.Observed, m.Memory.Fails, m.Memory.Polls = false, 0, 0
	m.reregistered()
	m.readNow()
}

// reregistered notes a registration that is newer than what was begun.
func (m *machine) reregistered() {
	switch {
	case m.Memory.Executed:
		m.log("registered", "after the update was executed")
		m.Memory.Returned, m.Memory.SettleUntil = true, time.Time{}
		m.enter(PhaseVerifying)
	case m.Memory.Begun:
		m.log("registered", "during the transfer")
		if !m.Memory.Lost { // else a device that registers again and again would never have settled
			m.Memory.Lost, m.Memory.SettleUntil = true, time.Time{}
		}
	default:
		m.log("registered", "the device can be reached")
	}
}

func (m *machine) away() {
	m.giveUp()
	m.goAway(false)
	if m.Memory.Executed && m.Phase == PhaseExecuting {
		m.enter(PhaseRestarting)
		m.log("away", "as a restart has it")
	}
}

// giveUp drops the action under way; whatever it was, a read follows.
func (m *machine) giveUp() {
	switch m.Memory.Doing.Kind {
	case ActionNone:
		return
	case ActionWriteURI, ActionPush:
		m.Memory.Answered, m.Memory.Answer = m.now, CodeNone
		m.log("unknown", "%s was interrupted", m.Memory.Doing.Kind)
	case ActionExecute:
		m.log("unknown", "execute was interrupted")
	}
	m.Memory.Doing = Action{}
	m.abandon = true
}

// progress counts bytes that went to the device. For a push the first one is an
// acknowledged block: the device is Downloading.
func (m *machine) progress(bytes int64) {
	if !m.Memory.Begun || m.Phase != PhaseTransferring {
		return
	}
	if size := m.Plan.Size; size > 0 && bytes >= size && m.Bytes < size {
		m.hint()
	}
	m.Bytes = bytes
	m.Memory.SettleUntil = time.Time{}
	m.restartClock(m.now)
	if bytes <= 0 || m.Memory.Started {
		return
	}
	m.Memory.Started = true
	m.log("transfer", "the device takes the package")
	m.State = Downloading
}

// hint plans a read soon, and not too often.
func (m *machine) hint() {
	m.Memory.Polls = 0
	m.readBy(later(m.now.Add(debounce), m.Memory.LastRead.Add(readGap)))
}

func (m *machine) readNow() { m.Memory.ReadAt = m.now }

// readBy plans the next read for at, or earlier if one is planned.
func (m *machine) readBy(at time.Time) {
	if m.Memory.ReadAt.IsZero() || at.Before(m.Memory.ReadAt) {
		m.Memory.ReadAt = at
	}
}

// poll plans the next read by back-off, at until at the latest, and once more
// before the phase's limit.
func (m *machine) poll(until ...time.Time) {
	at := m.now.Add(backoff(m.Plan.Limits.Poll, m.Memory.Polls))
	m.Memory.Polls++
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

// pollFor polls, and says what for.
func (m *machine) pollFor(why string, until ...time.Time) {
	m.Memory.Why, m.Memory.SettleUntil = why, time.Time{}
	m.poll(until...)
}

// settle waits until the device has shown the same picture for some time, and
// then calls verdict: clients show State and Result 0 before a result, or before
// they begin.
func (m *machine) settle(picture string, wait time.Duration, verdict func()) {
	mem := &m.Memory
	if why := "a second look, because the device " + picture; mem.Why != why || mem.SettleUntil.IsZero() {
		mem.SettleUntil, mem.Why = m.now.Add(wait), why
		m.log("settle", "the device %s; looking again for %s", picture, wait)
	}
	if m.now.Before(mem.SettleUntil) {
		m.poll(mem.SettleUntil)
		return
	}
	verdict()
}

// look begins the read that is due; on a new registration it observes first, so
// that no change falls between the two.
func (m *machine) look() {
	if m.act.Kind != ActionNone || m.Memory.ReadAt.IsZero() || m.now.Before(m.Memory.ReadAt) {
		return
	}
	if !m.Memory.Observed {
		m.do(Action{Kind: ActionObserve})
		return
	}
	what := ReadState | ReadResult | ReadVersion
	if !m.Memory.Begun {
		what |= ReadProtocols | ReadDelivery | ReadPackage
	}
	if m.Memory.AskDefer {
		what |= ReadMaxDefer
	}
	m.do(Action{Kind: ActionRead, Resources: what})
}

// do begins an action.
func (m *machine) do(a Action) {
	m.Memory.NextID++
	a.ID = m.Memory.NextID
	m.act, m.Memory.Doing = a, a
	m.Memory.ReadAt = time.Time{}
	if a.Kind != ActionRead && a.Kind != ActionObserve {
		m.hard = true
	}
}

func (m *machine) log(event, format string, args ...any) {
	m.Memory.Told = false
	m.journal = append(m.journal, Entry{Event: event, Detail: fmt.Sprintf(format, args...)})
}

// favour asks the device to drop a package that nobody will execute any more.
func (m *machine) favour() {
	m.giveUp()
	m.act = Action{}
	if !m.Memory.Online || !m.Memory.Begun || m.Memory.Executed && m.State != Downloaded {
		return
	}
	m.do(Action{Kind: ActionCancel, Reset: m.Plan.Profile.Reset})
}

// end gives the update its outcome.
func (m *machine) end(outcome Outcome, result Result, reason Reason, detail string) {
	if m.act.Kind != ActionCancel {
		m.giveUp()
		m.act = Action{}
	}
	m.log(string(outcome), "%s", detail)
	if outcome == OutcomeSucceeded && m.Attempt > 0 {
		m.hasPackage()
	}
	m.Phase, m.State = PhaseEnded, Idle
	m.Outcome, m.Result, m.Reason = outcome, result, reason
	m.Ended, m.Wait = m.now, Wait{}
	m.Memory = Memory{Now: m.now}
}

// waiting says what the update waits for now.
func (m *machine) waiting() Wait {
	until := m.lapses()
	mem := &m.Memory
	switch {
	case !mem.Online && !mem.Seen:
		return Wait{"device to register", until}
	case !mem.Online && m.Phase == PhaseRestarting && !mem.Asleep:
		return Wait{"device to restart and register", until}
	case !mem.Online && mem.Asleep:
		return Wait{"sleeping device to wake", until}
	case !mem.Online:
		return Wait{"device to come back", until}
	case mem.Doing.Kind == ActionPush:
		return Wait{"push to finish", until}
	case mem.Doing.Kind != ActionNone:
		return Wait{"answer to " + mem.Doing.Kind.String(), until}
	case mem.Fails > 0:
		return Wait{"device to answer a read", until}
	case m.now.Before(mem.RetryAt):
		return Wait{mem.Why, earlier(until, mem.RetryAt)}
	case m.now.Before(mem.DeferUntil):
		return Wait{"device has deferred the update", earlier(until, mem.DeferUntil)}
	case !mem.SettleUntil.IsZero():
		return Wait{mem.Why, earlier(until, mem.SettleUntil)}
	case mem.Why != "":
		return Wait{mem.Why, until}
	default:
		return Wait{"device to be read", until}
	}
}
