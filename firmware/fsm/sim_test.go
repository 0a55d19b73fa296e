package fsm_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// sim runs one update of one client. Whatever can go wrong is a choice; the
// choices of a run are a list of numbers, 0 being the good case, so that a run
// can be repeated and varied.
type sim struct {
	t      *testing.T
	now    time.Time
	queue  []event
	habits habits
	device peer
	update fsm.Update
	stored fsm.Update
	traced bool
	server int // counts the starts of the server
	down   bool
	online bool // what the server believes, and has stored
	missed bool // a registration that found no server; it is repeated

	registered time.Time // of the registration that is stored

	choices []int // given
	options []int // found: how many there were at each choice

	readSince bool // a read since the last Execute
	lastState fsm.State
	resets    int
	ended     int
	intrude   int             // the step at which someone intervenes
	intruder  fsm.Observation // how
	late      time.Duration   // how much later
	steps     int
	observed  func(before, after fsm.Update, actions fsm.Actions)
}

type event struct {
	at  time.Time
	run func()
}

const (
	latency = 100 * time.Millisecond
	timeout = 93 * time.Second
)

// run plays an update to its end and returns the simulation.
func run(t *testing.T, h habits, choices []int, observed func(before, after fsm.Update, actions fsm.Actions)) *sim {
	s := &sim{t: t, now: epoch, choices: choices, observed: observed}
	s.play(h)
	return s
}

func (s *sim) play(h habits) {
	s.habits = h
	s.device = newPeer(s, h)
	s.update = fsm.NewUpdate(h.plan, s.now)
	s.stored = s.update
	s.observe(fsm.Observation{Kind: fsm.ObserveStarted, Online: true})
	for range 5000 {
		if !s.update.Active() {
			break
		}
		s.next()
	}
	s.check(!s.update.Active(), "the update ends")
	s.check(s.ended == 1, "it ends once, not %d times", s.ended)
	s.observe(fsm.Observation{Kind: fsm.ObserveRegistered})
}

// next lets the earliest thing happen: a device's event, or the update's timer.
func (s *sim) next() {
	i := -1
	for j, e := range s.queue {
		if i < 0 || e.at.Before(s.queue[i].at) {
			i = j
		}
	}
	wake := s.update.Wake()
	if s.down {
		wake = s.now.Add(time.Hour)
	}
	if i >= 0 && !s.queue[i].at.After(wake) {
		e := s.queue[i]
		s.queue = slices.Delete(s.queue, i, i+1)
		s.now = e.at
		e.run()
		return
	}
	s.now = wake
	s.observe(fsm.Observation{Kind: fsm.ObserveTimer})
}

func (s *sim) after(d time.Duration, fn func()) {
	s.queue = append(s.queue, event{s.now.Add(d), fn})
}

// choose asks what happens next.
func (s *sim) choose(what string, options ...string) int {
	n := 0
	if i := len(s.options); i < len(s.choices) {
		n = s.choices[i]
	}
	s.options = append(s.options, len(options))
	if n > 0 {
		s.log("%s: %s", what, options[n])
	}
	return n
}

func (s *sim) log(format string, args ...any) {
	if s.traced {
		s.t.Logf("%8s  %s", s.now.Sub(epoch).Round(100*time.Millisecond), fmt.Sprintf(format, args...))
	}
}

// check fails the test unless ok, and plays the run again to show it.
func (s *sim) check(ok bool, format string, args ...any) {
	if ok {
		return
	}
	if !s.traced {
		again := &sim{t: s.t, now: epoch, choices: s.choices, traced: true}
		again.play(s.habits)
	}
	s.t.Fatalf("%s, choices %v: not true that "+format, append([]any{s.habits.name, s.choices}, args...)...)
}

// observe makes one step and begins what it asks for.
func (s *sim) observe(o fsm.Observation) {
	if s.down {
		s.missed = s.missed || o.Kind == fsm.ObserveRegistered
		return
	}
	switch o.Kind {
	case fsm.ObserveStarted, fsm.ObserveRegistered, fsm.ObserveAwake:
		if s.online = true; s.missed {
			s.missed, o.Kind = false, fsm.ObserveRegistered
		}
	case fsm.ObserveAsleep:
		s.online = false
	}
	if o.Kind == fsm.ObserveRegistered {
		s.registered = s.now
		if s.choose("registration", "good", "server dies before the update knows") == 1 {
			s.crash()
			return
		}
	}
	o.At = s.now
	if s.steps++; s.steps == s.intrude && s.update.Active() {
		s.now = s.now.Add(s.late)
		s.observe(s.intruder)
	}
	before := s.update
	next, actions := before.Step(o)
	s.update = next
	if s.observed != nil {
		s.observed(before, next, actions)
	}
	if o.Kind == fsm.ObserveDone && o.Reading.State.OK() && o.Action == before.Memory.Doing.ID {
		s.readSince, s.lastState = true, o.Reading.State.Value
	}
	for _, e := range actions.Journal {
		s.log("%s: %s", e.Event, e.Detail)
	}
	if actions.Ended {
		s.ended++
	}
	s.invariants(before, actions)
	if actions.Persist {
		s.stored = next
	}
	if a := actions.Do; a.Kind != fsm.ActionNone {
		s.log("> %s", a.Kind)
		s.begin(a)
	}
}

