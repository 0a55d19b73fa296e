package rollouttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

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
