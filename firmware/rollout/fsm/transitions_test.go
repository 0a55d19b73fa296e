package fsm_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// A situation is a rollout of four devices in three stages, and one of its members.
type situation struct {
	name string
	r    fsm.Rollout
	m    fsm.Member
}

// An event is an input with a name.
type event struct {
	name string
	in   fsm.Input
}

// drive applies inputs to a situation: those with which a member can be concerned to its member.
func drive(from situation, name string, inputs ...fsm.Input) situation {
	for _, in := range inputs {
		var m fsm.Member
		if ofMember(in.Kind) {
			m = from.m
		}
		r, m, _ := from.r.Step(m, in)
		from.r = r
		if ofMember(in.Kind) {
			from.m = m
		}
	}
	from.name = name
	return from
}

func ofMember(kind fsm.InputKind) bool {
	switch kind {
	case fsm.InputFilled, fsm.InputStart, fsm.InputPause, fsm.InputResume, fsm.InputOpen, fsm.InputStop, fsm.InputEdit,
		fsm.InputExhausted, fsm.InputChecked, fsm.InputHealth:
		return false
	}
	return true
}

func tablePlan() fsm.Plan {
	p := smallPlan()
	p.Stages = []fsm.Stage{{Size: 1, Soak: 10 * time.Minute}, {Size: 2, Manual: true}, {Share: 1}}
	return p
}

// fresh is a draft with its members, of which the situation shows the first.
func fresh(plan fsm.Plan) situation {
	s := situation{r: fsm.NewRollout(plan, start)}
	for range 3 {
		s.r, _, _ = s.r.Step(fsm.Member{}, fsm.Input{Kind: fsm.InputAdd})
	}
	return drive(s, "", fsm.Input{Kind: fsm.InputAdd}, fsm.Input{Kind: fsm.InputFilled})
}

func seenAt(p fsm.Place, online bool) fsm.Input {
	return fsm.Input{Kind: fsm.InputSeen, Seen: fsm.Seen{Place: p, Online: online, Silence: 30 * time.Minute}}
}

func endedWith(e fsm.Ending) fsm.Input {
	return fsm.Input{Kind: fsm.InputSeen, Seen: fsm.Seen{Online: true, End: e}}
}

func after(d time.Duration) fsm.Input { return fsm.Input{Kind: fsm.InputTick, At: start.Add(d)} }

// rollouts are the situations of a rollout.
func rollouts() []situation {
	draft := fresh(tablePlan())
	filling := drive(draft, "running: filling", fsm.Input{Kind: fsm.InputStart})
	updated := []fsm.Input{
		{Kind: fsm.InputReach},
		{Kind: fsm.InputStarted, Update: "u"},
		seenAt(fsm.PlaceInstalling, true), endedWith(fsm.EndingSucceeded),
	}
	soaking := drive(filling, "running: soaking", updated...)
	checking := drive(soaking, "running: checking", after(10*time.Minute))
	gate := drive(checking, "running: gate", fsm.Input{Kind: fsm.InputChecked})
	tripped := drive(filling, "paused (trip)", fsm.Input{Kind: fsm.InputReach}, fsm.Input{Kind: fsm.InputStarted, Update: "u"}, endedWith(fsm.EndingFailed))
	canaries := tablePlan()
	canaries.Stages[0].Only = true
	only := drive(fresh(canaries), "paused (stage)", fsm.Input{Kind: fsm.InputStart}, fsm.Input{Kind: fsm.InputExhausted, None: true})
	stopping := drive(filling, "stopping", fsm.Input{Kind: fsm.InputReach}, fsm.Input{Kind: fsm.InputStop})
	done := fresh(tablePlan())
	done.r = fsm.NewRollout(tablePlan(), start)
	done.m = fsm.Member{}
	done = drive(done, "ended (done)", fsm.Input{Kind: fsm.InputAdd}, fsm.Input{Kind: fsm.InputFilled}, fsm.Input{Kind: fsm.InputStart})
	done = drive(done, "ended (done)", append(updated, after(10*time.Minute), fsm.Input{Kind: fsm.InputChecked})...)
	return []situation{
		draft, filling, soaking, checking, gate,
		drive(gate, "running: health", fsm.Input{Kind: fsm.InputOpen}),
		drive(filling, "paused (operator)", fsm.Input{Kind: fsm.InputPause}), tripped, only, stopping,
		drive(stopping, "ended (operator)", fsm.Input{Kind: fsm.InputStarted, Update: "u"}, endedWith(fsm.EndingSucceeded)), done,
	}
}

