package firmware

import "github.com/otago-iot/otago/firmware/fsm"

// The words of the state machine that programs meet are those of package fsm. They are repeated
// here, so that a program that starts, follows and reports updates needs no import of fsm.
type (
	// Outcome is how an update ended; OutcomeNone while it is active.
	Outcome = fsm.Outcome
	// Phase is where the server stands in an update.
	Phase = fsm.Phase
	// State is resource 5/0/3 of a device.
	State = fsm.State
	// Result is resource 5/0/5 of a device.
	Result = fsm.Result
	// Reason is why an update ended, in one word.
	Reason = fsm.Reason
	// MayStill is what can follow on the device of an update that was cancelled or timed out.
	MayStill = fsm.MayStill
	// Wait is what an active update waits for, whose time that is, and until when.
	Wait = fsm.Wait
	// Hold keeps an update from executing.
	Hold = fsm.Hold
	// DeliveryMode is how a package reaches a device: by push, by pull, or as the manager chooses.
	// A [Request] asks for it.
	DeliveryMode = fsm.DeliveryMode
	// DeliverySupport is resource 5/0/9 of a device: which modes of delivery it supports.
	DeliverySupport = fsm.DeliverySupport
	// Protocol is how a device downloads, named by the URI scheme.
	Protocol = fsm.Protocol
	// Verify says what proves that an update succeeded.
	Verify = fsm.Verify
	// Limits bounds the phases of an update.
	Limits = fsm.Limits
	// Profile says how a kind of client differs from the specification.
	Profile = fsm.Profile
	// ActionKind is what a manager does with a device.
	ActionKind = fsm.ActionKind
)

// The outcomes.
const (
	OutcomeNone       = fsm.OutcomeNone
	OutcomeSucceeded  = fsm.OutcomeSucceeded
	OutcomeRolledBack = fsm.OutcomeRolledBack
	OutcomeFailed     = fsm.OutcomeFailed
	OutcomeCancelled  = fsm.OutcomeCancelled
	OutcomeTimedOut   = fsm.OutcomeTimedOut
)

// The phases, in the order in which an update passes them.
const (
	PhaseWaiting      = fsm.PhaseWaiting
	PhasePreparing    = fsm.PhasePreparing
	PhaseTransferring = fsm.PhaseTransferring
	PhaseTransferred  = fsm.PhaseTransferred
	PhaseExecuting    = fsm.PhaseExecuting
	PhaseRestarting   = fsm.PhaseRestarting
	PhaseVerifying    = fsm.PhaseVerifying
	PhaseEnded        = fsm.PhaseEnded
)

// The States.
const (
	StateIdle        = fsm.Idle
	StateDownloading = fsm.Downloading
	StateDownloaded  = fsm.Downloaded
	StateUpdating    = fsm.Updating
)

// The Results.
const (
	ResultDefault         = fsm.ResultDefault
	ResultSuccess         = fsm.ResultSuccess
	ResultNoStorage       = fsm.ResultNoStorage
	ResultOutOfMemory     = fsm.ResultOutOfMemory
	ResultConnectionLost  = fsm.ResultConnectionLost
	ResultIntegrityFailed = fsm.ResultIntegrityFailed
	ResultUnsupFirmware   = fsm.ResultUnsupFirmware
	ResultInvalidURI      = fsm.ResultInvalidURI
	ResultUpdateFailed    = fsm.ResultUpdateFailed
	ResultUnsupProtocol   = fsm.ResultUnsupProtocol
	ResultCancelled       = fsm.ResultCancelled
	ResultDeferred        = fsm.ResultDeferred
)

// The reasons.
const (
	ReasonVersion         = fsm.ReasonVersion
	ReasonResult          = fsm.ReasonResult
	ReasonSameVersion     = fsm.ReasonSameVersion
	ReasonAlreadyRunning  = fsm.ReasonAlreadyRunning
	ReasonOldVersion      = fsm.ReasonOldVersion
	ReasonVersionMismatch = fsm.ReasonVersionMismatch
	ReasonDeviceResult    = fsm.ReasonDeviceResult
	ReasonAttempts        = fsm.ReasonAttempts
	ReasonRefused         = fsm.ReasonRefused
	ReasonNoDelivery      = fsm.ReasonNoDelivery
	ReasonNoObject        = fsm.ReasonNoObject
	ReasonBadState        = fsm.ReasonBadState
	ReasonCannotProve     = fsm.ReasonCannotProve
	ReasonImage           = fsm.ReasonImage
	ReasonNotServed       = fsm.ReasonNotServed
	ReasonOperator        = fsm.ReasonOperator
	ReasonPhaseLimit      = fsm.ReasonPhaseLimit
	ReasonDeadline        = fsm.ReasonDeadline
	ReasonIncompatible    = fsm.ReasonIncompatible
)

// What may still happen on the device.
const (
	MayStillNone    = fsm.MayStillNone
	MayStillInstall = fsm.MayStillInstall
	MayStillUnknown = fsm.MayStillUnknown
)

// Whose time a wait is.
const (
	WhoseDevice   = fsm.WhoseDevice
	WhoseOperator = fsm.WhoseOperator
	WhoseServer   = fsm.WhoseServer
)

