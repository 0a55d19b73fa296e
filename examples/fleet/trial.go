package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// A trial is one rollout, during which the server is killed at random. It goes on after each trip,
// the third time without a limit of bad devices. At the end nothing must be wrong by the devices'
// own counts.
type trial struct {
	measurement
	out      io.Writer
	random   *rand.Rand
	kills    int           // still to come
	pause    time.Duration // between two of them, on average
	next     time.Time     // when the next one is due
	trips    int
	problems []string
}

// runTrial runs a trial, and returns an error if something is wrong.
func runTrial(ctx context.Context, o options, out, log io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "otago-fleet-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	seed := cmp.Or(o.seed, rand.Uint64())
	t := &trial{
		measurement: measurement{o: o, log: log, role: serverRole{Fleet: o.fleet, Dir: dir, Disk: o.disk, LogLevel: o.logLevel, Rollouts: true}},
		out:         out, random: rand.New(rand.NewPCG(seed, 0)), kills: o.kills,
		pause: max(2*time.Second, time.Duration(o.fleet.Devices)*10*time.Millisecond), // a rollout takes longer
	}
	fmt.Fprintf(out, "trial: %d devices, %d kills, %d at a time, -seed %d\n", o.fleet.Devices, o.kills, o.atATime, seed)
	if err := t.startServer(ctx); err != nil {
		return err
	}
	defer func() { err = joinNew(err, t.server.stop()) }()
	address, err := netip.ParseAddrPort(t.ready.CoAP)
	if err != nil {
		return err
	}
	t.devices, err = startChild(ctx, "devices", role{Devices: &devicesRole{Fleet: o.fleet, Server: address}}, io.Discard)
	if err != nil {
		return err
	}
	defer func() { err = joinNew(err, t.devices.stop()) }()
	if err := t.devices.wait(ctx, &devicesReport{}); err != nil {
		return err
	}
	if err := t.play(ctx); err != nil {
		return err
	}
	return t.verdict(ctx)
}

// play runs the rollout until every device that answers has its end.
func (t *trial) play(ctx context.Context) error {
	begin, reported := time.Now(), time.Now()
	if err := t.create(ctx); err != nil {
		return err
	}
	t.plan()
	for ctx.Err() == nil {
		if t.kills > 0 && time.Now().After(t.next) {
			if err := t.killServer(ctx); err != nil {
				return err
			}
		}
		state, err := t.ask(ctx, "state")
		if err != nil {
			return err
		}
		if time.Since(reported) > 20*time.Second {
			reported = time.Now()
			if state, err = t.ask(ctx, "audit"); err != nil {
				return err
			}
			total := state.Machine.Total
			fmt.Fprintf(t.out, "%8s: stage %d %s, %d waiting, %d active, %d ended, %d kills to come; %s\n", brief(time.Since(begin)), state.Machine.Stage+1,
				state.Machine.StageState, total.Waiting, total.Active, total.Succeeded+total.Failed+total.RolledBack+total.Skipped, t.kills, strings.Join(state.Active, "; "))
			if n := len(state.Open); t.kills == 0 && n > 0 && n <= 5 {
				fmt.Fprintf(t.out, "          the last ones: %s\n", strings.Join(state.Open, "; "))
			}
		}
		switch {
		case time.Since(begin) > t.o.timeout:
			t.problem("it is not over after %s", t.o.timeout)
			return nil
		case state.ID == "":
			if _, err := t.ask(ctx, "create"); err != nil {
				return err
			}
		case state.Machine.State == fsm.StatePaused:
			if err := t.tripped(ctx, state); err != nil {
				return err
			}
		case state.Machine.State == fsm.StateEnded:
			fmt.Fprintf(t.out, "ended after %s\n", brief(time.Since(begin)))
			return nil
		case t.kills == 0 && t.settled(&state.Machine):
			done, err := t.done(ctx)
			if err != nil {
				return err
			}
			if done {
				fmt.Fprintf(t.out, "every device that answers has its end after %s; the rollout is stopped\n", brief(time.Since(begin)))
				return t.stop(ctx)
			}
		}
		sleep(ctx, 200*time.Millisecond)
	}
	return context.Cause(ctx)
}

// plan sets when the server is killed next.
func (t *trial) plan() {
	t.next = time.Now().Add(time.Duration(t.random.ExpFloat64() * float64(t.pause)))
}

// create creates the rollout, and kills the server meanwhile.
func (t *trial) create(ctx context.Context) error {
	command := t.command("create")
	if t.kills > 0 && t.random.IntN(2) == 0 {
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			var state rolloutState
			_ = t.server.ask(ctx, command, &state) // the kill may come first
		}()
		sleep(ctx, time.Duration(t.random.Int64N(int64(100*time.Millisecond))))
		t.server.interrupt()
		<-sent
		return t.killServer(ctx)
	}
	return t.server.ask(ctx, command, &rolloutState{})
}

func (t *trial) command(do string) command {
	return command{Rollout: &rolloutCommand{Do: do, Delivery: t.o.delivery, AtATime: t.o.atATime}}
}

func (t *trial) ask(ctx context.Context, do string) (state rolloutState, err error) {
	err = t.server.ask(ctx, t.command(do), &state)
	return state, err
}

// killServer kills the server, and starts it again.
func (t *trial) killServer(ctx context.Context) error {
	t.server.kill()
	t.kills--
	sleep(ctx, time.Duration(t.random.Int64N(int64(time.Second))))
	if err := t.startServer(ctx); err != nil {
		return err
	}
	t.plan()
	return nil
}

