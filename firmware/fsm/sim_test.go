package fsm_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// sim runs one update of one client. Every possible fault is a choice. The choices of a run are a
// list of numbers, 0 being the good case, so that a run can be repeated and varied.
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
	online bool // as the server believes and has stored
	missed bool // a registration that found no server; the device repeats it

	registered time.Time // of the registration that is stored

	choices []int // given
	options []int // number of options found at each choice

	ledger   ledger
	ended    int
	intrude  int             // the step at which an observation intervenes
	intruder fsm.Observation // the observation
	late     time.Duration   // how much later
	steps    int
	flying   map[uint32]bool // actions whose request may still be sent again
	faulty   bool            // the server itself was made to fail
	observed func(before, after fsm.Update, actions fsm.Actions)
}

type event struct {
	at  time.Time
	run func()
}

const (
	latency = 100 * time.Millisecond
	timeout = 93 * time.Second
	// lifetime is that of the registrations; a device does not sleep for longer.
	lifetime = 4 * time.Hour
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
	s.update = fsm.NewUpdate(h.plan, s.now, h.holds...)
	s.stored = s.update
	s.ledger = newLedger(h)
	s.flying = map[uint32]bool{}
	for _, r := range h.releases {
		s.after(r.after, func() {
			s.observe(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: r.holder}})
		})
	}
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
	s.afterwards()
}

// afterwards lets the device go on for a day after the update has ended, and checks what MayStill
// said.
func (s *sim) afterwards() {
	installs := s.device.truth().installs
	end := s.now.Add(24 * time.Hour)
	for range 1000 {
		i := s.first()
		if i < 0 || s.queue[i].at.After(end) {
			break
		}
		s.take(i)
	}
	// The server cannot know that a device updates by itself without saying so.
	s.check(s.update.MayStill != fsm.MayStillNone || s.habits.auto || s.late > 0 || s.device.truth().installs == installs,
		"invariant 4: a device of which may_still says none installs nothing after the end")
}

// next lets the earliest event happen: a device's event, or the update's timer.
func (s *sim) next() {
	i := s.first()
	wake := s.update.Wake()
	if s.down {
		wake = s.now.Add(time.Hour)
	}
	if i >= 0 && !s.queue[i].at.After(wake) {
		s.take(i)
		return
	}
	s.now = wake
	s.observe(fsm.Observation{Kind: fsm.ObserveTimer})
}

// first returns the index of the next event, or -1.
func (s *sim) first() int {
	i := -1
	for j, e := range s.queue {
		if i < 0 || e.at.Before(s.queue[i].at) {
			i = j
		}
	}
	return i
}

// take lets an event happen.
func (s *sim) take(i int) {
	e := s.queue[i]
	s.queue = slices.Delete(s.queue, i, i+1)
	s.now = later(s.now, e.at)
	e.run()
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (s *sim) after(d time.Duration, fn func()) {
	s.queue = append(s.queue, event{s.now.Add(d), fn})
}

// choose chooses what happens next.
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

// check fails the test unless ok is true, and plays the run again to show it.
func (s *sim) check(ok bool, format string, args ...any) {
	if ok {
		return
	}
	if !s.traced {
		again := &sim{t: s.t, now: epoch, choices: s.choices, traced: true, intrude: s.intrude, intruder: s.intruder, late: s.late}
		again.play(s.habits)
	}
	s.t.Fatalf("%s, choices %v: not true that "+format, append([]any{s.habits.name, s.choices}, args...)...)
}

// observe makes one step and begins the action that it asks for.
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
	o.Queue, o.Lifetime = !s.habits.dead || s.habits.queue, lifetime
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
	if actions.Abandon {
		clear(s.flying)
	}
	for _, e := range actions.Journal {
		s.log("%s: %s", e.Event, e.Detail)
	}
	if actions.Ended {
		s.ended++
	}
	s.invariants(before, o, actions)
	if actions.Persist {
		s.stored = next
	}
	if a := actions.Do; a.Kind != fsm.ActionNone {
		s.log("> %s", a.Kind)
		s.begin(a)
	}
}

// The faults of an action.
const (
	good = iota
	requestLost
	answerLost
	serverDiesBefore
	serverDiesAfter
	deviceRebootsBefore
	deviceRebootsAfter
	deviceSleeps
	delayed
	sentTwice
	imageDamaged
)

