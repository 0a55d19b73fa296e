package fsm_test

import (
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

var (
	faults = flag.Int("faults", 2, "how many faults the model check combines")
	every  = flag.Bool("every", false, "run every combination, not only a sample")
)

// clients returns the habits that the model check runs against.
func clients() []habits {
	pull := fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPull}
	push := fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPush}
	forced := fsm.Plan{Target: oldVersion, Size: 1000, Delivery: fsm.DeliveryPull, Force: true}
	byResult := fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPull, Verify: fsm.VerifyResult}
	fixedHost := byResult
	fixedHost.Profile = fsm.Profile{Name: "fixed-host", PathOnly: true, Reset: fsm.ResetNone}
	cannotReset := pull
	cannotReset.Profile = fsm.Profile{Name: "fixed-host", PathOnly: true, Reset: fsm.ResetNone}
	short := push
	short.Limits.Transferring = 600e9

	forModel, forcedModel := pull, forced
	forModel.Compatible = fsm.Compatible{Model: "S1"}
	forcedModel.Compatible, forcedModel.Target = forModel.Compatible, newVersion
	pushModel := push
	pushModel.Compatible = forModel.Compatible

	two := []fsm.Hold{{Holder: "operator", Reason: "the site is watched"}, {Holder: "window"}}
	succeeded := []fsm.Outcome{fsm.OutcomeSucceeded}
	rolledBack := []fsm.Outcome{fsm.OutcomeRolledBack}
	failed := []fsm.Outcome{fsm.OutcomeFailed}
	timedOut := []fsm.Outcome{fsm.OutcomeTimedOut}
	return []habits{
		{name: "by the book, pull", plan: pull, pushShown: true, expect: succeeded},
		{name: "by the book, push", plan: push, pushShown: true, expect: succeeded},
		{name: "anjay, push", plan: push, expect: succeeded},
		{name: "zephyr, pull", plan: pull, stateFirst: true, ram: true, deafToReset: true, expect: succeeded},
		{name: "zephyr, push", plan: push, pushShown: true, stateFirst: true, ram: true, deafToReset: true, stuckPush: true, expect: succeeded},
		{name: "never notifies", plan: pull, silent: true, expect: succeeded},
		{name: "reports no result", plan: pull, mute: true, expect: succeeded},
		{name: "updates by itself", plan: pull, auto: true, expect: succeeded},
		{name: "installs in place", plan: pull, inPlace: true, expect: succeeded},
		{name: "fixed host", plan: fixedHost, inline: true, inPlace: true, constant: true, expect: succeeded},
		{name: "version does not follow", plan: byResult, constant: true, expect: succeeded},
		{name: "connection lost twice", plan: pull, downloadFails: []fsm.Result{4, 4}, expect: succeeded},
		{name: "invalid URI once", plan: pull, downloadFails: []fsm.Result{7}, expect: succeeded},
		{name: "protocol unsupported once", plan: pull, downloadFails: []fsm.Result{9}, expect: succeeded},
		{name: "install fails once", plan: pull, installFails: []fsm.Result{8}, expect: succeeded},
		{name: "deferred once", plan: pull, installFails: []fsm.Result{11}, expect: succeeded},
		{name: "otago, pull", plan: pull, object: true, expect: succeeded},
		{name: "otago, push", plan: push, object: true, expect: succeeded},
		{name: "otago, connection lost", plan: pull, object: true, downloadFails: []fsm.Result{4}, expect: succeeded},
		{name: "otago, rolls back", plan: pull, object: true, oldAgain: true, expect: rolledBack},
		{name: "otago, integrity failed", plan: pull, object: true, downloadFails: slices.Repeat([]fsm.Result{5}, 9), expect: failed},
		{name: "locks itself", plan: push, locks: true, expect: succeeded},
		{name: "stale result", plan: pull, stale: 5, keepsResult: true, expect: succeeded},
		{name: "the same failure again", plan: pull, stale: 5, keepsResult: true, quick: true, downloadFails: slices.Repeat([]fsm.Result{5}, 9), expect: failed},
		{name: "fails at once", plan: pull, quick: true, downloadFails: slices.Repeat([]fsm.Result{6}, 9), expect: failed},
		{name: "integrity failed", plan: pull, downloadFails: slices.Repeat([]fsm.Result{5}, 9), expect: failed},
		{name: "integrity failed, state first", plan: pull, stateFirst: true, downloadFails: slices.Repeat([]fsm.Result{5}, 9), expect: failed},
		{name: "install fails", plan: pull, installFails: slices.Repeat([]fsm.Result{8}, 9), expect: failed},
		{name: "rolls back", plan: pull, oldAgain: true, expect: rolledBack},
		{name: "rolls back, answers before it registers", plan: pull, oldAgain: true, early: true, expect: rolledBack},
		{name: "rolls back, no result, answers before it registers", plan: pull, oldAgain: true, ram: true, early: true, expect: rolledBack},
		{name: "answers before it registers", plan: pull, early: true, expect: succeeded},
		{name: "the same version, forced, answers before it registers", plan: forced, early: true, expect: succeeded},
		{name: "install fails, answers before it registers", plan: pull, early: true, restartFails: slices.Repeat([]fsm.Result{8}, 9), expect: rolledBack},
		{name: "integrity of the installation, answers before it registers", plan: pull, early: true, restartFails: slices.Repeat([]fsm.Result{5}, 9), expect: failed},
		{name: "rolls back, no result", plan: pull, oldAgain: true, ram: true, expect: rolledBack},
		{name: "lies", plan: pull, liar: true, expect: failed},
		{name: "never comes back", plan: pull, dead: true, expect: timedOut},
		{name: "never comes back, in queue mode", plan: pull, dead: true, queue: true, expect: timedOut},
		{name: "stub", plan: short, stub: true, silent: true, expect: timedOut},
		{name: "foreign package, pull", plan: pull, foreign: true, expect: succeeded},
		{name: "foreign package, push", plan: push, foreign: true, expect: succeeded},
		{name: "foreign package, refuses", plan: cannotReset, foreign: true, whenFull: "refuses", expect: failed},
		{name: "foreign package, ignores", plan: cannotReset, foreign: true, whenFull: "ignores", expect: failed},
		{name: "foreign package, fetches", plan: cannotReset, foreign: true, whenFull: "fetches", expect: succeeded},
		{name: "another transfer, push", plan: push, other: true, expect: succeeded},
		{name: "another transfer, pull", plan: pull, other: true, expect: succeeded},
		{name: "another server is quicker, pull", plan: pull, races: true, expect: succeeded},
		{name: "another server is quicker, push", plan: push, races: true, expect: succeeded},
		{name: "the same version, forced", plan: forced, expect: succeeded},
		{name: "the same version, forced, no result", plan: forced, mute: true, expect: []fsm.Outcome{fsm.OutcomeSucceeded, fsm.OutcomeFailed}},
		{name: "no object", plan: pull, noObject: true, expect: failed},
		{name: "a State of 43", plan: pull, nonsense: true, expect: failed},
		{name: "the object vanishes", plan: pull, vanishes: true, expect: succeeded},
		{name: "the image's model", plan: forModel, model: "S1", expect: succeeded},
		{name: "another model", plan: forModel, model: "S10", foreign: true, expect: failed},
		{name: "another model, push", plan: pushModel, model: "s1", other: true, expect: failed},
		{name: "says no model", plan: forModel, stale: 5, expect: failed},
		{name: "another model, forced", plan: forcedModel, model: "S2", expect: succeeded},
		{name: "held by two", plan: pull, holds: two, releases: []release{{30 * time.Hour, "window"}, {40 * time.Hour, "operator"}}, expect: succeeded},
		{name: "held until", plan: push, holds: []fsm.Hold{{Holder: "window", Until: epoch.Add(30 * time.Hour)}}, expect: succeeded},
		{name: "held, forgets", plan: pull, ram: true, holds: two, releases: []release{{30 * time.Hour, "operator"}, {40 * time.Hour, "window"}}, expect: succeeded},
		{name: "held, lists that it updates by itself", plan: pull, lists: true, holds: two[:1], releases: []release{{30 * time.Hour, "operator"}}, expect: succeeded},
		{name: "lists that it updates by itself", plan: pull, lists: true, expect: succeeded},
	}
}

