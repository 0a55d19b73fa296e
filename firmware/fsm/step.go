package fsm

import (
	"fmt"
	"strings"
	"time"
)

// machine is an Update in the middle of a step.
type machine struct {
	Update
	now          time.Time
	hard         bool // something changed that a crash must not lose
	journal      []Entry
	holdsPackage bool
	abandon      bool
	act          Action
}

// Step returns the update that follows o, and what the shell must do. It changes nothing else. An
// update that has ended does not change any more, except that the end of ActionCancel may change
// MayStill.
func (u Update) Step(o Observation) (Update, Actions) {
	actions := u.Apply(o)
	return u, actions
}

// Apply is [Update.Step] in place: it makes u the update that follows o. An update is large, so a
// shell that makes many steps saves copies with it.
func (u *Update) Apply(o Observation) Actions {
	if !u.active() {
		return u.afterEnd(&o)
	}
	m := machine{Update: *u, now: u.Memory.Clock.Now}
	m.advance(later(m.now, o.At.Round(0).UTC()), o.Kind == ObserveResumed)
	m.fold(&o)
	if m.active() {
		m.enforceLimits()
	}
	if m.active() && m.Memory.Presence.Online && m.Memory.Doing.Kind == ActionNone {
		m.look()
	}
	if m.active() {
		m.Wait = m.waiting()
	}
	*u = m.Update // the machine has no pointer to u, so that u need not be on the heap
	return Actions{
		Persist: m.hard, Journal: m.journal, Holds: m.holdsPackage,
		Abandon: m.abandon, Do: m.act, Ended: !m.active(),
	}
}

// fold applies the observation.
func (m *machine) fold(o *Observation) {
	//exhaustive:enforce
	switch o.Kind {
	case ObserveStarted:
		m.hard = true
		m.log(EventStarted, "the target is version %q", m.Plan.Target)
		for _, h := range m.Holds {
			m.line(EventHeld, h.text())
		}
		m.registration(o)
		m.presence(o.Online)
		m.readNow()
	case ObserveResumed:
		m.resume(o)
	case ObserveRegistered:
		m.registration(o)
		m.registered()
	case ObserveUpdated:
		m.registration(o)
		m.awake()
	case ObserveAwake:
		m.awake()
	case ObserveAsleep:
		m.deviceAway(true)
	case ObserveAway:
		m.giveUp()
		m.deviceAway(false)
	case ObserveDone:
		m.done(o)
	case ObserveQueued, ObserveSent, ObserveSilent, ObserveBusy, ObserveBlockRefused, ObserveHeard:
		m.actionProgress(o)
	case ObserveProgress:
		m.progress(o.Bytes)
	case ObserveDownloadRequested, ObservePackageFetched, ObserveConnectionFailed, ObserveServerFault:
		m.delivery(o)
	case ObserveObjectChanged:
		m.objectChanged(o)
	case ObserveHint:
		m.Memory.Reading.Silent = false
		if !m.expects(o.Reading.State) {
			m.hint()
		}
	case ObserveHold:
		m.hold(o.Hold)
	case ObserveRelease:
		m.releaseHold(o.Hold.Holder, "released the update")
	case ObserveCancel:
		m.cancel(detail(o))
	case ObserveTimer, observationEnd: // time has passed, no more
		m.logStall()
	}
}

// registration records queue mode and lifetime.
func (m *machine) registration(o *Observation) {
	m.Memory.Presence.Queue = o.Queue
	m.Memory.Presence.Lifetime = min(max(o.Lifetime, 0), MaxLimit)
}

func (m *machine) presence(online bool) {
	if online {
		m.deviceBack()
	} else {
		m.deviceAway(false)
	}
}

// awake records that the device can be reached, with the registration that it had.
func (m *machine) awake() {
	m.Memory.Reading.Silent = false
	if m.Memory.Presence.Online {
		m.hint()
		return
	}
	m.deviceBack()
	m.readNow()
}

// resume continues with an update after a restart of the server.
func (m *machine) resume(o *Observation) {
	mem := &m.Memory
	if !mem.Clock.ResumeLogged {
		m.log(EventResumed, "the server restarted; the update is in phase %s", m.Phase)
	}
	mem.Clock.ResumeLogged = true
	m.giveUp()
	if mem.Attempt.Begun {
		mem.Attempt.Interrupted = true
	}
	m.forgetObservation()
	mem.Clock.Resumed = m.now
	m.registration(o)
	m.presence(o.Online)
	switch {
	case mem.Installation.Begun && !mem.Installation.Returned && o.Registered.After(mem.Installation.At),
		!mem.Installation.Begun && mem.Attempt.Begun && !mem.Attempt.Lost && o.Registered.After(mem.Attempt.At):
		m.reregistered()
	}
	m.readNow()
}

// registered handles a new registration. It ends everything under way with the old one; only a read
// shows what the device did meanwhile.
func (m *machine) registered() {
	m.giveUp()
	m.deviceBack()
	m.forgetObservation()
	m.reregistered()
	m.readNow()
}

// forgetObservation records that the device is no longer observed.
func (m *machine) forgetObservation() {
	r := &m.Memory.Reading
	r.Observed, r.Watch, r.Unheard = false, time.Time{}, 0
	r.Fails, r.Polls, r.Silent = 0, 0, false
}

// reregistered records a registration that is newer than what the server began.
func (m *machine) reregistered() {
	a := &m.Memory.Attempt
	switch {
	case m.Memory.Installation.Begun:
		if m.Memory.Installation.Sent {
			m.line(EventRegistered, "the device registered after the server sent Execute")
		} else {
			m.line(EventRegistered, "the device registered after it began to install")
		}
		m.Memory.Installation.Returned, a.SettleUntil = true, time.Time{}
		m.enter(PhaseVerifying)
	case a.Begun:
		m.line(EventRegistered, "the device registered during the transfer")
		if !a.Lost { // otherwise a device that registers repeatedly would never have settled
			a.Lost, a.SettleUntil = true, time.Time{}
		}
	default:
		m.line(EventRegistered, "the device registered")
	}
}

// line adds a line to the journal.
func (m *machine) line(event, detail string) {
	m.Memory.Clock.ResumeLogged = false
	if m.journal == nil {
		m.journal = make([]Entry, 0, 3) // and room for the Package URI, which the shell adds
	}
	m.journal = append(m.journal, Entry{Event: event, Detail: detail})
}

// log is line with a format.
func (m *machine) log(event, format string, args ...any) { m.line(event, fmt.Sprintf(format, args...)) }

// maxDetail limits text from outside in the journal, in bytes.
const maxDetail = 255

// detail returns the cause that came with an observation, fit for the journal.
func detail(o *Observation) string {
	return strings.ToValidUTF8(o.Detail[:min(len(o.Detail), maxDetail)], "")
}

func detailOr(o *Observation, otherwise string) string {
	if text := detail(o); text != "" {
		return text
	}
	return otherwise
}
