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

func TestQuickstartInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(2*time.Second, func() { cancel(errors.New("interrupted")) })
	begin := time.Now()
	_, err := play(t, ctx, quickstart{imageSize: 64 << 20, limit: time.Minute}, false)
	require.ErrorContains(t, err, "interrupted")
	require.Less(t, time.Since(begin), 20*time.Second)
}
