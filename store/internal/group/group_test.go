package group

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/store"
)

type entry struct {
	Commit
	n       int
	written int // how often
}

// A writer is what a queue writes to. Each group takes as long as the test wants.
type writer struct {
	queue  *Queue[*entry]
	step   chan func() // what the write of the next group does at its end
	groups [][]int
	began  []time.Time // of each group
}

func newWriter() *writer {
	w := &writer{step: make(chan func())}
	w.queue = New(func(group []*entry) {
		var all []int
		for _, e := range group {
			all = append(all, e.n)
		}
		w.groups, w.began = append(w.groups, all), append(w.began, time.Now())
		(<-w.step)()
	})
	return w
}

// end ends the write of a group.
func (w *writer) end() { w.endBy(func() {}) }

func (w *writer) endBy(how func()) {
	w.step <- how
	synctest.Wait()
}

// A caller is a call of Do.
type caller struct {
	*entry
	ended bool
	err   error
}

// call has n callers wait, one after the other.
func (w *writer) call(ctx context.Context, n int) []*caller {
	all := make([]*caller, n)
	for i := range all {
		c := &caller{entry: &entry{n: i}}
		all[i] = c
		go func() {
			c.err = w.queue.Do(ctx, c.entry)
			c.ended = true
		}()
		synctest.Wait()
	}
	return all
}

func ended(all []*caller) (n int) {
	for _, c := range all {
		if c.ended {
			n++
		}
	}
	return n
}

func numbers(from, to int) (all []int) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// Commits that come while a group is written are the next one, in their order. No group has more
// than the limit, and the ones that came first do not wait for the rest.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriter()
		const n = 1 + 2*maxGroup + 7
		all := w.call(t.Context(), n)
		require.Zero(t, ended(all))
		for _, before := range []int{1, 1 + maxGroup, 1 + 2*maxGroup, n} {
			w.end()
			time.Sleep(gatherPauses * gatherPause)
			synctest.Wait()
			require.Equal(t, before, ended(all))
			require.Equal(t, before, ended(all[:before]), "who came first")
		}
		require.Equal(t, [][]int{{0}, numbers(1, 1+maxGroup), numbers(1+maxGroup, 1+2*maxGroup), numbers(1+2*maxGroup, n)}, w.groups)
		for _, c := range all {
			require.NoError(t, c.err)
		}
	})
}

// However many commits keep the queue busy, each is written in the group after the one that was
// being written when it came, and no caller stays to write those of others.
func TestFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := 0
		const takes = 5 * time.Millisecond
		q := New(func([]*entry) {
			groups++
			time.Sleep(takes)
		})
		stop := time.Now().Add(time.Second)
		var work sync.WaitGroup
		for i := range 100 {
			work.Go(func() {
				time.Sleep(time.Duration(i) * 77 * time.Microsecond)
				e := new(entry) // is used again and again
				for time.Now().Before(stop) {
					came := time.Now()
					if err := q.Do(t.Context(), e); err != nil {
						t.Error(err)
					}
					if took := time.Since(came); took > 2*takes+gatherPauses*gatherPause {
						t.Errorf("a commit took %v", took)
					}
					time.Sleep(time.Duration(i%7) * 100 * time.Microsecond)
				}
			})
		}
		work.Wait()
		time.Sleep(gatherPause) // the queue waits for more
		require.Greater(t, groups, 100)
	})
}

// A caller alone does not wait for others. While groups have more than one commit, each waits until
// many have come, or none has come for a while, or enough time is over.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriter()
		begin := time.Now()
		for range 10 {
			w.call(t.Context(), 1)
			w.end()
		}
		require.Zero(t, time.Since(begin), "alone")
		require.Len(t, w.groups, 10)

		// takes returns how long a group waits for n more commits, with a pause after each of them.
		takes := func(n int, pause time.Duration) time.Duration {
			synctest.Wait()
			w.queue.average = 2
			w.call(t.Context(), 1) // alone
			w.call(t.Context(), 1)
			ended, next := time.Now(), len(w.groups)
			w.end()
			for range n {
				w.call(t.Context(), 1)
				time.Sleep(pause)
			}
			time.Sleep(time.Second)
			for open := true; open; {
				select {
				case w.step <- func() {}:
					time.Sleep(time.Second)
				default:
					open = false
				}
			}
			return w.began[next].Sub(ended)
		}
		require.Equal(t, gatherPause, takes(0, 0), "none comes")
		require.Equal(t, 2*gatherPause, takes(1, 0), "one comes")
		require.Equal(t, gatherPauses*gatherPause, takes(20, gatherPause/2), "some come")
		require.Zero(t, takes(gatherMany-1, 0), "many come")
		require.Zero(t, takes(2*gatherMany, 0), "more come")
		require.Equal(t, 2*gatherPause, takes(1, 0), "one comes after many")
	})
}

