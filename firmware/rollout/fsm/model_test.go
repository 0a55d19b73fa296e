package fsm_test

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

func newWorld(t check, plan fsm.Plan) *world {
	w := &world{r: fsm.NewRollout(plan, start), soaked: start}
	for i := range w.m {
		w.step(t, i, fsm.Input{Kind: fsm.InputAdd, Only: uint16(1 << i)})
		w.d[i].reachable, w.d[i].heard = true, start
	}
	w.step(t, -1, fsm.Input{Kind: fsm.InputFilled})
	w.step(t, -1, fsm.Input{Kind: fsm.InputStart})
	return w
}

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func smallPlan() fsm.Plan {
	return fsm.Plan{
		Stages:      []fsm.Stage{{Size: 1, Soak: 10 * time.Minute}, {Share: 1, Soak: 10 * time.Minute}},
		Concurrency: 2, Interval: 0, MaxFailure: 0.05, MissingAfter: 30 * time.Minute, EndAt: start.Add(30 * 24 * time.Hour),
	}
}

// An encoder appends what matters of a world to a key.
type encoder struct {
	b   []byte
	now time.Time
}

func (e *encoder) put(values ...int) {
	for _, v := range values {
		e.b = append(e.b, byte(v), byte(v>>8))
	}
}

func (e *encoder) text(words ...string) {
	for _, s := range words {
		e.b = append(append(e.b, s...), 0)
	}
}

// time appends a time in minutes from now: what is a day ago might be two.
func (e *encoder) time(at time.Time) {
	if at.IsZero() {
		e.put(1 << 14)
		return
	}
	e.put(int(max(at.Sub(e.now), -24*time.Hour) / time.Minute))
}

func (e *encoder) counts(c fsm.Counts) {
	e.put(c.Waiting, c.Active, c.Succeeded, c.Failed, c.RolledBack, c.Skipped)
}

var seed = maphash.MakeSeed()

// key is a hash of the world without what makes no difference, such as the names of members.
func (w *world) key() uint64 {
	r := &w.r
	e := encoder{now: r.Now, b: make([]byte, 0, 512)}
	e.text(string(r.State), string(r.Reason), string(r.StageState))
	e.put(r.Stage, r.Extra, r.Soaked, count(r.Cancels), count(r.Grants), count(r.Exhausted), r.Plan.Concurrency,
		w.crashes, w.pauses, w.retries, w.edits, w.removes, w.over, r.Since.Admitted, r.Since.Bad)
	e.time(r.Until)
	if at := r.Admitted; r.Plan.Interval > 0 && r.Now.Sub(at) < r.Plan.Interval {
		e.time(at)
	}
	e.time(w.soaked)
	for _, c := range r.Stages {
		e.counts(c)
	}
	var parts [members][]byte
	for i := range w.m {
		m, d, f := &w.m[i], &w.d[i], &w.flight[i]
		p := encoder{now: r.Now, b: make([]byte, 0, 128)}
		p.text(string(m.State), string(m.Place), string(m.Skip), string(f.do), string(d.end), string(f.in.Kind))
		p.put(m.Stage, count(m.Update != ""), count(m.Granted), count(m.Returned), count(m.Missing), count(m.Busy != ""), count(m.Failed != ""),
			count(m.Bad == 0), count(m.Bad == r.Since.Epoch), count(m.Epoch == r.Since.Epoch),
			count(d.reachable), int(d.update), count(d.held), count(d.stopped), count(d.attempt == m.Attempt), d.installed,
			count(f.done), count(f.granted), count(w.again[i]), count(w.unsure[i]), int(w.checked>>i&1), count(d.heard.After(m.Executed)))
		p.time(m.Gone)
		p.time(m.Executed)
		p.time(m.Until)
		parts[i] = p.b
	}
	slices.SortFunc(parts[:], bytes.Compare)
	for _, p := range parts {
		e.b = append(e.b, p...)
	}
	return maphash.Bytes(seed, e.b)
}

// TestModel explores what can happen to a rollout over three devices in two stages, two at a time:
// each device can be reached or not, updates end in each way, operators give their orders, and the
// shell crashes between any two moves. It goes from the start to the end along the way on which all
// goes well, and along all ways with up to so many other moves.
func TestModel(t *testing.T) {
	t.Parallel()
	others := 2
	if raceEnabled || testing.Short() {
		others = 1
	}
	explore(t, smallPlan(), others)
	plan := smallPlan()
	plan.Concurrency, plan.Interval = 1, time.Minute
	plan.Stages[0].Only, plan.Stages[1].Manual = true, true
	explore(t, plan, 1)
}