func rolloutEvents() []event {
	edited := tablePlan()
	edited.EndAt = start
	return []event{
		{"start", fsm.Input{Kind: fsm.InputStart}},
		{"pause", fsm.Input{Kind: fsm.InputPause}},
		{"resume", fsm.Input{Kind: fsm.InputResume}},
		{"open", fsm.Input{Kind: fsm.InputOpen}},
		{"stop", fsm.Input{Kind: fsm.InputStop}},
		{"stop and cancel", fsm.Input{Kind: fsm.InputStop, Cancels: true}},
		{"edit end_at to now", fsm.Input{Kind: fsm.InputEdit, Plan: edited}},
		{"exhausted", fsm.Input{Kind: fsm.InputExhausted}},
		{"exhausted, none is left", fsm.Input{Kind: fsm.InputExhausted, None: true}},
		{"checked", fsm.Input{Kind: fsm.InputChecked}},
		{"health: yes", fsm.Input{Kind: fsm.InputHealth, OK: true}},
		{"health: no", fsm.Input{Kind: fsm.InputHealth, Text: "no"}},
		{"10 minutes pass", after(20 * time.Minute)},
		{"its end comes", after(30 * 24 * time.Hour)},
	}
}

// memberSituations are the situations of a member, in a rollout that runs.
func memberSituations() []situation {
	plan := tablePlan()
	plan.Stages = plan.Stages[2:]
	plan.Concurrency = 4
	first := drive(fresh(plan), "waiting", fsm.Input{Kind: fsm.InputStart})
	// Another member transfers, and may install.
	first.r, _, _ = first.r.Step(fsm.Member{State: fsm.MemberWaiting}, fsm.Input{Kind: fsm.InputReach})
	full := first
	full.r.Slots.Transferring, full.r.Slots.Granted, full.r.Slots.Installing = 0, 0, 4 // four others install
	reach, startedIn := fsm.Input{Kind: fsm.InputReach}, fsm.Input{Kind: fsm.InputStarted, Update: "u"}
	starting := drive(first, "starting", reach)
	granted := drive(starting, "transferring, granted", startedIn)
	held := drive(full, "transferring, held", reach, startedIn)
	held.r.Slots.Installing = 0
	ready := drive(held, "ready, held", seenAt(fsm.PlaceReady, true))
	ready.m.Granted = false
	installs := drive(granted, "installing", seenAt(fsm.PlaceInstalling, true))
	away := drive(granted, "away", seenAt(fsm.PlaceTransferring, false), after(fsm.AwayTime))
	invited := drive(first, "waiting, invited", fsm.Input{Kind: fsm.InputReach, Asleep: true, Lifetime: time.Hour})
	return []situation{
		first, invited,
		drive(first, "waiting, busy", reach, fsm.Input{Kind: fsm.InputRefused, Busy: "other"}),
		starting, granted, held,
		drive(granted, "ready, granted", seenAt(fsm.PlaceReady, true)), ready,
		installs, away,
		drive(granted, "succeeded", endedWith(fsm.EndingSucceeded)),
		drive(first, "removed", fsm.Input{Kind: fsm.InputRemove}),
	}
}

