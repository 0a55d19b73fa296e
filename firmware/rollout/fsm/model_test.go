package fsm_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

const members = 3

// A device is what the world knows of a member: the truth, beside what the rollout has recorded.
type device struct {
	reachable bool
	update    place // of its update
	end       fsm.Ending
	held      bool
	attempt   int // whose key made the update
	heard     bool
	installed int // how often it installed the image
}

type place uint8

const (
	none place = iota
	transferring
	ready
	installing
	ended
)

// A world is a rollout, its members, and their devices.
type world struct {
	r       fsm.Rollout
	m       [members]fsm.Member
	d       [members]device
	stops   bool // an operator may stop it
	pauses  int  // how often an operator paused or resumed it
	retries int
	checked int       // members that were read again
	soaked  time.Time // when the open stage's last member ended
	starts  int
}

// A move is something that may happen next.
type move struct {
	name string
	do   func(*world)
}

// step applies an input, and checks what must hold of every step.
func (w *world) step(t check, i int, in fsm.Input) fsm.Actions {
	var m fsm.Member
	if i >= 0 {
		m = w.m[i]
	}
	if in.At.IsZero() {
		in.At = w.r.Now
	}
	before, was := w.r, w.m
	r, m, out := w.r.Step(m, in)
	if i >= 0 {
		w.m[i] = m
	}
	w.r = r
	if i >= 0 && was[i].State == fsm.MemberActive && m.State.Ended() && m.State != fsm.MemberSkipped &&
		was[i].Place != fsm.PlaceAway && was[i].Place != fsm.PlaceParked && !was[i].Missing {
		w.soaked = r.Now
	}
	w.checkStep(t, before, was, i, in)
	w.checkCounters(t)
	return out
}

type check func(ok bool, format string, args ...any)

func (w *world) checkStep(t check, before fsm.Rollout, was [members]fsm.Member, i int, in fsm.Input) {
	c := before.Plan.Concurrency
	if i >= 0 && w.m[i].Attempt > was[i].Attempt { // admitted
		moving, admitted := 0, 0
		for k, m := range was {
			if m.Place == fsm.PlaceStarting || m.Place == fsm.PlaceTransferring || m.Place == fsm.PlaceReserved && k != i {
				moving++
			}
			if m.State == fsm.MemberActive && m.Place != fsm.PlaceAway && m.Place != fsm.PlaceParked || m.State == fsm.MemberSucceeded ||
				m.State == fsm.MemberFailed || m.State == fsm.MemberRolledBack {
				admitted++
			}
		}
		t(moving < c || was[i].Place == fsm.PlaceReserved && moving <= c, "invariant 1: admitted beyond the concurrency")
		t(before.State == fsm.StateRunning, "invariant 4: admitted in state %s", before.State)
		t(before.Admitted.IsZero() || w.r.Now.Sub(before.Admitted) >= before.Plan.Interval, "invariant 2: admitted sooner than the rate allows")
		t(!w.r.Now.Before(before.Plan.StartAt) && w.r.Now.Before(before.Plan.EndAt), "invariant 2: admitted outside start and end")
		t(admitted < before.Ceiling(), "invariant 3: admitted beyond the ceiling of the stage")
		stage := before.Plan.Stages[before.Stage]
		t(!stage.Only || was[i].Only&(1<<before.Stage) != 0, "invariant 3: admitted a member that the stage does not name")
		t(was[i].State == fsm.MemberWaiting, "invariant 8: admitted a member that is %s", was[i].State)
		for _, m := range was {
			t(m.Bad == 0 || m.Bad != before.Since.Epoch || before.Stage > 0, "invariant 4: admitted after a bad one in the first stage")
		}
	}
	if w.r.Stage > before.Stage { // opened
		t(w.r.Stage == before.Stage+1, "invariant 3: a stage was passed over")
		t(in.Kind == fsm.InputHealth && in.OK, "invariant 3: a stage opened by %s", in.Kind)
		t(before.State == fsm.StateRunning, "invariant 3: a stage opened in state %s", before.State)
		t(!w.r.Now.Before(w.soaked.Add(before.Plan.Stages[before.Stage].Soak)) || before.Reason != "" || before.Stages[before.Stage].Succeeded == 0,
			"invariant 3: a stage opened before the soak was over")
		updated := before.Stages[before.Stage].Succeeded > 0
		t(updated || before.Plan.Stages[before.Stage].Only, "invariant 3: a stage opened after one in which no device was updated")
		for k, m := range was {
			t(m.State != fsm.MemberActive || m.Place == fsm.PlaceAway || m.Place == fsm.PlaceParked || m.Missing, "invariant 3: a stage opened while member %d is under way", k)
		}
	}
	if w.r.State == fsm.StateEnded {
		for k, m := range w.m {
			t(m.State.Ended(), "invariant 7: it ended with member %d %s", k, m.State)
		}
	}
	if before.State == fsm.StateEnded && in.Kind != fsm.InputRetry {
		t(w.r.State == fsm.StateEnded, "invariant 7: it goes on after its end")
	}
}

