package fsm_test

import (
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

const members = 3

// A device is what is true of a member's device and its update, beside what the rollout has
// recorded.
type device struct {
	reachable bool
	update    place
	end       fsm.Ending
	held      bool
	stopped   bool // it was held after the rollout had been paused
	attempt   int  // whose key made the update
	heard     time.Time
	installed int // how often it installed the image
}

// place is where an update stands.
type place uint8

const (
	none place = iota
	transferring
	ready
	installing
	ended
)

// A flight is an action under way. One member has at most one.
type flight struct {
	do      fsm.ActionKind
	granted bool      // when a start was decided
	done    bool      // its effect is there, and in is not applied yet
	in      fsm.Input // its end
}

// A world is a rollout, its members and their devices, and what a shell over them does. The shell
// forgets its flights when it crashes.
type world struct {
	r      fsm.Rollout
	m      [members]fsm.Member
	d      [members]device
	flight [members]flight
	again  [members]bool // the member is looked at when its flight has ended
	unsure [members]bool // the shell does not know which of its actions took place

	// How often something may happen.
	crashes, pauses, retries, edits, removes int
	stops                                    bool

	checked uint8     // members that were read again, a bit each
	soaked  time.Time // when the last member of the open stage ended
	starts  int
	epoch   int // of the checks: it counts openings and resumes
	bad     [members]int
	counted [members]int                                              // the epoch in which a member was admitted
	watch   func(before fsm.Rollout, was, m fsm.Member, in fsm.Input) // called for each step, if it is not nil
	over    int                                                       // how many may install beyond the concurrency, after an edit
}

type check func(ok bool, format string, args ...any)

// step applies an input, begins what follows, and checks what must hold of every step.
func (w *world) step(t check, i int, in fsm.Input) {
	var m fsm.Member
	if i >= 0 {
		m = w.m[i]
	}
	if in.At.IsZero() {
		in.At = w.r.Now
	}
	before, was := w.r, w.m
	r, m, out := w.r.Step(m, in)
	w.r = r
	if i >= 0 {
		t(out.Persist || m == was[i], "a member has changed, and the step need not be stored")
		w.m[i] = m
		w.begin(i, out.Do)
		runs := m.Granted && (m.Place == fsm.PlaceTransferring || m.Place == fsm.PlaceReady)
		t(!runs || r.State != fsm.StatePaused || out.Do == fsm.ActionHold, "invariant 4: it is paused, and holds no update of member %d", i)
	}
	if w.watch != nil {
		var old fsm.Member
		if i >= 0 {
			old = was[i]
		}
		w.watch(before, old, m, in)
	}
	w.count(before, was, i, in.Kind)
	w.checkAdmission(t, before, was, i)
	w.checkOpening(t, before, was, in)
	w.checkEnd(t, before, in)
	w.checkCounters(t)
}

// begin begins an action, unless one of the member is under way.
func (w *world) begin(i int, do fsm.ActionKind) {
	switch {
	case do == fsm.ActionNone:
	case w.flight[i].do != fsm.ActionNone:
		w.again[i] = true
	default:
		w.flight[i] = flight{do: do, granted: w.m[i].Granted}
	}
}

// count follows what counts as admitted and bad.
func (w *world) count(before fsm.Rollout, was [members]fsm.Member, i int, kind fsm.InputKind) {
	if i >= 0 {
		old, m := was[i], w.m[i]
		ended := old.State == fsm.MemberActive && (m.State == fsm.MemberFailed || m.State == fsm.MemberRolledBack)
		switch {
		case m.Attempt > old.Attempt:
			w.counted[i] = w.epoch
		case m.State == fsm.MemberWaiting || m.State == fsm.MemberSkipped:
			w.counted[i], w.bad[i] = 0, 0
		case old.State == fsm.MemberSucceeded && m.State == fsm.MemberRolledBack, !old.Missing && m.Missing, ended:
			heard := ended && w.d[i].end != fsm.EndingTimedOut // it does not count as missing any more
			if w.bad[i] == 0 || heard {
				w.bad[i] = w.epoch
			}
		case old.Missing && !m.Missing:
			w.bad[i] = 0
		}
		if old.State == fsm.MemberActive && m.State.Ended() && m.State != fsm.MemberSkipped && !aside(&old) {
			w.soaked = w.r.Now
		}
	}
	began := w.r.State != before.State && (before.State == fsm.StateDraft || before.State == fsm.StateEnded || kind == fsm.InputResume)
	if w.r.Stage > before.Stage || began {
		w.epoch++
	}
	if w.r.State == fsm.StatePaused && before.State != fsm.StatePaused {
		for i := range w.d {
			w.d[i].stopped = false
		}
	}
}

// aside reports whether an active member is on no way to an end that is near.
func aside(m *fsm.Member) bool {
	return m.Place == fsm.PlaceAway || m.Place == fsm.PlaceParked || m.Missing
}

func (w *world) checkAdmission(t check, before fsm.Rollout, was [members]fsm.Member, i int) {
	if i < 0 || w.m[i].Attempt == was[i].Attempt {
		return
	}
	moving, admitted := 0, 0
	for k, m := range was {
		if m.Place == fsm.PlaceStarting || m.Place == fsm.PlaceTransferring ||
			m.Place == fsm.PlaceReserved && k != i && was[i].Place != fsm.PlaceReserved && !before.Plan.Stages[before.Stage].Only {
			moving++
		}
		if m.State == fsm.MemberActive && m.Place != fsm.PlaceAway && m.Place != fsm.PlaceParked || m.State == fsm.MemberSucceeded ||
			m.State == fsm.MemberFailed || m.State == fsm.MemberRolledBack {
			admitted++
		}
	}
	t(moving < before.Plan.Concurrency, "invariant 1: admitted beyond the concurrency")
	t(before.State == fsm.StateRunning, "invariant 4: admitted in state %s", before.State)
	t(before.Admitted.IsZero() || w.r.Now.Sub(before.Admitted) >= before.Plan.Interval, "invariant 2: admitted sooner than the rate allows")
	t(!w.r.Now.Before(before.Plan.StartAt) && w.r.Now.Before(before.Plan.EndAt), "invariant 2: admitted outside start and end")
	t(admitted < before.Ceiling(), "invariant 3: admitted beyond the ceiling of the stage")
	stage := before.Plan.Stages[before.Stage]
	t(!stage.Only || was[i].Only&(1<<before.Stage) != 0, "invariant 3: admitted a member that the stage does not name")
	t(was[i].State == fsm.MemberWaiting, "invariant 8: admitted a member that is %s", was[i].State)
}

// checkOpening: a stage opens only by its rule, and when too many are bad the rollout does not run.
func (w *world) checkOpening(t check, before fsm.Rollout, was [members]fsm.Member, in fsm.Input) {
	bad, admitted := 0, 0
	for i := range w.m {
		bad += count(w.bad[i] == w.epoch && w.epoch > 0)
		admitted += count(w.counted[i] == w.epoch && w.epoch > 0)
	}
	limit := w.r.Plan.MaxFailure * float64(max(admitted, 20))
	if w.r.Stage == 0 {
		limit = 0
	}
	t(w.r.State != fsm.StateRunning || float64(bad) <= limit, "invariant 4: it runs, though %d of %d are bad", bad, admitted)
	if w.r.State != fsm.StateDraft && (w.r.Since.Bad != bad || w.r.Since.Admitted != admitted) {
		t(false, "invariant 5: since the stage opened, %+v are counted, not %d admitted and %d bad", w.r.Since, admitted, bad)
	}
	if w.r.Stage <= before.Stage {
		return
	}
	t(w.r.Stage == before.Stage+1, "invariant 3: a stage was passed over")
	t(in.Kind == fsm.InputHealth && in.OK, "invariant 3: a stage opened by %s", in.Kind)
	t(before.State == fsm.StateRunning, "invariant 3: a stage opened in state %s", before.State)
	byHand := before.Plan.Stages[before.Stage].Only // an operator may open the one after it
	updated := before.Stages[before.Stage].Succeeded > 0
	t(!w.r.Now.Before(w.soaked.Add(before.Plan.Stages[before.Stage].Soak)) || !updated, "invariant 3: a stage opened before the soak was over")
	t(updated || byHand, "invariant 3: a stage opened after one in which no device was updated")
	for k := range was {
		t(was[k].State != fsm.MemberActive || aside(&was[k]), "invariant 3: a stage opened while member %d is under way", k)
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// checkEnd: a rollout that has ended has no member that waits or is active, and goes on only for a
// retry.
func (w *world) checkEnd(t check, before fsm.Rollout, in fsm.Input) {
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
	var stages [fsm.MaxStages]fsm.Counts
	var slots fsm.Slots
	granted := 0
	for _, m := range w.m {
		add := func(c *fsm.Counts) {
			c.Waiting += count(m.State == fsm.MemberWaiting)
			c.Active += count(m.State == fsm.MemberActive)
			c.Succeeded += count(m.State == fsm.MemberSucceeded)
			c.Failed += count(m.State == fsm.MemberFailed)
			c.RolledBack += count(m.State == fsm.MemberRolledBack)
			c.Skipped += count(m.State == fsm.MemberSkipped)
		}
		add(&total)
		if m.Stage > 0 {
			add(&stages[m.Stage-1])
		}
		slots.Transferring += count(m.Place == fsm.PlaceStarting || m.Place == fsm.PlaceTransferring)
		slots.Ready += count(m.Place == fsm.PlaceReady)
		slots.Installing += count(m.Place == fsm.PlaceInstalling)
		slots.Away += count(m.Place == fsm.PlaceAway)
		slots.Parked += count(m.Place == fsm.PlaceParked)
		slots.Invited += count(m.Place == fsm.PlaceInvited)
		slots.Reserved += count(m.Place == fsm.PlaceReserved)
		slots.Granted += count(m.Granted && m.Place != fsm.PlaceInstalling)
		slots.Missing += count(m.Missing && m.State == fsm.MemberActive)
		granted += count(m.Granted || m.Place == fsm.PlaceInstalling)
	}
	if total != w.r.Total {
		t(false, "invariant 5: the counters %+v are not those of the members, %+v", w.r.Total, total)
	}
	if slots != w.r.Slots {
		t(false, "invariant 5: the slots %+v are not those of the members, %+v", w.r.Slots, slots)
	}
	for i := range w.r.Stages {
		if stages[i] != w.r.Stages[i] {
			t(false, "invariant 5: the counters of stage %d, %+v, are not those of the members, %+v", i, w.r.Stages[i], stages[i])
		}
	}
	c := w.r.Plan.Concurrency
	w.over = min(w.over, max(granted-c, 0))
	t(granted <= c+w.over, "invariant 1: %d members install or may", granted)
	t(w.r.Slots.Invited+w.r.Slots.Reserved <= c || w.edits > 0, "invariant 1: too many invitations")
}

// checkWorld: what must hold of the devices themselves.
func (w *world) checkWorld(t check) {
	install := 0
	for i, d := range w.d {
		install += count(d.update == installing)
		t(d.installed <= 1 || w.retries > 0, "invariant 8: device %d installed %d times", i, d.installed)
		m := &w.m[i]
		why, until := w.r.Waiting(m, w.r.Now, nil, d.reachable, false)
		t(until.IsZero() || until.After(w.r.Now), "invariant 6: member %d waits for %s until %s", i, why, until)
		if m.State == fsm.MemberWaiting {
			t(w.r.State != fsm.StatePaused || why != "", "invariant 4: member %d may be admitted while the rollout is paused", i)
			t(why != "" || d.reachable && w.r.State == fsm.StateRunning, "invariant 6: member %d waits for no reason", i)
		}
		if m.State == fsm.MemberActive && !m.Granted && (m.Place == fsm.PlaceReady || m.Place == fsm.PlaceParked || m.Place == fsm.PlaceAway) {
			t(why != "", "invariant 6: member %d does not go on for no reason", i)
		}
		t(m.State != fsm.MemberSucceeded || d.end == fsm.EndingSucceeded, "invariant 8: member %d succeeded, its update %s", i, d.end)
		t(!m.State.Ended() || d.update == none || d.update == ended, "invariant 8: member %d has ended, its update has not", i)
	}
	t(install <= w.r.Plan.Concurrency+w.over, "invariant 1: %d devices install", install)
}
