package fsm

import "time"

// Wait is what an active update waits for.
type Wait struct {
	// Reason says it in words.
	Reason string `json:"reason"`
	// Until is when the wait ends at the latest, by a limit or by a next try.
	Until time.Time `json:"until,omitzero"`
}

// Update is one image for one endpoint, as the server sees it. It holds all
// that a decision needs, and is stored as JSON. [NewUpdate] makes one; after
// that only [Update.Step] makes new ones.
type Update struct {
	// Plan is what was asked for, with its defaults filled in.
	Plan Plan `json:"plan"`

	// Phase, State, Result and Outcome are the update's face. State is what was
	// last read or what the server's own acts prove. Result is ResultDefault
	// while the update is active; afterwards State is Idle and Result is not
	// ResultDefault.
	Phase   Phase   `json:"phase"`
	State   State   `json:"state"`
	Result  Result  `json:"result"`
	Outcome Outcome `json:"outcome,omitzero"`
	// Reason says in one word why the update ended so; one of the Reason
	// constants.
	Reason Reason `json:"reason,omitzero"`
	// Reported is the device's own last Result other than 0.
	Reported Result `json:"reported,omitzero"`
	// OldVersion is 3/0/3 before the update, empty if it could not be read.
	OldVersion string `json:"old_version,omitzero"`
	// Version is 3/0/3 as last read.
	Version string `json:"version,omitzero"`
	// Wait is what the update waits for; zero once it has ended.
	Wait Wait `json:"wait,omitzero"`
	// Attempt counts the transfers, the first is 1.
	Attempt int `json:"attempt,omitzero"`
	// Bytes counts the bytes of the package that went to the device. Soft.
	Bytes int64 `json:"bytes,omitzero"`
	// Created, Ended and Deadline are times of the update as a whole.
	Created  time.Time `json:"created"`
	Ended    time.Time `json:"ended,omitzero"`
	Deadline time.Time `json:"deadline"`
}

// Reason says why an update ended.
type Reason string

// NewUpdate returns an update that is to reach plan. The first observation is
// to be [ObserveStarted].
func NewUpdate(plan Plan, at time.Time) Update {
	plan.Limits = plan.Limits.withDefaults()
	if plan.Deadline <= 0 {
		plan.Deadline = DefaultDeadline
	}
	if plan.Attempts <= 0 {
		plan.Attempts = DefaultAttempts
	}
	at = at.Round(0).UTC()
	return Update{
		Plan: plan, Phase: PhaseWaiting, Created: at, Deadline: at.Add(plan.Deadline),
		Wait: Wait{Reason: "device to register", Until: at.Add(plan.Deadline)},
	}
}

// Active reports whether the update has not ended.
func (u Update) Active() bool { return u.Outcome == OutcomeNone }

// Wake returns when the shell owes the update an [ObserveTimer]. The zero time
// means never: the update has ended.
func (u Update) Wake() time.Time {
	if !u.Active() {
		return time.Time{}
	}
	return u.Deadline
}

// Step returns the update that follows o, and what the shell owes.
func (u Update) Step(o Observation) (Update, Actions) {
	return u, Actions{}
}
