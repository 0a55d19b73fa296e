package rollouttest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

func testMembers(t *testing.T, db Store) {
	ctx := t.Context()
	create(t, db, "r1")
	m := member("ep/1. ü", rollout.MemberActive, rollout.PlaceReady)
	m.Machine.Update, m.Machine.Granted, m.Machine.Gone = "u1", true, now
	noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: []store.Member{m}}))
	got, err := db.Member(ctx, "r1", m.Endpoint)
	noError(t, err)
	m.Rollout = "r1"
	equal(t, m, got)
	for _, q := range []store.MemberQuery{
		{Rollout: "r1"}, {Rollout: "r1", State: rollout.MemberActive, AnyPlace: true},
		{Rollout: "r1", State: rollout.MemberActive, Place: rollout.PlaceReady},
		{Rollout: "r1", State: rollout.MemberActive},
	} {
		equal(t, []store.Member{m}, collect(t, db.Members(ctx, q)))
	}
	for _, q := range []store.MemberQuery{
		{Rollout: "r2"}, {Rollout: "r1", State: rollout.MemberWaiting, AnyPlace: true}, {Rollout: "r1", State: rollout.MemberWaiting},
	} {
		count(t, collect(t, db.Members(ctx, q)), 0)
	}
	failsWith(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r2", Members: []store.Member{m}}), store.ErrNotFound)
}

// testMembersMove: a member is found by the state that it has, and while it waits by its place, and
// by no other.
func testMembersMove(t *testing.T, db Store) {
	ctx := t.Context()
	create(t, db, "r1")
	places := []rollout.Place{rollout.PlaceNone, rollout.PlaceInvited, rollout.PlaceReserved}
	for i, place := range places {
		noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: []store.Member{
			member("a", rollout.MemberWaiting, place), member("b", rollout.MemberWaiting, places[0]),
		}}))
		for k, other := range places {
			var want []string
			if k == i {
				want = append(want, "a")
			}
			if k == 0 {
				want = append(want, "b")
			}
			got := endpoints(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberWaiting, Place: other}))
			slices.Sort(got)
			equal(t, want, got)
		}
	}
	for _, place := range []rollout.Place{rollout.PlaceStarting, rollout.PlaceReady, rollout.PlaceInstalling} {
		noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: []store.Member{member("a", rollout.MemberActive, place)}}))
		equal(t, []string{"b"}, endpoints(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberWaiting, AnyPlace: true})))
		got := collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberActive}))
		count(t, got, 1)
		equal(t, place, got[0].Machine.Place)
	}
	noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: []store.Member{member("b", rollout.MemberActive, rollout.PlaceReady)}}))
	noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: []store.Member{member("a", rollout.MemberFailed, "")}}))
	equal(t, []string{"b"}, endpoints(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberActive, AnyPlace: true})))
	equal(t, []string{"a"}, endpoints(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberFailed})))
}

// testMembersBy: members are found by their stage, by why they were skipped, and by the stages that
// name them while they wait.
func testMembersBy(t *testing.T, db Store) {
	ctx := t.Context()
	create(t, db, "r1")
	of := func(endpoint string, change func(*rollout.Member)) store.Member {
		m := member(endpoint, rollout.MemberSucceeded, "")
		m.Machine.Only = 0
		change(&m.Machine)
		return m
	}
	list := []store.Member{
		of("first", func(m *rollout.Member) { m.Stage = 1 }),
		of("second", func(m *rollout.Member) { m.Stage = 2 }),
		of("tenth", func(m *rollout.Member) { m.Stage = 10 }),
		of("removed", func(m *rollout.Member) { m.State, m.Skip, m.Stage = rollout.MemberSkipped, rollout.SkipRemoved, 2 }),
		of("current", func(m *rollout.Member) { m.State, m.Skip = rollout.MemberSkipped, rollout.SkipCurrent }),
		of("named", func(m *rollout.Member) { m.State, m.Only = rollout.MemberWaiting, 1<<1|1<<15 }),
		of("invited", func(m *rollout.Member) {
			m.State, m.Place, m.Only = rollout.MemberWaiting, rollout.PlaceInvited, 1<<1
		}),
		of("plain", func(m *rollout.Member) { m.State = rollout.MemberWaiting }),
	}
	check := func(q store.MemberQuery, want ...string) {
		t.Helper()
		q.Rollout = "r1"
		for _, limit := range []int{0, 1} {
			q.Limit, q.After = limit, ""
			var got []string
			for {
				page := collect(t, db.Members(ctx, q))
				for i := range page {
					got, q.After = append(got, page[i].Endpoint), q.Cursor(&page[i])
				}
				if limit == 0 || len(page) == 0 {
					break
				}
			}
			slices.Sort(got)
			equal(t, fmt.Sprint(want), fmt.Sprint(got))
		}
	}
	put := func() {
		t.Helper()
		noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: list}))
	}
	put()
	check(store.MemberQuery{State: rollout.MemberSucceeded}, "first", "second", "tenth")
	check(store.MemberQuery{State: rollout.MemberSucceeded, Stage: 1}, "first")
	check(store.MemberQuery{State: rollout.MemberSucceeded, Stage: 10}, "tenth")
	check(store.MemberQuery{State: rollout.MemberSucceeded, Stage: 3})
	check(store.MemberQuery{State: rollout.MemberSkipped}, "current", "removed")
	check(store.MemberQuery{State: rollout.MemberSkipped, AnyPlace: true}, "current", "removed")
	check(store.MemberQuery{State: rollout.MemberSkipped, Skip: rollout.SkipRemoved}, "removed")
	check(store.MemberQuery{State: rollout.MemberWaiting}, "named", "plain")
	check(store.MemberQuery{State: rollout.MemberWaiting, AnyPlace: true}, "invited", "named", "plain")
	check(store.MemberQuery{Only: 1})
	check(store.MemberQuery{Only: 2}, "invited", "named")
	check(store.MemberQuery{Only: 16}, "named")
	list[5].Machine.State = rollout.MemberActive // it waits no more
	list[0].Machine.State, list[0].Machine.Skip = rollout.MemberSkipped, rollout.SkipCancelled
	put()
	check(store.MemberQuery{Only: 2}, "invited")
	check(store.MemberQuery{Only: 16})
	check(store.MemberQuery{State: rollout.MemberSkipped, Skip: rollout.SkipCancelled}, "first")
	check(store.MemberQuery{State: rollout.MemberSucceeded, Stage: 1})
	check(store.MemberQuery{}, "current", "first", "invited", "named", "plain", "removed", "second", "tenth")
}

