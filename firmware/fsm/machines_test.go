package fsm_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestMachines draws both machines from their behaviour: the device's by playing every event in
// every situation, the server's by watching the simulated clients with every single fault.
func TestMachines(t *testing.T) {
	var out strings.Builder
	out.WriteString("# The machines\n\n" +
		"Generated from the code by `go generate ./firmware/fsm`; a test checks that it is up to date.\n" +
		"The whole tables are [testdata/transitions.golden](testdata/transitions.golden) and\n" +
		"[testdata/truth_table.golden](testdata/truth_table.golden), whole stories\n" +
		"[testdata/transcripts](testdata/transcripts).\n")

	out.WriteString("\n## The device: Object 5\n\nThe number is the Update Result after the transition.\n\n```mermaid\nstateDiagram-v2\n")
	out.WriteString("    [*] --> Idle: first boot (0)\n")
	for _, edge := range deviceEdges() {
		out.WriteString("    " + edge + "\n")
	}
	out.WriteString("```\n\n## The server: an update\n\nThe words are those of the journal.\n\n```mermaid\nstateDiagram-v2\n    [*] --> waiting\n")
	for _, edge := range serverEdges(t) {
		out.WriteString("    " + edge + "\n")
	}
	out.WriteString("    ended --> [*]\n```\n")
	golden(t, "MACHINES.md", out.String())
}

// deviceEdges lists the changes of State, and of Result within a State.
func deviceEdges() []string {
	type edge struct{ from, to fsm.State }
	labels := map[edge][]string{}
	for _, from := range situations() {
		for _, ev := range events() {
			if ev.value.At.IsZero() {
				ev.value.At = epoch
			}
			to, _ := from.value.Step(ev.value)
			if to.State == from.value.State && to.Result == from.value.Result {
				continue
			}
			e := edge{from.value.State, to.State}
			name, _, _ := strings.Cut(string(ev.value.Kind), ",")
			i := slices.IndexFunc(labels[e], func(l string) bool { return strings.HasPrefix(l, name+" (") })
			if i < 0 {
				labels[e] = append(labels[e], fmt.Sprintf("%s (%d)", name, to.Result))
				continue
			}
			if results := strings.Fields(strings.Trim(strings.TrimPrefix(labels[e][i], name), " ()")); !slices.Contains(results, fmt.Sprint(int(to.Result))) {
				labels[e][i] = strings.TrimSuffix(labels[e][i], ")") + fmt.Sprintf(" %d)", to.Result)
			}
		}
	}
	edges := slices.SortedFunc(maps.Keys(labels), func(a, b edge) int {
		return int(a.from-b.from)*10 + int(a.to-b.to)
	})
	var out []string
	for _, e := range edges {
		out = append(out, fmt.Sprintf("%s --> %s: %s", title(e.from), title(e.to), strings.Join(labels[e], "<br/>")))
	}
	return out
}

// serverEdges lists the changes of phase and their journal events.
func serverEdges(t *testing.T) []string {
	type edge struct{ from, to int }
	labels := map[edge]map[string]bool{}
	phases := fsm.Phases
	watch := func(before, after fsm.Update, actions fsm.Actions) {
		if before.Phase == after.Phase {
			return
		}
		e := edge{slices.Index(phases, before.Phase), slices.Index(phases, after.Phase)}
		if labels[e] == nil {
			labels[e] = map[string]bool{}
		}
		label := "the device is seen"
		for _, entry := range actions.Journal {
			if entry.Event != "read" {
				label = entry.Event
			} else if len(actions.Journal) == 1 {
				label = "State " + after.State.String()
			}
		}
		labels[e][label] = true
	}
	for _, h := range clients() {
		good := run(t, h, nil, watch)
		for i, n := range good.options {
			for fault := 1; fault < n; fault++ {
				choices := make([]int, i+1)
				choices[i] = fault
				run(t, h, choices, watch)
			}
		}
	}
	// No fault of a client leads to these: an operator, a deadline, an absent device.
	h := &hand{now: epoch, update: fsm.NewUpdate(fsm.Plan{Target: newVersion}, epoch)}
	for _, o := range []fsm.Observation{{Kind: fsm.ObserveStarted}, {Kind: fsm.ObserveCancel}} {
		before := h.update
		h.step(o)
		watch(before, h.update, h.actions)
	}
	h = &hand{now: epoch, update: fsm.NewUpdate(fsm.Plan{Target: newVersion}, epoch)}
	h.step(fsm.Observation{Kind: fsm.ObserveStarted})
	before := h.update
	h.now = h.update.Deadline
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	watch(before, h.update, h.actions)

	edges := slices.SortedFunc(maps.Keys(labels), func(a, b edge) int { return (a.from-b.from)*10 + a.to - b.to })
	var out []string
	for _, e := range edges {
		words := slices.Sorted(maps.Keys(labels[e]))
		out = append(out, fmt.Sprintf("%s --> %s: %s", phases[e.from], phases[e.to], strings.Join(words, "<br/>")))
	}
	return out
}