// checkCounters: the counters equal the members, and never more may install than planned.
func (w *world) checkCounters(t check) {
	var total fsm.Counts
	stages := make([]fsm.Counts, len(w.r.Stages))
	var slots fsm.Slots
	granted := 0
	for _, m := range w.m {
		count := func(c *fsm.Counts) {
			switch m.State {
			case fsm.MemberWaiting:
				c.Waiting++
			case fsm.MemberActive:
				c.Active++
			case fsm.MemberSucceeded:
				c.Succeeded++
			case fsm.MemberFailed:
				c.Failed++
			case fsm.MemberRolledBack:
				c.RolledBack++
			case fsm.MemberSkipped:
				c.Skipped++
			}
		}
		count(&total)
		if m.Stage > 0 {
			count(&stages[m.Stage-1])
		}
		switch m.Place {
		case fsm.PlaceStarting, fsm.PlaceTransferring:
			slots.Transferring++
		case fsm.PlaceReady:
			slots.Ready++
		case fsm.PlaceInstalling:
			slots.Installing++
		case fsm.PlaceAway:
			slots.Away++
		case fsm.PlaceParked:
			slots.Parked++
		case fsm.PlaceInvited:
			slots.Invited++
		case fsm.PlaceReserved:
			slots.Reserved++
		}
		if m.Granted && m.Place != fsm.PlaceInstalling {
			slots.Granted++
		}
		if m.Missing && m.State == fsm.MemberActive {
			slots.Missing++
		}
		if m.Granted || m.Place == fsm.PlaceInstalling {
			granted++
		}
	}
	t(total == w.r.Total, "invariant 5: the counters %+v are not those of the members, %+v", w.r.Total, total)
	t(slots == w.r.Slots, "invariant 5: the slots %+v are not those of the members, %+v", w.r.Slots, slots)
	for i := range stages {
		t(stages[i] == w.r.Stages[i], "invariant 5: the counters of stage %d, %+v, are not those of the members, %+v", i, w.r.Stages[i], stages[i])
	}
	t(granted <= w.r.Plan.Concurrency, "invariant 1: %d members install or may", granted)
	t(w.r.Slots.Invited+w.r.Slots.Reserved <= w.r.Plan.Concurrency, "invariant 1: too many invitations")
	t(w.r.Since.Bad >= 0 && w.r.Since.Admitted >= 0, "invariant 5: negative counts %+v", w.r.Since)
}

// checkWorld: what must hold of the devices themselves.
func (w *world) checkWorld(t check) {
	install := 0
	for i, d := range w.d {
		if d.update == installing {
			install++
		}
		t(d.installed <= 1, "invariant 8: device %d installed %d times", i, d.installed)
		m := &w.m[i]
		if m.State == fsm.MemberWaiting {
			why := w.r.Waiting(m, w.r.Now, nil, d.reachable, false)
			t(w.r.State != fsm.StatePaused || why != "", "invariant 4: member %d may be admitted while the rollout is paused", i)
			t(why != "" || d.reachable && w.r.State == fsm.StateRunning, "invariant 6: member %d waits for no reason", i)
		}
		t(m.State != fsm.MemberSucceeded || d.end == fsm.EndingSucceeded, "invariant 8: member %d succeeded, its update %s", i, d.end)
		t(!m.State.Ended() || d.update == none || d.update == ended, "invariant 8: member %d has ended, its update has not", i)
	}
	t(install <= w.r.Plan.Concurrency, "invariant 1: %d devices install", install)
}

// seen is what the rollout reads of a device's update.
func (d *device) seen() fsm.Seen {
	s := fsm.Seen{Online: d.reachable, End: d.end, Silence: 30 * time.Minute, Heard: d.heard}
	switch d.update {
	case transferring:
		s.Place = fsm.PlaceTransferring
	case ready:
		s.Place = fsm.PlaceReady
	case installing:
		s.Place = fsm.PlaceInstalling
	}
	return s
}