func memberEvents() []event {
	list := []event{
		{"heard", fsm.Input{Kind: fsm.InputReach}},
		{"found asleep", fsm.Input{Kind: fsm.InputReach, Asleep: true, Lifetime: time.Hour}},
		{"update made", fsm.Input{Kind: fsm.InputStarted, Update: "u"}},
		{"another update is active", fsm.Input{Kind: fsm.InputRefused, Busy: "other"}},
		{"image is incompatible", fsm.Input{Kind: fsm.InputRefused, Skip: fsm.SkipIncompatible}},
		{"update cannot be made", fsm.Input{Kind: fsm.InputRefused, Text: "no"}},
		{"transfers", seenAt(fsm.PlaceTransferring, true)},
		{"transfers, out of reach", seenAt(fsm.PlaceTransferring, false)},
		{"has the package", seenAt(fsm.PlaceReady, true)},
		{"executes", seenAt(fsm.PlaceInstalling, true)},
	}
	for _, e := range []fsm.Ending{
		fsm.EndingSucceeded, fsm.EndingCurrent, fsm.EndingFailed, fsm.EndingRolledBack, fsm.EndingTimedOut, fsm.EndingAway, fsm.EndingCancelled, fsm.EndingIncompatible,
	} {
		list = append(list, event{"ends: " + string(e), endedWith(e)})
	}
	held := seenAt(fsm.PlaceReady, true)
	held.Kind = fsm.InputHeld
	return append(list,
		event{"its turn to execute", fsm.Input{Kind: fsm.InputGrant}},
		event{"held", held},
		event{"shows the target", fsm.Input{Kind: fsm.InputShown, Shown: fsm.ShownTarget}},
		event{"shows another version", fsm.Input{Kind: fsm.InputShown, Shown: fsm.ShownOther, Text: "1.0.0"}},
		event{"does not answer", fsm.Input{Kind: fsm.InputShown, Shown: fsm.ShownSilent}},
		event{"retry", fsm.Input{Kind: fsm.InputRetry}},
		event{"remove", fsm.Input{Kind: fsm.InputRemove}},
		event{"finish", fsm.Input{Kind: fsm.InputFinish}},
		event{"two hours pass", after(2 * time.Hour)},
	)
}

func rolloutName(r *fsm.Rollout) string {
	switch {
	case r.State == fsm.StateRunning:
		return fmt.Sprintf("running: %s", r.StageState)
	case r.Reason != "":
		return fmt.Sprintf("%s (%s)", r.State, r.Reason)
	}
	return string(r.State)
}

func memberName(m *fsm.Member) string {
	words := []string{cmp.Or(string(m.Place), string(m.State))}
	if m.State == fsm.MemberWaiting && m.Place != "" {
		words = []string{"waiting, " + string(m.Place)}
	}
	if m.State == fsm.MemberSkipped {
		words = append(words, string(m.Skip))
	}
	switch {
	case m.Missing:
		words = append(words, "missing")
	case m.Busy != "":
		words = append(words, "busy")
	case m.Failed != "":
		words = append(words, "retry")
	case m.Granted && m.Place != fsm.PlaceInstalling:
		words = append(words, "granted")
	case m.Place == fsm.PlaceTransferring || m.Place == fsm.PlaceReady:
		words = append(words, "held")
	}
	return strings.Join(words, ", ")
}

func eventNames(lines []fsm.Line) string {
	var names []string
	for _, line := range lines {
		names = append(names, line.Event)
	}
	return strings.Join(names, ", ")
}

// TestTransitions records what each input does in each state of a rollout and of its members.
func TestTransitions(t *testing.T) {
	var out strings.Builder
	out.WriteString("A rollout of four devices in three stages; the second stage opens by hand. All other inputs change nothing.\n\n")
	fmt.Fprintf(&out, "%-19s | %-24s | %-19s | %s\n", "from", "input", "to", "stage, journal")
	for _, from := range rollouts() {
		out.WriteString(strings.Repeat("-", 100) + "\n")
		for _, e := range rolloutEvents() {
			r, _, actions := from.r.Step(fsm.Member{}, e.in)
			if actions.Persist {
				fmt.Fprintf(&out, "%-19s | %-24s | %-19s | %s\n", rolloutName(&from.r), e.name, rolloutName(&r),
					strings.TrimSuffix(fmt.Sprintf("stage %d, %s", r.Stage+1, eventNames(actions.Journal)), ", "))
			}
		}
	}
	out.WriteString("\nA member of a rollout in its last stage, while it runs, is paused, and stops. All other inputs change nothing.\n\n")
	fmt.Fprintf(&out, "%-8s | %-21s | %-24s | %-24s | %s\n", "rollout", "from", "input", "to", "action, journal")
	for _, state := range []event{
		{"running", fsm.Input{Kind: fsm.InputFilled}}, {"paused", fsm.Input{Kind: fsm.InputPause}}, {"stopping", fsm.Input{Kind: fsm.InputStop}},
	} {
		for _, from := range memberSituations() {
			from = drive(from, from.name, state.in)
			out.WriteString(strings.Repeat("-", 110) + "\n")
			for _, e := range memberEvents() {
				_, m, actions := from.r.Step(from.m, e.in)
				if actions.Persist && m != from.m || actions.Do != "" && actions.Do != fsm.ActionStart {
					follows := strings.Trim(string(actions.Do)+", "+eventNames(actions.Journal), ", ")
					fmt.Fprintf(&out, "%-8s | %-21s | %-24s | %-24s | %s\n", state.name, memberName(&from.m), e.name, memberName(&m), cmp.Or(follows, "-"))
				}
			}
		}
	}
	golden(t, "testdata/transitions.golden", out.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "%s is out of date: go generate ./firmware/rollout/fsm", path)
}

