package fsm

// Phase is where the server stands in an update.
type Phase string

// The phases, in the order in which an update passes them. A retry goes back to
// PhasePreparing.
const (
	// PhaseWaiting: the device has not been reached since the update was made.
	// Later absences do not change the phase; Update.Wait tells them.
	PhaseWaiting Phase = "waiting"
	// PhasePreparing: reading the device, resetting it, waiting out a retry.
	PhasePreparing Phase = "preparing"
	// PhaseTransferring: from the first block or the Package URI on.
	PhaseTransferring Phase = "transferring"
	// PhaseTransferred: the device holds the package (State Downloaded).
	PhaseTransferred Phase = "transferred"
	// PhaseExecuting: Execute 5/0/2 was sent.
	PhaseExecuting Phase = "executing"
	// PhaseRestarting: the device installs, and is expected to register again.
	PhaseRestarting Phase = "restarting"
	// PhaseVerifying: the device is back; its version and result are judged.
	PhaseVerifying Phase = "verifying"
	// PhaseEnded: the update has an outcome.
	PhaseEnded Phase = "ended"
)

// Phases lists all phases in their order.
func Phases() []Phase {
	return []Phase{
		PhaseWaiting, PhasePreparing, PhaseTransferring, PhaseTransferred,
		PhaseExecuting, PhaseRestarting, PhaseVerifying, PhaseEnded,
	}
}

// String returns the name.
func (p Phase) String() string { return string(p) }

// MarshalText returns the name; a value that is none of the constants fails
// with [ErrUnknownName].
func (p Phase) MarshalText() ([]byte, error) { return wordText(Phases(), "phase", p, string(p)) }

// UnmarshalText accepts the names in any letter case.
func (p *Phase) UnmarshalText(text []byte) error {
	word, err := parseWord(Phases(), "phase", string(text))
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

// Outcomes lists all outcomes; that of an active update comes first.
func Outcomes() []Outcome {
	return []Outcome{
		OutcomeNone, OutcomeSucceeded, OutcomeRolledBack, OutcomeFailed, OutcomeCancelled, OutcomeTimedOut,
	}
}

// String returns the name; an active update's is empty.
func (o Outcome) String() string { return string(o) }

// MarshalText returns the name; a value that is none of the constants fails
// with [ErrUnknownName].
func (o Outcome) MarshalText() ([]byte, error) { return wordText(Outcomes(), "outcome", o, string(o)) }

// UnmarshalText accepts the names in any letter case.
func (o *Outcome) UnmarshalText(text []byte) error {
	word, err := parseWord(Outcomes(), "outcome", string(text))
	if err != nil {
		return err
	}
	*o = word
	return nil
}

// Verify says what proves that an update succeeded.
type Verify string

const (
	// VerifyVersion compares resource 3/0/3 with the target version. Where
	// 3/0/3 cannot be read, Result 1 counts. It is the default.
	VerifyVersion Verify = ""
	// VerifyResult takes the device's word: Result 1. It is for devices whose
	// 3/0/3 does not follow the image.
	VerifyResult Verify = "result"
)

// ParseVerify returns the mode of that name; "version" and "" are
// VerifyVersion. Other names fail with [ErrUnknownName].
func ParseVerify(name string) (Verify, error) {
	var v Verify
	err := v.UnmarshalText([]byte(name))
	return v, err
}

// String returns "version" or "result".
func (v Verify) String() string {
	if v == VerifyVersion {
		return "version"
	}
	return string(v)
}

// MarshalText returns "version" or "result"; a value that is none of the
// constants fails with [ErrUnknownName].
func (v Verify) MarshalText() ([]byte, error) {
	return wordText([]Verify{VerifyVersion, VerifyResult}, "verify", v, v.String())
}

// UnmarshalText accepts the names in any letter case; "" is "version".
func (v *Verify) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*v = VerifyVersion
		return nil
	}
	word, err := parseWord([]string{"version", "result"}, "verify", string(text))
	if err != nil {
		return err
	}
	*v = VerifyVersion
	if word == "result" {
		*v = VerifyResult
	}
	return nil
}
