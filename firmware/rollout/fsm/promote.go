package fsm

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// healthPause is how long the program is not asked again after it has said no.
const healthPause = time.Minute

// tripped reports whether too many members are bad: any, in the first stage.
func (x *machine) tripped() bool {
	if x.Stage == 0 {
		return x.Since.Bad > 0
	}
	return float64(x.Since.Bad) > x.Plan.MaxFailure*float64(max(x.Since.Admitted, minTripBase))
}

func (x *machine) tripText() string {
	switch {
	case x.Stage > 0 && x.Since.Admitted < minTripBase:
		return fmt.Sprintf("%d of %s bad; while fewer than %d are admitted, %d may be", x.Since.Bad,
			devices(x.Since.Admitted, "is", "are"), minTripBase, int(x.Plan.MaxFailure*minTripBase))
	case x.Stage > 0:
		return fmt.Sprintf("%d of %s bad, more than %g %%", x.Since.Bad, devices(x.Since.Admitted, "is", "are"), 100*x.Plan.MaxFailure)
	}
	who := "a device"
	if x.in.Name != "" {
		who = "device " + x.in.Name
	}
	return who + " of the first stage " + cmp.Or(x.why, "is bad")
}

// devices returns so many devices, with a verb.
func devices(n int, one, more string) string {
	if n == 1 {
		return "1 device " + one
	}
	return fmt.Sprintf("%d devices %s", n, more)
}

// promote moves the open stage on, as far as counters and time allow.
func (x *machine) promote() {
	if x.Now.Before(x.Plan.StartAt) {
		return
	}
	switch {
	case x.StageState == StageFilling:
		x.filling()
	case x.none() && (x.StageState == StageGate || x.StageState == StageHealth): // the last ones were removed
		x.end(ReasonDone)
	case x.moving() > 0: // one that was away is back
		x.StageState, x.Until, x.out.Persist = StageFilling, time.Time{}, true
	case x.StageState == StageSoaking && !x.Now.Before(x.Until):
		x.StageState, x.Until, x.out.Persist = StageChecking, time.Time{}, true
		x.log(EventChecking, "%s read again", devices(x.Stages[x.Stage].Succeeded, "is", "are"))
	}
}

// filling looks whether the open stage has all members that it can have, and they have ended.
func (x *machine) filling() {
	stage := &x.Stages[x.Stage]
	switch {
	case x.moving() > 0:
	case x.none() && (stage.Succeeded == 0 || x.Soaked == stage.Succeeded):
		x.end(ReasonDone)
	case x.Total.Waiting > 0 && x.room() > 0 && !x.Exhausted:
		// It admits more.
	case stage.Succeeded == 0:
		if x.room() <= 0 && x.Total.Waiting > 0 && x.Ceiling() < x.Total.Targets() {
			x.Extra++
			x.out.Persist = true
			x.log(EventExtended, "none of the stage's devices was updated: the next one is tried")
		}
	case x.last() && x.Soaked == stage.Succeeded:
		// The rest cannot be reached.
	case x.Plan.Stages[x.Stage].Soak > 0:
		soak := x.Plan.Stages[x.Stage].Soak
		x.StageState, x.Until, x.out.Persist = StageSoaking, x.Now.Add(soak), true
		x.log(EventSoaking, "for %s", soak)
	default:
		x.after()
	}
}

// exhausted notes that none can be admitted until another device is heard. A stage that names its
// members, has none left, and updated none, does not go on by itself.
func (x *machine) exhausted() {
	if x.State != StateRunning {
		return
	}
	x.set(func() { x.Exhausted = true }, !x.Exhausted)
	if x.in.None && x.StageState == StageFilling && x.Plan.Stages[x.Stage].Only && x.Stages[x.Stage].Succeeded == 0 && x.Stages[x.Stage].Active == 0 {
		x.pause(ReasonStage, "none of the devices that the stage names was updated, and none is left")
	}
}

// openByHand opens the next stage for an operator: one that is manual, or one that the open stage,
// with no device left, cannot open.
func (x *machine) openByHand() {
	switch {
	case x.State == StateRunning && x.StageState == StageGate:
	case x.State == StatePaused && x.Reason == ReasonStage:
		x.State, x.Reason, x.Detail = StateRunning, ReasonNone, ""
	default:
		return
	}
	x.log(EventGate, "%s", x.in.Text)
	x.ask()
}

// none reports whether all members have ended.
func (x *machine) none() bool { return x.Total.Waiting == 0 && x.Total.Active == 0 }

func (x *machine) last() bool { return x.Stage == len(x.Plan.Stages)-1 }

// after follows the soak of the open stage. One whose members have all rolled back since goes on
// as if they had done so at once.
func (x *machine) after() {
	x.Soaked, x.Until, x.out.Persist = x.Stages[x.Stage].Succeeded, time.Time{}, true
	switch {
	case x.none():
		x.end(ReasonDone)
	case x.last() || x.Soaked == 0:
		x.StageState = StageFilling
	default:
		x.next()
	}
}

// next begins what has to precede the next stage.
func (x *machine) next() {
	if x.Plan.Stages[x.Stage+1].Manual {
		x.StageState, x.out.Persist = StageGate, true
		x.log(EventGate, "stage %d opens when an operator says so", x.Stage+2)
		return
	}
	x.ask()
}

// ask has the program asked whether the next stage may open.
func (x *machine) ask() {
	x.StageState, x.Until, x.Detail, x.out.Persist = StageHealth, time.Time{}, "", true
}

// health takes the program's answer.
func (x *machine) health() {
	switch {
	case x.State != StateRunning || x.StageState != StageHealth:
	case x.in.OK:
		x.Detail = ""
		x.open(x.Stage + 1)
	default:
		if x.Detail != x.in.Text {
			x.log(EventHealth, "%s", x.in.Text)
		}
		x.Detail, x.Until, x.out.Persist = x.in.Text, x.Now.Add(healthPause), true
	}
}

// open opens a stage. One that has no room for a member more than those before is passed over.
func (x *machine) open(stage int) {
	x.Stage, x.StageState, x.Opened[stage], x.out.Persist = stage, StageFilling, x.Now, true
	x.Extra, x.Soaked, x.Until, x.Exhausted = 0, 0, time.Time{}, false
	x.Since = Since{Epoch: x.Since.Epoch + 1}
	x.log(EventOpened, "stage %d of %d: up to %s", stage+1, len(x.Plan.Stages), strings.TrimSpace(devices(x.Ceiling(), "", "")))
	if x.room() <= 0 && !x.last() {
		x.next()
	}
}
