package work

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A series of pauses begins with the first, doubles, and stays at the longest; the first counts if
// it is longer.
func TestBackoff(t *testing.T) {
	var b Backoff
	for range 2 {
		for _, want := range []time.Duration{2, 4, 8, 15, 15} {
			require.Equal(t, want*time.Second, b.Next(2*time.Second, 15*time.Second))
		}
		b = 0
	}
	require.Equal(t, time.Minute, b.Next(time.Minute, time.Second))
	for range 1000 {
		require.InDelta(t, 75, Spread(100), 25)
		require.Zero(t, Spread(0))
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		begin := time.Now()
		require.True(t, Sleep(ctx, time.Minute))
		require.Equal(t, time.Minute, time.Since(begin))
		require.False(t, Sleep(ctx, time.Minute))
		require.Equal(t, 90*time.Second, time.Since(begin))
	})
}

// Guard returns what the function returns; a panic and the end of the goroutine are logged.
func TestGuard(t *testing.T) {
	var lines bytes.Buffer
	log := slog.New(slog.NewTextHandler(&lines, nil))
	failed := errors.New("failed")
	n, err := Guard(log, "Fine", func() (int, error) { return 7, failed })
	require.Equal(t, 7, n)
	require.Equal(t, failed, err)
	require.Empty(t, lines.String())
	_, err = Guard(log, "Bad", func() (int, error) { panic("boom") })
	require.ErrorIs(t, err, ErrPanicked)
	require.ErrorContains(t, err, "Bad: boom")
	require.Contains(t, lines.String(), "function=Bad panic=boom")
	done := make(chan struct{})
	go func() {
		defer close(done)
		GuardFunc(log, "Gone", runtime.Goexit)
	}()
	<-done
	require.Contains(t, lines.String(), "function=Gone")
}
