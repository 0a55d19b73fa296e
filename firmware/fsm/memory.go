package fsm

import "time"

// memory is what the server's machine remembers from step to step. A new attempt replaces the
// attempt and the installation; nothing else needs a reset. It is stored with the update: see
// stored.go.
type memory struct {
	Presence     presence     `record:"1"`
	Clock        clock        `record:"2"`
	Reading      reading      `record:"3"`
	History      history      `record:"4"`
	Attempt      attempt      `record:"5"`
	Installation installation `record:"6"`
	Doing        doing        `record:"7"`
	NextID       uint32       `record:"8"` // of the last action
}

// presence is where the device is, as far as the server knows.
type presence struct {
	Online   bool          `record:"1"`
	Asleep   bool          `record:"2"` // registered in queue mode, and not awake
	Seen     bool          `record:"4"` // was online at least once
	Queue    bool          `record:"5"` // its registration says queue mode
	Slept    time.Time     `record:"3"` // when it fell asleep
	Lifetime time.Duration `record:"6"` // of its registration
}

// clock is the time of the current phase.
type clock struct {
	Now          time.Time     `record:"1"` // latest time seen
	Since        time.Time     `record:"2"` // start of the phase, or last progress; may lie ahead
	Free         time.Duration `record:"3"` // time since then that does not count
	Resumed      time.Time     `record:"4"` // when the server restarted; zero after the next read
	ResumeLogged bool          `record:"5"` // the journal's last line is about a restart
}

// reading is what was read of the device, and when the server reads it next. Small fields stand
// together, because an update that waits costs their memory.
type reading struct {
	Watch   time.Time `record:"17"` // when to observe, if it is not observed by then; zero for never
	Unheard int       `record:"18"` // Observes in a row that were not answered
	Next    time.Time `record:"2"`  // next read; zero if none is planned
	Last    time.Time `record:"3"`  // end of the last read with values
	Polls   int       `record:"4"`  // reads without news
	Fails   int       `record:"5"`  // reads that failed
	Missing int       `record:"6"`  // reads in a row that showed no usable Object 5

	Old     version         `record:"9"` // 3/0/3 before the update
	Version version         `record:"10"`
	Listed  []Protocol      `record:"12"` // 5/0/8; empty if absent
	Offers  []Protocol      `record:"16"` // protocols by which the server serves this device
	Method  DeliverySupport `record:"14"` // 5/0/9

	Observed  bool `record:"1"`  // 5/0/3 is observed, or the device refused that
	Silent    bool `record:"7"`  // the device left the last request unanswered
	OldRead   bool `record:"8"`  // Old is known
	ReadDefer bool `record:"11"` // the next read includes 5/0/13
	HasMethod bool `record:"13"` // Method is known
	Auto      bool `record:"15"` // 5/0/14
	Fits      bool `record:"19"` // the image is made for the device
}

// history is what a new attempt must know of the attempts before it.
type history struct {
	Failures       int        `record:"1"` // attempts that failed, against Plan.Attempts
	ExecutesFailed int        `record:"2"` // Executes without effect, against Plan.Attempts
	Unsupported    []Protocol `record:"3"` // protocols with Result 9, or without a Package URI
	RefusedPush    bool       `record:"4"`
	RefusedPull    bool       `record:"5"`
	TooLarge       bool       `record:"6"` // the device never takes so large a push
	RefusesRepeats bool       `record:"7"` // the device refused a block that was sent again
	Fresh          bool       `record:"8"` // one attempt had a fresh URI because of Result 7

	Way    way  `record:"9"`  // of the last attempt
	InRow  int  `record:"10"` // attempts in a row by that way that did not reach Downloaded
	Change bool `record:"11"` // the next attempt goes another way

	Written      bool      `record:"12"` // a Package URI or a push was sent
	Executed     bool      `record:"13"` // an Execute was sent
	StrayUntil   time.Time `record:"14"` // until then an interrupted Execute may still arrive
	AutoUpgraded bool      `record:"15"` // the device was seen to install without Execute
}

// attempt is one transfer, from the reset that precedes it to its end.
type attempt struct {
	RetryAt  time.Time `record:"1"` // when it may begin
	Resets   int       `record:"2"`
	ResetDue bool      `record:"3"`
	HeldBack bool      `record:"4"` // a hold keeps it from beginning

	Begun   bool      `record:"5"`  // the Package URI or the first block may be out
	At      time.Time `record:"6"`  // when it began
	Before  Result    `record:"7"`  // the device's Result when it began
	Cleared bool      `record:"27"` // a read since showed another Result
	Idle    bool      `record:"8"`  // a read showed Idle just before
	Stuck   bool      `record:"9"`  // a read showed Downloading just before
	Adopted bool      `record:"10"` // nothing was sent: the device held the package

	Answered      time.Time `record:"11"` // end of the Write or push
	Answer        Code      `record:"12"` // its code
	Started       bool      `record:"13"` // the device took it up
	Requested     bool      `record:"14"` // the device requested the package
	Served        bool      `record:"15"` // the last byte went out after the Write
	RefusedRepeat bool      `record:"16"` // the device refused a block that was sent again
	FaultLines    int       `record:"17"` // lines of the journal about failed connections
	Fault         string    `record:"18"` // the last failed connection, in words

	Lost          bool `record:"19"` // the device registered again since
	Interrupted   bool `record:"20"` // the server restarted since
	ObjectChanged bool `record:"21"` // another request changed the object since
	ReadyOnHold   bool `record:"22"` // the device had the package while a hold lasted
	NotSent       int  `record:"23"` // actions that this server did not send
	ExecutedAgain bool `record:"24"` // once, after Result 8 in State Downloaded
	Returned      bool `record:"28"` // the device registered between two Executes

	// WaitReason is what the update waits for. SettleUntil is when the server decides by what the
	// device shows, if that does not change.
	WaitReason  string    `record:"25"`
	SettleUntil time.Time `record:"26"`
}

// installation is what follows Execute, or an installation that the device begins without Execute.
type installation struct {
	At         time.Time `record:"3"`
	Before     Result    `record:"5"` // the device's Result when Execute was sent
	DeferUntil time.Time `record:"8"`
	Code       Code      `record:"4"`
	Begun      bool      `record:"1"` // Execute may have been carried out
	Sent       bool      `record:"2"` // Execute was sent
	Seen       bool      `record:"6"` // the device showed State Updating
	Returned   bool      `record:"7"` // the device registered again since
	Failed     bool      `record:"9"` // the last reading showed Result 8 and the old version
}

// doing is the action under way.
type doing struct {
	Action `record:"1"`
	Queued bool      `record:"2"` // in a queue of the server: not the device's time
	Stall  stall     `record:"3"` // why it makes no progress
	Since  time.Time `record:"4"` // when the stall began
	Logged bool      `record:"5"` // the journal reports the stall
}

// stall says why an action makes no progress.
type stall uint8

const (
	stallNone stall = iota
	stallSilent
	stallBusy
)