// The modes of delivery.
const (
	DeliveryAuto = fsm.DeliveryAuto
	DeliveryPush = fsm.DeliveryPush
	DeliveryPull = fsm.DeliveryPull
)

// The values of resource 5/0/9.
const (
	PullOnly    = fsm.PullOnly
	PushOnly    = fsm.PushOnly
	PushAndPull = fsm.PushAndPull
)

// The protocols of downloads.
const (
	ProtocolAuto     = fsm.ProtocolAuto
	ProtocolCoAP     = fsm.ProtocolCoAP
	ProtocolCoAPS    = fsm.ProtocolCoAPS
	ProtocolHTTP     = fsm.ProtocolHTTP
	ProtocolHTTPS    = fsm.ProtocolHTTPS
	ProtocolCoAPTCP  = fsm.ProtocolCoAPTCP
	ProtocolCoAPSTCP = fsm.ProtocolCoAPSTCP
)

// The proofs of success.
const (
	VerifyVersion = fsm.VerifyVersion
	VerifyResult  = fsm.VerifyResult
)

// The bounds of holds: how many an update may have, and the bytes of their texts.
const (
	MaxHolds      = fsm.MaxHolds
	MaxHolder     = fsm.MaxHolder
	MaxHoldReason = fsm.MaxHoldReason
)

// The forms of a reset, for profiles.
const (
	ResetEmptyURI = fsm.ResetEmptyURI
	ResetNUL      = fsm.ResetNUL
	ResetNone     = fsm.ResetNone
)

// The actions.
const (
	ActionRead     = fsm.ActionRead
	ActionObserve  = fsm.ActionObserve
	ActionReset    = fsm.ActionReset
	ActionWriteURI = fsm.ActionWriteURI
	ActionPush     = fsm.ActionPush
	ActionExecute  = fsm.ActionExecute
	ActionCancel   = fsm.ActionCancel
)

// The names of events that the manager writes itself.
const (
	// EventCreated: the update was requested and stored.
	EventCreated = "created"
	// EventPackageURI: the Package URI that the server writes, without its secret.
	EventPackageURI = "package_uri"
	// EventProgress: bytes of the package went to the device. It is no line of the journal, and its
	// Seq is that of the journal's last line before it.
	EventProgress = "progress"
	// EventLater: after its update had succeeded, the device showed another version.
	EventLater = "later"
)

// The names of events that the state machine writes; package fsm documents each.
const (
	EventStarted           = fsm.EventStarted
	EventResumed           = fsm.EventResumed
	EventHeld              = fsm.EventHeld
	EventReleased          = fsm.EventReleased
	EventRetry             = fsm.EventRetry
	EventNotSent           = fsm.EventNotSent
	EventInterrupted       = fsm.EventInterrupted
	EventRegistered        = fsm.EventRegistered
	EventRestarting        = fsm.EventRestarting
	EventPolling           = fsm.EventPolling
	EventRead              = fsm.EventRead
	EventReadFailed        = fsm.EventReadFailed
	EventObjectUnusable    = fsm.EventObjectUnusable
	EventVersionTrimmed    = fsm.EventVersionTrimmed
	EventSettling          = fsm.EventSettling
	EventObjectChanged     = fsm.EventObjectChanged
	EventReset             = fsm.EventReset
	EventResetFailed       = fsm.EventResetFailed
	EventAdopted           = fsm.EventAdopted
	EventWriteURI          = fsm.EventWriteURI
	EventURIAccepted       = fsm.EventURIAccepted
	EventURIRefused        = fsm.EventURIRefused
	EventURIUnanswered     = fsm.EventURIUnanswered
	EventDownloadRequested = fsm.EventDownloadRequested
	EventConnectionFailed  = fsm.EventConnectionFailed
	EventPackageFetched    = fsm.EventPackageFetched
	EventPush              = fsm.EventPush
	EventPushAccepted      = fsm.EventPushAccepted
	EventPushRefused       = fsm.EventPushRefused
	EventPushTooLarge      = fsm.EventPushTooLarge
	EventPushBroken        = fsm.EventPushBroken
	EventBlockRefused      = fsm.EventBlockRefused
	EventDeviceBusy        = fsm.EventDeviceBusy
	EventDeviceSilent      = fsm.EventDeviceSilent
	EventDeviceAnswers     = fsm.EventDeviceAnswers
	EventTransferStarted   = fsm.EventTransferStarted
	EventExecuteHeld       = fsm.EventExecuteHeld
	EventExecute           = fsm.EventExecute
	EventExecuteAccepted   = fsm.EventExecuteAccepted
	EventExecuteRefused    = fsm.EventExecuteRefused
	EventExecuteUnanswered = fsm.EventExecuteUnanswered
	EventDeferred          = fsm.EventDeferred
	EventAutoUpgrade       = fsm.EventAutoUpgrade
	EventSucceeded         = fsm.EventSucceeded
	EventRolledBack        = fsm.EventRolledBack
	EventFailed            = fsm.EventFailed
	EventCancelled         = fsm.EventCancelled
	EventTimedOut          = fsm.EventTimedOut
	EventAfterEnd          = fsm.EventAfterEnd
)