// A caller whose context ends while it waits returns at once. Its commit is written all the same.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriter()
		ctx, cancel := context.WithCancel(t.Context())
		first := w.call(ctx, 1) // is being written
		second := w.call(ctx, 1)
		third := w.call(t.Context(), 1)
		cancel()
		synctest.Wait()
		require.ErrorIs(t, first[0].err, context.Canceled)
		require.ErrorIs(t, second[0].err, context.Canceled)
		require.False(t, third[0].ended)
		late := w.call(ctx, 1)
		require.ErrorIs(t, late[0].err, context.Canceled)
		w.end()
		time.Sleep(time.Second)
		w.end()
		time.Sleep(time.Second)
		require.Equal(t, [][]int{{0}, {0, 0}}, w.groups, "the second and the third, not the late one")
		require.True(t, third[0].ended)
		require.NoError(t, third[0].err)
	})
}

// A panic of write, or the end of its goroutine, is an error of all its group, and of no other one.
func TestPanic(t *testing.T) {
	for _, c := range []struct {
		name  string
		how   func()
		wants []string
	}{
		{"panic", func() { panic("boom") }, []string{"panic: boom", "group_test.go"}},
		{"end of the goroutine", runtime.Goexit, []string{"its goroutine ended"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWriter()
				first := w.call(t.Context(), 1)
				second := w.call(t.Context(), 3)
				w.end()
				time.Sleep(time.Second)
				third := w.call(t.Context(), 2)
				w.endBy(c.how)
				time.Sleep(time.Second)
				require.Equal(t, len(second), ended(second))
				require.Zero(t, ended(third))
				w.end()
				time.Sleep(time.Second)
				require.Equal(t, [][]int{{0}, {0, 1, 2}, {0, 1}}, w.groups)
				for _, caller := range second {
					for _, want := range c.wants {
						require.ErrorContains(t, caller.err, want)
					}
				}
				for _, caller := range append(first, third...) {
					require.True(t, caller.ended)
					require.NoError(t, caller.err)
				}
				require.NoError(t, w.queue.Close(func() error { return nil }))
			})
		})
	}
}

// Each of many commits is written once, though callers go, writes panic, and the queue is closed.
func TestMany(t *testing.T) {
	q := New(func(group []*entry) {
		for _, e := range group {
			e.written++
		}
		if rand.N(10) == 0 {
			panic("boom")
		}
	})
	const callers, each = 50, 40
	var all [callers * each]*entry
	var errs [callers * each]error
	var work sync.WaitGroup
	for i := range callers {
		work.Go(func() {
			for n := i * each; n < (i+1)*each; n++ {
				ctx, cancel := context.WithCancel(t.Context())
				if rand.N(3) == 0 {
					go cancel()
				}
				all[n] = new(entry)
				errs[n] = q.Do(ctx, all[n])
				cancel()
			}
			if i == callers-1 {
				if err := q.Close(func() error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	for n, e := range all {
		closed := errors.Is(errs[n], store.ErrClosed)
		canceled := errors.Is(errs[n], context.Canceled) // before it was in the queue, or then
		if e.written > 1 || closed && e.written > 0 || !closed && !canceled && e.written == 0 {
			t.Errorf("a commit was written %d times: %v", e.written, errs[n])
		}
	}
}

// A commit that is used again costs no more than the goroutine that writes it.
func TestAllocations(t *testing.T) {
	q := New(func([]*entry) {})
	e := new(entry)
	require.NoError(t, q.Do(t.Context(), e))
	allocations := testing.AllocsPerRun(100, func() { _ = q.Do(context.Background(), e) })
	require.LessOrEqual(t, allocations, 8.0)
}