func (s *sim) invariants(before fsm.Update, actions fsm.Actions) {
	u, a := s.update, actions.Do
	s.check(before.Active() || !actions.Persist && a.Kind == fsm.ActionNone, "an ended update stays as it is")
	s.check(u.Active() == (u.Result == fsm.ResultDefault), "result default means active")
	s.check(u.Active() || u.State == fsm.Idle && u.Phase == fsm.PhaseEnded, "an ended update is idle")
	s.check(u.Active() == (u.Wait.Reason != ""), "an active update says what it waits for")
	s.check(!u.Active() || u.Wait.Until.After(s.now), "the wait has an end ahead: %+v", u.Wait)
	s.check(!u.Active() || u.Wake().After(s.now), "the timer lies ahead")
	s.check(a.Kind == fsm.ActionNone || before.Memory.Doing.Kind == fsm.ActionNone || actions.Abandon ||
		before.Memory.Doing.ID != u.Memory.Doing.ID, "one action at a time")
	switch a.Kind {
	case fsm.ActionReset:
		s.resets++
	case fsm.ActionWriteURI, fsm.ActionPush:
		s.check(s.lastState == fsm.Idle || s.lastState == fsm.Downloading && s.resets > 0,
			"a new package is written into state %s only after a reset", s.lastState)
		s.check(actions.Persist, "a transfer is persisted before it begins")
	case fsm.ActionExecute:
		s.check(s.readSince && s.lastState == fsm.Downloaded, "Execute follows a read of Downloaded")
		s.check(actions.Persist, "Execute is persisted before it is sent")
		s.readSince = false
	}
}

// begin carries an action out, with all that can go wrong.
func (s *sim) begin(a fsm.Action) {
	if a.Kind == fsm.ActionCancel {
		return
	}
	options := []string{"good", "request lost", "answer lost", "server dies before", "server dies after", "device reboots before", "device reboots after", "device sleeps before"}
	if a.Kind == fsm.ActionExecute {
		options = append(options, "sent twice")
	}
	fault := s.choose(a.Kind.String(), options...)
	server := s.server
	finish := func(after time.Duration, code fsm.Code, r fsm.Reading) {
		s.after(after, func() {
			if s.server == server {
				s.observe(fsm.Observation{Kind: fsm.ObserveDone, Action: a.ID, Code: code, Reading: r})
			}
		})
	}
	switch {
	case fault == 3:
		s.crash()
		return
	case fault == 5:
		s.device.reboot()
		finish(timeout, fsm.CodeNone, fsm.Reading{})
		return
	case fault == 7 && s.device.reachable():
		s.device.doze(3 * time.Hour)
		finish(timeout, fsm.CodeNone, fsm.Reading{})
		s.observe(fsm.Observation{Kind: fsm.ObserveAsleep})
		return
	}
	if !s.device.reachable() || fault == 1 {
		if a.Kind == fsm.ActionPush && s.device.reachable() {
			s.device.breakPush()
		}
		finish(timeout, fsm.CodeNone, fsm.Reading{})
		return
	}
	s.after(latency, func() {
		if !s.device.reachable() {
			finish(timeout, fsm.CodeNone, fsm.Reading{})
			return
		}
		code, reading := s.device.carryOut(a)
		if fault == 8 {
			code, reading = s.device.carryOut(a)
		}
		switch {
		case code == fsm.CodeNone || fault == 2:
			finish(timeout, fsm.CodeNone, fsm.Reading{})
		case fault == 4:
			s.crash()
		case fault == 6:
			s.device.reboot()
			finish(timeout, fsm.CodeNone, fsm.Reading{})
		default:
			finish(latency, code, reading)
		}
	})
}

// crash stops the server; it starts again from what it had persisted.
func (s *sim) crash() {
	if s.down {
		return
	}
	s.server++
	s.down = true
	s.after(10*time.Second, func() {
		s.down = false
		data, err := json.Marshal(s.stored)
		require.NoError(s.t, err)
		s.update = fsm.Update{}
		require.NoError(s.t, json.Unmarshal(data, &s.update))
		s.check(reflect.DeepEqual(s.update, s.stored), "an update is the same after it was stored")
		s.device.forget()
		s.observe(fsm.Observation{Kind: fsm.ObserveResumed, Online: s.online, Registered: s.registered})
		if s.missed && s.device.reachable() {
			s.observe(fsm.Observation{Kind: fsm.ObserveRegistered})
		}
	})
}

// explore runs all variations of up to budget faults and returns their number.
// Of the last fault of several only every third variation is run, a different
// third for each of those before, unless all is set.
func explore(t *testing.T, h habits, budget int, all bool, visit func(*sim)) int {
	var count int
	var vary func(prefix []int, left int)
	vary = func(prefix []int, left int) {
		s := run(t, h, prefix, nil)
		visit(s)
		count++
		if left == 0 {
			return
		}
		for i := len(prefix); i < len(s.options); i++ {
			for n := 1; n < s.options[i]; n++ {
				if !all && left == 1 && budget > 1 && (i+n+len(prefix))%3 != 0 {
					continue
				}
				next := make([]int, i+1)
				copy(next, prefix)
				next[i] = n
				vary(next, left-1)
			}
		}
	}
	vary(nil, budget)
	return count
}
