package fsm

import (
	"slices"
	"time"
)

// State is where a rollout stands.
type State string

// The states.
const (
	StateDraft    State = "draft"    // it takes its members, and waits for its start
	StateRunning  State = "running"  // it admits members
	StatePaused   State = "paused"   // it admits none, and holds those that it has
	StateStopping State = "stopping" // it waits for the last members
	StateEnded    State = "ended"
)

// Reason says why a rollout is paused, stopping or has ended.
type Reason string

// The reasons.
const (
	ReasonNone     Reason = ""
	ReasonTrip     Reason = "trip"     // too many members are bad
	ReasonOperator Reason = "operator" // an operator paused or stopped it
	ReasonEndAt    Reason = "end_at"   // its time was over
	ReasonDone     Reason = "done"     // every member has ended
	ReasonStage    Reason = "stage"    // none of the devices that the stage names was updated, and none is left
)

// StageState is where the open stage stands.
type StageState string

// The steps of a stage, in their order.
const (
	StageFilling  StageState = "filling"  // it admits members up to its ceiling, and waits for their end
	StageSoaking  StageState = "soaking"  // it waits
	StageChecking StageState = "checking" // the members that succeeded are read again
	StageGate     StageState = "gate"     // an operator opens the next stage
	StageHealth   StageState = "health"   // the program is asked whether the next stage may open
)

// A Rollout is one image on its way to many members. It holds counters, not members: see Step.
type Rollout struct {
	Plan   Plan   `record:"1"`
	State  State  `record:"2"`
	Reason Reason `record:"3"`
	Detail string `record:"4"` // the reason, in a sentence
	// Cancels says that a stopping rollout cancels the updates that have not begun to install.
	// Otherwise Grants says that it lets those that it holds go on, in their turn, until EndAt; if
	// it does not, it cancels only those.
	Cancels bool `record:"5"`
	Grants  bool `record:"21"`
	// Filled says that the rollout has all members that its targets name.
	Filled bool `record:"6"`

	Started time.Time `record:"7"`
	Ended   time.Time `record:"8"`

	// Stage is the index of the open stage.
	Stage      int        `record:"9"`
	StageState StageState `record:"10"`
	// Until is when the step ends, or when the program is asked again; zero if no time ends it.
	Until time.Time `record:"11"`
	// Extra is how many members the open stage admits beyond its ceiling, because those before
	// were not updated.
	Extra int `record:"12"`
	// Soaked is how many members had succeeded in the open stage when it was watched last.
	Soaked int `record:"22"`
	// Exhausted says that none of the waiting members can be reached.
	Exhausted bool `record:"13"`

	Total  Counts      `record:"14"` // all members
	Stages []Counts    `record:"15"` // members by the stage in which they were admitted or skipped
	Opened []time.Time `record:"16"` // when each stage opened
	Slots  Slots       `record:"17"`
	Since  Since       `record:"18"`

	// Admitted is when a member was admitted last.
	Admitted time.Time `record:"19"`
	// Now is the latest time that the rollout has seen.
	Now time.Time `record:"20"`
}

// Counts are how many members there are, by state.
type Counts struct {
	Waiting    int `record:"1"`
	Active     int `record:"2"`
	Succeeded  int `record:"3"`
	Failed     int `record:"4"`
	RolledBack int `record:"5"`
	Skipped    int `record:"6"`
}

// Admitted returns how many members have been admitted.
func (c Counts) Admitted() int { return c.Active + c.Succeeded + c.Failed + c.RolledBack }

// Targets returns how many members count as targets: those that are not skipped.
func (c Counts) Targets() int { return c.Waiting + c.Admitted() }

func (c *Counts) add(s MemberState, n int) {
	switch s {
	case MemberWaiting:
		c.Waiting += n
	case MemberActive:
		c.Active += n
	case MemberSucceeded:
		c.Succeeded += n
	case MemberFailed:
		c.Failed += n
	case MemberRolledBack:
		c.RolledBack += n
	case MemberSkipped:
		c.Skipped += n
	}
}

// Slots are how many members there are, by place.
type Slots struct {
	Transferring int `record:"1"` // with those that start
	Ready        int `record:"2"`
	Installing   int `record:"3"`
	Away         int `record:"4"`
	Parked       int `record:"9"`
	// Granted counts members that may execute and have not.
	Granted int `record:"5"`
	// Missing counts active members that were silent for too long after Execute.
	Missing  int `record:"6"`
	Invited  int `record:"7"` // waiting members that are asleep, and next
	Reserved int `record:"8"` // those of them that were heard while there was no place
}

// Since are counts since the open stage opened, or the rollout was resumed, whichever was later.
type Since struct {
	// Epoch numbers these times.
	Epoch    int `record:"1"`
	Admitted int `record:"2"`
	Bad      int `record:"3"`
}

// NewRollout returns a draft. The plan must be valid: see Plan.Check.
func NewRollout(plan Plan, at time.Time) Rollout {
	plan.Stages = slices.Clone(plan.Stages)
	return Rollout{
		Plan: plan, State: StateDraft, Now: at, StageState: StageFilling,
		Stages: make([]Counts, len(plan.Stages)), Opened: make([]time.Time, len(plan.Stages)),
		Since: Since{Epoch: 1},
	}
}

// Active reports whether the rollout has not ended.
func (r *Rollout) Active() bool { return r.State != StateEnded }

// Ceiling returns how many members the stages up to the open one admit.
func (r *Rollout) Ceiling() int {
	targets, ceiling := r.Total.Targets(), 0
	for _, s := range r.Plan.Stages[:r.Stage+1] {
		ceiling = max(ceiling, s.ceiling(targets))
	}
	return min(ceiling+r.Extra, targets)
}

// room returns how many more members the open stage admits. It is negative if members that were
// away came back after others took their places.
func (r *Rollout) room() int {
	return r.Ceiling() - (r.Total.Admitted() - r.Slots.Away - r.Slots.Parked)
}

// moving returns how many members are on their way to an end that is near.
func (r *Rollout) moving() int {
	return r.Total.Active - r.Slots.Away - r.Slots.Parked - r.Slots.Missing
}

// Wake returns when the rollout needs an InputTick without a member, or the zero time.
func (r *Rollout) Wake() time.Time {
	var wake time.Time
	soonest := func(t time.Time) {
		if t.After(r.Now) && (wake.IsZero() || t.Before(wake)) {
			wake = t
		}
	}
	switch r.State {
	case StateRunning:
		soonest(r.Plan.StartAt)
		soonest(r.Plan.EndAt)
		soonest(r.Until)
		if r.Plan.Interval > 0 && !r.Admitted.IsZero() {
			soonest(r.Admitted.Add(r.Plan.Interval))
		}
	case StatePaused, StateStopping:
		soonest(r.Plan.EndAt)
	}
	return wake
}
