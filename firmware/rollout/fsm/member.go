package fsm

import (
	"iter"
	"time"
)

// MemberState is where a member of a rollout stands.
type MemberState string

// The states of a member.
const (
	MemberWaiting    MemberState = "waiting"
	MemberActive     MemberState = "active" // its update runs
	MemberSucceeded  MemberState = "succeeded"
	MemberFailed     MemberState = "failed" // with those that timed out
	MemberRolledBack MemberState = "rolled_back"
	MemberSkipped    MemberState = "skipped"
)

// Ended reports whether the member has ended.
func (s MemberState) Ended() bool {
	return s == MemberSucceeded || s == MemberFailed || s == MemberRolledBack || s == MemberSkipped
}

// admitted reports whether a member in this state was admitted, and has not lost that since.
func (s MemberState) admitted() bool {
	return s == MemberActive || s.Ended() && s != MemberSkipped
}

// Place is what an active member occupies, or a waiting one has been promised.
type Place string

// The places.
const (
	PlaceNone         Place = ""
	PlaceInvited      Place = "invited"      // waiting, asleep, and next when it is heard
	PlaceReserved     Place = "reserved"     // it was heard while there was no place: the next one is its own
	PlaceStarting     Place = "starting"     // its update is being made
	PlaceTransferring Place = "transferring" // until the device has the package
	PlaceReady        Place = "ready"        // the device has the package
	PlaceInstalling   Place = "installing"   // from Execute on
	PlaceAway         Place = "away"         // out of reach for AwayTime, before Execute
	// PlaceParked: it was away, others have taken its place in the stage, and its device has the
	// package now.
	PlaceParked Place = "parked"
)

// AwayTime is after which absence before Execute a member occupies no place.
const AwayTime = 15 * time.Minute

// SkipReason says why a member is skipped.
type SkipReason string

// Why a member is skipped.
const (
	SkipCurrent       SkipReason = "already_current"
	SkipIncompatible  SkipReason = "incompatible"
	SkipNotComparable SkipReason = "not_comparable" // or a downgrade
	SkipRemoved       SkipReason = "removed"
	SkipCancelled     SkipReason = "cancelled"
	SkipUnreachable   SkipReason = "unreachable"
)

// Waiting says why a member waits.
type Waiting string

// Why a member waits. One that is active has one of stage, paused, window, concurrency and offline
// while it does not go on.
const (
	WaitingNotStarted  Waiting = "not_started"
	WaitingStage       Waiting = "stage" // the open stage is full, or soaks
	WaitingGate        Waiting = "gate"  // an operator or the program opens the next stage
	WaitingPaused      Waiting = "paused"
	WaitingWindow      Waiting = "window"
	WaitingRate        Waiting = "rate"
	WaitingConcurrency Waiting = "concurrency"
	WaitingOffline     Waiting = "offline"
	WaitingAsleep      Waiting = "asleep"
	WaitingBusy        Waiting = "busy" // another update of the device is active
	WaitingRetry       Waiting = "retry"
)

// A Member is one device of a rollout.
type Member struct {
	State MemberState `record:"1"`
	Place Place       `record:"2"`
	// Only has a bit for each stage with Only that names the member.
	Only uint16 `record:"3"`
	// Attempt counts admissions. It is part of the key of the update.
	Attempt int `record:"4"`
	// Stage is the number of the stage that admitted or skipped it, from 1; 0 for none.
	Stage int `record:"5"`
	// Update is the id of the last update; "" while it is being made.
	Update string `record:"6"`
	// Granted says that the rollout does not hold the update.
	Granted bool `record:"7"`
	// Returned says that it was away, and that others may have taken its place in the stage.
	Returned bool `record:"8"`

	Gone time.Time `record:"9"` // when it was seen to be out of reach; zero if it is not
	// Executed is when Execute was seen to be out, or when the device was heard last after that.
	Executed time.Time `record:"10"`
	// Silence is how long it may be silent after that.
	Silence time.Duration `record:"11"`
	// Missing says that it was silent for longer.
	Missing bool `record:"12"`
	// Bad is the epoch in which it was counted as bad; 0 if it was not.
	Bad int `record:"13"`
	// Epoch is the one in which it was admitted.
	Epoch int `record:"14"`

	Skip   SkipReason `record:"15"`
	Busy   string     `record:"16"` // id of the update that is in the way
	Until  time.Time  `record:"17"` // end of an invitation, or of a pause before the next try
	Failed string     `record:"18"` // why the update could not be made
	// Later is the version that a member which succeeded showed after that, and LaterAt when.
	Later   string    `record:"19"`
	LaterAt time.Time `record:"20"`
	// End is how its last update ended.
	End Ending `record:"21"`
}

// account adds the member to the counters, or with n = -1 takes it out.
func (r *Rollout) account(m *Member, n int) {
	if m.State == "" {
		return
	}
	r.Total.add(m.State, n)
	if m.Stage > 0 {
		r.Stages[m.Stage-1].add(m.State, n)
	}
	switch m.Place {
	case PlaceInvited:
		r.Slots.Invited += n
	case PlaceReserved:
		r.Slots.Reserved += n
	case PlaceStarting, PlaceTransferring:
		r.Slots.Transferring += n
	case PlaceReady:
		r.Slots.Ready += n
	case PlaceInstalling:
		r.Slots.Installing += n
	case PlaceAway:
		r.Slots.Away += n
	case PlaceParked:
		r.Slots.Parked += n
	}
	if m.Granted && m.Place != PlaceInstalling {
		r.Slots.Granted += n
	}
	if m.Missing && m.State == MemberActive {
		r.Slots.Missing += n
	}
	if m.Epoch == r.Since.Epoch && m.State.admitted() {
		r.Since.Admitted += n
	}
	if m.Bad == r.Since.Epoch {
		r.Since.Bad += n
	}
}

// Recount makes the counters those of these members.
func (r *Rollout) Recount(members iter.Seq[*Member]) {
	r.Total, r.Slots, r.Stages = Counts{}, Slots{}, make([]Counts, len(r.Stages))
	for m := range members {
		r.account(m, +1)
	}
}

// Wake returns when the member needs an InputTick, or the zero time.
func (m *Member) Wake() time.Time {
	switch {
	case m.State == MemberWaiting:
		return m.Until
	case m.State != MemberActive:
		return time.Time{}
	case m.Place == PlaceInstalling && !m.Missing:
		return m.Executed.Add(m.Silence)
	case !m.Gone.IsZero() && m.Place != PlaceAway && m.Place != PlaceParked && m.Place != PlaceInstalling:
		return m.Gone.Add(AwayTime)
	}
	return time.Time{}
}
