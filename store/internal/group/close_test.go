package group

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/store"
)

// Close releases when all that waits was written, also for a caller who has gone, and when all
// other calls have left. Later calls are refused; a second Close does nothing.
//
// The test takes real time, as a bubble does not know who waits for a mutex.
func TestClose(t *testing.T) {
	const callers = 10
	write, written := make(chan struct{}), 0
	q := New(func(group []*entry) {
		<-write
		written += len(group)
	})
	waiting := func(n int) func() bool {
		return func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.drained && len(q.waiting) == n
		}
	}
	poll := func(until func() bool) {
		t.Helper()
		require.Eventually(t, until, 20*time.Second, time.Millisecond)
	}
	results := make(chan error, callers)
	call := func(ctx context.Context) { go func() { results <- q.Do(ctx, new(entry)) }() }
	call(t.Context())
	poll(waiting(0))
	gone, cancel := context.WithCancel(t.Context())
	call(gone)
	poll(waiting(1))
	cancel()
	require.ErrorIs(t, <-results, context.Canceled)
	for range callers - 2 {
		call(t.Context())
	}
	poll(waiting(callers - 1))
	require.NoError(t, q.Enter(t.Context()))

	failed, released := errors.New("failed"), make(chan error, 1)
	go func() {
		released <- q.Close(func() error {
			if written != callers {
				t.Errorf("released after %d commits", written)
			}
			return failed
		})
	}()
	poll(func() bool { // Close has begun
		if q.inside.TryRLock() {
			q.Leave()
			return false
		}
		return true
	})
	late := make(chan error, 1)
	go func() { late <- q.Do(t.Context(), new(entry)) }()
	close(write)
	for range callers - 1 {
		require.NoError(t, <-results)
	}
	require.Empty(t, released, "a call that is no commit has not left")
	q.Leave()
	require.Equal(t, failed, <-released)
	require.ErrorIs(t, <-late, store.ErrClosed)
	require.ErrorIs(t, q.Do(t.Context(), new(entry)), store.ErrClosed)
	require.ErrorIs(t, q.Enter(t.Context()), store.ErrClosed)
	require.NoError(t, q.Close(func() error { t.Error("released twice"); return failed }))
}
