package fsm

import "time"

// ObservationKind says what the server has learned.
type ObservationKind uint8

// The observations. Each comment names the fields of [Observation] that count beside Kind and At.
const (
	// ObserveStarted is the first observation of every update: Online, Queue, Lifetime.
	ObserveStarted ObservationKind = iota + 1
	// ObserveResumed is the first one after a restart of the server: Online, Queue, Lifetime,
	// Registered. The effect of an action that was under way counts as unknown. The time since the
	// last observation does not count against a phase, and at most ten minutes of it count against
	// the deadline.
	ObserveResumed

	// ObserveRegistered: the device registered again: Queue, Lifetime. Its observation has ended.
	ObserveRegistered
	// ObserveUpdated: the device refreshed its registration: Queue, Lifetime.
	ObserveUpdated
	// ObserveAwake: a sleeping device can be reached again.
	ObserveAwake
	// ObserveAsleep: a queue-mode device sleeps.
	ObserveAsleep
	// ObserveAway: the device de-registered, or its registration expired.
	ObserveAway

	// ObserveQueued: the action with that ID waits in a queue of the server: Action. Until
	// ObserveSent the time does not count against the device.
	ObserveQueued
	// ObserveSent: the first message of the action went out: Action.
	ObserveSent
	// ObserveSilent: the device did not answer a message of the action, and the server sends it
	// again: Action.
	ObserveSilent
	// ObserveBusy: the device answered 5.03, and the server continues the action later: Action.
	ObserveBusy
	// ObserveBlockRefused: the server sent a block of a push again, because no acknowledgement had
	// arrived, and the device answered 5.03. It may have the block, and not recognise duplicates:
	// Action.
	ObserveBlockRefused
	// ObserveHeard: after ObserveSilent or ObserveBusy the device answers again: Action.
	ObserveHeard
	// ObserveDone is the end of the action with that ID: Action, Code (zero if no answer came; the
	// device may have carried out the action nevertheless), Limit, Fault, Reading (of a Read or of
	// ActionCancel; of an Observe the State).
	ObserveDone

	// ObserveDownloadRequested: the device requested the package: Detail.
	ObserveDownloadRequested
	// ObservePackageFetched: the program reports that the device fetched the whole package from a
	// server of its own.
	ObservePackageFetched
	// ObserveConnectionFailed: a connection from the device's address failed before it requested
	// anything: Detail.
	ObserveConnectionFailed
	// ObserveServerFault: the server cannot serve the package: Fault, Detail.
	ObserveServerFault
	// ObserveObjectChanged: another request of this server changes the Firmware Update object:
	// Detail.
	ObserveObjectChanged
	// ObserveProgress: a push made progress, or the server sent bytes of a download: Bytes (in
	// all).
	ObserveProgress
	// ObserveHint: a notification or a Send arrived: Reading.State, if it named one. It only says
	// that it may be time to read.
	ObserveHint
	// ObserveTimer is due at [Update.Wake].
	ObserveTimer
	// ObserveHold: an operator keeps the update from executing: Hold.
	ObserveHold
	// ObserveRelease: an operator ends the hold of Hold.Holder.
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
	// Registered is when the device registered last; zero if unknown. By it the machine notices a
	// registration that was stored before a crash, and not observed.
	Registered time.Time
	// Action is the ID of the action that the observation is about.
	Action uint32
	// Code is the device's answer.
	Code Code
	// Limit is the largest body in bytes that the device named in a refusal (Size1 of a 4.13); 0 if
	// it named none.
	Limit int64
	// Fault says why the server could not carry out the action.
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

// A Fault is a failure of the server itself.
type Fault uint8

// The faults.
const (
	FaultNone Fault = iota
	// FaultImage: the image is damaged or missing.
	FaultImage
	// FaultURI: the server has no Package URI for the device and the protocol.
	FaultURI
	// FaultNotSent: the server did not send the action, because the reason for it has changed.
	FaultNotSent
)

// Field is one resource of a [Reading]: its value, or why there is none.
type Field[T any] struct {
	Value T
	// Code is CodeContent for a value, an error code for a refusal, and CodeNone if there was no
	// answer or no request.
	Code Code
}

// Known returns the field of a value that was read.
func Known[T any](value T) Field[T] { return Field[T]{Value: value, Code: CodeContent} }

// OK reports whether there is a value.
func (f Field[T]) OK() bool { return f.Code == CodeContent }

// Reading is what one Read (or several in a row) of the device gave. An answer without a value
// counts as CodeNotFound.
type Reading struct {
	State     Field[State]           // 5/0/3
	Result    Field[Result]          // 5/0/5
	Version   Field[string]          // 3/0/3, as it was sent; not UTF-8 if the device sent no text
	Protocols Field[[]Protocol]      // 5/0/8, unknown numbers left out
	Delivery  Field[DeliverySupport] // 5/0/9
	MaxDefer  Field[time.Duration]   // 5/0/13
	Auto      Field[bool]            // 5/0/14
	Device    Field[Compatible]      // 3/0/0, 3/0/1 and 3/0/18: known once the device has answered for all

	// Offers lists the protocols by which the server serves packages to this device now, the
	// preferred one first. It counts if the action asked for ReadProtocols.
	Offers []Protocol
	// Holds: the stored facts say that the device holds the package of this update's image
	// (Plan.Digest) in State Downloaded.
	Holds bool
}

// Resources is a set of resources to read.
type Resources uint16

// The resources that the machine asks for.
const (
	ReadState         Resources = 1 << iota // 5/0/3
	ReadResult                              // 5/0/5
	ReadVersion                             // 3/0/3
	ReadProtocols                           // 5/0/8
	ReadDelivery                            // 5/0/9
	ReadMaxDefer                            // 5/0/13
	ReadAuto                                // 5/0/14
	ReadVersionIfNews                       // 3/0/3, unless 5/0/3 shows a transfer; see WantsVersion
	ReadDevice                              // 3/0/0, 3/0/1 and 3/0/18
)

// Has reports whether s holds all of r.
func (s Resources) Has(r Resources) bool { return s&r == r }

// WantsVersion reports whether s asks for 3/0/3 once 5/0/3 has shown state. In a transfer, a device
// that is Downloading or Downloaded runs the version that it ran before.
func (s Resources) WantsVersion(state Field[State]) bool {
	transfer := state.OK() && (state.Value == Downloading || state.Value == Downloaded)
	return s.Has(ReadVersion) || s.Has(ReadVersionIfNews) && !transfer
}
