package fsm

import "time"

// ObservationKind says what the server has learned.
type ObservationKind uint8

// The observations. The comment names the fields of [Observation] that count
// beside Kind and At.
const (
	// ObserveStarted is the first observation of every update: Online.
	ObserveStarted ObservationKind = iota + 1
	// ObserveResumed is the first one after a restart of the server: Online,
	// Registered. An action that was under way is taken as unknown.
	ObserveResumed

	// ObserveRegistered: the device registered anew. Its observations are gone.
	ObserveRegistered
	// ObserveUpdated: the device refreshed its registration.
	ObserveUpdated
	// ObserveAwake: a sleeping device can be reached again.
	ObserveAwake
	// ObserveAsleep: a queue-mode device sleeps.
	ObserveAsleep
	// ObserveAway: the device de-registered, or its registration expired.
	ObserveAway

	// ObserveDone is the end of the action with that ID: Action, Code (zero
	// when no answer came, and the action may have been carried out all the
	// same), Reading (of a Read; also of an Observe if values came with it).
	ObserveDone
	// ObserveProgress: a push moved on, or our own delivery served bytes to the
	// device: Bytes (in all).
	ObserveProgress
	// ObserveHint: a notification or a Send. Only a sign that it is time to
	// read.
	ObserveHint
	// ObserveTimer is due at [Update.Wake].
	ObserveTimer
	// ObserveCancel: the operator ends the update.
	ObserveCancel

	observationEnd
)

var observationNames = [...]string{
	ObserveStarted: "started", ObserveResumed: "resumed", ObserveRegistered: "registered",
	ObserveUpdated: "updated", ObserveAwake: "awake", ObserveAsleep: "asleep",
	ObserveAway: "away", ObserveDone: "done", ObserveProgress: "progress",
	ObserveHint: "hint", ObserveTimer: "timer", ObserveCancel: "cancel",
}

// String returns the name.
func (k ObservationKind) String() string {
	if k == 0 || k >= observationEnd {
		return "unknown observation"
	}
	return observationNames[k]
}

// Observation is something that the server has learned about an update. Kind
// says which of the fields count.
type Observation struct {
	Kind ObservationKind
	// At is the time of the observation. The machine's time never runs
	// backwards: an earlier At counts as the latest one seen.
	At time.Time
	// Online says whether the device is registered and awake.
	Online bool
	// Registered is when the registration that holds was made, or the last one
	// if none holds; zero if unknown. A server that died between storing a
	// registration and telling the update makes up for it so.
	Registered time.Time
	// Action is the ID of the action that ended.
	Action uint32
	// Code is the device's answer.
	Code Code
	// Detail is the cause in words, for the journal.
	Detail string
	// Reading is what was read.
	Reading Reading
	// Bytes counts the bytes of the package that were transferred.
	Bytes int64
}

// Field is one resource of a [Reading]: its value, or why there is none.
type Field[T any] struct {
	Value T
	// Code is CodeContent for a value, an error code for a refusal, CodeNone
	// when there was no answer or nobody asked.
	Code Code
}

// Known returns the field of a value that was read.
func Known[T any](value T) Field[T] { return Field[T]{Value: value, Code: CodeContent} }

// Refused returns the field of a Read that was answered with an error.
func Refused[T any](code Code) Field[T] { return Field[T]{Code: code} }

// OK reports whether there is a value.
func (f Field[T]) OK() bool { return f.Code == CodeContent }

// Reading is what one Read (or several in a row) of the device gave.
type Reading struct {
	State     Field[State]          // 5/0/3
	Result    Field[Result]         // 5/0/5
	Version   Field[string]         // 3/0/3
	Protocols Field[[]Protocol]     // 5/0/8, unknown numbers left out
	Delivery  Field[DeliveryMethod] // 5/0/9
	Package   Field[string]         // 5/0/7, PkgVersion
	MaxDefer  Field[time.Duration]  // 5/0/13
}

// Resources is a set of resources to read.
type Resources uint8

// The resources that the machine asks for.
const (
	ReadState     Resources = 1 << iota // 5/0/3
	ReadResult                          // 5/0/5
	ReadVersion                         // 3/0/3
	ReadProtocols                       // 5/0/8
	ReadDelivery                        // 5/0/9
	ReadPackage                         // 5/0/7
	ReadMaxDefer                        // 5/0/13
)

// Has reports whether s holds all of r.
func (s Resources) Has(r Resources) bool { return s&r == r }
