package fsm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// A story is what a device does after it accepted Execute: what it shows, one picture after the
// other, and at which of them it has restarted and sends a Register. What it does is all that the
// outcome may depend on.
type story struct {
	does      string
	pictures  []picture
	registers []int
	want      string
	again     *story // after the second Execute; nil: the same
}

func stories() []story {
	failed := func(r fsm.Result) picture { return picture{fsm.Idle, r, oldVersion, false} }
	kept := picture{fsm.Downloaded, fsm.ResultUpdateFailed, oldVersion, false}
	trial := picture{fsm.Updating, 0, newVersion, false}
	success := picture{fsm.Idle, fsm.ResultSuccess, newVersion, false}
	claims := picture{fsm.Idle, fsm.ResultSuccess, oldVersion, false}
	second := []int{1}
	installs := &story{pictures: []picture{kept, updating, success}, registers: []int{2}}
	fails := &story{pictures: []picture{kept, updating, kept}}
	const (
		succeeded  = "succeeded (1), version"
		rolledBack = "rolled_back (8), old_version"
	)
	return []story{
		{"installs", []picture{updating, success}, second, succeeded, nil},
		{"installs, and shows no Result", []picture{updating, {fsm.Idle, 0, newVersion, false}}, second, succeeded, nil},
		{"installs without a restart", []picture{updating, success}, nil, succeeded, nil},
		{"installs, is on trial and confirms itself", []picture{updating, trial, success}, second, succeeded, nil},
		{"claims success before its restart", []picture{claims, success}, second, succeeded, nil},

		{"rolls back", []picture{updating, failed(8)}, second, rolledBack, nil},
		{"rolls back at once", []picture{failed(8)}, []int{0}, rolledBack, nil},
		{"rolls back, and shows its Result late", []picture{updating, idle, failed(8)}, second, rolledBack, nil},
		{"rolls back, and keeps the package", []picture{updating, kept}, second, rolledBack, nil},
		{"rolls back, keeps the package, and installs it then", []picture{updating, kept}, second, succeeded, installs},
		{"rolls back, keeps the package, and fails then", []picture{updating, kept}, second, rolledBack, fails},
		{"fails without a restart, and installs then", []picture{updating, kept}, nil, succeeded, installs},
		{"rolls back from its trial", []picture{updating, trial, failed(8)}, []int{1, 2}, rolledBack, nil},
		{"claims success, and rolls back", []picture{claims, failed(8)}, second, rolledBack, nil},
		{"rolls back without a Result", []picture{updating, idle}, second, rolledBack, nil},
		{"rolls back from its trial without a Result", []picture{updating, trial, idle}, []int{1, 2}, rolledBack, nil},

		{"fails without a restart", []picture{updating, failed(8)}, nil, "failed (8), device_result", nil},
		{"fails at once", []picture{failed(8)}, nil, "failed (8), device_result", nil},
		{"fails without a restart, and keeps the package", []picture{updating, kept}, nil, "failed (8), device_result", nil},
		{"fails, and shows its Result late", []picture{updating, idle, failed(8)}, nil, "failed (8), device_result", nil},
		{"restarts, and finds the package bad", []picture{updating, failed(5)}, second, "failed (5), device_result", nil},
		{"finds the package bad without a restart", []picture{updating, failed(5)}, nil, "failed (5), device_result", nil},
		{"restarts, and has lost the package", []picture{updating, failed(4)}, second, "another attempt", nil},
		{"restarts with another version", []picture{updating, {fsm.Idle, 0, "1.0.5", false}}, second, "failed (8), version_mismatch", nil},
		{"restarts with another version and Result 8", []picture{updating, {fsm.Idle, 8, "1.0.5", false}}, second, "failed (8), device_result", nil},
		{"claims success for ever", []picture{updating, claims}, second, "failed (8), version_mismatch", nil},
	}
}

// order is one order in which the server learns what a device does.
type order struct {
	story
	hand
	at      int       // the picture that the device shows
	sent    int       // Registers sent in all
	handled int       // Registers that the server handled
	since   time.Time // when the last Register was sent
	looks   int
	path    string
}

// begin makes the device carry out Execute.
func (o *order) begin() {
	o.at = -1
	o.goOn()
}

func (o *order) goOn() {
	if o.at++; slices.Contains(o.registers, o.at) {
		o.sent, o.since = o.sent+1, o.now
	}
}