func explore(t *testing.T, plan fsm.Plan, others int) {
	type node struct {
		w      *world
		parent *node
		name   string
	}
	var at *node
	var last string
	failed := func(ok bool, format string, args ...any) {
		if !ok {
			path := []string{last}
			for p := at; p != nil; p = p.parent {
				path = append(path, p.name)
			}
			slices.Reverse(path)
			t.Fatalf("%s\nafter\n  %s", fmt.Sprintf(format, args...), strings.Join(path, "\n  "))
		}
	}
	first := newWorld(failed, plan)
	first.stops = true
	seen := map[uint64]struct{}{first.key(): {}}
	level := []*node{{w: first}}
	ends := map[fsm.State]int{}
	for others := others; len(level) > 0; others-- {
		var next []*node
		nextSeen := map[uint64]struct{}{} // this level goes first: it has more moves left
		for len(level) > 0 {
			at = level[len(level)-1]
			level = level[:len(level)-1]
			w := at.w
			at.w = nil
			ends[w.r.State]++
			well := true
			var to world
			for _, mv := range w.moves(failed) {
				to = *w
				last = mv.name()
				mv.do(&to)
				to.checkWorld(failed)
				k := to.key()
				if has(seen, k) || to.starts > members+1 {
					continue
				}
				switch {
				case well && helpful(mv):
					well = false
					seen[k] = struct{}{}
					level = append(level, &node{w: new(to), parent: at, name: last})
				case others > 0 && !has(nextSeen, k):
					nextSeen[k] = struct{}{}
					next = append(next, &node{w: new(to), parent: at, name: last})
				}
			}
		}
		for _, n := range next {
			if k := n.w.key(); !has(seen, k) {
				seen[k] = struct{}{}
				level = append(level, n)
			}
		}
	}
	t.Logf("%d worlds, by state of the rollout: %v", len(seen), ends)
	if ends[fsm.StateEnded] == 0 {
		t.Error("no rollout has ended")
	}
}

// TestWalks takes long random walks, each of which ends as it must when the devices behave in the
// end: none is forgotten.
func TestWalks(t *testing.T) {
	t.Parallel()
	walks := uint64(2000)
	if raceEnabled || testing.Short() {
		walks = 600
	}
	for seed := range walks {
		walk(t, seed, nil)
	}
}

// walk takes a random walk, and then brings the rollout to its end. See is called with the world
// before it begins.
func walk(t *testing.T, seed uint64, see func(*world)) (*world, []string) {
	rng := rand.New(rand.NewPCG(seed, 1))
	plan := smallPlan()
	if seed%2 == 1 {
		plan.Concurrency = 1
	}
	if seed%3 == 1 {
		plan.Interval = time.Minute
	}
	if seed%5 == 1 {
		plan.Stages[0].Only = true
	}
	if seed%5 == 2 {
		plan.Stages[1].Manual = true
	}
	if seed%7 == 1 {
		plan.Stages = plan.Stages[1:]
	}
	if seed%11 == 1 {
		plan.StartAt = start.Add(time.Hour)
	}
	var path []string
	failed := func(ok bool, format string, args ...any) {
		if !ok {
			t.Fatalf("seed %d: %s\nafter\n  %s", seed, fmt.Sprintf(format, args...), strings.Join(path, "\n  "))
		}
	}
	w := newWorld(failed, plan)
	if see != nil {
		see(w)
	}
	w.stops = seed%4 == 1
	for range 200 {
		moves := w.moves(failed)
		if len(moves) == 0 {
			break
		}
		if likely := allHelpful(moves); len(likely) > 0 && rng.IntN(10) < 7 {
			moves = likely
		}
		mv := moves[rng.IntN(len(moves))]
		path = append(path, mv.name())
		mv.do(w)
		w.checkWorld(failed)
	}
	path = append(path, "-- from here on all goes well")
	w.crashes, w.retries, w.edits, w.removes = 1, 1, 1, 1
	finish(w, failed, &path)
	return w, path
}

// finish brings a rollout to its end.
func finish(w *world, failed check, path *[]string) {
	for i := 0; w.r.State != fsm.StateEnded; i++ {
		failed(i < 300, "invariant 8: it does not end: %+v\n%+v\n%+v\n%+v", w.r, w.m, w.d, w.flight)
		for k := range w.d {
			w.d[k].reachable, w.d[k].heard = true, w.r.Now
		}
		if w.r.State == fsm.StatePaused {
			kind := fsm.InputResume
			if w.r.Reason == fsm.ReasonStage {
				kind = fsm.InputOpen
			}
			*path = append(*path, string(kind))
			w.step(failed, -1, fsm.Input{Kind: kind})
			continue
		}
		good := allHelpful(w.moves(failed))
		failed(len(good) > 0, "invariant 8: nothing goes on: %+v\n%+v\n%+v", w.r, w.m, w.d)
		for _, mv := range good {
			// A move may have made this one impossible.
			for _, again := range w.moves(failed) {
				if again.what == mv.what && again.member == mv.member && again.how == mv.how {
					*path = append(*path, mv.name())
					again.do(w)
					w.checkWorld(failed)
					break
				}
			}
		}
	}
	for i, d := range w.d {
		failed(d.installed == count(w.m[i].State == fsm.MemberSucceeded || w.m[i].Later != "") || w.retries > 0,
			"invariant 8: device %d installed %d times, and its member is %s", i, d.installed, w.m[i].State)
	}
}

func has(set map[uint64]struct{}, k uint64) bool {
	_, ok := set[k]
	return ok
}

func allHelpful(moves []move) (good []move) {
	for _, mv := range moves {
		if helpful(mv) {
			good = append(good, mv)
		}
	}
	return good
}

// helpful reports whether a move brings a rollout towards its end.
func helpful(mv move) bool {
	switch mv.what {
	case "toggle", "asleep", "fails", "rolls back", "times out", "times out away", "is current", "pause", "stop", "stop and cancel", "busy", "crash", "retry", "edit", "remove":
		return false
	case "shown":
		return mv.how == string(fsm.ShownTarget)
	}
	return true
}
