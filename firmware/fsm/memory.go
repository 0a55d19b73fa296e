package fsm

import (
	"encoding/json"
	"fmt"
	"time"
)

// form numbers the way in which a memory is stored. A change that an older record does not fit
// needs the next number.
const form = 3

// memory is what the server's machine remembers from step to step. It is stored and loaded as JSON,
// with the number of its form; a record of another form is refused with an error.
type memory struct{ parts }

// parts are the values of a memory. A new attempt replaces the attempt and the installation;
// nothing else needs a reset.
type parts struct {
	Presence     presence     `json:"presence,omitzero"`
	Clock        clock        `json:"clock,omitzero"`
	Reading      reading      `json:"reading,omitzero"`
	History      history      `json:"history,omitzero"`
	Attempt      attempt      `json:"attempt,omitzero"`
	Installation installation `json:"installation,omitzero"`
	Doing        doing        `json:"doing,omitzero"`
	NextID       uint32       `json:"next_id,omitzero"` // of the last action
}

// MarshalJSON implements json.Marshaler.
func (m memory) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Form int `json:"form"`
		parts
	}{form, m.parts})
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *memory) UnmarshalJSON(data []byte) error {
	stored := struct {
		Form int `json:"form"`
		parts
	}{}
	if err := json.Unmarshal(data, &stored); err != nil {
		return err
	}
	if stored.Form != form {
		return fmt.Errorf("fsm: the stored update has form %d, and this version reads form %d", stored.Form, form)
	}
	m.parts = stored.parts
	return nil
}

// presence is where the device is, as far as the server knows.
type presence struct {
	Online   bool          `json:"online,omitzero"`
	Asleep   bool          `json:"asleep,omitzero"`   // registered in queue mode, and not awake
	Slept    time.Time     `json:"slept,omitzero"`    // when it fell asleep
	Seen     bool          `json:"seen,omitzero"`     // was online at least once
	Queue    bool          `json:"queue,omitzero"`    // its registration says queue mode
	Lifetime time.Duration `json:"lifetime,omitzero"` // of its registration
}

// clock is the time of the current phase.
type clock struct {
	Now          time.Time     `json:"now,omitzero"`           // latest time seen
	Since        time.Time     `json:"since,omitzero"`         // start of the phase, or last progress; may lie ahead
	Free         time.Duration `json:"free,omitzero"`          // time since then that does not count
	Resumed      time.Time     `json:"resumed,omitzero"`       // when the server restarted; zero after the next read
	ResumeLogged bool          `json:"resume_logged,omitzero"` // the journal's last line is about a restart
}

// reading is what was read of the device, and when the server reads it next.
type reading struct {
	Observed bool      `json:"observed,omitzero"`
	Next     time.Time `json:"next,omitzero"`    // next read; zero if none is planned
	Last     time.Time `json:"last,omitzero"`    // end of the last read with values
	Polls    int       `json:"polls,omitzero"`   // reads without news
	Fails    int       `json:"fails,omitzero"`   // reads, or Observes, that failed
	Missing  int       `json:"missing,omitzero"` // reads in a row that showed no usable Object 5
	Silent   bool      `json:"silent,omitzero"`  // the device left the last request unanswered

	OldRead   bool            `json:"old_read,omitzero"` // Old is known
	Old       version         `json:"old,omitzero"`      // 3/0/3 before the update
	Version   version         `json:"version,omitzero"`
	ReadDefer bool            `json:"read_defer,omitzero"` // the next read includes 5/0/13
	Listed    []Protocol      `json:"listed,omitzero"`     // 5/0/8; empty if absent
	HasMethod bool            `json:"has_method,omitzero"`
	Method    DeliverySupport `json:"method,omitzero"` // 5/0/9
	Auto      bool            `json:"auto,omitzero"`   // 5/0/14
	Offers    []Protocol      `json:"offers,omitzero"` // protocols by which the server serves this device
}

