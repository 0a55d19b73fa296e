package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// exec starts a client that replaces itself.
func (w *world) exec(trust string, more ...string) *process {
	return w.client(append([]string{"-endpoint", "self", "-install", "exec", "-trust", trust}, more...)...)
}

func TestExecReplacesItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trust, sign := w.keys()
	p := w.exec(trust)
	u := w.end(w.start("self", w.image("1.1.0", sign("1.1.0")), pull), time.Minute)
	require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u))
	require.Equal(t, "1.1.0", w.version("self"))

	// A restart runs the installed version, which accepts the next one by push.
	p.kill()
	p = w.exec(trust)
	u = w.end(w.start("self", w.image("1.2.0", sign("1.2.0"))), time.Minute)
	require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u))

	// It stops on a signal.
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	select {
	case <-p.done:
		require.NoError(t, p.err)
	case <-time.After(20 * time.Second):
		require.FailNow(t, "it does not stop")
	}
}

func TestExecRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trust, sign := w.keys()
	w.exec(trust, "-version", "2.0.0")
	damaged := sign("2.2.0")
	damaged[len(damaged)-1] ^= 1
	for name, tc := range map[string]struct {
		version string
		content []byte
		result  fsm.Result
	}{
		"not a bundle": {"2.1.0", []byte("#!/bin/sh\n"), fsm.ResultUnsupFirmware},
		"old version":  {"1.9.0", sign("1.9.0"), fsm.ResultUnsupFirmware},
		"damaged":      {"2.2.0", damaged, fsm.ResultIntegrityFailed},
	} {
		t.Run(name, func(t *testing.T) {
			u := w.end(w.start("self", w.image(tc.version, tc.content), pull), time.Minute)
			require.Equal(t, fsm.OutcomeFailed, u.Machine.Outcome, w.journal(u))
			require.Equal(t, tc.result, u.Machine.Reported, w.journal(u))
		})
	}
	require.Equal(t, "2.0.0", w.version("self"))
}

// TestExecRollsBack installs versions that do not work; the device returns to the previous one, and
// the server reports that.
func TestExecRollsBack(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{faultNoRegister, faultCrash} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			trust, sign := w.keys()
			w.exec(trust, "-fault", fault, "-confirm-within", "1s")
			u := w.end(w.start("self", w.image("1.1.0", sign("1.1.0")), pull), 2*time.Minute)
			require.Equal(t, fsm.OutcomeRolledBack, u.Machine.Outcome, w.journal(u))
			require.Equal(t, "1.0.0", w.version("self"))
		})
	}
}

// TestExecNotStartable installs a signed image that is no program.
func TestExecNotStartable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trust, _ := w.keys()
	w.exec(trust)
	u := w.end(w.start("self", w.image("1.1.0", w.signed("1.1.0", []byte("no program"))), pull), 2*time.Minute)
	require.Equal(t, fsm.OutcomeRolledBack, u.Machine.Outcome, w.journal(u))
}

// TestExecKilledAtRandom kills the supervisor repeatedly in mid-update. The device's process dies
// with it.
func TestExecKilledAtRandom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trust, sign := w.keys()
	p := w.exec(trust)
	kills := 6
	if testing.Short() {
		kills = 2
	}
	u := w.start("self", w.image("1.1.0", sign("1.1.0")), pull)
	for range kills {
		<-time.After(time.Duration(rand.IntN(400)) * time.Millisecond) // the test is about the moment
		p.kill()
		p = w.exec(trust)
	}
	u = w.end(u, 3*time.Minute)
	require.Contains(t, []fsm.Outcome{fsm.OutcomeSucceeded, fsm.OutcomeRolledBack}, u.Machine.Outcome, w.journal(u))
	want := "1.0.0" // a version is given up after three interrupted starts
	if u.Machine.Outcome == fsm.OutcomeSucceeded {
		want = "1.1.0"
	}
	require.Equal(t, want, w.version("self"))
}

// TestDeviceProcessKilled kills only the device's process; the supervisor starts it again.
func TestDeviceProcessKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trust, _ := w.keys()
	p := w.exec(trust)
	w.version("self")
	require.Eventually(t, func() bool { return p.child() != 0 }, 20*time.Second, 10*time.Millisecond)
	first := p.child()
	child, err := os.FindProcess(first)
	require.NoError(t, err)
	require.NoError(t, child.Kill())
	require.Eventually(t, func() bool { return p.child() != first }, 20*time.Second, 50*time.Millisecond)
	require.FileExists(t, filepath.Join(w.dir, "self", "lock"))
}
