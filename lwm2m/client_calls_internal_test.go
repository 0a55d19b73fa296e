package lwm2m

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCallsAreBounded: the running calls of each kind are bounded, and none begins once the client
// has ended.
func TestCallsAreBounded(t *testing.T) {
	c := newCalls(slog.New(slog.DiscardHandler))
	for s, limit := range map[scope]int{scope(5): 8, scopeComposite: 8, scopeClient: 1} {
		for range limit {
			require.NoError(t, c.enter(s))
		}
		require.ErrorIs(t, c.enter(s), ErrUnavailable)
		c.leave(s)
		require.NoError(t, c.enter(s))
	}
	require.NoError(t, c.enter(scope(3)), "another object")
	for _, s := range []scope{scopeAfter, scopeSink} {
		for range 8 {
			require.False(t, c.crowded(s))
			require.NoError(t, c.enter(s))
		}
		require.True(t, c.crowded(s))
		require.NoError(t, c.enter(s), "who checks is who asks whether it is crowded")
	}
	late := make(chan struct{})
	close(late)
	c.close(late)
	require.ErrorIs(t, c.enter(scope(4)), ErrUnavailable)
}

// TestCallAfterCall makes one call after the other in a scope that allows one at a time: none is
// refused.
func TestCallAfterCall(t *testing.T) {
	c := newCalls(slog.New(slog.DiscardHandler))
	for range 20_000 {
		_, err := call(t.Context(), c, scopeClient, "f", func() (struct{}, error) { return struct{}{}, nil }, nil)
		require.NoError(t, err)
	}
}

// TestCallTakesTooLong: call waits for the documented time, and passes the value to late when the
// function returns after all.
func TestCallTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalls(slog.New(slog.DiscardHandler))
		begin := time.Now()
		slow := func() (int, error) { time.Sleep(time.Hour); return 7, nil }
		got := 0
		_, err := call(t.Context(), c, scope(3), "f", slow, func(n int) { got = n })
		require.ErrorIs(t, err, ErrUnavailable)
		require.Equal(t, 5*time.Minute, time.Since(begin))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 7, got)
		c.close(context.Background().Done()) // all calls have returned
	})
}
