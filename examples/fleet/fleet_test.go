package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// TestMain lets the test binary run as a server or as a process of devices.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Exit(runRole())
	}
	os.Exit(m.Run())
}

// play runs the program with a temporary folder of its own, and checks that it leaves no file
// there.
func play(t *testing.T, ctx context.Context, args ...string) (string, error) {
	t.Helper()
	needsLinux(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir) // for systems that ignore TMPDIR
	var out, errOut bytes.Buffer
	err := run(ctx, args, func(string) (string, bool) { return "", false }, &out, &errOut)
	left, readErr := os.ReadDir(dir)
	require.NoError(t, readErr)
	require.Empty(t, left)
	return out.String() + errOut.String(), err
}

func TestPull(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "50", "-silent", "0.3", "-slow", "150ms", "-slow-share", "0.2", "-timeout", "1m")
	require.NoError(t, err, out)
	require.Contains(t, out, "fleet: 28 live devices, 7 slow, 15 silent; 4096 bytes by pull; store: bolt")
	require.Regexp(t, `live devices +35 succeeded`, out)
	require.Regexp(t, `silent devices +15 \w`, out)
	require.Regexp(t, `run the version +35 devices after 35 installations`, out)
	require.Regexp(t, `CoAP messages +\d+\.\d +15\.0 +\d`, out)
	require.Regexp(t, `commits, Registers not counted +\d+\.\d +4\.0 +\d`, out)
	require.Regexp(t, `server, messages: .*2\.00 register`, out)
	require.Contains(t, out, "yardstick, commits: 1.00 before execute; 1.00 before the write; 1.00 create; 1.00 end")
	require.Regexp(t, `devices +35 Registers, 0 Updates of registrations, 35 downloads and 0 failed ones`, out)
}

// TestRollout makes the same campaign by single updates and as a rollout.
func TestRollout(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "40", "-failing", "0.1", "-rolling-back", "0.1", "-rollout", "-at-a-time", "10",
		"-yardstick=false", "-timeout", "1m")
	require.NoError(t, err, out)
	require.Regexp(t, `as a rollout: 40 members planned in \S+, created in \S+; 40 of 40 devices done in`, out)
	require.Regexp(t, `commits, Registers not counted +\d+\.\d +\d\.\d +\d\.\d\d`, out)
}

func TestPushAgainAndAgain(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "20", "-silent", "0.1", "-delivery", "push", "-campaigns", "2", "-size", "5000",
		"-yardstick=false", "-memory", "-json", "-timeout", "1m")
	require.NoError(t, err, out)
	var runs []result
	require.NoError(t, json.Unmarshal([]byte(out), &runs), out)
	require.Len(t, runs, 1)
	require.Len(t, runs[0].Campaigns, 2)
	for i, c := range runs[0].Campaigns {
		require.Equal(t, versionOf(i+1), c.Server.Version)
		require.Equal(t, 18, c.Server.Done)
		require.Equal(t, map[string]int{versionOf(i + 1): 18}, c.Devices.Versions)
		require.Zero(t, c.Devices.Downloads)
		require.Equal(t, 18, c.Server.Actions["push"].Done)
		require.Greater(t, c.Server.commits(), uint64(18))
		require.Greater(t, c.Devices.Live.Sent, uint64(18*10))
		require.Zero(t, c.Devices.Silent.Sent, "a silent device answers nothing")
	}
	require.Equal(t, map[string]int{"busy with the update of an earlier campaign": 2}, runs[0].Campaigns[1].Server.Silent)
}

// TestLoss makes devices and server retransmit.
func TestLoss(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "8", "-loss", "0.02", "-yardstick=false", "-memory", "-json", "-timeout", "2m")
	require.NoError(t, err, out)
	var runs []result
	require.NoError(t, json.Unmarshal([]byte(out), &runs), out)
	require.Equal(t, 8, runs[0].Campaigns[0].Server.Done)
}

func TestCompare(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "20", "-silent", "0.5", "-yardstick=false", "-compare", "-memory", "-timeout", "1m")
	require.NoError(t, err, out)
	require.Contains(t, out, "fleet: 10 live devices; ")
	require.Contains(t, out, "fleet: 10 live devices, 10 silent; ")
	require.Regexp(t, `live devices done in a second: \d+\.\d alone, \d+\.\d beside the silent ones; ratio \d`, out)
}

