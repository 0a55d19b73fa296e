package fsm

// Phase is where the server stands in an update.
type Phase string

// The phases, in the order in which an update passes them. A retry goes back to PhasePreparing.
const (
	// PhaseWaiting: the device has not been reached since the update was created. A later absence
	// does not change the phase; Update.Wait shows it.
	PhaseWaiting Phase = "waiting"
	// PhasePreparing: the server reads the device, resets it, or waits before a retry.
	PhasePreparing Phase = "preparing"
	// PhaseTransferring: from the first block or the Package URI on.
	PhaseTransferring Phase = "transferring"
	// PhaseTransferred: the device holds the package (State Downloaded).
	PhaseTransferred Phase = "transferred"
	// PhaseExecuting: Execute 5/0/2 was sent.
	PhaseExecuting Phase = "executing"
	// PhaseRestarting: the device installs; the server expects it to register again.
	PhaseRestarting Phase = "restarting"
	// PhaseVerifying: the device is back; the server decides by its version and Result.
	PhaseVerifying Phase = "verifying"
	// PhaseEnded: the update has an outcome.
	PhaseEnded Phase = "ended"
)

// phases lists all phases in their order.
var phases = []Phase{
	PhaseWaiting, PhasePreparing, PhaseTransferring, PhaseTransferred,
	PhaseExecuting, PhaseRestarting, PhaseVerifying, PhaseEnded,
}

// MarshalText returns the name; a value that is none of the constants fails with [ErrUnknownName].
func (p Phase) MarshalText() ([]byte, error) { return wordText(phases, "phase", p, string(p)) }

// UnmarshalText accepts the names in any letter case.
func (p *Phase) UnmarshalText(text []byte) error {
	word, err := parseWord(phases, "phase", string(text))
	if err != nil {
		return err
	}
	*p = word
	return nil
}

// Outcome is how an update ended.
type Outcome string

// The outcomes.
const (
	// OutcomeNone: the update is active.
	OutcomeNone       Outcome = ""
	OutcomeSucceeded  Outcome = "succeeded"
	OutcomeRolledBack Outcome = "rolled_back"
	OutcomeFailed     Outcome = "failed"
	OutcomeCancelled  Outcome = "cancelled"
	OutcomeTimedOut   Outcome = "timed_out"
)

// outcomes lists all outcomes; that of an active update comes first.
var outcomes = []Outcome{
	OutcomeNone, OutcomeSucceeded, OutcomeRolledBack, OutcomeFailed, OutcomeCancelled, OutcomeTimedOut,
}

// MarshalText returns the name; a value that is none of the constants fails with [ErrUnknownName].
func (o Outcome) MarshalText() ([]byte, error) { return wordText(outcomes, "outcome", o, string(o)) }

// UnmarshalText accepts the names in any letter case.
func (o *Outcome) UnmarshalText(text []byte) error {
	word, err := parseWord(outcomes, "outcome", string(text))
	if err != nil {
		return err
	}
	*o = word
	return nil
}

// Verify says what proves that an update succeeded.
type Verify string

// The proofs of success. The zero value means VerifyVersion.
const (
	// VerifyVersion compares resource 3/0/3 with the target version. Where 3/0/3 cannot be read,
	// Result 1 counts.
	VerifyVersion Verify = "version"
	// VerifyResult relies on the device: Result 1. It is for devices whose 3/0/3 does not follow
	// the image.
	VerifyResult Verify = "result"
)

// Reason says in one word, for programs, why an update ended. The journal has the story.
type Reason string

// The reasons.
const (
	// ReasonVersion: the device runs the target version.
	ReasonVersion Reason = "version"
	// ReasonResult: the device reported success, and that is what counts.
	ReasonResult Reason = "result"
	// ReasonSameVersion: the device runs the target version, as before, and something else proves
	// that it installed the package.
	ReasonSameVersion Reason = "same_version"
	// ReasonAlreadyRunning: the device ran the target version from the start.
	ReasonAlreadyRunning Reason = "already_running"
	// ReasonOldVersion: the device came back with the version that it had before.
	ReasonOldVersion Reason = "old_version"
	// ReasonVersionMismatch: the device installed something, and runs another version than the
	// target.
	ReasonVersionMismatch Reason = "version_mismatch"
	// ReasonDeviceResult: the device reported a failure that ends the update.
	ReasonDeviceResult Reason = "device_result"
	// ReasonAttempts: the last attempt failed.
	ReasonAttempts Reason = "attempts"
	// ReasonRefused: the device refused a request that the update needs.
	ReasonRefused Reason = "refused"
	// ReasonNoDelivery: device, server and request have no delivery in common.
	ReasonNoDelivery Reason = "no_delivery"
	// ReasonNoObject: the device has no usable Object 5.
	ReasonNoObject Reason = "no_firmware_object"
	// ReasonBadState: Object 5 shows a State that does not exist.
	ReasonBadState Reason = "bad_state"
	// ReasonCannotProve: the device shows a package, or a success, and nothing proves that it is
	// this update's.
	ReasonCannotProve Reason = "cannot_prove"
	// ReasonImage: the image is damaged or missing on the server.
	ReasonImage Reason = "image_damaged"
	// ReasonNotServed: the server serves packages by no protocol that the device supports.
	ReasonNotServed Reason = "not_served"
	// ReasonOperator: an operator cancelled the update.
	ReasonOperator Reason = "operator"
	// ReasonPhaseLimit: a phase took longer than its limit.
	ReasonPhaseLimit Reason = "phase_limit"
	// ReasonDeadline: the whole update took longer than its deadline.
	ReasonDeadline Reason = "deadline"
	// ReasonIncompatible: the image is not made for the device; see Plan.Compatible.
	ReasonIncompatible Reason = "incompatible"
)