// TestMachine draws the machine from its behaviour: each order in each situation, and random walks.
func TestMachine(t *testing.T) {
	rolloutEdges, memberEdges := map[[2]string][]string{}, map[[2]string][]string{}
	note := func(edges map[[2]string][]string, from, to, label string) {
		if e := [2]string{from, to}; from != to && from != "" && !slices.Contains(edges[e], label) {
			edges[e] = append(edges[e], label)
		}
	}
	step := func(r *fsm.Rollout) string {
		if r.State == fsm.StateRunning {
			return string(r.StageState)
		}
		return string(r.State)
	}
	place := func(m *fsm.Member) string {
		switch {
		case m.State == fsm.MemberWaiting && m.Place != "", m.State == fsm.MemberActive:
			return string(m.Place)
		}
		return string(m.State)
	}
	for _, from := range rollouts() {
		events := append(rolloutEvents(), event{in: fsm.Input{Kind: fsm.InputAdd}})
		for _, e := range events {
			r, _, _ := from.r.Step(fsm.Member{}, e.in)
			note(rolloutEdges, step(&from.r), step(&r), string(e.in.Kind))
		}
	}
	for seed := range uint64(600) {
		var w *world
		watch := func(before fsm.Rollout, was, m fsm.Member, in fsm.Input) {
			label := string(in.Kind)
			switch {
			case in.Kind == fsm.InputSeen && in.Seen.End != "":
				label = "end " + string(in.Seen.End)
			case in.Kind == fsm.InputReach && in.Asleep:
				label = "reach asleep"
			case in.Kind == fsm.InputShown:
				label += " " + string(in.Shown)
			}
			note(rolloutEdges, step(&before), step(&w.r), label)
			note(memberEdges, place(&was), place(&m), label)
		}
		w, _ = walk(t, seed, func(made *world) { made.watch = watch; w = made })
	}
	var out strings.Builder
	out.WriteString("# The machine of a rollout\n\n" +
		"Generated from the code by `go generate ./firmware/rollout/fsm`; a test checks that it is up to date.\n" +
		"The whole tables are [testdata/transitions.golden](testdata/transitions.golden), whole stories\n" +
		"[testdata/stories.golden](testdata/stories.golden). The words are those of the inputs.\n" +
		"\n## The rollout\n\nA rollout that runs goes through filling to health for each stage.\n\n```mermaid\nstateDiagram-v2\n    [*] --> draft\n")
	draw(&out, rolloutEdges)
	out.WriteString("    ended --> [*]\n```\n\n## A member\n\n```mermaid\nstateDiagram-v2\n    [*] --> waiting\n")
	draw(&out, memberEdges)
	for _, state := range []fsm.MemberState{fsm.MemberSucceeded, fsm.MemberFailed, fsm.MemberRolledBack, fsm.MemberSkipped} {
		fmt.Fprintf(&out, "    %s --> [*]\n", state)
	}
	out.WriteString("```\n")
	golden(t, "MACHINE.md", out.String())
}

// draw writes the edges of a diagram, those from the first states first.
func draw(out *strings.Builder, edges map[[2]string][]string) {
	order := []string{
		"draft", "filling", "soaking", "checking", "gate", "health", "paused", "stopping", "ended",
		"waiting", "invited", "reserved", "starting", "transferring", "away", "ready", "parked", "installing",
		"succeeded", "failed", "rolled_back", "skipped",
	}
	list := slices.SortedFunc(maps.Keys(edges), func(a, b [2]string) int {
		return cmp.Or(slices.Index(order, a[0])-slices.Index(order, b[0]), slices.Index(order, a[1])-slices.Index(order, b[1]))
	})
	for _, e := range list {
		slices.Sort(edges[e])
		fmt.Fprintf(out, "    %s --> %s: %s\n", e[0], e[1], strings.Join(edges[e], "<br/>"))
	}
}
