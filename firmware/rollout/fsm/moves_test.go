package fsm_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// A move is something that may happen next: to a member, or with -1 to the rollout.
type move struct {
	what   string
	member int
	how    string
	do     func(*world)
}

func (m *move) name() string {
	if m.member < 0 {
		return m.what
	}
	return strings.TrimSpace(fmt.Sprint(m.what, " ", m.member, " ", m.how))
}

// seen is what a shell reads of a device's update.
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

// moves lists what may happen next.
func (w *world) moves(t check) []move {
	list := make([]move, 0, 32)
	at := -1
	add := func(what string, do func(*world)) { list = append(list, move{what: what, member: at, do: do}) }
	exhausted, left := true, 0
	for i := range w.m {
		at = i
		m, d := &w.m[i], &w.d[i]
		if m.State == fsm.MemberWaiting {
			may := !w.r.Plan.Stages[w.r.Stage].Only || m.Only&(1<<w.r.Stage) != 0
			left += count(may)
			exhausted = exhausted && !(may && d.reachable)
			w.waitingMoves(t, i, add)
		}
		if m.State == fsm.MemberActive {
			w.activeMoves(t, i, add)
		}
		if d.update != ended && d.update != none || m.State == fsm.MemberWaiting {
			add("toggle", func(w *world) {
				if w.d[i].reachable = !w.d[i].reachable; w.d[i].reachable {
					w.d[i].heard = w.r.Now
				}
			})
		}
		w.flightMoves(t, i, add)
		w.deviceMoves(t, i, add)
		if w.r.StageState == fsm.StageChecking && m.State == fsm.MemberSucceeded && w.r.State == fsm.StateRunning && w.checked&(1<<i) == 0 {
			for _, shown := range []fsm.Shown{fsm.ShownTarget, fsm.ShownOther, fsm.ShownSilent} {
				add("shown", func(w *world) {
					w.checked |= 1 << i
					w.step(t, i, fsm.Input{Kind: fsm.InputShown, Shown: shown, Text: "0"})
				})
				list[len(list)-1].how = string(shown)
			}
		}
		if m.Missing {
			add("heard", func(w *world) {
				w.d[i].heard = w.r.Now
				w.step(t, i, fsm.Input{Kind: fsm.InputReach})
			})
		}
		if m.State.Ended() && m.State != fsm.MemberSucceeded && w.retries < 1 && w.stops {
			add("retry", func(w *world) { w.retries++; w.step(t, i, fsm.Input{Kind: fsm.InputRetry}) })
		}
	}
	at = -1
	w.rolloutMoves(t, exhausted, left, add)
	if w.crashes < 1 {
		add("crash", func(w *world) {
			w.crashes++
			w.flight, w.again, w.checked = [members]flight{}, [members]bool{}, 0
			for i := range w.unsure {
				w.unsure[i] = w.m[i].State == fsm.MemberActive
			}
		})
	}
	return list
}

func (w *world) waitingMoves(t check, i int, add func(string, func(*world))) {
	m := w.m[i]
	switch {
	case w.d[i].reachable:
		add("reach", func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputReach, Lifetime: time.Hour}) })
	case m.Place == fsm.PlaceNone || m.Place == fsm.PlaceReserved:
		add("asleep", func(w *world) {
			w.step(t, i, fsm.Input{Kind: fsm.InputReach, Asleep: true, Lifetime: time.Hour})
		})
	}
	if w.r.State == fsm.StateStopping {
		add("finish", func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputFinish}) })
	}
	if w.stops && w.removes < 1 {
		add("remove", func(w *world) { w.removes++; w.step(t, i, fsm.Input{Kind: fsm.InputRemove}) })
	}
}

// activeMoves: the shell looks at a member, or lets it execute.
func (w *world) activeMoves(t check, i int, add func(string, func(*world))) {
	m := w.m[i]
	add("look", func(w *world) {
		if m.Update != "" {
			w.step(t, i, fsm.Input{Kind: fsm.InputSeen, Seen: w.d[i].seen()})
		}
		w.step(t, i, fsm.Input{Kind: fsm.InputTick})
		if w.unsure[i] {
			w.unsure[i] = false
			w.step(t, i, fsm.Input{Kind: fsm.InputGrant})
		}
	})
	if !m.Granted && (m.Place == fsm.PlaceReady || m.Place == fsm.PlaceParked) {
		add("grant", func(w *world) { w.step(t, i, fsm.Input{Kind: fsm.InputGrant}) })
	}
}

