package fsm

import "time"

// Wait is what an active update waits for.
type Wait struct {
	// Reason completes the sentence "waits for ...".
	Reason string `json:"reason" record:"1"`
	// Whose says whose time it is.
	Whose Whose `json:"whose,omitzero" record:"2"`
	// Until is when something happens at the latest: the wait ends, or the machine checks it.
	Until time.Time `json:"until,omitzero" record:"3"`
}

// Whose says whose time a wait is.
type Whose string

// The values of Whose.
const (
	WhoseDevice   Whose = "device"
	WhoseOperator Whose = "operator" // a hold
	WhoseServer   Whose = "server"   // a queue, or a pause, of this server
)

// MayStill says what can follow on the device, if the server ended the update while the device had,
// or may have had, its package.
type MayStill string

// What may still happen.
const (
	// MayStillNone: the device installs nothing of this update.
	MayStillNone MayStill = "none"
	// MayStillInstall: the device was seen to install, or accepted Execute.
	MayStillInstall MayStill = "install"
	// MayStillUnknown: it may or may not install.
	MayStillUnknown MayStill = "unknown"
)

// Update is one image for one endpoint, as the server sees it. It holds all that a decision needs.
// [NewUpdate] makes one; after that only [Update.Step] makes new ones. Copies share its slices,
// which are never written to.
type Update struct {
	// Plan is the plan with its defaults filled in.
	Plan Plan `json:"plan" record:"1"`

	// Phase, State, Result and Outcome sum up the update. State is the last one read, or the one
	// that the server's own requests prove. Result is ResultDefault while the update is active;
	// afterwards State is Idle and Result is not ResultDefault.
	Phase   Phase   `json:"phase" record:"2"`
	State   State   `json:"state" record:"3"`
	Result  Result  `json:"result" record:"4"`
	Outcome Outcome `json:"outcome,omitzero" record:"5"`
	// Reason is one of the Reason constants: why the update ended in this way.
	Reason Reason `json:"reason,omitzero" record:"6"`
	// MayStill says what can still follow of an update that was cancelled or timed out; it is empty
	// for all others.
	MayStill MayStill `json:"may_still,omitzero" record:"7"`
	// Reported is the last Result that the device reported in this update; 0 if it reported none.
	Reported Result `json:"reported,omitzero" record:"8"`
	// Failure is the last Result from 2 to 9 that the device reported in this update.
	Failure Result `json:"failure,omitzero" record:"9"`
	// OldVersion is 3/0/3 before the update; empty if the device reported none.
	OldVersion string `json:"old_version,omitzero" record:"10"`
	// Version is 3/0/3 as last read.
	Version string `json:"version,omitzero" record:"11"`
	// Delivery and Protocol are those of the current or last attempt.
	Delivery DeliveryMode `json:"delivery,omitzero" record:"12"`
	Protocol Protocol     `json:"protocol,omitzero" record:"13"`
	// Holds keep the update from executing.
	Holds []Hold `json:"holds,omitzero" record:"14"`
	// Wait is what the update waits for; zero once it has ended.
	Wait Wait `json:"wait,omitzero" record:"15"`
	// Attempt counts the transfers, the first is 1.
	Attempt int `json:"attempt,omitzero" record:"16"`
	// Bytes counts the bytes of the package that went to the device in the current attempt. A crash
	// may lose some of the count.
	Bytes int64 `json:"bytes,omitzero" record:"17"`
	// Created, Ended and Deadline are times of the update as a whole. Deadline moves while the
	// update is held, and while no server runs.
	Created  time.Time `json:"created" record:"18"`
	Ended    time.Time `json:"ended,omitzero" record:"19"`
	Deadline time.Time `json:"deadline" record:"20"`

	// Memory is the state of the machine itself. It is opaque; in JSON it is one text.
	Memory memory `json:"memory,omitzero" record:"21"`
}

// NewUpdate returns an update that must reach plan, with the holds that it has from the start. It
// leaves out holds that [Hold.Check] refuses, and those beyond MaxHolds. The first observation must
// be [ObserveStarted]; the step that it makes can be stored with the new update.
func NewUpdate(plan Plan, at time.Time, holds ...Hold) Update {
	plan.Limits = plan.Limits.withDefaults()
	if plan.Deadline <= 0 {
		plan.Deadline = DefaultDeadline
	}
	if plan.Attempts <= 0 {
		plan.Attempts = DefaultAttempts
	}
	if plan.Verify == "" {
		plan.Verify = VerifyVersion
	}
	at = at.Round(0).UTC()
	m := machine{now: at, Update: Update{
		Plan: plan, Phase: PhaseWaiting, Created: at, Deadline: at.Add(plan.Deadline),
	}}
	m.Memory.Clock = clock{Now: at, Since: at}
	for _, h := range holds {
		m.hold(h)
	}
	m.Wait = m.waiting()
	return m.Update
}

// Active reports whether the update has not ended.
func (u Update) Active() bool { return u.Outcome == OutcomeNone }

// active is Active, without a copy of the update.
func (u *Update) active() bool { return u.Outcome == OutcomeNone }

// Now returns the latest time that the update has seen.
func (u Update) Now() time.Time { return u.Memory.Clock.Now }

// Doing returns the action under way; its Kind is ActionNone if there is none. The last action of
// an update that has ended is ActionCancel.
func (u Update) Doing() Action { return u.Memory.Doing.Action }

// Executed reports whether an Execute of this update may have reached the device.
func (u Update) Executed() bool { return u.Memory.History.Executed }

// Wake returns when the shell must call Step with [ObserveTimer]. The zero time means never: the
// update has ended.
func (u Update) Wake() time.Time {
	if !u.active() {
		return time.Time{}
	}
	wake := u.lapses()
	if next := u.nextLook(); !next.IsZero() {
		wake = earlier(wake, next)
	}
	if d := u.Memory.Doing; d.Stall == stallSilent && !d.Logged && d.Kind == ActionPush {
		wake = earlier(wake, d.Since.Add(stallAfter))
	}
	return later(wake, u.Memory.Clock.Now.Add(1))
}

// nextLook returns when the device is read or observed next; zero if neither is planned, or
// possible now.
func (u *Update) nextLook() time.Time {
	r := u.Memory.Reading
	switch {
	case !u.Memory.Presence.Online || u.Memory.Doing.Kind != ActionNone:
		return time.Time{}
	case !r.Observed && !r.Watch.IsZero() && (r.Next.IsZero() || r.Watch.Before(r.Next)):
		return r.Watch
	default:
		return r.Next
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
