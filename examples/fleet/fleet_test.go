package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
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
	require.Contains(t, out, "fleet: 28 live devices, 7 slow ones, 15 silent ones; 4096 bytes by pull; store: bolt")
	require.Regexp(t, `live devices +35 succeeded`, out)
	require.Regexp(t, `silent devices +15 \w`, out)
	require.Regexp(t, `run the version +35 of 35 live devices`, out)
	require.Regexp(t, `devices +35 Registers, 0 Updates of registrations, 35 downloads and 0 failed ones`, out)
}

func TestPushAgainAndAgain(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "20", "-silent", "0.1", "-delivery", "push", "-campaigns", "2", "-size", "5000",
		"-memory", "-json", "-timeout", "1m")
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
	out, err := play(t, t.Context(), "-devices", "8", "-loss", "0.02", "-memory", "-json", "-timeout", "2m")
	require.NoError(t, err, out)
	var runs []result
	require.NoError(t, json.Unmarshal([]byte(out), &runs), out)
	require.Equal(t, 8, runs[0].Campaigns[0].Server.Done)
}

func TestCompare(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "20", "-silent", "0.5", "-compare", "-memory", "-timeout", "1m")
	require.NoError(t, err, out)
	require.Contains(t, out, "fleet: 10 live devices, 0 slow ones, 0 silent ones")
	require.Contains(t, out, "fleet: 10 live devices, 0 slow ones, 10 silent ones")
	require.Regexp(t, `live devices done in a second: \d+\.\d alone, \d+\.\d beside the silent ones; ratio \d`, out)
}

// TestWrongOutcome lets the time run out: then every device is wrong, is named, and its journal is
// printed.
func TestWrongOutcome(t *testing.T) {
	out, err := play(t, t.Context(), "-devices", "10", "-restart", "1m", "-campaigns", "2", "-memory", "-timeout", "2s")
	require.EqualError(t, err, "version 1.1.0: 10 of 10 devices have a wrong outcome")
	require.Regexp(t, `live devices +10 \w+, waits for `, out)
	require.Regexp(t, `wrong: live-00000\d: `, out)
	require.Regexp(t, `\d\.\d{3}s execute`, out)
	require.NotContains(t, out, "version 1.2.0", "no campaign follows one that failed")
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
		{"-timeout", "0s"}, {"-campaigns", "0"}, {"-slow", "2h"}, {"-lifetime", "1s"}, {"-restart", "-1s"}, {"extra"},
	} {
		_, err := play(t, t.Context(), args...)
		require.ErrorIs(t, err, cli.ErrUsage, "%s", args)
	}
	_, err := play(t, t.Context(), "-devices", "10", "-log-level", "loud")
	require.ErrorContains(t, err, "loud")
}

func TestKinds(t *testing.T) {
	f := fleet{Devices: 40_000, Silent: 0.3, Slow: time.Second, SlowShare: 0.1}
	count := map[kind]int{}
	first := map[kind]int{}
	for i := range f.Devices {
		count[f.kind(i)]++
		if i < 100 {
			first[f.kind(i)]++
		}
	}
	require.Equal(t, map[kind]int{live: 25_200, slow: 2_800, silent: 12_000}, count)
	require.Equal(t, map[kind]int{live: 63, slow: 7, silent: 30}, first, "they are spread evenly")
	require.Equal(t, 12_000, f.silent())
}

func TestSplit(t *testing.T) {
	_, err := split(fleet{Devices: 100}, 256)
	require.EqualError(t, err,
		"100 devices need as many open files, and a process may have 256: raise the limit (ulimit -Hn), or have fewer devices")
	_, err = split(fleet{Devices: 100_000}, 1024)
	require.ErrorContains(t, err, "raise the limit")
	roles, err := split(fleet{Devices: 700}, 1024)
	require.NoError(t, err)
	require.Len(t, roles, 1)
	require.Equal(t, "127.0.0.1", roles[0].Local.String())
}

func TestDigests(t *testing.T) {
	d := &digests{size: 4096, known: map[string][32]byte{}}
	take := func(b []byte) (string, bool) {
		i := newIntake()
		for len(b) > 0 {
			n, _ := i.Write(b[:min(10, len(b))])
			b = b[n:]
		}
		return d.check(i)
	}
	good := newPackage("1.2.3", 4096)
	version, ok := take(good)
	require.True(t, ok)
	require.Equal(t, "1.2.3", version)
	for name, bad := range map[string][]byte{
		"nothing": nil, "short": good[:4095], "no first line": bytes.Repeat([]byte{'x'}, 4096),
		"changed": append(bytes.Clone(good[:4095]), good[4095]+1),
	} {
		_, ok := take(bad)
		require.False(t, ok, name)
	}
}