// moves lists what may happen next. Actions are taken from what is stored, so that each of them may
// be lost in a crash before or after it, and repeated.
func (w *world) moves(t check) []move {
	var list []move
	add := func(name string, do func(*world)) { list = append(list, move{name, do}) }
	exhausted, left := true, 0
	for i := range w.m {
		m, d := w.m[i], w.d[i]
		if m.State == fsm.MemberWaiting {
			may := !w.r.Plan.Stages[w.r.Stage].Only || m.Only&(1<<w.r.Stage) != 0
			if may {
				left++
			}
			if d.reachable {
				exhausted = exhausted && !may
				add(fmt.Sprintf("reach %d", i), func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputReach, Lifetime: time.Hour}) })
			} else if m.Place == fsm.PlaceNone {
				add(fmt.Sprintf("asleep %d", i), func(w *world) {
					w.step(t, i, fsm.Input{Kind: fsm.InputReach, Asleep: true, Lifetime: time.Hour})
				})
			}
			if w.r.State == fsm.StateStopping {
				add(fmt.Sprintf("finish %d", i), func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputFinish}) })
			}
		}
		if m.State == fsm.MemberActive {
			w.activeMoves(t, i, add)
		}
		if d.update != ended && d.update != none || m.State == fsm.MemberWaiting {
			add(fmt.Sprintf("toggle %d", i), func(w *world) {
				w.d[i].reachable = !d.reachable
				w.d[i].heard = w.d[i].heard || w.d[i].reachable && d.update == installing
			})
		}
		w.deviceMoves(i, add)
		if w.r.StageState == fsm.StageChecking && m.State == fsm.MemberSucceeded && w.r.State == fsm.StateRunning && w.checked&(1<<i) == 0 {
			for _, shown := range []fsm.Shown{fsm.ShownTarget, fsm.ShownOther, fsm.ShownSilent} {
				add(fmt.Sprintf("shown %d %s", i, shown), func(w *world) {
					w.checked |= 1 << i
					w.step(t, i, fsm.Input{Kind: fsm.InputShown, Shown: shown, Text: "0"})
				})
			}
		}
		if m.Missing {
			add(fmt.Sprintf("heard %d", i), func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputReach}) })
		}
	}
	w.rolloutMoves(t, exhausted, left, add)
	return list
}

func (w *world) activeMoves(t check, i int, add func(string, func(*world))) {
	m := w.m[i]
	// What the machine wants now, without a change: the shell asks with a tick.
	_, after, out := w.r.Step(m, fsm.Input{Kind: fsm.InputGrant, At: w.r.Now})
	switch out.Do {
	case fsm.ActionStart:
		add(fmt.Sprintf("start %d", i), func(w *world) {
			d := &w.d[i]
			if d.attempt != m.Attempt {
				t(d.installed == 0, "invariant 8: an update of a device that was updated")
				*d = device{reachable: d.reachable, update: transferring, attempt: m.Attempt, held: !m.Granted, installed: d.installed}
				w.starts++
			}
		})
		add(fmt.Sprintf("started %d", i), func(w *world) {
			if w.d[i].attempt == m.Attempt {
				w.step(t, i, fsm.Input{Kind: fsm.InputStarted, Update: "u"})
			}
		})
		if w.d[i].attempt != m.Attempt {
			add(fmt.Sprintf("busy %d", i), func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputRefused, Busy: "other"}) })
		}
	case fsm.ActionHold:
		add(fmt.Sprintf("hold %d", i), func(w *world) { w.d[i].held = true })
		if w.d[i].held {
			add(fmt.Sprintf("held %d", i), func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputHeld}) })
		}
	case fsm.ActionCancel:
		add(fmt.Sprintf("cancel %d", i), func(w *world) {
			if d := &w.d[i]; d.update == transferring || d.update == ready {
				d.update, d.end = ended, fsm.EndingCancelled
			}
		})
	case fsm.ActionRelease:
		add(fmt.Sprintf("grant %d", i), func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputGrant}) })
		if m.Granted {
			add(fmt.Sprintf("release %d", i), func(w *world) {
				t(w.r.State != fsm.StatePaused, "invariant 4: released while paused")
				w.d[i].held = false
			})
		}
	}
	if m.Place != after.Place {
		add(fmt.Sprintf("grant %d", i), func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputGrant}) })
	}
	if m.Update != "" {
		add(fmt.Sprintf("seen %d", i), func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputSeen, Seen: w.d[i].seen()}) })
	}
}