// TestModel runs every client with every combination of two faults (a sample of them, unless the
// flag -every is set): a lost request, answer or notification, a death of the server before or
// after an action, a reboot of the device at any of these points, an Execute that arrives twice.
// The invariants are checked at each step (see [sim.invariants]).
func TestModel(t *testing.T) {
	budget := *faults
	if testing.Short() || raceEnabled {
		budget = 1
	}
	for _, h := range clients() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			n := explore(t, h, budget, *every, func(s *sim) {
				u := s.update
				if u.Outcome == fsm.OutcomeRolledBack && h.ram && s.device.truth().boots > 0 {
					// Execute was not answered. The device forgets everything by a reboot and is
					// back with its old version, so the server cannot know whether it tried.
					s.check(s.device.truth().version == oldVersion, "a device that was rolled back runs its old version")
					return
				}
				if u.Outcome == fsm.OutcomeRolledBack && len(h.installFails) > 0 && s.device.truth().boots > 0 {
					// An installation that failed and a restart look like a rollback.
					s.check(s.device.truth().version == oldVersion && u.Reported == fsm.ResultUpdateFailed, "a device that was rolled back runs its old version")
					return
				}
				s.check(slices.Contains(h.expect, u.Outcome), "the outcome is one of %v, not %s (%s, %s)", h.expect, u.Outcome, u.Result, u.Reason)
				if u.Outcome == fsm.OutcomeSucceeded && u.Plan.Verify == fsm.VerifyVersion {
					s.check(s.device.truth().version == u.Plan.Target, "a success runs the target version")
				}
				s.check(u.Outcome != fsm.OutcomeSucceeded || s.device.truth().installs > 0, "invariant 2: a success was installed")
				s.check(s.device.truth().installs <= 1 || u.Plan.Force, "it is installed once")
			})
			t.Logf("%d runs", n)
		})
	}
}