// register makes the server handle a Register.
func (o *order) register() {
	o.handled++
	o.step(fsm.Observation{Kind: fsm.ObserveRegistered})
}

// look lets time pass until a read has ended. A torn one shows the State and the Result from before
// the device went on, and the version from after it.
func (o *order) look(torn bool) {
	for range 20 {
		switch o.update.Doing().Kind {
		case fsm.ActionNone:
			if !o.update.Active() {
				return
			}
			o.now = o.update.Wake()
			o.step(fsm.Observation{Kind: fsm.ObserveTimer})
		case fsm.ActionRead:
			p := o.pictures[o.at]
			if torn {
				o.goOn()
				p.version = o.pictures[o.at].version
			}
			o.done(fsm.CodeContent, o.shows(p))
			return
		default:
			if !o.answer() {
				return
			}
		}
	}
}

// answer ends the action under way, and reports false if the server begins something else than the
// installation.
func (o *order) answer() bool {
	p := o.pictures[o.at]
	switch o.update.Doing().Kind {
	case fsm.ActionRead, fsm.ActionObserve:
		o.done(fsm.CodeContent, o.shows(p))
	case fsm.ActionExecute:
		if p.state != fsm.Downloaded {
			o.done(fsm.CodeMethodNotAllowed, fsm.Reading{})
			return true
		}
		o.done(fsm.CodeChanged, fsm.Reading{})
		if o.again != nil {
			o.pictures, o.registers = o.again.pictures, o.again.registers
		}
		o.begin()
	default:
		return false
	}
	return true
}

// end lets the device go on to its last picture, and returns the outcome.
func (o order) end() string {
	for range 1000 {
		switch {
		case !o.update.Active():
			return fmt.Sprintf("%s (%d), %s", o.update.Outcome, o.update.Result, o.update.Reason)
		case o.at < len(o.pictures)-1:
			o.goOn()
		case o.handled < o.sent:
			o.register()
		case o.update.Doing().Kind == fsm.ActionNone:
			o.now = o.update.Wake()
			o.step(fsm.Observation{Kind: fsm.ObserveTimer})
		case !o.answer():
			return "another attempt"
		}
	}
	return "no end"
}

// explore takes all orders from here, and calls visit with each.
func (o order) explore(visit func(order)) {
	if o.handled < o.sent && o.now.Sub(o.since) > 50*time.Second {
		return // the device was not silent for so long
	}
	visit(o)
	next := func(step string, do func(*order)) {
		n := o
		n.path += step
		do(&n)
		n.now = n.now.Add(100 * time.Millisecond)
		n.explore(visit)
	}
	active := o.update.Active()
	more := o.at < len(o.pictures)-1
	if more {
		next(" goes-on", (*order).goOn)
	}
	if o.handled < o.sent {
		next(" registers", (*order).register)
	}
	if !active || o.looks == 0 {
		return
	}
	next(" notifies", func(n *order) {
		n.looks--
		n.step(fsm.Observation{Kind: fsm.ObserveHint, Reading: fsm.Reading{State: fsm.Known(n.pictures[n.at].state)}})
		n.look(false)
	})
	next(" is-read", func(n *order) {
		n.looks--
		n.look(false)
	})
	if more {
		next(" is-read-while-it-goes-on", func(n *order) {
			n.looks--
			n.look(true)
		})
	}
}

// String returns what happened in which order.
func (o *order) String() string { return o.does + ":" + o.path }

// TestOrders tells the server what a device does in every order of its registration, notifications,
// polls and reads, also reads that the device answers in the middle of a change. The outcome is
// always the same.
func TestOrders(t *testing.T) {
	looks := 4
	if testing.Short() || raceEnabled {
		looks = 3
	}
	for _, s := range stories() {
		t.Run(strings.ReplaceAll(s.does, " ", "_"), func(t *testing.T) {
			for _, slow := range []bool{false, true} {
				o := order{story: s, hand: *executed(fsm.Plan{Target: newVersion}, oldVersion), looks: looks}
				if slow {
					// It shows for a while that it has not begun.
					o.pictures = slices.Insert(slices.Clone(s.pictures), 0, downloaded)
					o.registers = slices.Clone(s.registers)
					for i := range o.registers {
						o.registers[i]++
					}
				}
				o.begin()
				n := 0
				o.explore(func(o order) {
					n++
					require.Equal(t, s.want, o.end(), "the device %s", &o)
				})
				t.Logf("%d orders", n)
			}
		})
	}
}
