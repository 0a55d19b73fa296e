// Package rollouttest tests stores of rollouts.
//
// The test of a back end opens a store that keeps updates and rollouts, and runs the suite:
//
//	func TestRollouts(t *testing.T) {
//		rollouttest.Run(t, func(t testing.TB) rollouttest.Store { return mystore.New() })
//	}
package rollouttest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// A Store is what a back end offers for rollouts: the images that they refer to are in its Store.
type Store interface {
	store.Store
	store.Rollouts
}

// Run runs the conformance suite, with a test for each rule of [store.Rollouts]. For each test it
// calls open to get an empty store, and closes that store after the test.
func Run(t *testing.T, open func(t testing.TB) Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"empty", testEmpty},
		{"rollout", testRollout},
		{"replace", testReplace},
		{"members", testMembers},
		{"members move", testMembersMove},
		{"members by stage, reason and name", testMembersBy},
		{"members of an endpoint", testMembersOf},
		{"pages", testPages},
		{"journal", testJournal},
		{"atomic", testAtomic},
		{"a hundred writers", testWriters},
		{"delete", testDelete},
		{"invalid", testInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			db := open(t)
			defer func() { noError(t, db.Close()) }()
			test.run(t, db)
		})
	}
}

const image = "0123456789abcdef0123456789abcdef"

// now has the precision of stores.
var now = time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)

// newRollout stores an image, if there is none, and returns the record of a rollout.
func newRollout(t *testing.T, db Store, id string) store.Rollout {
	t.Helper()
	_, err := db.Commit(t.Context(), store.CreateImage{Image: store.Image{ID: image, Name: "n", Version: "1", Created: now}})
	if !errors.Is(err, store.ErrExists) {
		noError(t, err)
	}
	plan := rollout.Plan{
		Stages:      []rollout.Stage{{Size: 1, Soak: time.Minute}, {Share: 0.07, Only: true, Manual: true}, {Share: 1}},
		Concurrency: 3, Interval: time.Second, MaxFailure: 0.05, MissingAfter: time.Hour, EndAt: now.Add(time.Hour),
		Window: rollout.Window{Days: []time.Weekday{1, 0}, From: 5, To: 3, Zone: "UTC", Covers: rollout.CoversAll},
	}
	return store.Rollout{
		ID: id, Name: "spring", Image: image, Request: `{"a":1}`, Machine: rollout.NewRollout(plan, now), Created: now, Changed: now,
	}
}

// create stores a rollout and returns it as it is stored.
func create(t *testing.T, db Store, id string) store.Rollout {
	t.Helper()
	r := newRollout(t, db, id)
	noError(t, db.CommitRollouts(t.Context(), store.CreateRollout{Rollout: r}))
	r.Revision = 1
	return r
}

func member(endpoint string, state rollout.MemberState, place rollout.Place) store.Member {
	return store.Member{Endpoint: endpoint, Zone: "+02:00", Machine: rollout.Member{State: state, Place: place, Only: 5, Attempt: 2}}
}

func collect[T any](t *testing.T, all iter.Seq2[T, error]) (list []T) {
	t.Helper()
	for v, err := range all {
		noError(t, err)
		list = append(list, v)
	}
	return list
}

func endpoints(t *testing.T, all iter.Seq2[store.Member, error]) (list []string) {
	t.Helper()
	for _, m := range collect(t, all) {
		list = append(list, m.Endpoint)
	}
	return list
}