// flightMoves: an action takes effect, and later its end is known.
func (w *world) flightMoves(t check, i int, add func(string, func(*world))) {
	f, m := w.flight[i], w.m[i]
	if f.do == fsm.ActionNone {
		return
	}
	effect := func(name string, do func(w *world, d *device) fsm.Input) {
		add(name, func(w *world) {
			w.flight[i].in = do(w, &w.d[i])
			w.flight[i].done = true
		})
	}
	if f.done {
		add("done", func(w *world) {
			again := w.again[i]
			w.flight[i], w.again[i] = flight{}, false
			if f.in.Kind != "" {
				w.step(t, i, f.in)
			}
			if again && w.m[i].State == fsm.MemberActive {
				w.step(t, i, fsm.Input{Kind: fsm.InputTick})
			}
		})
		return
	}
	switch f.do {
	case fsm.ActionStart:
		effect("start", func(w *world, d *device) fsm.Input {
			if d.attempt != m.Attempt {
				t(d.installed == 0 || w.retries > 0, "invariant 8: an update of a device that was updated")
				*d = device{reachable: d.reachable, heard: d.heard, update: transferring, attempt: m.Attempt, held: !f.granted, installed: d.installed}
				w.starts++
			}
			return fsm.Input{Kind: fsm.InputStarted, Update: "u"}
		})
		if w.d[i].attempt != m.Attempt {
			effect("busy", func(*world, *device) fsm.Input { return fsm.Input{Kind: fsm.InputRefused, Busy: "other"} })
		}
	case fsm.ActionHold:
		effect("hold", func(w *world, d *device) fsm.Input {
			d.held, d.stopped = true, d.update != installing && w.r.State == fsm.StatePaused
			return fsm.Input{Kind: fsm.InputHeld, Seen: d.seen()}
		})
	case fsm.ActionRelease:
		effect("release", func(w *world, d *device) fsm.Input {
			t(!d.stopped || w.r.State != fsm.StatePaused, "invariant 4: released after its hold, while paused")
			d.held = false
			return fsm.Input{}
		})
	case fsm.ActionCancel:
		effect("cancel", func(_ *world, d *device) fsm.Input {
			if d.update == transferring || d.update == ready {
				d.update, d.end = ended, fsm.EndingCancelled
			}
			return fsm.Input{Kind: fsm.InputSeen, Seen: d.seen()}
		})
	}
}

// deviceMoves: what the device and its update do by themselves.
func (w *world) deviceMoves(t check, i int, add func(string, func(*world))) {
	d := w.d[i]
	end := func(name string, e fsm.Ending, installed int) {
		add(name, func(w *world) {
			w.d[i].update, w.d[i].end = ended, e
			w.d[i].installed += installed
		})
	}
	switch d.update {
	case transferring:
		if !d.reachable {
			end("times out away", fsm.EndingAway, 0)
			return
		}
		add("downloaded", func(w *world) { w.d[i].update = ready })
		end("fails", fsm.EndingFailed, 0)
		end("is current", fsm.EndingCurrent, 0)
	case ready:
		switch {
		case !d.reachable:
			end("times out away", fsm.EndingAway, 0)
		case !d.held:
			add("execute", func(w *world) {
				t(!d.stopped || w.r.State != fsm.StatePaused, "invariant 4: executed after its hold, while paused")
				w.d[i].update = installing
			})
		}
	case installing:
		if !d.reachable {
			end("times out", fsm.EndingTimedOut, 0)
			return
		}
		end("succeeds", fsm.EndingSucceeded, 1)
		end("rolls back", fsm.EndingRolledBack, 0)
	}
}

func (w *world) rolloutMoves(t check, exhausted bool, left int, add func(string, func(*world))) {
	in := func(name string, in fsm.Input) {
		add(name, func(w *world) { w.step(t, -1, in) })
	}
	order := func(name string, in fsm.Input) {
		add(name, func(w *world) { w.pauses++; w.step(t, -1, in) })
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
			order("pause", fsm.Input{Kind: fsm.InputPause})
		}
		if w.stops {
			order("stop", fsm.Input{Kind: fsm.InputStop})
			order("stop and cancel", fsm.Input{Kind: fsm.InputStop, Cancels: true})
		}
		if w.stops && w.edits < 1 && w.r.Plan.Concurrency > 1 {
			add("edit", func(w *world) {
				w.edits++
				w.over = w.r.Plan.Concurrency - 1
				plan := w.r.Plan
				plan.Concurrency = 1
				w.step(t, -1, fsm.Input{Kind: fsm.InputEdit, Plan: plan})
			})
		}
	case fsm.StatePaused:
		if w.pauses < 2 {
			order("resume", fsm.Input{Kind: fsm.InputResume})
		}
		if w.stops {
			order("stop", fsm.Input{Kind: fsm.InputStop})
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
			if w.m[i].State == fsm.MemberActive && w.m[i].Update != "" {
				w.step(t, i, fsm.Input{Kind: fsm.InputSeen, Seen: w.d[i].seen(), At: at})
			}
			w.step(t, i, fsm.Input{Kind: fsm.InputTick, At: at})
		}
	}
}