func testMembersOf(t *testing.T, db Store) {
	ctx := t.Context()
	for _, id := range []string{"r1", "r2", "r3"} {
		create(t, db, id)
		noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: id, Members: []store.Member{
			member("shared", rollout.MemberWaiting, ""), member("of "+id, rollout.MemberWaiting, ""),
		}}))
	}
	r, err := db.Rollout(ctx, "r2")
	noError(t, err)
	r.Machine.State = rollout.StateEnded
	noError(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}))
	var got []string
	for _, m := range collect(t, db.MembersOf(ctx, []string{"shared", "of r2", "of r3", "of none"})) {
		got = append(got, m.Rollout+" "+m.Endpoint)
	}
	slices.Sort(got)
	equal(t, []string{"r1 shared", "r3 of r3", "r3 shared"}, got)
}

// testPages: pages of any size have each member once, in the order of cursors, which is not that of
// endpoints.
func testPages(t *testing.T, db Store) {
	ctx := t.Context()
	create(t, db, "r1")
	create(t, db, "r11") // its keys must not mix with those of r1
	var list []store.Member
	for i := range 300 {
		list = append(list, member(fmt.Sprintf("ep%03d", i), rollout.MemberWaiting, ""))
	}
	noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: list}, store.PutMembers{Rollout: "r11", Members: list[:10]}))
	for _, size := range []int{1, 7, 128, 300, 400} {
		var all []string
		q := store.MemberQuery{Rollout: "r1", State: rollout.MemberWaiting, Limit: size}
		for {
			page := collect(t, db.Members(ctx, q))
			for _, m := range page {
				all = append(all, m.Endpoint)
				q.After = q.Cursor(&m)
			}
			if len(page) < size {
				break
			}
		}
		count(t, all, 300)
		isTrue(t, "the order is not that of endpoints", !slices.IsSorted(all))
		isTrue(t, "members come in their order", slices.IsSortedFunc(all, func(a, b string) int {
			return strings.Compare(store.MemberOrder("r1", a), store.MemberOrder("r1", b))
		}))
	}
	count(t, collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", After: "ep100"})), 199)
	count(t, collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r11"})), 10)
}

// testMembersOfMany asks for more endpoints than one read has, of several rollouts, most of which
// are of none.
func testMembersOfMany(t *testing.T, db Store) {
	ctx := t.Context()
	var asked []string
	want := 0
	for _, id := range []string{"r1", "r2", "r3"} {
		create(t, db, id)
		var list []store.Member
		for i := 0; i < 1000; i += len(id) + int(id[1]-'0') { // every third, fourth and fifth
			list = append(list, member(fmt.Sprint("ep", i), rollout.MemberWaiting, ""))
		}
		want += len(list)
		noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: id, Members: list}))
	}
	for i := range 1500 {
		asked = append(asked, fmt.Sprint("ep", i))
	}
	seen := map[string]bool{}
	for _, m := range collect(t, db.MembersOf(ctx, asked)) {
		key := m.Rollout + " " + m.Endpoint
		isTrue(t, "it comes once: "+key, !seen[key])
		seen[key] = true
	}
	equal(t, want, len(seen))
	for _, err := range db.MembersOf(ctx, asked) {
		noError(t, err)
		break // a loop may end early, and the next one begins again
	}
	count(t, collect(t, db.MembersOf(ctx, asked[:1])), 3)
	count(t, collect(t, db.MembersOf(ctx, nil)), 0)
}

// testOddNames: endpoints with full stops, digits and letters of several bytes do not mix,
// whichever query finds them.
func testOddNames(t *testing.T, db Store) {
	ctx := t.Context()
	create(t, db, "r.1")
	names := []string{".", "..", "a.b", "00.", "waiting..00.", "0123456789abcdef", "ü", "\u2028", "urn:x:/1?a=b c", "\U0010ffff"}
	var list []store.Member
	for _, name := range names {
		list = append(list, member(name, rollout.MemberWaiting, ""))
	}
	noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r.1", Members: list}))
	slices.Sort(names)
	for _, q := range []store.MemberQuery{
		{}, {State: rollout.MemberWaiting}, {State: rollout.MemberWaiting, AnyPlace: true}, {Only: 1}, {Only: 3},
	} {
		q.Rollout, q.Limit = "r.1", 1
		var got []string
		for {
			page := collect(t, db.Members(ctx, q))
			if len(page) == 0 {
				break
			}
			got, q.After = append(got, page[0].Endpoint), q.Cursor(&page[0])
		}
		if q.State == "" && q.Only == 0 {
			equal(t, names, got) // by rising endpoint
		}
		slices.Sort(got)
		equal(t, names, got)
	}
}
