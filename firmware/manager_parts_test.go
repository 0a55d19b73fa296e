package firmware

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// TestIDs: an id holds its creation time, as other ULIDs do, and ids rise whatever the clock says.
func TestIDs(t *testing.T) {
	at := time.UnixMilli(1469918176385)
	id := newID(time.Now())
	require.Len(t, id, 26)
	var s idSource
	first := s.next(at)
	require.Equal(t, "01ARYZ6S41", first[:10])
	require.Less(t, first[10], byte('G'), "the highest of the random bits is clear")
	hi, lo := s.hi, s.lo
	require.Less(t, first, s.next(at))
	require.Equal(t, [2]uint64{hi, lo + 1}, [2]uint64{s.hi, s.lo})
	require.Less(t, first, s.next(at.Add(-time.Hour)), "the clock was set back")
	s.lo = math.MaxUint64
	last := encodeID(s.hi, s.lo)
	require.Less(t, last, s.next(at), "over the half")
	require.Equal(t, [2]uint64{hi + 1, 0}, [2]uint64{s.hi, s.lo})
	require.Equal(t, "01ARYZ6S42", s.next(at.Add(time.Millisecond))[:10])
	require.Equal(t, "00000000000000000000000000", encodeID(0, 0))
	require.Equal(t, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", encodeID(math.MaxUint64, math.MaxUint64))
	require.Equal(t, "0000000000000G000000000001", encodeID(1, 1))
}

// TestSteps: at most 512 functions run at the same time, each once and in its order.
func TestSteps(t *testing.T) {
	m := idleManager(t, ManagerConfig{})
	require.False(t, m.enlist(func(context.Context) {}), "nothing runs")
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, m.begin(t.Context()))
		gate := make(chan struct{})
		begun := make(chan int, 2000)
		for n := range 1500 {
			require.True(t, m.enlist(func(context.Context) {
				begun <- n
				<-gate
			}))
		}
		synctest.Wait()
		require.Len(t, begun, 512)
		close(gate)
		synctest.Wait()
		require.Len(t, begun, 1500)
		var order []int
		for range 1500 {
			order = append(order, <-begun)
		}
		slices.Sort(order)
		for n, got := range order {
			require.Equal(t, n, got)
		}
		require.True(t, m.steps.Idle())
		m.end(func() {})
	})
}

// TestProgressIsSpaced: progress is reported at most four times in a second, except the last byte,
// which is reported at once, and once.
func TestProgressIsSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{clock: newClock()}
		d := newRun(t.Context(), m, Update{ID: "u", Machine: fsm.NewUpdate(fsm.Plan{Target: "1", Size: 1000}, time.Now())})
		shown := func() (bytes int64) {
			for _, l := range d.inbox {
				require.Equal(t, fsm.ObserveProgress, l.Kind)
				bytes = l.Bytes
			}
			d.inbox = nil
			return bytes
		}
		for _, step := range []struct {
			after       time.Duration
			done, shows int64
		}{
			{0, 10, 10}, {0, 20, 0}, {249 * time.Millisecond, 30, 0}, {time.Millisecond, 40, 40}, {time.Millisecond, 50, 0},
			{time.Millisecond, 999, 0}, {time.Millisecond, 1000, 1000},
		} {
			<-time.After(step.after)
			d.progress(step.done)
			require.Equal(t, step.shows, shown(), "%d", step.done)
		}
		d.u.Machine.Bytes = 1000
		<-time.After(time.Millisecond)
		d.progress(1000)
		require.Zero(t, shown(), "it was shown")
	})
}

// TestTouches lists the requests that change a Firmware Update object, of the whole device or of
// components, wherever the request names it.
func TestTouches(t *testing.T) {
	for _, tc := range []struct {
		request lwm2m.Request
		touches bool
	}{
		{lwm2m.Request{Path: lwm2m.NewPath(5)}, true},
		{lwm2m.Request{Path: lwm2m.NewPath(5, 0, 2)}, true},
		{lwm2m.Request{Path: lwm2m.NewPath(33629, 1, 2)}, true},
		{lwm2m.Request{Path: lwm2m.NewPath(3, 0, 4)}, false},
		{lwm2m.Request{Path: lwm2m.NewPath(0, 5)}, false},
		{lwm2m.Request{}, false},
		{lwm2m.Request{Entries: []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 4)}, {Path: lwm2m.NewPath(5, 0, 1)}}}, true},
		{lwm2m.Request{Entries: []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 4)}}}, false},
	} {
		require.Equal(t, tc.touches, touchesFirmware(tc.request), "%v", tc.request)
	}
}

