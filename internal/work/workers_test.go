package work

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWorkers checks that a set of workers uses its goroutines again, starts as many as there are
// calls at once, and ends those that it does not need.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done sync.WaitGroup
		hold := make(chan struct{})
		c := Workers[bool]{Do: func(wait bool) {
			defer done.Done()
			if wait {
				<-hold
			}
		}}
		c.Keep(true)
		call := func(n int, wait bool) {
			done.Add(n)
			for range n {
				c.Go(wait)
			}
		}
		idle := func() int {
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.idle)
		}
		for range 100 {
			call(1, false)
			done.Wait()
			synctest.Wait()
		}
		require.Equal(t, 1, idle(), "each call took a goroutine of its own")
		call(maxIdle+10, true)
		synctest.Wait()
		close(hold)
		done.Wait()
		require.Equal(t, maxIdle, idle())
		for range 5 { // a few are in use, the others end
			time.Sleep(sweepEvery)
			call(2, false)
			done.Wait()
		}
		require.Equal(t, 2, idle())
		time.Sleep(3 * sweepEvery)
		require.Zero(t, idle())
		require.Nil(t, c.timer, "the sweeps go on without a goroutine")

		call(3, false)
		done.Wait()
		synctest.Wait()
		c.Keep(false)
		require.Zero(t, idle())
		call(1, false)
		done.Wait()
		require.Zero(t, idle())
	})
}

// TestWorkersLoseGoroutine checks that a function may end its goroutine.
func TestWorkersLoseGoroutine(t *testing.T) {
	var done sync.WaitGroup
	c := Workers[int]{Do: func(int) {
		defer done.Done()
		runtime.Goexit()
	}}
	c.Keep(true)
	defer c.Keep(false)
	done.Add(10)
	for i := range 10 {
		c.Go(i)
	}
	done.Wait()
	require.Empty(t, c.idle)
}

func BenchmarkWorkers(b *testing.B) {
	var deep func(n int) int
	deep = func(n int) int { // as deep as a handler
		var frame [256]byte
		if n == 0 {
			return int(frame[0])
		}
		return deep(n-1) + int(frame[n])
	}
	done := make(chan struct{})
	c := Workers[int]{Do: func(n int) { deep(n); done <- struct{}{} }}
	c.Keep(true)
	defer c.Keep(false)
	b.Run("workers", func(b *testing.B) {
		for b.Loop() {
			c.Go(12)
			<-done
		}
	})
	b.Run("go", func(b *testing.B) {
		for b.Loop() {
			go c.Do(12)
			<-done
		}
	})
}
