package firmware

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// linesStore counts the lines of the journal that are read of it.
type linesStore struct {
	store.Store
	lines int
	fails int // of the next ranges over Events, after some lines
}

func (s *linesStore) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		left := math.MaxInt
		if s.fails > 0 {
			s.fails, left = s.fails-1, 20
		}
		for line, err := range s.Store.Events(ctx, q) {
			if left--; left < 0 {
				yield(store.Event{}, store.ErrClosed)
				return
			}
			if s.lines++; !yield(line, err) {
				return
			}
		}
	}
}

// journalWorld is a tail of a journal of twenty updates that have ended: u0, u1 ...
type journalWorld struct {
	*testing.T
	db   *linesStore
	tail *tail
}

func newJournalWorld(t *testing.T) *journalWorld {
	m := idleManager(t, ManagerConfig{})
	img, err := m.images.Add(t.Context(), Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
	w := &journalWorld{T: t, db: &linesStore{Store: m.db}}
	w.tail = newTail(w.db, slog.New(slog.DiscardHandler), m.event)
	for i := range 20 {
		machine := fsm.NewUpdate(fsm.Plan{Target: "1"}, img.Created)
		machine, _ = machine.Step(fsm.Observation{Kind: fsm.ObserveCancel})
		_, err = m.db.Commit(t.Context(), store.CreateUpdate{Update: Update{ID: fmt.Sprint("u", i), Endpoint: "ep", Image: img.ID, Machine: machine}})
		require.NoError(t, err)
	}
	return w
}

// grow adds lines to the journal, of each update in turn, as commits of this process.
func (w *journalWorld) grow(lines int) (last uint64) {
	w.Helper()
	return w.growBy(lines, w.tail.news.committed)
}

// growBy adds lines to the journal, and reports each commit.
func (w *journalWorld) growBy(lines int, report func(lines []store.Event, last uint64, err error)) (last uint64) {
	w.Helper()
	for lines > 0 {
		var events []store.Event
		for n := range min(lines, 40) {
			events = append(events, store.Event{Update: fmt.Sprint("u", n/2), Endpoint: "ep", Name: "n", Detail: "\xff", Time: time.Unix(1, 1)})
		}
		var err error
		last, err = w.db.Commit(w.Context(), store.AppendEvents{Events: events})
		require.NoError(w, err)
		report(events, last, nil)
		lines -= len(events)
	}
	return last
}

// take returns the next events of a follower.
func (w *journalWorld) take(f *position) []Event {
	w.Helper()
	events, err := w.tail.take(w.Context(), f)
	require.NoError(w, err)
	return events
}

// rest returns the numbers of the next events of a follower, until none is due.
func (w *journalWorld) rest(f *position) (seqs []uint64) {
	w.Helper()
	for events := w.take(f); len(events) > 0; events = w.take(f) {
		for _, e := range events {
			seqs = append(seqs, e.Seq)
		}
	}
	return seqs
}

// stored returns the numbers of the lines after a number.
func (w *journalWorld) stored(after uint64) (seqs []uint64) {
	w.Helper()
	for line, err := range w.db.Store.Events(w.Context(), store.EventQuery{After: after}) {
		require.NoError(w, err)
		seqs = append(seqs, line.Seq)
	}
	return seqs
}

// TestTail: followers get the lines of the store, wherever they begin, while the journal grows, and
// when they have fallen behind.
func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		last := w.grow(1000)
		late, leave := w.tail.follow(last)
		defer leave()
		require.Empty(t, w.rest(late))
		for range 3 {
			w.grow(100)
			require.Empty(t, w.rest(late), "it is not due")
			time.Sleep(eventPause)
			require.Equal(t, w.stored(late.after), w.rest(late))
		}
		last = w.stored(0)[len(w.stored(0))-1]
		for _, after := range []uint64{0, 1, 127, 128, 129, 999, 1000, 1001, 1050, last - 1, last} {
			f, leave := w.tail.follow(after)
			require.Equal(t, w.stored(after), w.rest(f), "after %d", after)
			leave()
		}
		var want []uint64
		for n := range 2 * tailBatches {
			want = append(want, w.grow(1))
			time.Sleep(eventPause)
			f, leave := w.tail.follow(want[n] - 1)
			require.Len(t, w.take(f), 1)
			leave()
		}
		require.Len(t, w.tail.batches, tailBatches)
		require.Equal(t, want, w.rest(late), "it has fallen behind")

		w.grow(1)
		w.tail.news.progress(progressEvent(&Update{ID: "u0"}))
		time.Sleep(eventPause)
		events := w.take(late)
		require.Len(t, events, 2)
		require.Equal(t, EventProgress, events[1].Name)
		require.Equal(t, late.after, events[1].Seq, "the number of the line before")
		f, leave := w.tail.follow(late.after)
		require.Empty(t, w.take(f), "progress of the past")
		leave()

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		<-w.tail.busy // another follower loads
		_, err := w.tail.take(ended, late)
		require.ErrorIs(t, err, context.Canceled)
		w.tail.busy <- struct{}{}
	})
}

