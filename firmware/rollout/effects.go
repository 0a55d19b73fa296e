package rollout

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// An Effect says what an order would do to a rollout, for the button that gives it.
type Effect struct {
	Action Action
	// Cancels is the mode of [Manager.Stop], and Outcomes are those of [Manager.Retry]; both are
	// zero for other actions.
	Cancels  bool
	Outcomes []Outcome
	// Text is a sentence without a full stop, with the number of devices that each part concerns.
	Text string
}

// Effects returns the orders that would change a rollout in its present state, and what each would
// do. It knows nothing of [Config].Allow, which may still refuse one.
func Effects(r Rollout) (list []Effect) {
	m := &r.Machine
	add := func(action Action, parts ...string) {
		list = append(list, Effect{Action: action, Text: joined(parts)})
	}
	total := &m.Total
	switch m.State {
	case fsm.StateDraft:
		if m.Filled && total.Waiting > 0 && time.Now().Before(m.Plan.EndAt) {
			first := m.Plan.Ceilings(total.Targets())[0]
			rest := total.Waiting - min(first, total.Waiting)
			add(ActionStart, count(first, "may start", "may start"), count(rest, "waits for the next stages", "wait for the next stages"))
		}
	case fsm.StateRunning:
		before := total.Active - m.Slots.Installing
		add(ActionPause, count(m.Slots.Installing, "running finishes", "running finish"),
			count(before, "that does not install yet waits before it installs", "that do not install yet wait before they install"),
			count(total.Waiting, "never starts until you resume", "never start until you resume"))
	case fsm.StatePaused:
		add(ActionResume, count(total.Active-m.Slots.Installing, "that waits may install", "that wait may install"),
			count(total.Waiting, "may start in its turn", "may start in their turn"),
			count(m.Since.Bad, "bad until now does not count any more", "bad until now do not count any more"))
	}
	if next := m.Stage + 1; next < len(m.Plan.Stages) &&
		(m.State == fsm.StateRunning && m.StageState == fsm.StageGate || m.State == fsm.StatePaused && m.Reason == fsm.ReasonStage) {
		ceiling := m.Plan.Ceilings(total.Targets())[next]
		add(ActionOpen, fmt.Sprintf("stage %d of %d opens, up to %d devices in all", next+1, len(m.Plan.Stages), ceiling))
	}
	for _, cancels := range []bool{false, true} {
		finish, never, err := stopPlan(m, cancels)
		if err != nil || stopped(m, cancels) {
			continue
		}
		parts := []string{cmp.Or(count(finish, "running finishes", "running finish"), "none finishes")}
		if cancels {
			parts = append(parts, count(total.Active-finish, "is cancelled", "are cancelled"))
			never = total.Waiting
		}
		parts = append(parts, count(never, "never starts", "never start"))
		add(ActionStop, append(parts, "it cannot be undone")...)
		list[len(list)-1].Cancels = cancels
	}
	ended := m.State == fsm.StateEnded
	if m.State != fsm.StateStopping && (!ended || m.Reason == fsm.ReasonDone && time.Now().Before(m.Plan.EndAt)) {
		for _, again := range []struct {
			n         int
			outcomes  []Outcome
			one, more string
		}{
			{total.Failed, []Outcome{OutcomeFailed, OutcomeTimedOut}, "that failed or timed out tries again", "that failed or timed out try again"},
			{total.RolledBack, []Outcome{OutcomeRolledBack}, "that rolled back tries again", "that rolled back try again"},
			{total.Skipped, []Outcome{OutcomeSkipped}, "that was skipped is looked at again", "that were skipped are looked at again"},
		} {
			if again.n > 0 {
				add(ActionRetry, count(again.n, again.one, again.more))
				list[len(list)-1].Outcomes = again.outcomes
			}
		}
	}
	if ended {
		add(ActionDelete, fmt.Sprintf("its %d members and its journal go; their updates stay; it cannot be undone", total.Targets()+total.Skipped))
	}
	return list
}

// count returns a part of a sentence, or "" for none.
func count(n int, one, more string) string {
	switch {
	case n <= 0:
		return ""
	case n == 1:
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func joined(parts []string) string {
	var list []string
	for _, part := range parts {
		if part != "" {
			list = append(list, part)
		}
	}
	if len(list) == 0 {
		return "no device is concerned"
	}
	return strings.Join(list, ", ")
}