func testEmpty(t *testing.T, db Store) {
	ctx := t.Context()
	_, err := db.Rollout(ctx, "r")
	failsWith(t, err, store.ErrNotFound)
	_, err = db.Member(ctx, "r", "ep")
	failsWith(t, err, store.ErrNotFound)
	count(t, collect(t, db.RolloutList(ctx, store.RolloutQuery{})), 0)
	count(t, collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r"})), 0)
	count(t, collect(t, db.MembersOf(ctx, []string{"ep"})), 0)
	count(t, collect(t, db.RolloutEvents(ctx, store.RolloutEventQuery{Rollout: "r"})), 0)
	noError(t, db.CommitRollouts(ctx))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	failsWith(t, db.CommitRollouts(ended, store.CreateRollout{Rollout: newRollout(t, db, "r")}), context.Canceled)
	_, err = db.Rollout(ctx, "r")
	failsWith(t, err, store.ErrNotFound)
}

func testRollout(t *testing.T, db Store) {
	ctx := t.Context()
	r := newRollout(t, db, "r1")
	r.Revision, r.Lines = 7, 8 // the store sets them
	noError(t, db.CommitRollouts(ctx, store.CreateRollout{Rollout: r}))
	got, err := db.Rollout(ctx, "r1")
	noError(t, err)
	r.Revision, r.Lines = 1, 0
	equal(t, r, got)
	failsWith(t, db.CommitRollouts(ctx, store.CreateRollout{Rollout: r}), store.ErrExists)
	r.ID, r.Image = "r2", "ffffffffffffffffffffffffffffffff"
	failsWith(t, db.CommitRollouts(ctx, store.CreateRollout{Rollout: r}), store.ErrNotFound)
}

func testReplace(t *testing.T, db Store) {
	ctx := t.Context()
	create(t, db, "r2")
	r := create(t, db, "r1")
	r.Machine.State, r.Machine.Stage, r.Name, r.Image, r.Created = rollout.StateRunning, 1, "other", "x", now.Add(time.Hour)
	noError(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}))
	failsWith(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}), store.ErrConflict)
	got, err := db.Rollout(ctx, "r1")
	noError(t, err)
	r.Revision, r.Image, r.Created = 2, image, now
	equal(t, r, got)
	r.ID = "r3"
	failsWith(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}), store.ErrNotFound)

	list := func(q store.RolloutQuery) (ids []string) {
		for _, r := range collect(t, db.RolloutList(ctx, q)) {
			ids = append(ids, r.ID)
		}
		return ids
	}
	equal(t, []string{"r2", "r1"}, list(store.RolloutQuery{Active: true}))
	r.ID, r.Machine.State = "r1", rollout.StateEnded
	noError(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}))
	equal(t, []string{"r2"}, list(store.RolloutQuery{Active: true}))
	equal(t, []string{"r2", "r1"}, list(store.RolloutQuery{}))
	equal(t, []string{"r1"}, list(store.RolloutQuery{After: "r2"}))
	equal(t, []string{"r2"}, list(store.RolloutQuery{Limit: 1}))
}

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
	} {
		equal(t, []store.Member{m}, collect(t, db.Members(ctx, q)))
	}
	for _, q := range []store.MemberQuery{
		{Rollout: "r2"}, {Rollout: "r1", State: rollout.MemberWaiting, AnyPlace: true},
		{Rollout: "r1", State: rollout.MemberActive},
	} {
		count(t, collect(t, db.Members(ctx, q)), 0)
	}
	failsWith(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r2", Members: []store.Member{m}}), store.ErrNotFound)
}

// testMembersMove: a member is found by the state and the place that it has, and by no other.
func testMembersMove(t *testing.T, db Store) {
	ctx := t.Context()
	create(t, db, "r1")
	places := []rollout.Place{rollout.PlaceStarting, rollout.PlaceTransferring, rollout.PlaceReady, rollout.PlaceInstalling}
	for i, place := range places {
		noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: []store.Member{
			member("a", rollout.MemberActive, place), member("b", rollout.MemberActive, places[0]),
		}}))
		for k, other := range places {
			var want []string
			if k == i {
				want = append(want, "a")
			}
			if k == 0 {
				want = append(want, "b")
			}
			got := endpoints(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberActive, Place: other}))
			slices.Sort(got)
			equal(t, want, got)
		}
	}
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

func testJournal(t *testing.T, db Store) {
	ctx := t.Context()
	r := create(t, db, "r1")
	for i := range 5 {
		noError(t, db.CommitRollouts(ctx, store.AppendRolloutEvents{Rollout: "r1", Events: []store.RolloutEvent{
			{Name: "a", Time: now, Detail: fmt.Sprint(2 * i), Actor: "kim", Endpoint: "ep"}, {Name: "b", Time: now, Detail: fmt.Sprint(2*i + 1)},
		}}))
	}
	all := collect(t, db.RolloutEvents(ctx, store.RolloutEventQuery{Rollout: "r1"}))
	count(t, all, 10)
	for i, e := range all {
		equal(t, uint64(i+1), e.Seq)
		equal(t, fmt.Sprint(i), e.Detail)
		equal(t, "r1", e.Rollout)
	}
	equal(t, "kim", all[0].Actor)
	equal(t, "ep", all[0].Endpoint)
	equal(t, all[3:5], collect(t, db.RolloutEvents(ctx, store.RolloutEventQuery{Rollout: "r1", After: 3, Limit: 2})))
	noError(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}))
	got, err := db.Rollout(ctx, "r1")
	noError(t, err)
	equal(t, uint64(10), got.Lines)
	err = db.CommitRollouts(ctx, store.AppendRolloutEvents{Rollout: "r2", Events: []store.RolloutEvent{{Name: "a", Time: now}}})
	failsWith(t, err, store.ErrNotFound)
}

// testAtomic: a commit that fails leaves nothing.
func testAtomic(t *testing.T, db Store) {
	ctx := t.Context()
	r := create(t, db, "r1")
	stale := r
	stale.Revision = 9
	err := db.CommitRollouts(ctx,
		store.PutMembers{Rollout: "r1", Members: []store.Member{member("a", rollout.MemberWaiting, "")}},
		store.AppendRolloutEvents{Rollout: "r1", Events: []store.RolloutEvent{{Name: "a", Time: now}}},
		store.CreateRollout{Rollout: newRollout(t, db, "r2")},
		store.ReplaceRollout{Rollout: stale})
	failsWith(t, err, store.ErrConflict)
	count(t, collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r1"})), 0)
	count(t, collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberWaiting})), 0)
	count(t, collect(t, db.RolloutEvents(ctx, store.RolloutEventQuery{Rollout: "r1"})), 0)
	_, err = db.Rollout(ctx, "r2")
	failsWith(t, err, store.ErrNotFound)
	got, err := db.Rollout(ctx, "r1")
	noError(t, err)
	equal(t, r, got)
}

