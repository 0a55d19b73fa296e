package storetest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

func testJournal(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")}, store.CreateUpdate{Update: newUpdate("u11", "ep2", "i1")})
	line := store.Event{
		Update: "u1", Endpoint: "ep", Time: epoch, Name: "a", Detail: "why", Phase: fsm.PhaseVerifying,
		State: fsm.Updating, Result: fsm.Result(200), Outcome: fsm.OutcomeFailed, Seq: 4711,
	}
	first := commit(t, db, store.AppendEvents{Events: []store.Event{line, newEvent("u11", "b"), newEvent("u1", "c")}})
	second := commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("u11", "d")}}, store.AppendEvents{},
		store.AppendEvents{Events: []store.Event{newEvent("u1", "e")}})
	if first == 0 || second < first+2 {
		t.Fatalf("last numbers %d and %d, want rising ones", first, second)
	}
	var all []store.Event
	for e, err := range db.Events(t.Context(), store.EventQuery{}) {
		failsWith(t, "Events", err, nil)
		if len(all) > 0 && e.Seq <= all[len(all)-1].Seq {
			t.Fatalf("number %d follows %d", e.Seq, all[len(all)-1].Seq)
		}
		all = append(all, e)
	}
	if len(all) != 5 || all[2].Seq != first || all[4].Seq != second {
		t.Fatalf("events %+v, want five, the third %d, the last %d", all, first, second)
	}
	line.Seq = all[0].Seq
	equal(t, "first line", all[0], line)
	for _, test := range []struct {
		q    store.EventQuery
		want []string
	}{
		{store.EventQuery{}, []string{"a", "b", "c", "d", "e"}},
		{store.EventQuery{After: first}, []string{"d", "e"}},
		{store.EventQuery{After: all[0].Seq, Limit: 2}, []string{"b", "c"}},
		{store.EventQuery{Update: "u1"}, []string{"a", "c", "e"}},
		{store.EventQuery{Update: "u1", After: all[0].Seq}, []string{"c", "e"}},
		{store.EventQuery{Update: "u11", Limit: 1}, []string{"b"}},
		{store.EventQuery{Update: "u"}, []string{}},
		{store.EventQuery{After: second}, []string{}},
		{store.EventQuery{After: 1<<63 - 1}, []string{}},
	} {
		if got := collect(t, db.Events(t.Context(), test.q), eventName); !sameStrings(got, test.want) {
			t.Errorf("Events(%+v) = %v, want %v", test.q, got, test.want)
		}
	}
}

// testJournalFields appends lines that differ in all fields, in one commit and one by one.
func testJournalFields(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")}, store.CreateUpdate{Update: newUpdate("u2", "ep2", "i1")})
	var want []store.Event
	for n := range 60 {
		e := store.Event{
			Update: []string{"u1", "u1", "u1", "u2"}[n%4], Endpoint: []string{"ep", "", "other"}[n/7%3],
			Time: []time.Time{epoch, epoch, epoch.Add(time.Duration(n) * time.Second), {}}[n/3%4],
			Name: []string{"read", fmt.Sprint(n), "succeeded"}[n%3], Detail: []string{"", fmt.Sprint("why ", n)}[n%2],
			State: fsm.State(n % 5), Result: fsm.Result(n%14 - 1),
		}
		if n%2 == 0 {
			e.Phase, e.Outcome = fsm.PhaseEnded, fsm.OutcomeRolledBack
		}
		want = append(want, e)
	}
	for _, size := range []int{1, 7, 60} {
		var last uint64
		for lines := range slices.Chunk(want, size) {
			last = commit(t, db, store.AppendEvents{Events: lines})
		}
		for n := range want {
			want[n].Seq = last - uint64(len(want)-1-n)
		}
		before := want[0].Seq - 1
		equal(t, fmt.Sprint("all, by ", size), collect(t, db.Events(t.Context(), store.EventQuery{After: before}), whole), wholes(want))
		for n := range want {
			q := store.EventQuery{After: want[n].Seq, Limit: 9}
			equal(t, "page", collect(t, db.Events(t.Context(), q), whole), wholes(want[n+1:min(n+10, len(want))]))
			q.Update, q.Limit = "u1", 0
			of := slices.DeleteFunc(slices.Clone(want[n+1:]), func(e store.Event) bool { return e.Update != "u1" })
			equal(t, "journal", collect(t, db.Events(t.Context(), q), whole), wholes(of))
		}
	}
}

func whole(e store.Event) string { return fmt.Sprintf("%+v", e) }

func wholes(events []store.Event) []string {
	texts := []string{}
	for _, e := range events {
		texts = append(texts, whole(e))
	}
	return texts
}

// testFollow reads the journal while many write it: who asks for the lines after the last one that
// he has seen misses none. A back end whose commits get their numbers before they become visible
// loses those that become visible late.
func testFollow(t *testing.T, db store.Store) {
	seed(t, db)
	const writers, commits = 12, 40
	var want atomic.Int64
	var writing sync.WaitGroup
	for w := range writers {
		commit(t, db, store.CreateUpdate{Update: newUpdate(id(w), fmt.Sprint("ep", w), "i1")})
		writing.Go(func() {
			for n := range commits {
				lines := make([]store.Event, 1+(w+n)%3)
				for i := range lines {
					lines[i] = newEvent(id(w), fmt.Sprintf("%d-%d-%d", w, n, i))
				}
				if _, err := db.Commit(t.Context(), store.AppendEvents{Events: lines}); err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				want.Add(int64(len(lines)))
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	last, seen := uint64(0), int64(0)
	for more := true; more; {
		select {
		case <-done:
			more = false // what follows is the last reading
		default:
		}
		for e, err := range db.Events(t.Context(), store.EventQuery{After: last}) {
			failsWith(t, "Events", err, nil)
			if e.Seq <= last {
				t.Fatalf("line %d follows line %d", e.Seq, last)
			}
			last = e.Seq
			seen++
		}
	}
	<-done
	equal(t, "lines that a follower has seen", seen, want.Load())
}

func testJournalBounds(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")}, store.CreateUpdate{Update: newUpdate("u2", "ep2", "i1")},
		store.CreateUpdate{Update: newUpdate("u3", "ep3", "i1")})
	const lines = 2*(store.JournalHead+store.JournalTail) + 17
	commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("u2", "before")}})
	var all []store.Event
	for n := range lines {
		all = append(all, newEvent("u3", fmt.Sprint(n)))
	}
	commit(t, db, store.AppendEvents{Events: all})
	for n := 0; n < lines; {
		var batch []store.Event
		for range min(n%7+90, lines-n) {
			batch = append(batch, newEvent("u1", fmt.Sprint(n)))
			n++
		}
		commit(t, db, store.AppendEvents{Events: batch})
	}
	commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("u2", "after")}})
	var want []string
	for n := range store.JournalHead {
		want = append(want, fmt.Sprint(n))
	}
	for n := range store.JournalTail {
		want = append(want, fmt.Sprint(lines-store.JournalTail+n))
	}
	ctx := t.Context()
	equal(t, "bounded journal", collect(t, db.Events(ctx, store.EventQuery{Update: "u1"}), eventName), want)
	equal(t, "journal of one commit", collect(t, db.Events(ctx, store.EventQuery{Update: "u3"}), eventName), want)
	equal(t, "other journal", collect(t, db.Events(ctx, store.EventQuery{Update: "u2"}), eventName), []string{"before", "after"})
	equal(t, "lines in all", len(collect(t, db.Events(ctx, store.EventQuery{}), eventName)), 2*len(want)+2)
}