// TestTailReadsOnce: ten followers cost the store one reading of each line, also while they catch
// up after different lines.
func TestTailReadsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		old := int(w.grow(3000))
		var followers []*position
		for n := range 10 {
			f, leave := w.tail.follow(uint64(10 * n))
			defer leave()
			followers = append(followers, f)
		}
		shared := 0
		for got := true; got; {
			var batches [][]Event
			got = false
			for _, f := range followers {
				if events := w.take(f); len(events) > 0 {
					batches, got = append(batches, events), true
				}
			}
			if got && &batches[0][0] == &batches[len(batches)-1][0] {
				shared++
			}
		}
		require.Less(t, w.db.lines, old+10*2*batchLines, "each line is read once, but for the first batch of each follower")
		require.Greater(t, shared, old/batchLines-3)

		read := w.db.lines
		w.grow(500)
		time.Sleep(eventPause)
		for _, f := range followers {
			require.Len(t, w.rest(f), 500)
		}
		require.Equal(t, read, w.db.lines, "the commits have the lines")
	})
}

// TestTailReports: followers get each line once, in order and as the store has it, however late and
// in which order the commits of this process report it, or if none does.
func TestTailReports(t *testing.T) {
	type report struct {
		lines []store.Event
		last  uint64
	}
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		f, leave := w.tail.follow(w.grow(10))
		defer leave()
		require.Empty(t, w.rest(f))
		random := rand.New(rand.NewPCG(1, 2))
		var late []report
		for n := range 300 {
			for range random.IntN(5) {
				w.growBy(1+random.IntN(80), func(lines []store.Event, last uint64, _ error) {
					switch random.IntN(6) {
					case 0:
						w.tail.news.committed(lines, 0, store.ErrClosed)
					case 1:
						late = append(late, report{lines, last})
					case 2: // of another process
					default:
						w.tail.news.committed(lines, last, nil)
					}
				})
			}
			random.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
			for len(late) > random.IntN(4) {
				w.tail.news.committed(late[0].lines, late[0].last, nil)
				late = late[1:]
			}
			if n%7 == 0 {
				w.db.fails = random.IntN(3)
			}
			if time.Sleep(eventPause); n%20 == 0 {
				w.db.fails = 0
				time.Sleep(eventPoll)
			}
			want := []store.Event{}
			for line, err := range w.db.Store.Events(t.Context(), store.EventQuery{After: f.after}) {
				require.NoError(t, err)
				want = append(want, line)
			}
			got := []store.Event{}
			for {
				events, err := w.tail.take(t.Context(), f)
				for _, e := range events {
					got = append(got, e.Event)
				}
				if err != nil || len(events) == 0 {
					break
				}
			}
			require.LessOrEqual(t, len(got), len(want), "invariant 9: what is seen is durable")
			require.Equal(t, want[:len(got)], got, "invariant 9: what is seen is durable")
			if n%20 == 0 {
				require.Len(t, got, len(want), "the store is read every %v", eventPoll)
			}
		}
	})
}

// waiting returns how many lines wait for a follower.
func (w *journalWorld) waiting() int {
	n := &w.tail.news
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.added.lines + n.dueAdded.lines
}

