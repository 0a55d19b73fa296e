package fsm

import "time"

// InputKind says what has happened.
type InputKind string

// What can happen to a rollout.
const (
	InputFilled InputKind = "filled" // it has all its members
	InputStart  InputKind = "start"
	InputPause  InputKind = "pause"
	InputResume InputKind = "resume"
	InputOpen   InputKind = "open" // an operator opens the next stage
	InputStop   InputKind = "stop" // see Cancels
	InputEdit   InputKind = "edit" // see Plan
	InputTick   InputKind = "tick" // time has passed; of the member, if there is one
	// InputExhausted: no member that waits, and that the open stage may admit, can be reached. See
	// None.
	InputExhausted InputKind = "exhausted"
	// InputChecked: all members that succeeded in the open stage have been read again.
	InputChecked InputKind = "checked"
	InputHealth  InputKind = "health" // the program has answered; see OK and Text
)

// What can happen to a member.
const (
	InputAdd   InputKind = "add"   // a new member; see Only, and Skip if it is not to be updated
	InputReach InputKind = "reach" // it was heard, or is known to be reachable; see Asleep
	// InputStarted: its update exists; see Update.
	InputStarted InputKind = "started"
	// InputRefused: its update was not made; see Skip, Busy, and Text for any other error.
	InputRefused InputKind = "refused"
	InputSeen    InputKind = "seen"  // its update was read; see Seen
	InputHeld    InputKind = "held"  // the rollout's hold of its update is durable
	InputGrant   InputKind = "grant" // it may be its turn to execute
	// InputShown: the device was read again at the end of a soak; see Shown and Text, the version.
	InputShown  InputKind = "shown"
	InputRetry  InputKind = "retry"  // it waits again
	InputRemove InputKind = "remove" // it is no member any more, unless its update runs
	// InputFinish: a stopping rollout ends what has not begun.
	InputFinish InputKind = "finish"
)

// Shown is what a device showed at the end of a soak.
type Shown string

// What a device shows.
const (
	ShownTarget Shown = "target" // the version of the image
	ShownOther  Shown = "other"
	ShownSilent Shown = "silent" // it did not answer, and is not in queue mode
)

// Ending is how an update ended.
type Ending string

// How an update ends. The update of a device that was out of reach before Execute when its time was
// over has not failed: EndingAway.
const (
	EndingNone       Ending = ""
	EndingSucceeded  Ending = "succeeded"
	EndingCurrent    Ending = "already_current" // the device ran the version before
	EndingFailed     Ending = "failed"
	EndingRolledBack Ending = "rolled_back"
	EndingTimedOut   Ending = "timed_out"
	EndingAway       Ending = "away"
	EndingCancelled  Ending = "cancelled"
	// EndingIncompatible: the image is not made for the device, which only the update found out.
	EndingIncompatible Ending = "incompatible"
)

// Seen is what an update shows.
type Seen struct {
	// Place is PlaceTransferring, PlaceReady or PlaceInstalling.
	Place  Place
	Online bool
	// Silence is how long the device may be silent after Execute: Plan.MissingAfter, in queue mode
	// with its lifetime.
	Silence time.Duration
	// Heard is when the device was heard last.
	Heard time.Time
	End   Ending
}

// An Input is something that has happened to a rollout or to one of its members.
type Input struct {
	Kind InputKind
	At   time.Time
	// Zone is where the member's clock is; nil for UTC. It counts for plans with a window.
	Zone *time.Location

	Name     string        // of the member, for texts; may be empty
	Asleep   bool          // InputReach: it cannot be reached until it is heard
	Lifetime time.Duration // InputReach: of its registration, if it is asleep
	Only     uint16        // InputAdd
	Skip     SkipReason    // InputAdd, InputRefused
	Busy     string        // InputRefused: id of the update that is active
	Update   string        // InputStarted: its id
	Seen     Seen          // InputSeen
	Shown    Shown         // InputShown
	OK       bool          // InputHealth
	None     bool          // InputExhausted: no member waits that the open stage may admit
	Cancels  bool          // InputStop
	Plan     Plan          // InputEdit: valid, with the same stages
	Text     string        // of people: who did it and why; or an error, or a version
}
