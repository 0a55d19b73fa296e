package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// TestCrash plays stories with a crash at each step: before it is stored, before its action, and
// before the end of its action is known. None changes an outcome, and no device gets two updates.
func TestCrash(t *testing.T) {
	t.Parallel()
	plan := usualPlan()
	plan.Stages = []fsm.Stage{{Size: 1, Soak: 10 * time.Minute}, {Share: 1, Soak: time.Minute}}
	plan.Concurrency, plan.EndAt = 1, start.Add(75*time.Hour)
	brief := plan
	brief.EndAt = start.Add(5 * time.Hour)
	night := plan
	night.Window = fsm.Window{From: 13 * 60, To: 13*60 + 12, Zone: "UTC", Covers: fsm.CoversInstall}
	canaries := plan
	canaries.Stages = []fsm.Stage{{Size: 2, Only: true}, {Share: 1, Manual: true}}
	canaries.Interval = 2 * time.Minute
	resume := map[time.Duration]fsm.Input{5 * time.Hour: {Kind: fsm.InputResume}}
	for name, c := range map[string]struct {
		plan   fsm.Plan
		odd    map[int]habit
		orders map[time.Duration]fsm.Input
	}{
		"all well":      {plan: plan},
		"at night":      {plan: night},
		"by hand":       {plan: canaries, orders: map[time.Duration]fsm.Input{5 * time.Hour: {Kind: fsm.InputOpen}}},
		"a trip":        {plan: plan, odd: map[int]habit{0: {ending: fsm.EndingRolledBack}}, orders: resume},
		"a late trip":   {plan: plan, odd: map[int]habit{0: {later: true}}, orders: resume},
		"one fails":     {plan: plan, odd: map[int]habit{2: {ending: fsm.EndingFailed}}},
		"one is away":   {plan: plan, odd: map[int]habit{1: {away: func(at time.Duration) bool { return at > 17*time.Minute && at < 2*time.Hour }}}},
		"one is lost":   {plan: plan, odd: map[int]habit{1: {lost: true}}},
		"one sleeps":    {plan: plan, odd: map[int]habit{1: {asleep: 20 * time.Minute}}},
		"one is absent": {plan: brief, odd: map[int]habit{1: {away: func(time.Duration) bool { return true }}}},
	} {
		t.Run(name, func(t *testing.T) {
			play := func(at cut) (string, int) {
				s := &story{t: t, devices: fleet(3, c.odd), orders: c.orders, cut: at}
				s.play(c.plan)
				var out strings.Builder
				for i, m := range s.members {
					d := s.devices[i]
					fmt.Fprintf(&out, "%d: %s %s, %d updates, installed %d times\n", i, m.State, m.Skip, d.updates, d.installed)
				}
				return out.String(), s.points
			}
			want, points := play(cut{})
			for point := 1; point <= points; point++ {
				for _, when := range []string{"before", "after", "done"} {
					got, _ := play(cut{point, when})
					require.Equal(t, want, got, "invariant 8: a crash %s step %d", when, point)
				}
			}
			t.Logf("%d steps\n%s", points, want)
		})
	}
}
