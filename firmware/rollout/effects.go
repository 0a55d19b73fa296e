package rollout

import (
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
			add(ActionStart, count(first, "may start"), count(total.Waiting-min(first, total.Waiting), "wait for the next stages"))
		}
	case fsm.StateRunning:
		before := total.Active - m.Slots.Installing
		add(ActionPause, count(m.Slots.Installing, "running finish"), count(before, "that do not install yet wait before they install"),
			count(total.Waiting, "never start until you resume"))
	case fsm.StatePaused:
		add(ActionResume, count(total.Active-m.Slots.Installing, "that wait may install"), count(total.Waiting, "may start in their turn"),
			count(m.Since.Bad, "bad until now do not count any more"))
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
		parts := []string{fmt.Sprintf("%d running finish", finish), count(never, "never start")}
		if cancels {
			cancelled := total.Active - finish
			parts = []string{fmt.Sprintf("%d running finish", finish), count(cancelled, "are cancelled"), count(total.Waiting, "never start")}
		}
		add(ActionStop, append(parts, "it cannot be undone")...)
		list[len(list)-1].Cancels = cancels
	}
	ended := m.State == fsm.StateEnded
	if m.State != fsm.StateStopping && (!ended || m.Reason == fsm.ReasonDone && time.Now().Before(m.Plan.EndAt)) {
		for _, again := range []struct {
			n        int
			outcomes []Outcome
			text     string
		}{
			{total.Failed, []Outcome{OutcomeFailed, OutcomeTimedOut}, "that failed or timed out try again"},
			{total.RolledBack, []Outcome{OutcomeRolledBack}, "that rolled back try again"},
			{total.Skipped, []Outcome{OutcomeSkipped}, "that were skipped are looked at again"},
		} {
			if again.n > 0 {
				add(ActionRetry, count(again.n, again.text))
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
func count(n int, what string) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("%d %s", n, what)
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
