package work

import (
	"context"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// At most Limit functions run at once, and each runs once; one that ends its goroutine blocks no
// other.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pool{Limit: 3}
		gate, begun := make(chan struct{}), make(chan int, 100)
		for n := range 100 {
			require.True(t, p.Run(func() {
				begun <- n
				<-gate
				if n%2 == 0 {
					runtime.Goexit()
				}
			}))
		}
		synctest.Wait()
		require.Len(t, begun, 3)
		require.False(t, p.Idle())
		close(gate)
		synctest.Wait()
		seen := make(map[int]bool)
		for range 100 {
			seen[<-begun] = true
		}
		require.Len(t, seen, 100)
		require.True(t, p.Idle())
	})
}

func TestPoolThatCannotStart(t *testing.T) {
	starts := false
	p := Pool{Limit: 1, Start: func(worker func()) bool {
		if starts {
			go worker()
		}
		return starts
	}}
	require.False(t, p.Run(func() { t.Error("it ran") }))
	require.True(t, p.Idle())
	starts = true
	ran := make(chan struct{})
	require.True(t, p.Run(func() { close(ran) }))
	<-ran
}

func TestLocks(t *testing.T) {
	var l Locks
	unlock := l.Lock("a")
	l.Lock("b")()
	_, ok := l.TryLock("a")
	require.False(t, ok)
	got := make(chan struct{})
	go func() {
		defer close(got)
		l.Lock("a")()
	}()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.locks["a"].users == 2
	}, 10*time.Second, time.Millisecond)
	_, ok = l.LockAmong("a", 2)
	require.False(t, ok, "one holds it and one waits")
	unlock()
	<-got
	require.Empty(t, l.locks)
	unlock, ok = l.TryLock("a")
	require.True(t, ok)
	unlock()
}

func TestReader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := Reader(ctx, strings.NewReader("abc"))
	b := make([]byte, 2)
	_, err := io.ReadFull(r, b)
	require.NoError(t, err)
	cancel()
	_, err = r.Read(b)
	require.ErrorIs(t, err, context.Canceled)
}

func TestLockContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Locks
		unlock, err := l.LockContext(t.Context(), "a")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = l.LockContext(ctx, "a")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		other, err := l.LockContext(t.Context(), "b")
		require.NoError(t, err)
		other()
		time.AfterFunc(time.Second, unlock)
		again, err := l.LockContext(t.Context(), "a")
		require.NoError(t, err)
		_, ok := l.TryLock("a")
		require.False(t, ok)
		again()
		synctest.Wait() // the first one has left, too
		last, ok := l.TryLock("a")
		require.True(t, ok)
		last()
	})
}