// TestWrongOutcome lets the time run out: then every device is wrong, is named, and its journal is
// printed.
func TestWrongOutcome(t *testing.T) {
	var out string
	var err error
	for limit := 2 * time.Second; limit < time.Minute; limit *= 2 {
		out, err = play(t, t.Context(), "-devices", "10", "-restart", "10m", "-campaigns", "2", "-yardstick=false", "-memory", "-timeout", limit.String())
		require.EqualError(t, err, "version 1.1.0: 10 of 10 devices have a wrong outcome")
		if strings.Contains(out, "s execute") {
			break // a slow machine takes more time to get there
		}
	}
	require.Regexp(t, `live devices +10 \w+, waits for `, out)
	require.Regexp(t, `wrong: live-00000\d: `, out)
	require.Regexp(t, `\d\.\d{3}s execute`, out)
	require.NotContains(t, out, "version 1.2.0", "no campaign follows one that failed")
}

// TestKilledServer checks that a server that is killed goes on where it was.
func TestKilledServer(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "50", "-updates", "40", "-failing", "0.1",
		"-kill", "0.3", "-yardstick=false", "-timeout", "2m")
	require.NoError(t, err, out)
	require.Regexp(t, `live devices +36 succeeded \(version\); 4 failed \(device_result\)`, out)
	require.Regexp(t, `run the version +36 devices after 36 installations`, out)
}

// TestOther prints the second table.
func TestOther(t *testing.T) {
	if testing.Short() {
		t.Skip("the server stores refreshed lifetimes after a while, which the test waits for")
	}
	out, err := play(t, t.Context(), "-devices", "20", "-campaigns", "0", "-other", "-ended", "1500", "-scale", "1000",
		"-restart", "10ms", "-yardstick=false")
	require.NoError(t, err, out)
	for _, line := range []string{
		`memory of a registered device +\d`,
		`10 followers of the event stream +\S+ of processor time for an update, \S+ without: ratio \d`,
		`lifetimes refreshed, 10ms for each transaction +20 answered in \S+, 20 stored in .*; 0 commits failed`,
		`Registers at once +20 in \S+; 0 datagrams dropped`,
		`page of updates +\S+ at most, of 2 pages with 1560 items`,
		`page of updates\?outcome=cancelled +\S+ at most, of \d+ pages with 0 items`,
		`page of devices +\S+ at most, of 1 pages with 20 items`,
		`processor time of an update, 1000 devices +\d`,
	} {
		require.Regexp(t, line, out)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(2*time.Second, func() { cancel(errors.New("interrupted")) })
	begin := time.Now()
	out, err := play(t, ctx, "-devices", "10", "-restart", "1h", "-timeout", "1h")
	require.EqualError(t, err, "interrupted", out)
	require.Less(t, time.Since(begin), 30*time.Second)
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"-devices", "0"}, {"-silent", "1"}, {"-silent", "NaN"}, {"-loss", "1"}, {"-size", "1"}, {"-delivery", "mail"}, {"-compare"},
		{"-timeout", "0s"}, {"-campaigns", "-1"}, {"-silent", "0.5", "-lying", "0.6"}, {"-kill", "1"}, {"-kill", "0.1", "-memory"}, {"-disk", "-1s"}, {"-at-a-time", "-1"}, {"-trial", "-1"}, {"-trial", "1", "-memory"}, {"-ended", "0"}, {"-updates", "-1"}, {"-scale", "0"}, {"-followers", "-1"}, {"-slow", "2h"}, {"-lifetime", "1s"}, {"-restart", "-1s"}, {"extra"},
	} {
		_, err := play(t, t.Context(), args...)
		require.ErrorIs(t, err, cli.ErrUsage, "%s", args)
	}
	_, err := play(t, t.Context(), "-devices", "10", "-log-level", "loud")
	require.ErrorContains(t, err, "loud")
}

