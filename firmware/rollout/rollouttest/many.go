package rollouttest

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// fill creates a rollout with members that wait, in commits of a thousand.
func fill(t testing.TB, db Store, id string, members int) store.Rollout {
	t.Helper()
	r := newRollout(t, db, id)
	noError(t, db.CommitRollouts(t.Context(), store.CreateRollout{Rollout: r}))
	list := make([]store.Member, 0, 1000)
	for i := range members {
		m := member(fmt.Sprintf("ep%07d", i), rollout.MemberWaiting, "")
		m.Machine.Only = 0
		list = append(list, m)
		if len(list) == cap(list) || i == members-1 {
			noError(t, db.CommitRollouts(t.Context(), store.PutMembers{Rollout: id, Members: list}))
			list = list[:0]
		}
	}
	r.Machine.State, r.Machine.Total.Waiting, r.Revision = rollout.StateRunning, members, 1
	return r
}

// testMany compares what a rollout costs that has many members with what a small one costs: the
// queries and the changes of a shell read and write as many records.
func testMany(t *testing.T, open func(testing.TB) Store, members int) {
	if members == 0 {
		members = 20_000
		if testing.Short() {
			members = 4_000
		}
	}
	small, large := costs(t, open, 1000), costs(t, open, members)
	for _, name := range slices.Sorted(maps.Keys(large)) {
		n := large[name]
		t.Logf("%-28s %8d bytes of %d members, %8d of 1000", name, n, members, small[name])
		if n > 2*small[name]+20_000 {
			t.Errorf("%s: a rollout with %d members costs %d bytes, one with 1000 members %d", name, members, n, small[name])
		}
	}
}

// costs returns how many bytes each operation allocates.
func costs(t *testing.T, open func(testing.TB) Store, members int) map[string]uint64 {
	db := open(t)
	defer func() { noError(t, db.Close()) }()
	ctx := t.Context()
	r := fill(t, db, "r1", members)
	named := member("named", rollout.MemberWaiting, "")
	noError(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}, store.PutMembers{Rollout: "r1", Members: []store.Member{named}}))
	r.Revision++
	var heard []string
	for i := range 100 {
		heard = append(heard, fmt.Sprintf("ep%07d", i*9))
	}
	page := func(q store.MemberQuery) func() {
		q.Rollout, q.Limit = "r1", 100
		return func() { collect(t, db.Members(ctx, q)) }
	}
	middle := store.MemberQuery{Rollout: "r1", State: rollout.MemberWaiting, Limit: 1}
	at, err := db.Member(ctx, "r1", heard[50])
	noError(t, err)
	middle.After = middle.Cursor(&at)
	next := 0
	operations := []struct {
		name string
		do   func()
	}{
		{"first page that waits", page(store.MemberQuery{State: rollout.MemberWaiting})},
		{"page in the middle", page(middle)},
		{"page by endpoint", page(store.MemberQuery{After: "ep0000500"})},
		{"members that a stage names", page(store.MemberQuery{Only: 1})},
		{"active members, none", page(store.MemberQuery{State: rollout.MemberActive, AnyPlace: true})},
		{"members of a stage, none", page(store.MemberQuery{State: rollout.MemberSucceeded, Stage: 2})},
		{"skipped for a reason, none", page(store.MemberQuery{State: rollout.MemberSkipped, Skip: rollout.SkipRemoved})},
		{"a hundred that were heard", func() { collect(t, db.MembersOf(ctx, heard)) }},
		{"a member", func() { _, err := db.Member(ctx, "r1", heard[1]); noError(t, err) }},
		{"the rollout, with its counts", func() { _, err := db.Rollout(ctx, "r1"); noError(t, err) }},
		{"active rollouts", func() { collect(t, db.RolloutList(ctx, store.RolloutQuery{Active: true})) }},
		{"a member changes", func() {
			m := member(fmt.Sprintf("ep%07d", next), rollout.MemberActive, rollout.PlaceStarting)
			next++
			r.Machine.Total.Waiting--
			r.Machine.Total.Active++
			noError(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}, store.PutMembers{Rollout: "r1", Members: []store.Member{m}},
				store.AppendRolloutEvents{Rollout: "r1", Events: []store.RolloutEvent{{Name: "a", Time: now}}}))
			r.Revision++
		}},
	}
	cost := map[string]uint64{}
	for _, op := range operations {
		op.do() // what is made once
		const n = 10
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n {
			op.do()
		}
		runtime.ReadMemStats(&after)
		cost[op.name] = (after.TotalAlloc - before.TotalAlloc) / n
	}
	return cost
}