// deviceMoves: what the device and its update do by themselves.
func (w *world) deviceMoves(i int, add func(string, func(*world))) {
	d := w.d[i]
	end := func(name string, e fsm.Ending, installed int) {
		add(fmt.Sprintf("%s %d", name, i), func(w *world) {
			w.d[i].update, w.d[i].end = ended, e
			w.d[i].installed += installed
		})
	}
	switch d.update {
	case transferring:
		if d.reachable {
			add(fmt.Sprintf("downloaded %d", i), func(w *world) { w.d[i].update = ready })
			end("fails", fsm.EndingFailed, 0)
		} else {
			end("times out away", fsm.EndingAway, 0)
		}
	case ready:
		if d.reachable && !d.held {
			add(fmt.Sprintf("execute %d", i), func(w *world) { w.d[i].update, w.d[i].heard = installing, false })
		}
		if !d.reachable {
			end("times out away", fsm.EndingAway, 0)
		}
	case installing:
		if d.reachable {
			end("succeeds", fsm.EndingSucceeded, 1)
			end("rolls back", fsm.EndingRolledBack, 0)
		} else {
			end("times out", fsm.EndingTimedOut, 0)
		}
	}
}

func (w *world) rolloutMoves(t check, exhausted bool, left int, add func(string, func(*world))) {
	in := func(name string, in fsm.Input) {
		add(name, func(w *world) { w.step(t, -1, in) })
	}
	switch w.r.State {
	case fsm.StateRunning:
		if exhausted {
			in("exhausted", fsm.Input{Kind: fsm.InputExhausted, None: left == 0})
		}
		switch w.r.StageState {
		case fsm.StageChecking:
			in("checked", fsm.Input{Kind: fsm.InputChecked})
		case fsm.StageGate:
			in("open", fsm.Input{Kind: fsm.InputOpen})
		case fsm.StageHealth:
			in("health", fsm.Input{Kind: fsm.InputHealth, OK: true})
		}
		if w.pauses < 1 {
			add("pause", func(w *world) { w.pauses++; w.step(t, -1, fsm.Input{Kind: fsm.InputPause}) })
		}
		if w.stops {
			add("stop", func(w *world) { w.pauses++; w.step(t, -1, fsm.Input{Kind: fsm.InputStop}) })
			add("stop and cancel", func(w *world) { w.pauses++; w.step(t, -1, fsm.Input{Kind: fsm.InputStop, Cancels: true}) })
		}
	case fsm.StatePaused:
		if w.pauses < 2 {
			add("resume", func(w *world) { w.pauses++; w.step(t, -1, fsm.Input{Kind: fsm.InputResume}) })
		}
		if w.stops {
			add("stop", func(w *world) { w.pauses++; w.step(t, -1, fsm.Input{Kind: fsm.InputStop}) })
		}
	}
	if wake := w.wake(); !wake.IsZero() && w.r.State != fsm.StateEnded && (w.stops || wake.Before(w.r.Plan.EndAt)) {
		add("time", func(w *world) { w.pass(t, wake) })
	}
}

