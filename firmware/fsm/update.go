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
	// Reported is the device's own last Result in this update, 0 if it gave
	// none.
	Reported Result `json:"reported,omitzero"`
	// OldVersion is 3/0/3 before the update, empty if it could not be read.
	OldVersion string `json:"old_version,omitzero"`
	// Version is 3/0/3 as last read.
	Version string `json:"version,omitzero"`
	// Delivery and Protocol are those of the current or last attempt.
	Delivery Delivery `json:"delivery,omitzero"`
	Protocol Protocol `json:"protocol,omitzero"`
	// Wait is what the update waits for; zero once it has ended.
	Wait Wait `json:"wait,omitzero"`
	// Attempt counts the transfers, the first is 1.
	Attempt int `json:"attempt,omitzero"`
	// Bytes counts the bytes of the package that went to the device in the
	// current attempt. Soft.
	Bytes int64 `json:"bytes,omitzero"`
	// Created, Ended and Deadline are times of the update as a whole.
	Created  time.Time `json:"created"`
	Ended    time.Time `json:"ended,omitzero"`
	Deadline time.Time `json:"deadline"`

	// Memory is what the machine must know to decide; of no interest to others.
	Memory Memory `json:"memory,omitzero"`
}

// Reason says why an update ended, in one word for programs; the journal has
// the story.
type Reason string

// The reasons.
const (
	// ReasonVersion: the device runs the target version.
	ReasonVersion Reason = "version"
	// ReasonResult: the device reported success, and that is what counts.
	ReasonResult Reason = "result"
	// ReasonAlreadyRunning: it ran the target version from the start.
	ReasonAlreadyRunning Reason = "already_running"
	// ReasonOldVersion: it came back with the version it had before.
	ReasonOldVersion Reason = "old_version"
	// ReasonVersionMismatch: it installed something, but runs another version
	// than the target.
	ReasonVersionMismatch Reason = "version_mismatch"
	// ReasonDeviceResult: the device reported a failure that ends the update.
	ReasonDeviceResult Reason = "device_result"
	// ReasonAttempts: the last of the attempts failed.
	ReasonAttempts Reason = "attempts"
	// ReasonRefused: the device refused what had to be done.
	ReasonRefused Reason = "refused"
	// ReasonNoDelivery: device, server and request have no delivery in common.
	ReasonNoDelivery Reason = "no_delivery"
	// ReasonOperator: an operator cancelled it.
	ReasonOperator Reason = "operator"
	// ReasonPhaseLimit: a phase took longer than its limit.
	ReasonPhaseLimit Reason = "phase_limit"
	// ReasonDeadline: the whole update took longer than its deadline.
	ReasonDeadline Reason = "deadline"
)

// Memory is what the server machine remembers from step to step. It is
// exported only to be stored.
type Memory struct {
	Now    time.Time `json:"now,omitzero"`     // latest time seen
	NextID uint32    `json:"next_id,omitzero"` // of the last action
	Doing  Action    `json:"doing,omitzero"`   // the action under way

	// The device's presence.
	Online   bool      `json:"online,omitzero"`
	Asleep   bool      `json:"asleep,omitzero"`
	Seen     bool      `json:"seen,omitzero"`      // was online at least once
	AwayFrom time.Time `json:"away_from,omitzero"` // since when it is not online

	// The clock of the phase.
	Since   time.Time     `json:"since,omitzero"`   // start, or last progress
	Away    time.Duration `json:"away,omitzero"`    // time since then that does not count
	Resumed time.Time     `json:"resumed,omitzero"` // restart of the server with no read since
	Told    bool          `json:"told,omitzero"`    // the journal's last line is of a restart

	// Looking.
	Observed  bool           `json:"observed,omitzero"`
	ReadAt    time.Time      `json:"read_at,omitzero"`   // next read, zero: none planned
	LastRead  time.Time      `json:"last_read,omitzero"` // end of the last one with values
	Polls     int            `json:"polls,omitzero"`     // reads without news
	Fails     int            `json:"fails,omitzero"`     // reads without values, or observes
	Looked    bool           `json:"looked,omitzero"`    // OldVersion was determined
	AskDefer  bool           `json:"ask_defer,omitzero"` // read 5/0/13 too
	Listed    []Protocol     `json:"listed,omitzero"`    // 5/0/8, empty: absent
	HasMethod bool           `json:"has_method,omitzero"`
	Method    DeliveryMethod `json:"method,omitzero"` // 5/0/9

	// Between attempts.
	RetryAt     time.Time  `json:"retry_at,omitzero"`
	Why         string     `json:"why,omitzero"`      // of the current wait
	Failures    int        `json:"failures,omitzero"` // transient ones, against Plan.Attempts
	Tried       []Protocol `json:"tried,omitzero"`    // answered with Result 9
	FreshURI    bool       `json:"fresh_uri,omitzero"`
	Resets      int        `json:"resets,omitzero"` // in this attempt
	ResetDue    bool       `json:"reset_due,omitzero"`
	RefusedPush bool       `json:"refused_push,omitzero"`
	RefusedPull bool       `json:"refused_pull,omitzero"`

	// The transfer.
	Begun       bool      `json:"begun,omitzero"` // URI or first block may be out
	BegunAt     time.Time `json:"begun_at,omitzero"`
	Before      Result    `json:"before,omitzero"`      // Result when it began
	Answered    time.Time `json:"answered,omitzero"`    // end of the write or push
	Answer      Code      `json:"answer,omitzero"`      // its code
	Started     bool      `json:"started,omitzero"`     // the device took it up
	Lost        bool      `json:"lost,omitzero"`        // registered anew since
	Interrupted bool      `json:"interrupted,omitzero"` // the server restarted since

	// The installation.
	Executes   int       `json:"executes,omitzero"` // fruitless ones, against Plan.Attempts
	Executed   bool      `json:"executed,omitzero"` // Execute may have been carried out
	ExecutedAt time.Time `json:"executed_at,omitzero"`
	ExecCode   Code      `json:"exec_code,omitzero"`
	ExecBefore Result    `json:"exec_before,omitzero"` // Result when it was sent
	ExecFailed bool      `json:"exec_failed,omitzero"` // Result 8 in Downloaded was forgiven once
	Proven     bool      `json:"proven,omitzero"`      // the device was seen updating
	Returned   bool      `json:"returned,omitzero"`    // registered anew since Execute
	DeferUntil time.Time `json:"defer_until,omitzero"`
	// SettleUntil is when the picture in Why will have lasted long enough.
	SettleUntil time.Time `json:"settle_until,omitzero"`
}

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
	deadline := at.Add(plan.Deadline)
	return Update{
		Plan: plan, Phase: PhaseWaiting, Created: at, Deadline: deadline,
		Wait:   Wait{Reason: "device to register", Until: deadline},
		Memory: Memory{Now: at, Since: at},
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
	wake := u.lapses()
	if u.Memory.Online && u.Memory.Doing.Kind == ActionNone && !u.Memory.ReadAt.IsZero() {
		wake = earlier(wake, u.Memory.ReadAt)
	}
	return wake
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
