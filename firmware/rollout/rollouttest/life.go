package rollouttest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/storetest"
)

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

// A life is a rollout of three members that a shell takes from its draft to its end, one step of
// its machine in each commit, as package rollout does. It goes on from what is stored.
type life struct {
	t  *testing.T
	db Store
}

// step applies an input to the stored rollout, and to a member if there is an endpoint, and stores
// what follows.
func (l *life) step(endpoint string, in rollout.Input) error {
	r, err := l.db.Rollout(l.t.Context(), "r1")
	if err != nil {
		return err
	}
	m := store.Member{Rollout: "r1", Endpoint: endpoint}
	if endpoint != "" {
		stored, err := l.db.Member(l.t.Context(), "r1", endpoint)
		if err == nil {
			m = stored
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	in.At = now
	var out rollout.Actions
	r.Machine, m.Machine, out = r.Machine.Step(m.Machine, in)
	if !out.Persist {
		return nil
	}
	changes := []store.RolloutChange{store.ReplaceRollout{Rollout: r}}
	if m.Machine.State != "" {
		changes = append(changes, store.PutMembers{Rollout: "r1", Members: []store.Member{m}})
	}
	if len(out.Journal) > 0 {
		c := store.AppendRolloutEvents{Rollout: "r1"}
		for _, line := range out.Journal {
			c.Events = append(c.Events, store.RolloutEvent{Name: line.Event, Detail: line.Detail, Time: now, Endpoint: endpoint})
		}
		changes = append(changes, c)
	}
	return l.db.CommitRollouts(l.t.Context(), changes...)
}

// run lives the whole life. Steps that are stored already change nothing.
func (l *life) run() error {
	r := newRollout(l.t, nil, "r1")
	r.Machine = rollout.NewRollout(rollout.Plan{
		Stages: []rollout.Stage{{Size: 1}, {Share: 1}}, Concurrency: 1, MissingAfter: 1, EndAt: now.AddDate(0, 0, 1),
	}, now)
	if err := l.db.CommitRollouts(l.t.Context(), store.CreateRollout{Rollout: r}); err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	names := []string{"a", "b", "c"}
	type step struct {
		endpoint string
		in       rollout.Input
	}
	var steps []step
	for _, name := range names {
		steps = append(steps, step{name, rollout.Input{Kind: rollout.InputAdd}})
	}
	steps = append(steps, step{"", rollout.Input{Kind: rollout.InputFilled}}, step{"", rollout.Input{Kind: rollout.InputStart}})
	for _, name := range names {
		steps = append(steps,
			step{name, rollout.Input{Kind: rollout.InputReach}},
			step{name, rollout.Input{Kind: rollout.InputStarted, Update: "u"}},
			step{name, rollout.Input{Kind: rollout.InputSeen, Seen: rollout.Seen{Place: rollout.PlaceReady, Online: true}}},
			step{name, rollout.Input{Kind: rollout.InputSeen, Seen: rollout.Seen{Place: rollout.PlaceInstalling, Online: true}}},
			step{name, rollout.Input{Kind: rollout.InputSeen, Seen: rollout.Seen{End: rollout.EndingSucceeded}}},
			step{"", rollout.Input{Kind: rollout.InputHealth, OK: true}})
	}
	for _, s := range steps {
		if err := l.step(s.endpoint, s.in); err != nil {
			return err
		}
	}
	return nil
}

// check checks that the counters equal the members, and the journal its length.
func (l *life) check(when string) store.Rollout {
	l.t.Helper()
	r, err := l.db.Rollout(l.t.Context(), "r1")
	if errors.Is(err, store.ErrNotFound) {
		return r
	}
	noError(l.t, err)
	var total rollout.Counts
	for _, m := range collect(l.t, l.db.Members(l.t.Context(), store.MemberQuery{Rollout: "r1"})) {
		total.Waiting += one(m.Machine.State == rollout.MemberWaiting)
		total.Active += one(m.Machine.State == rollout.MemberActive)
		total.Succeeded += one(m.Machine.State == rollout.MemberSucceeded)
		q := store.MemberQuery{Rollout: "r1", State: m.Machine.State, Place: m.Machine.Place}
		found := slices.ContainsFunc(collect(l.t, l.db.Members(l.t.Context(), q)), func(o store.Member) bool { return o.Endpoint == m.Endpoint })
		isTrue(l.t, "the index has member "+m.Endpoint+" "+when, found)
	}
	if total != r.Machine.Total {
		l.t.Fatalf("%s: the counters are %+v, the members %+v", when, r.Machine.Total, total)
	}
	equal(l.t, r.Lines, uint64(len(collect(l.t, l.db.RolloutEvents(l.t.Context(), store.RolloutEventQuery{Rollout: "r1"})))))
	active := len(collect(l.t, l.db.RolloutList(l.t.Context(), store.RolloutQuery{Active: true}))) == 1
	equal(l.t, r.Machine.Active(), active)
	return r
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// testCrash lives a rollout with a crash before and after each commit. What a commit stored is
// there as a whole, or not at all, and the rollout goes on to the same end.
func testCrash(t *testing.T, open func(testing.TB) Store, durable func(testing.TB) func() Store) {
	var want store.Rollout
	run := func(cut storetest.Cut) int {
		place := func() Store { return open(t) }
		if durable != nil {
			place = durable(t)
		}
		db := place()
		newRollout(t, db, "r1") // its image
		crash := NewCrash(db, cut, nil)
		err := (&life{t, crash}).run()
		if cut.Point > 0 {
			failsWith(t, err, storetest.ErrCrashed)
			_, err := crash.Rollout(t.Context(), "r1")
			failsWith(t, err, storetest.ErrCrashed)
		} else {
			noError(t, err)
		}
		if durable != nil {
			noError(t, db.Close())
			db = place()
		}
		defer func() { noError(t, db.Close()) }()
		again := &life{t, db}
		again.check("after a crash " + cut.String())
		noError(t, again.run())
		r := again.check("at the end, after a crash " + cut.String())
		r.Revision = 0 // steps were repeated
		equal(t, rollout.StateEnded, r.Machine.State)
		if cut.Point == 0 {
			want = r
		}
		equal(t, want, r)
		return crash.Points()
	}
	points := run(storetest.Cut{})
	for cut := range storetest.Cuts(points) {
		run(cut)
	}
	t.Logf("%d commits", points)
}

// testReopen: a store that is opened again has all records.
func testReopen(t *testing.T, open func() Store) {
	db := open()
	newRollout(t, db, "r1")
	noError(t, (&life{t, db}).run())
	create(t, db, "r2")
	named := member("named", rollout.MemberWaiting, rollout.PlaceInvited)
	noError(t, db.CommitRollouts(t.Context(), store.PutMembers{Rollout: "r2", Members: []store.Member{named}}))
	contents := func() (all []any) {
		for _, r := range collect(t, db.RolloutList(t.Context(), store.RolloutQuery{})) {
			all = append(all, r, collect(t, db.Members(t.Context(), store.MemberQuery{Rollout: r.ID})),
				collect(t, db.RolloutEvents(t.Context(), store.RolloutEventQuery{Rollout: r.ID})),
				endpoints(t, db.Members(t.Context(), store.MemberQuery{Rollout: r.ID, Only: 1})),
				endpoints(t, db.Members(t.Context(), store.MemberQuery{Rollout: r.ID, State: rollout.MemberSucceeded, Stage: 2})))
		}
		return append(all, collect(t, db.RolloutList(t.Context(), store.RolloutQuery{Active: true})))
	}
	want := contents()
	for range 2 {
		noError(t, db.Close())
		db = open()
		equal(t, want, contents())
	}
	noError(t, db.Close())
}