// wake returns when something is due.
func (w *world) wake() time.Time {
	wake := w.r.Wake()
	for i := range w.m {
		if at := w.m[i].Wake(); !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	if wake.Before(w.r.Now) && !wake.IsZero() {
		return w.r.Now
	}
	return wake
}

// pass lets time pass, for the rollout and for each member.
func (w *world) pass(t check, at time.Time) {
	w.step(t, -1, fsm.Input{Kind: fsm.InputTick, At: at})
	for i := range w.m {
		if wake := w.m[i].Wake(); !wake.IsZero() && !wake.After(at) {
			w.step(t, i, fsm.Input{Kind: fsm.InputTick, At: at})
		}
	}
}

func newWorld(t check, plan fsm.Plan) *world {
	w := &world{r: fsm.NewRollout(plan, start)}
	for i := range w.m {
		w.step(t, i, fsm.Input{Kind: fsm.InputAdd, Only: uint16(1 << i)})
		w.d[i].reachable = true
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

// key is the world without what makes no difference.
func (w *world) key() string {
	r := w.r
	now := r.Now
	rel := func(at time.Time) time.Time {
		if at.IsZero() {
			return at
		}
		return start.Add(max(at.Sub(now), -24*time.Hour))
	}
	r.Plan, r.Detail, r.Started, r.Ended, r.Opened, r.Now = fsm.Plan{}, "", time.Time{}, time.Time{}, nil, time.Time{}
	if r.Admitted = rel(r.Admitted); now.Sub(w.r.Admitted) >= w.r.Plan.Interval {
		r.Admitted = time.Time{}
	}
	r.Until = rel(r.Until)
	epoch := r.Since.Epoch
	r.Since.Epoch = 0
	m := w.m
	for i := range m {
		m[i].Gone, m[i].Executed, m[i].Until, m[i].LaterAt = rel(m[i].Gone), rel(m[i].Executed), rel(m[i].Until), time.Time{}
		m[i].Bad = min(m[i].Bad, 1) + max(0, 1-abs(m[i].Bad-epoch))
		m[i].Epoch = max(0, 1-abs(m[i].Epoch-epoch))
		m[i].Only = 0
	}
	return fmt.Sprint(r, m, w.d, w.pauses, w.retries, w.checked)
}

func abs(n int) int { return max(n, -n) }

// TestModel explores what can happen to a rollout over three devices in two stages, two at a time.
func TestModel(t *testing.T) {
	explore(t, smallPlan(), false, 25_000)
	explore(t, smallPlan(), true, 10_000)
}

func explore(t *testing.T, plan fsm.Plan, stops bool, limit int) {
	var path []string
	failed := func(ok bool, format string, args ...any) {
		if !ok {
			t.Fatalf("%s\nafter\n  %s", fmt.Sprintf(format, args...), strings.Join(path, "\n  "))
		}
	}
	type node struct {
		w      world
		parent *node
		name   string
	}
	seen := map[string]bool{}
	first := newWorld(failed, plan)
	first.stops = stops
	queue := []*node{{w: *first}}
	ends := map[fsm.State]int{}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		path = path[:0]
		for p := n; p != nil; p = p.parent {
			path = append([]string{p.name}, path...)
		}
		for _, mv := range n.w.moves(failed) {
			next := n.w
			path = append(path, mv.name)
			mv.do(&next)
			next.checkWorld(failed)
			path = path[:len(path)-1]
			if next.starts > members+1 {
				continue
			}
			k := next.key()
			if seen[k] {
				continue
			}
			seen[k] = true
			ends[next.r.State]++
			if len(seen) < limit {
				queue = append(queue, &node{w: next, parent: n, name: mv.name})
			}
		}
	}
	t.Logf("%d worlds, up to %d moves deep, by state of the rollout: %v", len(seen), len(path), ends)
}

// TestWalks takes long random walks, each of which ends as it must when the devices behave in the
// end: none is forgotten.
func TestWalks(t *testing.T) {
	for seed := range uint64(3000) {
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
		if seed%7 == 1 {
			plan.Stages = plan.Stages[1:]
		}
		var path []string
		failed := func(ok bool, format string, args ...any) {
			if !ok {
				t.Fatalf("seed %d: %s\nafter\n  %s", seed, fmt.Sprintf(format, args...), strings.Join(path, "\n  "))
			}
		}
		w := newWorld(failed, plan)
		w.stops = seed%4 == 1
		for range 200 {
			moves := w.moves(failed)
			if len(moves) == 0 {
				break
			}
			if likely := helpful(moves); len(likely) > 0 && rng.IntN(10) < 7 {
				moves = likely
			}
			mv := moves[rng.IntN(len(moves))]
			path = append(path, mv.name)
			mv.do(w)
			w.checkWorld(failed)
		}
		path = append(path, "-- from here on all goes well")
		for i := 0; w.r.State != fsm.StateEnded; i++ {
			failed(i < 300, "invariant 8: it does not end: %+v\n%+v\n%+v", w.r, w.m, w.d)
			for k := range w.d {
				w.d[k].reachable = true
				w.d[k].heard = w.d[k].update == installing
			}
			moves := w.moves(failed)
			good := helpful(moves)
			if w.r.State == fsm.StatePaused {
				path = append(path, "resume")
				kind := fsm.InputResume
				if w.r.Reason == fsm.ReasonStage {
					kind = fsm.InputOpen
				}
				w.step(failed, -1, fsm.Input{Kind: kind})
				continue
			}
			failed(len(good) > 0, "invariant 8: nothing goes on: %+v\n%+v\n%+v", w.r, w.m, w.d)
			for _, mv := range good {
				// A move may have made this one impossible.
				for _, again := range w.moves(failed) {
					if again.name == mv.name {
						path = append(path, mv.name)
						mv.do(w)
						w.checkWorld(failed)
						break
					}
				}
			}
		}
	}
}

// helpful returns the moves that bring a rollout towards its end.
func helpful(moves []move) (good []move) {
	for _, mv := range moves {
		switch strings.Fields(mv.name)[0] {
		case "toggle", "asleep", "fails", "rolls", "times", "pause", "stop", "busy":
		case "shown":
			if strings.HasSuffix(mv.name, "target") {
				good = append(good, mv)
			}
		default:
			good = append(good, mv)
		}
	}
	return good
}