// TestTail reads a journal through a tail, from everywhere and while the journal grows, and gets
// the same lines as without a tail.
func TestTail(t *testing.T) {
	m := idleManager(t, ManagerConfig{})
	db := m.db
	img, err := m.images.Add(t.Context(), Image{Version: "1"}, strings.NewReader("abc"))
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.CreateUpdate{Update: Update{
		ID: "u", Endpoint: "ep", Image: img.ID, Machine: fsm.NewUpdate(fsm.Plan{Target: "1"}, img.Created),
	}})
	require.NoError(t, err)
	tail := newTail(slog.New(slog.DiscardHandler), m.event)
	read := func(seq, loads uint64) (seqs []uint64) {
		for batch, err := range tail.after(t.Context(), db, seq, loads) {
			require.NoError(t, err)
			for _, line := range batch.lines {
				seqs = append(seqs, line.Seq)
			}
			require.Equal(t, seqs[len(seqs)-1], batch.end)
		}
		return seqs
	}
	stored := func(seq uint64) (seqs []uint64) {
		for line, err := range db.Events(t.Context(), store.EventQuery{After: seq}) {
			require.NoError(t, err)
			seqs = append(seqs, line.Seq)
		}
		return seqs
	}
	var last uint64
	for loads := uint64(1); loads <= 4; loads++ {
		events := make([]store.Event, 20)
		for n := range events {
			events[n] = store.Event{Update: "u", Endpoint: "ep", Name: fmt.Sprint("n", n), Time: time.Unix(1, 0)}
		}
		var err error
		last, err = db.Commit(t.Context(), store.AppendEvents{Events: events})
		require.NoError(t, err)
		require.Equal(t, stored(last-10), read(last-10, loads))
	}
	for _, seq := range []uint64{0, 1, tail.from - 1, tail.from, tail.from + 1, last - 1, last, last + 1} {
		require.Equal(t, stored(seq), read(seq, 4), "after %d", seq)
	}
	_, ok, err := tail.recent(t.Context(), db, tail.from-1, 4)
	require.NoError(t, err)
	require.False(t, ok)
	lines, ok, err := tail.recent(t.Context(), db, tail.from, 4)
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, lines, len(tail.lines))
	_, err = db.Commit(t.Context(), store.AppendEvents{Events: []store.Event{{Update: "u", Endpoint: "ep", Name: "n", Time: time.Unix(1, 0)}}})
	require.NoError(t, err)
	require.Empty(t, read(last, 4), "it has seen as much as should be seen")
	require.Len(t, read(last, 5), 1)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	<-tail.busy // another reader loads
	_, _, err = tail.recent(ended, db, 0, 6)
	require.ErrorIs(t, err, context.Canceled)
}

// TestFeed: a slow reader gets the last 1024 events, a fast one all.
func TestFeed(t *testing.T) {
	f := newFeed()
	_, start := f.since(feedState{})
	before := start
	for n := range 1024 {
		f.soft(Event{Progress: Progress{Bytes: int64(n)}})
	}
	select {
	case <-before.changed:
	default:
		require.Fail(t, "nobody was woken")
	}
	all, now := f.since(start)
	require.Len(t, all, 1024)
	require.EqualValues(t, 0, all[0].Progress.Bytes)
	f.soft(Event{Progress: Progress{Bytes: 1024}})
	all, _ = f.since(start)
	require.Len(t, all, 1024)
	require.EqualValues(t, 1, all[0].Progress.Bytes)
	all, after := f.since(now)
	require.Len(t, all, 1)
	require.EqualValues(t, 1024, all[0].Progress.Bytes)
	require.Equal(t, now.durable, after.durable)
	f.durable()
	all, last := f.since(after)
	require.Empty(t, all)
	require.Equal(t, after.durable+1, last.durable)
}