// history is what a new attempt must know of the attempts before it.
type history struct {
	Failures       int        `json:"failures,omitzero"`        // attempts that failed, against Plan.Attempts
	ExecutesFailed int        `json:"executes_failed,omitzero"` // Executes without effect, against Plan.Attempts
	Unsupported    []Protocol `json:"unsupported,omitzero"`     // protocols with Result 9, or without a Package URI
	RefusedPush    bool       `json:"refused_push,omitzero"`
	RefusedPull    bool       `json:"refused_pull,omitzero"`
	TooLarge       bool       `json:"too_large,omitzero"`       // the device never takes so large a push
	RefusesRepeats bool       `json:"refuses_repeats,omitzero"` // the device refused a block that was sent again
	Fresh          bool       `json:"fresh,omitzero"`           // one attempt had a fresh URI because of Result 7

	Way    way  `json:"way,omitzero"`    // of the last attempt
	InRow  int  `json:"in_row,omitzero"` // attempts in a row by that way that did not reach Downloaded
	Change bool `json:"change,omitzero"` // the next attempt goes another way

	Written      bool      `json:"written,omitzero"`       // a Package URI or a push was sent
	Executed     bool      `json:"executed,omitzero"`      // an Execute was sent
	StrayUntil   time.Time `json:"stray_until,omitzero"`   // until then an interrupted Execute may still arrive
	AutoUpgraded bool      `json:"auto_upgraded,omitzero"` // the device was seen to install without Execute
}

// attempt is one transfer, from the reset that precedes it to its end.
type attempt struct {
	RetryAt  time.Time `json:"retry_at,omitzero"` // when it may begin
	Resets   int       `json:"resets,omitzero"`
	ResetDue bool      `json:"reset_due,omitzero"`
	HeldBack bool      `json:"held_back,omitzero"` // a hold keeps it from beginning

	Begun   bool      `json:"begun,omitzero"`   // the Package URI or the first block may be out
	At      time.Time `json:"at,omitzero"`      // when it began
	Before  Result    `json:"before,omitzero"`  // the device's Result when it began
	Idle    bool      `json:"idle,omitzero"`    // a read showed Idle just before
	Stuck   bool      `json:"stuck,omitzero"`   // a read showed Downloading just before
	Adopted bool      `json:"adopted,omitzero"` // nothing was sent: the device held the package

	Answered      time.Time `json:"answered,omitzero"`       // end of the Write or push
	Answer        Code      `json:"answer,omitzero"`         // its code
	Started       bool      `json:"started,omitzero"`        // the device took it up
	Requested     bool      `json:"requested,omitzero"`      // the device requested the package
	Served        bool      `json:"served,omitzero"`         // the last byte went out after the Write
	RefusedRepeat bool      `json:"refused_repeat,omitzero"` // the device refused a block that was sent again
	FaultLines    int       `json:"fault_lines,omitzero"`    // lines of the journal about failed connections
	Fault         string    `json:"fault,omitzero"`          // the last failed connection, in words

	Lost          bool `json:"lost,omitzero"`           // the device registered again since
	Interrupted   bool `json:"interrupted,omitzero"`    // the server restarted since
	ObjectChanged bool `json:"object_changed,omitzero"` // another request changed the object since
	ReadyOnHold   bool `json:"ready_on_hold,omitzero"`  // the device had the package while a hold lasted
	NotSent       int  `json:"not_sent,omitzero"`       // actions that this server did not send
	ExecutedAgain bool `json:"executed_again,omitzero"` // once, after Result 8 in State Downloaded

	// WaitReason is what the update waits for. SettleUntil is when the server decides by what the
	// device shows, if that does not change.
	WaitReason  string    `json:"wait_reason,omitzero"`
	SettleUntil time.Time `json:"settle_until,omitzero"`
}

// installation is what follows Execute, or an installation that the device begins without Execute.
type installation struct {
	Begun      bool      `json:"begun,omitzero"` // Execute may have been carried out
	Sent       bool      `json:"sent,omitzero"`  // Execute was sent
	At         time.Time `json:"at,omitzero"`
	Code       Code      `json:"code,omitzero"`
	Before     Result    `json:"before,omitzero"`   // the device's Result when Execute was sent
	Seen       bool      `json:"seen,omitzero"`     // the device showed State Updating
	Returned   bool      `json:"returned,omitzero"` // the device registered again since
	DeferUntil time.Time `json:"defer_until,omitzero"`
}

// doing is the action under way.
type doing struct {
	Action
	Queued bool      `json:"queued,omitzero"` // in a queue of the server: not the device's time
	Stall  stall     `json:"stall,omitzero"`  // why it makes no progress
	Since  time.Time `json:"since,omitzero"`  // when the stall began
	Logged bool      `json:"logged,omitzero"` // the journal reports the stall
}

// stall says why an action makes no progress.
type stall uint8

const (
	stallNone stall = iota
	stallSilent
	stallBusy
)