// testWriters: a hundred writers, each of which moves a member and counts it, lose none.
func testWriters(t *testing.T, db Store) {
	ctx := t.Context()
	create(t, db, "r1")
	var done sync.WaitGroup
	var conflicts atomic.Int64
	for i := range 100 {
		done.Go(func() {
			for {
				r, err := db.Rollout(ctx, "r1")
				if err != nil {
					t.Error(err)
					return
				}
				r.Machine.Total.Waiting++
				err = db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r},
					store.PutMembers{Rollout: "r1", Members: []store.Member{member(fmt.Sprint("ep", i), rollout.MemberWaiting, "")}})
				switch {
				case errors.Is(err, store.ErrConflict):
					conflicts.Add(1)
				case err != nil:
					t.Error(err)
					return
				default:
					return
				}
			}
		})
	}
	done.Wait()
	r, err := db.Rollout(ctx, "r1")
	noError(t, err)
	equal(t, 100, r.Machine.Total.Waiting)
	equal(t, uint64(101), r.Revision)
	count(t, collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberWaiting})), 100)
	t.Logf("%d conflicts", conflicts.Load())
}

func testDelete(t *testing.T, db Store) {
	ctx := t.Context()
	r := create(t, db, "r1")
	create(t, db, "r2")
	var list []store.Member
	for i := range 50 {
		list = append(list, member(fmt.Sprint(i), rollout.MemberSucceeded, ""))
	}
	for _, id := range []string{"r1", "r2"} {
		noError(t, db.CommitRollouts(ctx, store.PutMembers{Rollout: id, Members: list},
			store.AppendRolloutEvents{Rollout: id, Events: []store.RolloutEvent{{Name: "a", Time: now}}}))
	}
	failsWith(t, db.CommitRollouts(ctx, store.DeleteRollout{ID: "r1", Limit: 20}), store.ErrInUse)
	r.Machine.State = rollout.StateEnded
	noError(t, db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}))
	for n := 0; ; n++ {
		err := db.CommitRollouts(ctx, store.DeleteRollout{ID: "r1", Limit: 20})
		if errors.Is(err, store.ErrNotFound) {
			isTrue(t, "the removal took more than two commits", n > 2)
			break
		}
		noError(t, err)
		isTrue(t, "the removal ends", n < 50)
	}
	count(t, collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r1"})), 0)
	count(t, collect(t, db.RolloutEvents(ctx, store.RolloutEventQuery{Rollout: "r1"})), 0)
	count(t, collect(t, db.Members(ctx, store.MemberQuery{Rollout: "r2"})), 50)
}

func testInvalid(t *testing.T, db Store) {
	ctx := t.Context()
	r := create(t, db, "r1")
	noState, noName, longRequest := r, r, r
	noState.Machine.State = ""
	noName.ID = "a\x00"
	longRequest.Request = string(make([]byte, store.MaxRolloutRequest+1))
	unknown := r
	unknown.Machine.State = "odd"
	for name, c := range map[string]store.RolloutChange{
		"no change": nil, "no state": store.ReplaceRollout{Rollout: noState}, "bad id": store.CreateRollout{Rollout: noName},
		"long request": store.ReplaceRollout{Rollout: longRequest}, "unknown state": store.ReplaceRollout{Rollout: unknown},
		"member without a state":   store.PutMembers{Rollout: "r1", Members: []store.Member{{Endpoint: "a"}}},
		"member with an odd place": store.PutMembers{Rollout: "r1", Members: []store.Member{member("a", rollout.MemberActive, "odd")}},
		"member without a name":    store.PutMembers{Rollout: "r1", Members: []store.Member{member("", rollout.MemberActive, "")}},
		"event without a name":     store.AppendRolloutEvents{Rollout: "r1", Events: []store.RolloutEvent{{Time: now}}},
		"delete without a limit":   store.DeleteRollout{ID: "r1"},
	} {
		if err := db.CommitRollouts(ctx, c); !errors.Is(err, store.ErrInvalid) {
			t.Fatalf("%s: the error is %v", name, err)
		}
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func failsWith(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("the error is %v, want %v", err, target)
	}
}

func equal(t testing.TB, want, got any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("\n got %+v\nwant %+v", got, want)
	}
}

func count[T any](t testing.TB, list []T, n int) {
	t.Helper()
	if len(list) != n {
		t.Fatalf("there are %d, want %d", len(list), n)
	}
}

func isTrue(t testing.TB, what string, ok bool) {
	t.Helper()
	if !ok {
		t.Fatalf("not so: %s", what)
	}
}
