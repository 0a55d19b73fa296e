package fsm

import (
	"fmt"
	"strings"
	"time"
)

// machine is an Update in the middle of a step.
type machine struct {
	Update
	now     time.Time
	hard    bool // something changed that must not be lost
	journal []Entry
	proven  bool
	abandon bool
	act     Action
}

// Step returns the update that follows o, and what the shell owes. It changes
// nothing else. An update that has ended changes no more, except that the end of
// its farewell may tell what it may still do.
func (u Update) Step(o Observation) (Update, Actions) {
	if !u.Active() {
		return u.parted(o)
	}
	m := machine{Update: u, now: u.Memory.Clock.Now}
	m.advance(later(m.now, o.At.Round(0).UTC()), o.Kind == ObserveResumed)
	m.fold(o)
	if m.Active() {
		m.enforceLimits()
	}
	if m.Active() && m.Memory.Presence.Online && m.Doing().Kind == ActionNone {
		m.look()
	}
	if m.Active() {
		m.Wait = m.waiting()
	}
	return m.Update, Actions{
		Persist: m.hard || len(m.journal) > 0, Journal: m.journal, Holds: m.proven,
		Abandon: m.abandon, Do: m.act, Ended: !m.Active(),
	}
}

// fold takes the observation in.
func (m *machine) fold(o Observation) {
	//exhaustive:enforce
	switch o.Kind {
	case ObserveStarted:
		m.log("started", "target version %q", m.Plan.Target)
		for _, h := range m.Holds {
			m.log("held", "%s", h)
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
		m.goAway(true)
	case ObserveAway:
		m.giveUp()
		m.goAway(false)
	case ObserveDone:
		m.done(o)
	case ObserveQueued, ObserveSent, ObserveSilent, ObserveBusy, ObserveHeard:
		m.underWay(o)
	case ObserveProgress:
		m.progress(o.Bytes)
	case ObserveAsked, ObserveServed, ObserveTrouble, ObserveFault:
		m.delivery(o)
	case ObserveTouched:
		m.touched(o)
	case ObserveHint:
		m.Memory.Reading.Silent = false
		m.hint()
	case ObserveHold:
		m.hold(o.Hold)
	case ObserveRelease:
		m.unhold(o.Hold.Holder, "released it")
	case ObserveCancel:
		m.cancel(detail(o))
	case ObserveTimer, observationEnd: // time has passed, no more
		m.tellStall()
	}
}

// registration takes in how the device is registered.
func (m *machine) registration(o Observation) {
	m.Memory.Presence.Queue = o.Queue
	m.Memory.Presence.Lifetime = min(max(o.Lifetime, 0), MaxLimit)
}

func (m *machine) presence(online bool) {
	if online {
		m.comeBack()
	} else {
		m.goAway(false)
	}
}

// awake notes that the device can be reached, with the registration that it had.
func (m *machine) awake() {
	m.Memory.Reading.Silent = false
	if m.Memory.Presence.Online {
		m.hint()
		return
	}
	m.comeBack()
	m.readNow()
}

// resume takes up an update after a restart of the server.
func (m *machine) resume(o Observation) {
	mem := &m.Memory
	if !mem.Clock.Told {
		m.log("resumed", "in phase %s", m.Phase)
	}
	mem.Clock.Told = true
	m.giveUp()
	if mem.Attempt.Begun {
		mem.Attempt.Interrupted = true
	}
	m.lookAfresh()
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

// registered takes in a new registration: nothing that was under way with the
// old one counts, and only a read tells what the device did meanwhile.
func (m *machine) registered() {
	m.giveUp()
	m.comeBack()
	m.lookAfresh()
	m.reregistered()
	m.readNow()
}

// lookAfresh forgets how the device was looked at: the observations are gone.
func (m *machine) lookAfresh() {
	r := &m.Memory.Reading
	r.Observed, r.Fails, r.Polls, r.Silent = false, 0, 0, false
}

// reregistered notes a registration that is newer than what was begun.
func (m *machine) reregistered() {
	a := &m.Memory.Attempt
	switch {
	case m.Memory.Installation.Begun:
		m.log("registered", "after the update was executed")
		m.Memory.Installation.Returned, a.SettleUntil = true, time.Time{}
		m.enter(PhaseVerifying)
	case a.Begun:
		m.log("registered", "during the transfer")
		if !a.Lost { // else a device that registers again and again would never have settled
			a.Lost, a.SettleUntil = true, time.Time{}
		}
	default:
		m.log("registered", "the device can be reached")
	}
}

// underWay takes in what becomes of the action that is under way.
func (m *machine) underWay(o Observation) {
	d := &m.Memory.Doing
	if d.Kind == ActionNone || o.Action != d.ID {
		return
	}
	switch o.Kind {
	case ObserveQueued:
		d.Queued = true
	case ObserveSent:
		d.Queued = false
	case ObserveSilent:
		m.Memory.Reading.Silent = true
		switch d.Stall {
		case stallNone:
			d.Stall, d.Since = stallSilent, m.now
		case stallBusy: // and the journal says so already
			d.Stall = stallSilent
		}
	case ObserveBusy:
		m.Memory.Reading.Silent = false
		told := d.Told
		d.Stall, d.Told = stallBusy, true
		if !told {
			d.Since = m.now
			m.log("busy", "the device asks to be asked later (%s); %s goes on then", detailOr(o, "5.03"), d.Kind)
		}
	case ObserveHeard:
		m.moves()
	}
}

// moves notes that the action under way gets on.
func (m *machine) moves() {
	d := &m.Memory.Doing
	if d.Stall != stallNone && d.Told {
		m.log("heard", "the device answers again; %s goes on", d.Kind)
	}
	m.Memory.Reading.Silent = false
	d.Stall, d.Since, d.Told, d.Queued = stallNone, time.Time{}, false, false
}

// tellStall says in the journal, once, that the device leaves a push
// unanswered.
func (m *machine) tellStall() {
	d := &m.Memory.Doing
	if d.Kind == ActionPush && d.Stall == stallSilent && !d.Told && !m.now.Before(d.Since.Add(stallAfter)) {
		d.Told = true
		m.log("silent", "the device has not answered for %s; the block is sent again and again", m.now.Sub(d.Since).Round(time.Second))
	}
}

// progress counts bytes that went to the device. For a push the first one is an
// acknowledged block: the device is Downloading.
func (m *machine) progress(bytes int64) {
	a := &m.Memory.Attempt
	if !a.Begun || m.Phase != PhaseTransferring {
		return
	}
	if m.Doing().Kind == ActionPush {
		m.moves()
	}
	m.Memory.Reading.Silent = false
	if size := m.Plan.Size; size > 0 && bytes >= size {
		if m.Delivery == DeliveryPull && !a.Served {
			a.Served, m.hard = true, true
		}
		if m.Bytes < size {
			m.hint()
		}
	}
	m.Bytes = bytes
	a.SettleUntil = time.Time{}
	m.restartClock(m.now)
	if bytes <= 0 || a.Started {
		return
	}
	a.Started = true
	m.log("transfer", "the device takes the package")
	if m.State == Idle {
		m.State = Downloading
	}
}

// delivery takes in what the server that hands out packages saw.
func (m *machine) delivery(o Observation) {
	a := &m.Memory.Attempt
	if o.Kind == ObserveFault {
		m.fault(o)
		return
	}
	if !a.Begun || a.Adopted || m.Memory.Installation.Begun {
		return
	}
	switch o.Kind {
	case ObserveAsked:
		if !a.Asked {
			a.Asked = true
			m.log("asked", "%s", detailOr(o, "the device asks for the package"))
		}
	case ObserveServed:
		if !a.Served {
			a.Served = true
			m.log("served", "the package was fetched, as the program says")
		}
		m.hasPackage()
		m.hint()
	case ObserveTrouble:
		if why := detail(o); m.Phase == PhaseTransferring && why != a.Fault && a.Troubles < maxTroubles {
			a.Fault = why
			a.Troubles++
			m.log("trouble", "%s", why)
		}
	}
}

// maxTroubles bounds the lines of an attempt that tell of failed connections:
// whoever is at the device's address can make them fail.
const maxTroubles = 4

// fault ends an update whose package the server cannot hand out.
func (m *machine) fault(o Observation) {
	if o.Fault == FaultImage && !m.Memory.Installation.Begun {
		m.leave()
		m.MayStill = ""
		m.end(OutcomeFailed, ReasonImage, "the server cannot hand out the image: "+detailOr(o, "it is damaged"))
	}
}

// touched notes that somebody else changes the object: what the attempt has
// proven counts no more.
func (m *machine) touched(o Observation) {
	if a := &m.Memory.Attempt; a.Begun && !a.Touched {
		a.Touched = true
		m.log("touched", "the Firmware Update object is changed by another request of this server: %s", detailOr(o, "unknown"))
	}
	m.hint()
}

func (m *machine) log(event, format string, args ...any) {
	m.Memory.Clock.Told = false
	m.journal = append(m.journal, Entry{Event: event, Detail: fmt.Sprintf(format, args...)})
}

// maxDetail bounds a foreign text in the journal, in bytes.
const maxDetail = 255

// detail is the cause that came with an observation, fit for the journal.
func detail(o Observation) string {
	return strings.ToValidUTF8(o.Detail[:min(len(o.Detail), maxDetail)], "")
}

func detailOr(o Observation, otherwise string) string {
	if text := detail(o); text != "" {
		return text
	}
	return otherwise
}