// TestTailBounds: lines that no follower takes do not fill the memory.
func TestTailBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		last := w.grow(10)
		f, leave := w.tail.follow(last)
		require.Empty(t, w.rest(f))
		w.grow(maxAdded + 100)
		time.Sleep(eventPause)
		w.grow(100)
		require.Less(t, w.waiting(), maxAdded+100)
		time.Sleep(eventPause)
		require.Equal(t, w.stored(last), w.rest(f))
		leave()
		require.Zero(t, w.waiting())
		w.grow(100)
		require.Zero(t, w.waiting(), "there are no followers")
	})
}

// TestTailForgets: followers get no lines of updates that were deleted, nor end there.
func TestTailForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJournalWorld(t)
		w.grow(400)
		f, leave := w.tail.follow(0)
		defer leave()
		w.take(f)
		w.grow(400)
		time.Sleep(eventPause)
		w.rest(f)
		for n := range 19 {
			_, err := w.db.Commit(t.Context(), store.DeleteUpdate{ID: fmt.Sprint("u", n)})
			require.NoError(t, err)
			w.tail.forget(fmt.Sprint("u", n))
		}
		for _, after := range []uint64{0, 300, 500} {
			f, leave := w.tail.follow(after)
			require.Equal(t, w.stored(after), w.rest(f))
			leave()
		}
		_, err := w.db.Commit(t.Context(), store.DeleteUpdate{ID: "u19"})
		require.NoError(t, err)
		w.tail.forget("u19")
		f, leave = w.tail.follow(0)
		defer leave()
		require.Empty(t, w.rest(f))
	})
}

// TestNews: a batch is due at most once in a pause, and soon after a quiet time; a slow follower
// gets the latest progress.
func TestNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := news{due: make(chan struct{})}
		n.timer = time.AfterFunc(eventPoll, n.fire)
		n.progress(Event{})
		n.grown()
		n.committed(make([]store.Event, 1), 1, nil)
		require.False(t, n.waits, "there are no followers")
		n.follow()
		time.Sleep(time.Minute + time.Second)
		var due additions
		n.take(&due)
		require.Equal(t, additions{others: true}, due)
		due = additions{}
		began := time.Now()
		for i := range int64(100) {
			due := n.next()
			for range maxProgress / 50 {
				n.progress(Event{Progress: Progress{Bytes: i}})
				n.committed(make([]store.Event, 1), uint64(i), nil)
			}
			<-due
		}
		require.Equal(t, eventGap+99*eventPause, time.Since(began))
		n.take(&due)
		require.Equal(t, 100*(maxProgress/50), due.lines)
		require.False(t, due.others)
		require.Len(t, due.progress, maxProgress)
		require.EqualValues(t, 99, due.progress[maxProgress-1].Progress.Bytes)
		due = additions{}
		n.take(&due)
		require.Empty(t, due)
		began = time.Now()
		<-n.next()
		require.Equal(t, eventPoll, time.Since(began))
		n.take(&due)
		require.Equal(t, additions{others: true}, due)
		require.True(t, n.leave())
	})
}

// TestLinesMissed: a caller of Lines that is slow, or whose store does not say whether it has a
// commit, gets an error in the place of lines, and then those that come after them.
func TestLinesMissed(t *testing.T) {
	var all watchers
	w := &watcher{news: make(chan struct{}, 1)}
	all.add(w)
	take := func(lines int, missed bool) {
		t.Helper()
		commits, is := w.take(nil)
		require.Equal(t, missed, is)
		require.Len(t, slices.Concat(commits...), lines)
	}
	all.committed(make([]store.Event, 2), nil)
	all.committed(make([]store.Event, 3), nil)
	take(5, false)
	for _, err := range []error{store.ErrActive, store.ErrConflict, store.ErrDuplicate, store.ErrClosed} {
		all.committed(make([]store.Event, 1), &store.UpdateError{Err: err})
	}
	take(0, false)
	all.committed(make([]store.Event, 1), nil)
	all.committed(make([]store.Event, 1), store.ErrNoSpace)
	all.committed(make([]store.Event, 1), nil)
	take(1, true)
	for range maxAdded + 1 {
		all.committed(make([]store.Event, 1), nil)
	}
	all.committed(make([]store.Event, 7), nil)
	take(7, true)
	all.missed()
	take(0, true)
	all.remove(w)
	all.committed(make([]store.Event, 1), nil)
	take(0, false)
}
