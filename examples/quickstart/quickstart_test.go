package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
)

// TestMain lets the test binary run as a device.
func TestMain(m *testing.M) {
	if os.Getenv(deviceVariable) != "" {
		os.Exit(cli.Status("device", os.Stderr, runDevice(context.Background())))
	}
	os.Exit(m.Run())
}

// play runs the quickstart in a temporary folder of its own, and checks that it leaves no file
// there.
func play(t *testing.T, ctx context.Context, q quickstart, terminal bool) (string, error) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir) // for systems that ignore TMPDIR
	var out bytes.Buffer
	err := q.run(ctx, newShow(&out, terminal))
	left, readErr := os.ReadDir(dir)
	require.NoError(t, readErr)
	require.Empty(t, left)
	return out.String(), err
}

func TestQuickstart(t *testing.T) {
	out, err := play(t, t.Context(), quickstart{imageSize: 1 << 20, limit: time.Minute}, false)
	require.NoError(t, err, out)
	for _, e := range endpoints {
		require.Regexp(t, regexp.MustCompile(e.name+` +1\.0\.0 +1\.1\.0 +success +succeeded +\d`), out)
		require.Regexp(t, regexp.MustCompile(e.name+` +\d+% +downloading +transferring`), out)
	}
	require.NotContains(t, out, "\x1b", "no control sequences where there is no terminal")
}

func TestQuickstartOnATerminal(t *testing.T) {
	out, err := play(t, t.Context(), quickstart{imageSize: 1 << 18, limit: time.Minute}, true)
	require.NoError(t, err, out)
	require.Contains(t, out, "\x1b[3A\x1b[2K", "bars are redrawn in place")
	require.Contains(t, out, strings.Repeat("█", barWidth))
}

func TestQuickstartSaysWhatFailed(t *testing.T) {
	var out string
	var err error
	for limit := 3 * time.Second; limit < time.Minute; limit *= 2 {
		out, err = play(t, t.Context(), quickstart{imageSize: 64 << 20, limit: limit}, false)
		require.ErrorContains(t, err, "not finished after "+limit.String())
		if strings.Contains(out, "(transferring)") {
			break // a slow machine takes more time to make the image
		}
	}
	require.ErrorContains(t, err, "sensor-1: ")
	require.ErrorContains(t, err, "waits for ")
	require.Contains(t, out, "(transferring)")
}

// TestRollout checks that a rollout over devices of which some refuse the image stops by itself.
func TestRollout(t *testing.T) {
	out, err := play(t, t.Context(), quickstart{imageSize: 1 << 14, limit: 2 * time.Minute, devices: 12, fail: 3}, false)
	require.NoError(t, err, out)
	require.Regexp(t, `wave 1 +1 device +1 updated\n`, out)
	require.Regexp(t, `wave 3 +3 devices +.*3 failed\n`, out)
	require.Regexp(t, `The rollout has stopped by itself: [23] of [23] devices are bad; while fewer than 20 are admitted, 1 may be\.\n`, out)
	require.Regexp(t, `\d devices run 1\.1\.0, 7 still run 1\.0\.0, and 3 have failed:\n(  sensor-0\d\d  failed: device_result \(integrity_failed\)\n){3}`, out)
	require.Contains(t, out, "/resume")
	require.NotContains(t, out, "\x1b")
}

func TestRolloutOnATerminal(t *testing.T) {
	out, err := play(t, t.Context(), quickstart{imageSize: 1 << 14, limit: 2 * time.Minute, devices: 4}, true)
	require.NoError(t, err, out)
	require.Contains(t, out, "\x1b[5A\x1b[2K", "bars are redrawn in place")
	require.Regexp(t, `wave 4 +2 devices +`+strings.Repeat("█", barWidth)+` 2 updated`, out)
	require.Contains(t, out, "Every device has ended: 4 succeeded, 0 failed, 0 rolled back, 0 skipped.")
}

func TestFlags(t *testing.T) {
	for _, args := range []string{"-devices -1", "-devices 501", "-fail 1", "-devices 2 -fail 3", "extra"} {
		_, err := parse(strings.Fields(args))
		require.ErrorIs(t, err, cli.ErrUsage, args)
	}
	q, err := parse(nil)
	require.NoError(t, err)
	require.Zero(t, q.devices, "without flags there is no rollout")
}

func TestQuickstartInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(2*time.Second, func() { cancel(errors.New("interrupted")) })
	begin := time.Now()
	_, err := play(t, ctx, quickstart{imageSize: 64 << 20, limit: time.Minute}, false)
	require.ErrorContains(t, err, "interrupted")
	require.Less(t, time.Since(begin), 20*time.Second)
}
