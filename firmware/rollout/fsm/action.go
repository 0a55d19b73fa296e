package fsm

import "fmt"

// ActionKind says what the shell does.
type ActionKind string

// What the shell does for a member, after the step is durable. Each may be repeated.
const (
	ActionNone ActionKind = ""
	// ActionStart: make its update, with the key of the member's attempt, and with the rollout's
	// hold unless the member is granted. Its end is InputStarted or InputRefused.
	ActionStart ActionKind = "start"
	// ActionRelease: release the rollout's hold.
	ActionRelease ActionKind = "release"
	// ActionHold: hold its update. Its end is InputHeld.
	ActionHold ActionKind = "hold"
	// ActionCancel: cancel its update.
	ActionCancel ActionKind = "cancel"
)

// A Line is a line of the journal of a rollout.
type Line struct {
	Event  string
	Detail string
}

// Actions are what follows from a step.
type Actions struct {
	// Persist says that the step must be durable before anything else is done. If it is false,
	// nothing has changed.
	Persist bool
	Do      ActionKind
	Journal []Line
	// Waiting says why a member that was offered to the rollout waits.
	Waiting Waiting
}

// Events of the journal of a rollout.
const (
	EventStarted  = "started"
	EventPaused   = "paused"
	EventTripped  = "tripped"
	EventResumed  = "resumed"
	EventOpened   = "stage_opened"
	EventSoaking  = "soaking"
	EventChecking = "checking"
	EventGate     = "gate"
	EventHealth   = "health"
	EventExtended = "stage_extended"
	EventLate     = "late"
	EventMissing  = "missing"
	EventEdited   = "edited"
	EventStopping = "stopping"
	EventEnded    = "ended"
)

func (x *machine) log(event, format string, args ...any) {
	x.out.Journal = append(x.out.Journal, Line{event, fmt.Sprintf(format, args...)})
}
