package fsm

import "time"

// ObservationKind says what the server has learned.
type ObservationKind uint8

// The observations. The comment names the fields of [Observation] that count beside Kind and At.
const (
	// ObserveStarted is the first observation of every update: Online, Queue, Lifetime.
	ObserveStarted ObservationKind = iota + 1
	// ObserveResumed is the first one after a restart of the server: Online, Queue, Lifetime,
	// Registered. An action that was under way is taken as unknown. The time since the last
	// observation is not the device's, and at most ten minutes of it count against the deadline.
	ObserveResumed

	// ObserveRegistered: the device registered anew: Queue, Lifetime. Its observations are gone.
	ObserveRegistered
	// ObserveUpdated: the device refreshed its registration: Queue, Lifetime.
	ObserveUpdated
	// ObserveAwake: a sleeping device can be reached again.
	ObserveAwake
	// ObserveAsleep: a queue-mode device sleeps.
	ObserveAsleep
	// ObserveAway: the device de-registered, or its registration expired.
	ObserveAway

	// ObserveQueued: the action with that ID waits in a queue of the server's: Action. Until
	// ObserveSent the time is not the device's.
	ObserveQueued
	// ObserveSent: its first message went out: Action.
	ObserveSent
	// ObserveSilent: the device left a message of it unanswered, which is sent again: Action.
	ObserveSilent
	// ObserveBusy: the device asked to be asked later (5.03), and will be: Action.
	ObserveBusy
	// ObserveBlockRefused: the device answered a block of a push with 5.03 when it came again,
	// because no acknowledgement of it had arrived: the device may have it, and not recognise
	// duplicates: Action.
	ObserveBlockRefused
	// ObserveHeard: after ObserveSilent or ObserveBusy, it goes on: Action.
	ObserveHeard
	// ObserveDone is the end of the action with that ID: Action, Code (zero when no answer came,
	// and the action may have been carried out all the same), Limit, Fault, Reading (of a Read;
	// also of an Observe if values came with it).
	ObserveDone

	// ObserveDownloadRequested: a request for the package came from the device: Detail.
	ObserveDownloadRequested
	// ObservePackageFetched: the package was fetched to its last byte from a server that this
	// program vouches for.
	ObservePackageFetched
	// ObserveConnectionFailed: a connection from the device's address failed before it could ask
	// for anything: Detail.
	ObserveConnectionFailed
	// ObserveServerFault: the server cannot hand out the package: Fault, Detail.
	ObserveServerFault
	// ObserveObjectChanged: somebody else changes the Firmware Update object through this server:
	// Detail.
	ObserveObjectChanged
	// ObserveProgress: a push moved on, or our own delivery served bytes to the device: Bytes (in
	// all).
	ObserveProgress
	// ObserveHint: a notification or a Send. Only a sign that it is time to read.
	ObserveHint
	// ObserveTimer is due at [Update.Wake].
	ObserveTimer
	// ObserveHold: the update is not to be executed while Hold lasts.
	ObserveHold
	// ObserveRelease: the hold of Hold.Holder ends.
	ObserveRelease
	// ObserveCancel: the operator ends the update: Detail.
	ObserveCancel

	observationEnd
)

var observationNames = [...]string{
	ObserveStarted: "started", ObserveResumed: "resumed", ObserveRegistered: "registered",
	ObserveUpdated: "updated", ObserveAwake: "awake", ObserveAsleep: "asleep",
	ObserveAway: "away", ObserveDone: "done", ObserveProgress: "progress",
	ObserveHint: "hint", ObserveTimer: "timer", ObserveCancel: "cancel",
	ObserveQueued: "queued", ObserveSent: "sent", ObserveSilent: "silent",
	ObserveBusy: "busy", ObserveBlockRefused: "repeated", ObserveHeard: "heard", ObserveDownloadRequested: "asked",
	ObservePackageFetched: "served", ObserveConnectionFailed: "trouble", ObserveServerFault: "fault",
	ObserveObjectChanged: "touched", ObserveHold: "hold", ObserveRelease: "release",
}

// String returns the name.
func (k ObservationKind) String() string {
	if k == 0 || k >= observationEnd {
		return "unknown observation"
	}
	return observationNames[k]
}

// Observation is something that the server has learned about an update. Kind says which of the
// fields count.
type Observation struct {
	Kind ObservationKind
	// At is the time of the observation. The machine's time never runs backwards: an earlier At
	// counts as the latest one seen.
	At time.Time
	// Online says whether the device is registered and awake.
	Online bool
	// Queue and Lifetime are those of its registration.
	Queue    bool
	Lifetime time.Duration
	// Registered is when the registration that holds was made, or the last one if none holds; zero
	// if unknown. A server that died between storing a registration and telling the update makes up
	// for it so.
	Registered time.Time
	// Action is the ID of the action that ended.
	Action uint32
	// Code is the device's answer.
	Code Code
	// Limit is the largest body, in bytes, that a device named with a refusal (Size1 of a 4.13); 0
	// if it named none.
	Limit int64
	// Fault says that the server's own side kept the action from being carried out.
	Fault Fault
	// Detail is the cause in words, for the journal.
	Detail string
	// Reading is what was read.
	Reading Reading
	// Bytes counts the bytes of the package that were transferred.
	Bytes int64
	// Hold is what ObserveHold and ObserveRelease are about.
	Hold Hold
}

// A Fault is what was wrong on the server's own side.
type Fault uint8

// The faults.
const (
	FaultNone Fault = iota
	// FaultImage: the image is damaged or missing.
	FaultImage
	// FaultURI: no Package URI can be made for the device and the protocol.
	FaultURI
	// FaultNotSent: the action was not sent, because what it rested on has changed.
	FaultNotSent
)

// Field is one resource of a [Reading]: its value, or why there is none.
type Field[T any] struct {
	Value T
	// Code is CodeContent for a value, an error code for a refusal, CodeNone when there was no
	// answer or nobody asked.
	Code Code
}

// Known returns the field of a value that was read.
func Known[T any](value T) Field[T] { return Field[T]{Value: value, Code: CodeContent} }

// OK reports whether there is a value.
func (f Field[T]) OK() bool { return f.Code == CodeContent }

// Reading is what one Read (or several in a row) of the device gave. An answer without a value
// counts as CodeNotFound.
type Reading struct {
	State     Field[State]          // 5/0/3
	Result    Field[Result]         // 5/0/5
	Version   Field[string]         // 3/0/3, as it was sent; what is no text at all is a text that is not UTF-8
	Protocols Field[[]Protocol]     // 5/0/8, unknown numbers left out
	Delivery  Field[DeliveryMethod] // 5/0/9
	MaxDefer  Field[time.Duration]  // 5/0/13
	Auto      Field[bool]           // 5/0/14

	// Offers lists the protocols by which packages are served to this device now, the preferred one
	// first. It counts when ReadProtocols was asked for.
	Offers []Protocol
	// Holds: the stored facts say that the device holds the package of this update's image
	// (Plan.Digest) in State Downloaded.
	Holds bool
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
	ReadMaxDefer                        // 5/0/13
	ReadAuto                            // 5/0/14
)

// Has reports whether s holds all of r.
func (s Resources) Has(r Resources) bool { return s&r == r }
