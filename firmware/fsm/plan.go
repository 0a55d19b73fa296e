package fsm

import "time"

// ResetForm is how a device can be brought back to State Idle.
type ResetForm string

// The reset forms.
const (
	// ResetEmptyURI writes an empty 5/0/1. It is the default: clients that do
	// not know it refuse or ignore it.
	ResetEmptyURI ResetForm = ""
	// ResetNUL writes one NUL byte into 5/0/0. Some clients take the byte for a
	// package; it is used only where a profile says so.
	ResetNUL ResetForm = "nul"
	// ResetNone: the device starts a download when its URI is emptied; it is
	// never reset.
	ResetNone ResetForm = "none"
)

// Profile holds what the machine must know of one kind of client. The zero
// value is a client that follows the specification.
type Profile struct {
	// Name is shown to operators.
	Name string `json:"name,omitzero"`
	// PathOnly: the client's host is fixed; the Package URI is only a path.
	PathOnly bool `json:"path_only,omitzero"`
	// Reset is the reset form that the client tolerates.
	Reset ResetForm `json:"reset,omitzero"`
	// Delivery is taken when the request says auto and 5/0/9 allows it.
	Delivery Delivery `json:"delivery,omitzero"`
	// Protocols is assumed when the client has no 5/0/8. Empty means coap, as
	// the registry says.
	Protocols []Protocol `json:"protocols,omitzero"`
	// WriteGrace is how long a Package URI without an answer may have been
	// received all the same (some clients answer after the download). It is
	// written again only after that. 0 means one minute.
	WriteGrace time.Duration `json:"write_grace,omitzero"`
}

// Limits bounds each phase, and holds the pauses. Zero fields mean the default.
// Time that a device spends asleep or away is not part of a phase.
type Limits struct {
	// Waiting bounds the time before the device is first seen, all of it. 0
	// means that only the deadline counts.
	Waiting time.Duration `json:"waiting,omitzero"`
	// Preparing bounds reading and resetting; pauses before a retry are not
	// part of it. Default 30 min.
	Preparing time.Duration `json:"preparing,omitzero"`
	// Transferring bounds the time without progress. Default 2 h.
	Transferring time.Duration `json:"transferring,omitzero"`
	// Transferred bounds the time before Execute; a defer period is not part
	// of it. Default 30 min.
	Transferred time.Duration `json:"transferred,omitzero"`
	// Executing bounds the time from Execute to its first effect. Default 15 min.
	Executing time.Duration `json:"executing,omitzero"`
	// Restarting bounds the time until the device is back. A registration that
	// ends meanwhile is the restart itself and counts; sleep does not. Default
	// 1 h.
	Restarting time.Duration `json:"restarting,omitzero"`
	// Verifying bounds the time from the new registration to a verdict. Default
	// 15 min.
	Verifying time.Duration `json:"verifying,omitzero"`

	// Settle is how long a device may show its old version, without a Result,
	// after it is back. Default 60 s.
	Settle time.Duration `json:"settle,omitzero"`
	// Retry is the pause before the second attempt; it doubles, up to 64 times
	// itself. Up to half as much more is added, another share for each update,
	// so that a fleet that failed at once does not come back at once. Default
	// 15 s.
	Retry time.Duration `json:"retry,omitzero"`
	// Poll is the first pause between two reads when no notification comes; it
	// doubles, up to 64 times itself. Default 5 s.
	Poll time.Duration `json:"poll,omitzero"`
	// Defer is waited after Result 11 from a device whose 5/0/13 cannot be
	// read. Default 1 h.
	Defer time.Duration `json:"defer,omitzero"`
}

// The defaults of a Plan.
const (
	DefaultDeadline = 24 * time.Hour
	DefaultAttempts = 5
)

// withDefaults fills the zero fields.
func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	set(&l.Preparing, 30*time.Minute)
	set(&l.Transferring, 2*time.Hour)
	set(&l.Transferred, 30*time.Minute)
	set(&l.Executing, 15*time.Minute)
	set(&l.Restarting, time.Hour)
	set(&l.Verifying, 15*time.Minute)
	set(&l.Settle, time.Minute)
	set(&l.Retry, 15*time.Second)
	set(&l.Poll, 5*time.Second)
	set(&l.Defer, time.Hour)
	return l
}

// Plan is what an update is to reach, and how. It does not change while the
// update runs.
type Plan struct {
	// Target is the version that 3/0/3 shows afterwards, compared exactly.
	Target string `json:"target"`
	// Size is the length of the package in bytes.
	Size int64 `json:"size"`
	// Verify is what proves success.
	Verify Verify `json:"verify"`
	// Delivery and Protocol are the operator's wish; auto lets the machine
	// choose. A protocol without a delivery means pull.
	Delivery Delivery `json:"delivery"`
	Protocol Protocol `json:"protocol"`
	// Schemes lists the protocols that packages are served by, the preferred
	// one first.
	Schemes []Protocol `json:"schemes,omitzero"`
	// Force updates also a device that already runs the target version.
	Force bool `json:"force,omitzero"`
	// Profile is what is known of the client.
	Profile Profile `json:"profile,omitzero"`
	// Deadline bounds the whole update. Default DefaultDeadline.
	Deadline time.Duration `json:"deadline,omitzero"`
	// Attempts bounds the transfers, and the Executes. Default DefaultAttempts.
	Attempts int `json:"attempts,omitzero"`
	// Limits bounds the phases.
	Limits Limits `json:"limits,omitzero"`
}