// tripped checks a rollout that has stopped, with a kill meanwhile if some are left, and has it go
// on.
func (t *trial) tripped(ctx context.Context, state rolloutState) error {
	m := &state.Machine
	t.trips++
	fmt.Fprintf(t.out, "trip %d: %s\n", t.trips, m.Detail)
	if m.Reason != fsm.ReasonTrip {
		t.problem("it is paused because of %s: %s", m.Reason, m.Detail)
	}
	if t.kills > 0 {
		if err := t.killServer(ctx); err != nil {
			return err
		}
	}
	for still := 0; still < 5 && ctx.Err() == nil; still++ { // what was under way ends
		sleep(ctx, 200*time.Millisecond)
		now, err := t.ask(ctx, "state")
		if err != nil {
			return err
		}
		if now.Machine.Slots.Installing > 0 || now.Machine.Slots.Granted > 0 {
			still = 0
		}
	}
	before, _, err := t.audit(ctx)
	if err != nil {
		return err
	}
	sleep(ctx, time.Second+t.o.fleet.Download) // what was held in its transfer has its package then
	after, standing, err := t.audit(ctx)
	if err != nil {
		return err
	}
	if a, b := standing.Machine.Total.Admitted(), m.Total.Admitted(); a > b {
		t.problem("%d members were admitted after the trip", a-b)
	}
	for endpoint, acts := range after.Devices {
		if acts.Executes > before.Devices[endpoint].Executes {
			t.problem("%s executes while the rollout stands", endpoint)
		}
	}
	if t.trips == 3 {
		if _, err := t.ask(ctx, "unlimited"); err != nil {
			return err
		}
	}
	_, err = t.ask(ctx, "resume")
	return err
}

// settled reports whether it may be that every device that answers has its end.
func (t *trial) settled(m *fsm.Rollout) bool {
	return m.Total.Waiting+m.Total.Active <= t.o.fleet.silent()
}

// done reports whether every device that answers has its end.
func (t *trial) done(ctx context.Context) (bool, error) {
	state, err := t.ask(ctx, "audit")
	return err == nil && len(state.Open) == 0, err
}

// stop stops the rollout: what waits for silent devices is over.
func (t *trial) stop(ctx context.Context) error {
	for ctx.Err() == nil {
		state, err := t.ask(ctx, "stop")
		if err != nil {
			return err
		}
		if state.Machine.State == fsm.StateEnded {
			return nil
		}
		sleep(ctx, 200*time.Millisecond)
	}
	return context.Cause(ctx)
}

func (t *trial) problem(format string, args ...any) {
	if len(t.problems) < 20 {
		t.problems = append(t.problems, fmt.Sprintf(format, args...))
	}
}

// audit asks devices and server what they have done, and compares.
func (t *trial) audit(ctx context.Context) (devices actsReport, state rolloutState, err error) {
	if err = t.devices.ask(ctx, command{Acts: true}, &devices); err != nil {
		return devices, state, err
	}
	if state, err = t.ask(ctx, "audit"); err != nil {
		return devices, state, err
	}
	for _, text := range state.Problems {
		t.problem("%s", text)
	}
	for endpoint, acts := range devices.Devices {
		if int(acts.Executes) > state.Executes[endpoint] {
			t.problem("%s has executed %d times, and the journal has %d", endpoint, acts.Executes, state.Executes[endpoint])
		}
		if acts.Installs > 1 {
			t.problem("%s has installed %d times", endpoint, acts.Installs)
		}
	}
	if devices.Transferring > t.o.atATime || devices.Installing > t.o.atATime {
		t.problem("%d devices transferred and %d installed at a time", devices.Transferring, devices.Installing)
	}
	return devices, state, nil
}

// verdict checks how each device ended.
func (t *trial) verdict(ctx context.Context) error {
	devices, state, err := t.audit(ctx)
	if err != nil {
		return err
	}
	want := map[kind]fsm.MemberState{
		live: fsm.MemberSucceeded, slow: fsm.MemberSucceeded, asleep: fsm.MemberSucceeded, failing: fsm.MemberFailed, lying: fsm.MemberFailed,
		rollingBack: fsm.MemberRolledBack, silent: fsm.MemberSkipped,
	}
	members := 0
	for what, n := range state.Kinds {
		members += n
		if k, s, _ := strings.Cut(what, " "); want[kind(k)] != fsm.MemberState(s) {
			t.problem("%d %s", n, what)
		}
	}
	if members != t.o.fleet.Devices {
		t.problem("%d of %d devices are members", members, t.o.fleet.Devices)
	}
	for i := range t.o.fleet.Devices {
		endpoint := t.o.fleet.endpoint(i)
		if got := devices.Devices[endpoint].Installs; (got == 1) != kindOf(endpoint).succeeds() {
			t.problem("%s has installed %d times", endpoint, got)
		}
	}
	for _, endpoint := range state.Open {
		t.problem("%s", endpoint)
	}
	fmt.Fprintf(t.out, "members: %s\n", outcomes(state.Kinds))
	fmt.Fprintf(t.out, "at a time, by the devices' count: %d transferred, %d installed\n", devices.Transferring, devices.Installing)
	fmt.Fprintf(t.out, "journal of the rollout:\n  %s\n", strings.Join(state.Journal, "\n  "))
	if len(t.problems) == 0 {
		return nil
	}
	fmt.Fprintf(t.out, "\nwrong:\n  %s\n", strings.Join(slices.Compact(t.problems), "\n  "))
	return fmt.Errorf("the trial found %d problems", len(t.problems))
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