// TestCancelAnywhere cancels every client's update before each of its steps: it ends at once, and
// stays ended whatever the device then does.
func TestCancelAnywhere(t *testing.T) {
	for _, h := range clients() {
		for step := 2; ; step++ {
			s := &sim{t: t, now: epoch, intrude: step, intruder: fsm.Observation{Kind: fsm.ObserveCancel}}
			s.play(h)
			if s.update.Outcome != fsm.OutcomeCancelled {
				s.check(s.steps < step+2, "a cancelled update is cancelled")
				break
			}
			s.check(s.update.Result == fsm.ResultCancelled, "a cancelled update has result 10")
		}
	}
}

// TestDeadlineAnywhere lets the deadline pass at each step: the update ends at once as timed out,
// unless the device already runs the target version.
func TestDeadlineAnywhere(t *testing.T) {
	for _, h := range clients() {
		if len(h.holds) > 0 {
			continue // holds move the deadline
		}
		for step := 2; ; step++ {
			s := &sim{t: t, now: epoch, intrude: step, intruder: fsm.Observation{Kind: fsm.ObserveTimer}}
			s.late = 25 * time.Hour
			s.play(h)
			if s.steps < step {
				break
			}
			switch u := s.update; {
			case u.Reason == fsm.ReasonDeadline:
				s.check(u.Outcome == fsm.OutcomeTimedOut && (u.Result == fsm.ResultConnectionLost || u.Result == fsm.ResultUpdateFailed || u.Result == u.Failure),
					"the deadline gives timed_out with the last failure, or result 4 or 8")
			case h.early && !slices.Contains(h.expect, u.Outcome) && u.Outcome == fsm.OutcomeFailed:
				s.check(u.Reported == fsm.ResultUpdateFailed, "the server had not heard of its registration")
			default:
				s.check(slices.Contains(h.expect, u.Outcome), "it had ended before as it should: %s", u.Outcome)
			}
		}
	}
}