func TestKinds(t *testing.T) {
	f := fleet{Devices: 40_000, Silent: 0.3, Slow: time.Second, SlowShare: 0.1, Failing: 0.01, RollingBack: 0.02, Lying: 0.03, Asleep: 0.04}
	count, first := map[kind]int{}, map[kind]int{}
	for i := range f.Devices {
		count[f.kind(i)]++
		if i < 100 {
			first[f.kind(i)]++
		}
		require.Equal(t, f.kind(i), kindOf(f.endpoint(i)))
	}
	require.Equal(t, map[kind]int{
		live: 21_600, slow: 2_400, silent: 12_000, failing: 400, rollingBack: 800, lying: 1200, asleep: 1600,
	}, count)
	require.InDelta(t, 30, first[silent], 1, "they are spread evenly")
	require.InDelta(t, 54, first[live], 2)
}

// TestAddresses checks that no two devices ever share an address, and that an address leads to its
// device as long as that has it.
func TestAddresses(t *testing.T) {
	w := &world{role: devicesRole{Fleet: fleet{Devices: 5}}}
	for i := range 2 {
		s := &shard{w: w, index: i}
		for number := i; number < 5; number += 2 {
			s.devices = append(s.devices, device{s: s, number: uint32(number)})
		}
		w.shards = append(w.shards, s)
	}
	seen := map[uint32]bool{}
	for range 200 {
		for i := range 5 {
			s := w.shards[i%2]
			d := &s.devices[i/2]
			address := w.address(i, d.moves)
			require.False(t, seen[address])
			seen[address] = true
			require.Same(t, d, s.device(address))
			require.Nil(t, w.shards[1-i%2].device(address))
			d.moves++
			require.Nil(t, s.device(address), "it has moved")
		}
	}
	require.Nil(t, w.shards[0].device(127<<24|1))
	big := &world{role: devicesRole{Fleet: fleet{Devices: 1_000_000}}}
	require.Less(t, big.address(999_999, 255), uint32(128<<24-1))
}

func TestTimers(t *testing.T) {
	var h timers
	for i := range 1000 {
		h.push(timer{due: int64(i * 7919 % 1000), device: uint32(i)})
	}
	for i := range 1000 {
		require.Equal(t, int64(i), h.pop().due)
	}
	require.Empty(t, h)
}

func TestDigests(t *testing.T) {
	d := &digests{size: 4096, known: map[string][32]byte{}}
	take := func(b []byte) (uint16, bool) {
		i := newIntake()
		for len(b) > 0 {
			n, _ := i.Write(b[:min(10, len(b))])
			b = b[n:]
		}
		return d.check(i)
	}
	good := newPackage("1.2.0", 4096)
	version, ok := take(good)
	require.True(t, ok)
	require.Equal(t, uint16(2), version)
	for name, bad := range map[string][]byte{
		"nothing": nil, "short": good[:4095], "no first line": bytes.Repeat([]byte{'x'}, 4096),
		"changed": append(bytes.Clone(good[:4095]), good[4095]+1),
	} {
		_, ok := take(bad)
		require.False(t, ok, name)
	}
}

func TestKindOfCommit(t *testing.T) {
	step := store.ReplaceUpdate{Update: store.Update{Machine: fsm.Update{Phase: fsm.PhaseExecuting}}}
	ended := store.ReplaceUpdate{Update: store.Update{Machine: fsm.Update{Outcome: fsm.OutcomeFailed}}}
	for want, changes := range map[string][]store.Change{
		registering:                         {store.PutRegistration{}, store.PutRegistration{}},
		"create+journal":                    {store.CreateUpdate{}, store.AppendEvents{}},
		"step (executing)+journal+firmware": {step, store.PutFirmware{}, store.AppendEvents{}, step},
		"end+holds+other":                   {ended, store.PutHolds{}, store.DeleteDevice{}},
	} {
		require.Equal(t, want, kindOfCommit(changes).String())
	}
}

// TestTrial kills the server at random during a rollout, and judges by the devices' own counts.
func TestTrial(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute or two")
	}
	out, err := play(t, t.Context(), "-trial", "4", "-devices", "100", "-at-a-time", "40", "-failing", "0.06", "-rolling-back", "0.05",
		"-silent", "0.05", "-asleep", "0.1", "-sleep", "5s", "-download", "1s", "-timeout", "5m")
	t.Log(out)
	require.NoError(t, err, out)
	require.Regexp(t, `trip 1: `, out)
	require.Contains(t, out, "6 failing failed", out)
}
