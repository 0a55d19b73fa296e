package fsm

import (
	"encoding/json"
	"fmt"
	"time"
)

// form numbers the way in which a memory is stored. A change of its parts that
// an older record does not fit needs the next number.
const form = 3

// memory is what the server's machine remembers from step to step. It is opaque:
// only [Update.Step] makes one, and it is stored and loaded as JSON, which
// carries the number of its form. A record of another form is refused with
// an error.
type memory struct{ parts }

// parts are the values that a memory consists of. A new attempt is a new attempt
// and a new installation, and nothing else is to be reset by hand.
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
	Asleep   bool          `json:"asleep,omitzero"`   // registered, but in queue mode and not awake
	Slept    time.Time     `json:"slept,omitzero"`    // since when it is asleep
	Seen     bool          `json:"seen,omitzero"`     // was online at least once
	Queue    bool          `json:"queue,omitzero"`    // its registration says queue mode
	Lifetime time.Duration `json:"lifetime,omitzero"` // of its registration
}

// clock is the time of the current phase.
type clock struct {
	Now     time.Time     `json:"now,omitzero"`     // latest time seen
	Since   time.Time     `json:"since,omitzero"`   // start of the phase, or last progress; may lie ahead
	Free    time.Duration `json:"free,omitzero"`    // time since then that does not count
	Resumed time.Time     `json:"resumed,omitzero"` // restart of the server with no read since
	Told    bool          `json:"told,omitzero"`    // the journal's last line is of a restart
}

// reading is what was read of the device, and when it is read next.
type reading struct {
	Observed bool      `json:"observed,omitzero"`
	Next     time.Time `json:"next,omitzero"`    // next read, zero: none planned
	Last     time.Time `json:"last,omitzero"`    // end of the last one with values
	Polls    int       `json:"polls,omitzero"`   // reads without news
	Fails    int       `json:"fails,omitzero"`   // reads without values, or observes
	Missing  int       `json:"missing,omitzero"` // reads in a row that showed no usable Object 5
	Silent   bool      `json:"silent,omitzero"`  // the device left the last request unanswered

	Looked    bool           `json:"looked,omitzero"` // Old was determined
	Old       version        `json:"old,omitzero"`    // 3/0/3 before the update
	Version   version        `json:"version,omitzero"`
	AskDefer  bool           `json:"ask_defer,omitzero"` // read 5/0/13 too
	Listed    []Protocol     `json:"listed,omitzero"`    // 5/0/8, empty: absent
	HasMethod bool           `json:"has_method,omitzero"`
	Method    DeliveryMethod `json:"method,omitzero"` // 5/0/9
	Auto      bool           `json:"auto,omitzero"`   // 5/0/14
	Offers    []Protocol     `json:"offers,omitzero"` // what packages are served to the device by
}

// history is what a new attempt must know of those before it.
type history struct {
	Failures    int        `json:"failures,omitzero"`  // transient ones, against Plan.Attempts
	Fruitless   int        `json:"fruitless,omitzero"` // Executes without effect, against Plan.Attempts
	Tried       []Protocol `json:"tried,omitzero"`     // answered with Result 9, or not to be served
	RefusedPush bool       `json:"refused_push,omitzero"`
	RefusedPull bool       `json:"refused_pull,omitzero"`
	TooLarge    bool       `json:"too_large,omitzero"` // the device never takes so large a push
	Repeats     bool       `json:"repeats,omitzero"`   // the device refused a block of a push that was sent again
	Fresh       bool       `json:"fresh,omitzero"`     // Result 7 was answered with a fresh URI once

	Way    way  `json:"way,omitzero"`    // of the last attempt
	Runs   int  `json:"runs,omitzero"`   // attempts in a row by that way that did not reach Downloaded
	Change bool `json:"change,omitzero"` // the next attempt goes another way

	Wrote    bool      `json:"wrote,omitzero"`    // a URI or a push was sent
	Executed bool      `json:"executed,omitzero"` // an Execute was sent
	Loose    time.Time `json:"loose,omitzero"`    // until when an interrupted Execute may still arrive
	Itself   bool      `json:"itself,omitzero"`   // the device was seen to install without Execute
}

// attempt is one transfer, from what clears the way for it to its end.
type attempt struct {
	RetryAt  time.Time `json:"retry_at,omitzero"` // when it may begin
	Resets   int       `json:"resets,omitzero"`
	ResetDue bool      `json:"reset_due,omitzero"`
	Barred   bool      `json:"barred,omitzero"` // waits for a hold before it is begun

	Begun   bool      `json:"begun,omitzero"`   // URI or first block may be out
	At      time.Time `json:"at,omitzero"`      // when it was begun
	Before  Result    `json:"before,omitzero"`  // Result when it began
	Idle    bool      `json:"idle,omitzero"`    // a read showed Idle just before
	Stuck   bool      `json:"stuck,omitzero"`   // a read showed Downloading just before
	Adopted bool      `json:"adopted,omitzero"` // nothing was sent: the device held the package

	Answered time.Time `json:"answered,omitzero"` // end of the write or push
	Answer   Code      `json:"answer,omitzero"`   // its code
	Started  bool      `json:"started,omitzero"`  // the device took it up
	Asked    bool      `json:"asked,omitzero"`    // a request for the package came
	Served   bool      `json:"served,omitzero"`   // the last byte was handed out after the write
	Repeated bool      `json:"repeated,omitzero"` // a block of the push was sent again and refused
	Troubles int       `json:"troubles,omitzero"` // lines of the journal that told of trouble
	Fault    string    `json:"fault,omitzero"`    // the last trouble of the device's connections, in words

	Lost        bool `json:"lost,omitzero"`        // registered anew since
	Interrupted bool `json:"interrupted,omitzero"` // the server restarted since
	Touched     bool `json:"touched,omitzero"`     // somebody else changed the object since
	Waited      bool `json:"waited,omitzero"`      // the package was there and had to wait for a hold
	Stopped     int  `json:"stopped,omitzero"`     // actions that this server did not send
	Forgiven    bool `json:"forgiven,omitzero"`    // Result 8 in Downloaded was forgiven once

	// Why is what the update waits for, and SettleUntil when the picture in it
	// will have lasted long enough.
	Why         string    `json:"why,omitzero"`
	SettleUntil time.Time `json:"settle_until,omitzero"`
}

// installation is what follows Execute, or an update that the device begins by
// itself.
type installation struct {
	Begun      bool      `json:"begun,omitzero"` // Execute may have been carried out
	Sent       bool      `json:"sent,omitzero"`  // Execute was sent
	At         time.Time `json:"at,omitzero"`
	Code       Code      `json:"code,omitzero"`
	Before     Result    `json:"before,omitzero"`   // Result when it was sent
	Seen       bool      `json:"seen,omitzero"`     // the device was seen updating
	Returned   bool      `json:"returned,omitzero"` // registered anew since
	DeferUntil time.Time `json:"defer_until,omitzero"`
}

// doing is the action under way.
type doing struct {
	Action
	Queued bool      `json:"queued,omitzero"` // in a queue of the server's: not the device's time
	Stall  stall     `json:"stall,omitzero"`  // why it does not move
	Since  time.Time `json:"since,omitzero"`  // since when
	Told   bool      `json:"told,omitzero"`   // and the journal says so
}

// stall says why an action does not move.
type stall uint8

const (
	stallNone stall = iota
	stallSilent
	stallBusy
)