var faultNames = []string{
	"good", "request lost", "answer lost", "server dies before", "server dies after", "device reboots before",
	"device reboots after", "device sleeps before", "arrives late", "sent twice", "image damaged",
}

// faultsOf lists the possible faults of an action.
func faultsOf(a fsm.Action) []string {
	n := deviceSleeps
	switch a.Kind {
	case fsm.ActionWriteURI, fsm.ActionReset:
		n = delayed
	case fsm.ActionExecute:
		n = sentTwice
	}
	return faultNames[:n+1]
}

// begin carries an action out, with all its possible faults.
func (s *sim) begin(a fsm.Action) {
	fault := good
	if a.Kind != fsm.ActionCancel {
		fault = s.choose(string(a.Kind), faultsOf(a)...)
	}
	server := s.server
	s.flying[a.ID] = true
	finish := func(after time.Duration, code fsm.Code, r fsm.Reading) {
		s.after(after, func() {
			if s.server == server {
				delete(s.flying, a.ID)
				s.observe(fsm.Observation{Kind: fsm.ObserveDone, Action: a.ID, Code: code, Reading: r})
			}
		})
	}
	unanswered := func() { finish(timeout, fsm.CodeNone, fsm.Reading{}) }
	switch {
	case fault == serverDiesBefore:
		s.crash()
		return
	case fault == deviceRebootsBefore:
		s.device.reboot()
		unanswered()
		return
	case fault == deviceSleeps && s.device.reachable():
		s.device.doze(3 * time.Hour)
		unanswered()
		s.observe(fsm.Observation{Kind: fsm.ObserveAsleep})
		return
	case fault == delayed && s.device.reachable():
		// The first copies are lost; the last one is sent after 45 s, unless the request was given
		// up before.
		unanswered()
		s.after(45*time.Second, func() {
			if s.flying[a.ID] && s.device.reachable() {
				s.carryOut(a)
			}
		})
		return
	}
	if !s.device.reachable() || fault == requestLost {
		if a.Kind == fsm.ActionPush && s.device.reachable() {
			s.device.breakPush()
		}
		unanswered()
		return
	}
	s.after(latency, func() {
		if !s.device.reachable() {
			unanswered()
			return
		}
		code, reading := s.carryOut(a)
		if fault == sentTwice {
			code, reading = s.carryOut(a)
		}
		switch {
		case code == fsm.CodeNone || fault == answerLost:
			unanswered()
		case fault == serverDiesAfter:
			s.crash()
		case fault == deviceRebootsAfter:
			s.device.reboot()
			unanswered()
		default:
			finish(latency, code, reading)
		}
	})
}

// carryOut makes the device carry out an action.
func (s *sim) carryOut(a fsm.Action) (fsm.Code, fsm.Reading) {
	s.check(a.Kind != fsm.ActionExecute || s.update.Active(), "invariant 5: no Execute arrives that was sent after the update ended")
	code, reading := s.device.carryOut(a)
	if a.Kind == fsm.ActionRead && !a.Resources.WantsVersion(reading.State) {
		reading.Version = fsm.Field[string]{}
	}
	if !a.Resources.Has(fsm.ReadDevice) {
		reading.Device = fsm.Field[fsm.Compatible]{}
	}
	reading.Holds = s.ledger.holds
	return code, reading
}

// crash stops the server, which starts again from what it had persisted.
func (s *sim) crash() {
	if s.down {
		return
	}
	s.server++
	s.down = true
	s.after(10*time.Second, func() {
		s.down = false
		data, err := s.stored.Stored()
		require.NoError(s.t, err)
		s.update, err = fsm.Loaded(data)
		require.NoError(s.t, err)
		s.check(reflect.DeepEqual(s.update, s.stored), "an update is the same after it was stored")
		s.device.forget()
		s.observe(fsm.Observation{Kind: fsm.ObserveResumed, Online: s.online, Registered: s.registered})
		if s.missed && s.device.reachable() {
			s.observe(fsm.Observation{Kind: fsm.ObserveRegistered})
		}
	})
}

// explore runs all variations of up to budget faults and returns their number. Unless all is set,
// it runs only every eighth variation of the last of several faults, each time a different eighth.
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
				if !all && left == 1 && budget > 1 && (i+n+len(prefix))%8 != 0 {
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
