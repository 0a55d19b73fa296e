package rollouttest

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// A spoilt is a store with damaged records: the rollout r2, the member b of r1, and the second line
// of r1's journal. There are r1 to r3, with the members a, b and c, and three lines each.
type spoilt struct {
	*testing.T
	db Store
}

func testDamage(t *testing.T, open func(testing.TB) (Store, func(store.Kind, string))) {
	for _, test := range []struct {
		name string
		run  func(*spoilt)
	}{
		{"get", (*spoilt).get},
		{"sequences", (*spoilt).sequences},
		{"pages", (*spoilt).pages},
		{"commit", (*spoilt).commit},
		{"put a member", (*spoilt).putMember},
		{"delete", (*spoilt).remove},
	} {
		t.Run(test.name, func(t *testing.T) {
			db, spoil := open(t)
			defer func() { noError(t, db.Close()) }()
			for _, id := range []string{"r1", "r2", "r3"} {
				create(t, db, id)
				c := store.PutMembers{Rollout: id}
				for _, endpoint := range []string{"a", "b", "c"} {
					c.Members = append(c.Members, member(endpoint, rollout.MemberWaiting, rollout.PlaceInvited))
				}
				lines := []store.RolloutEvent{{Name: "one", Time: now}, {Name: "two", Time: now}, {Name: "three", Time: now}}
				noError(t, db.CommitRollouts(t.Context(), c, store.AppendRolloutEvents{Rollout: id, Events: lines}))
			}
			for kind, key := range damaged {
				spoil(kind, key)
			}
			test.run(&spoilt{t, db})
		})
	}
}

// damaged are the keys of the damaged records.
var damaged = map[store.Kind]string{store.KindRollout: "r2", store.KindMember: "r1 b", store.KindRolloutEvent: "r1 2"}

// isDamaged asserts that the error says which record is damaged.
func (s *spoilt) isDamaged(err error, kind store.Kind) {
	s.Helper()
	failsWith(s, err, store.ErrDamaged)
	var e *store.DamagedError
	if !errors.As(err, &e) || e.Kind != kind || e.Key != damaged[kind] || e.Err == nil {
		s.Fatalf("the error is %#v, want a DamagedError of %s %s", err, kind, damaged[kind])
	}
}

// marked returns the result of key for each record, with a ! before that of a damaged one.
func marked[T any](s *spoilt, all iter.Seq2[T, error], kind store.Kind, key func(T) string) (keys []string) {
	s.Helper()
	for record, err := range all {
		mark := ""
		if err != nil {
			mark = "!"
			s.isDamaged(err, kind)
		}
		keys = append(keys, mark+key(record))
	}
	return keys
}

func rolloutID(r store.Rollout) string { return r.ID }
func nameOf(m store.Member) string     { return m.Rollout + " " + m.Endpoint }

func (s *spoilt) get() {
	_, err := s.db.Rollout(s.Context(), "r2")
	s.isDamaged(err, store.KindRollout)
	_, err = s.db.Member(s.Context(), "r1", "b")
	s.isDamaged(err, store.KindMember)
	_, err = s.db.Member(s.Context(), "r2", "b")
	noError(s, err)
}

func (s *spoilt) sequences() {
	ctx := s.Context()
	for _, q := range []store.RolloutQuery{{}, {Active: true}} {
		equal(s, []string{"r3", "!r2", "r1"}, marked(s, s.db.RolloutList(ctx, q), store.KindRollout, rolloutID))
	}
	equal(s, []string{"r1 a", "!r1 b", "r1 c"}, marked(s, s.db.Members(ctx, store.MemberQuery{Rollout: "r1"}), store.KindMember, nameOf))
	for _, q := range []store.MemberQuery{
		{State: rollout.MemberWaiting, AnyPlace: true}, {State: rollout.MemberWaiting, Place: rollout.PlaceInvited}, {Only: 1},
	} {
		q.Rollout = "r1"
		got := marked(s, s.db.Members(ctx, q), store.KindMember, nameOf)
		slices.Sort(got)
		equal(s, []string{"!r1 b", "r1 a", "r1 c"}, got)
	}
	// The damaged rollout may be active: it is not known that it has ended.
	got := marked(s, s.db.MembersOf(ctx, []string{"b"}), store.KindMember, nameOf)
	slices.Sort(got)
	equal(s, []string{"!r1 b", "r2 b", "r3 b"}, got)
	lines := s.db.RolloutEvents(ctx, store.RolloutEventQuery{Rollout: "r1"})
	equal(s, []string{"1 one", "!2 ", "3 three"},
		marked(s, lines, store.KindRolloutEvent, func(e store.RolloutEvent) string { return fmt.Sprint(e.Seq, " ", e.Name) }))
}

// pages: a page may end with the damaged member, and the next one goes on after it.
func (s *spoilt) pages() {
	for _, q := range []store.MemberQuery{{}, {State: rollout.MemberWaiting, AnyPlace: true}, {Only: 3}} {
		q.Rollout, q.Limit = "r1", 1
		var got []string
		for len(got) < 9 {
			n := len(got)
			for m, err := range s.db.Members(s.Context(), q) {
				if err != nil {
					s.isDamaged(err, store.KindMember)
				}
				got, q.After = append(got, m.Endpoint), q.Cursor(&m)
			}
			if len(got) == n {
				break
			}
		}
		slices.Sort(got)
		equal(s, []string{"a", "b", "c"}, got)
	}
}

func (s *spoilt) commit() {
	ctx := s.Context()
	r, err := s.db.Rollout(ctx, "r3")
	noError(s, err)
	bad := r
	bad.ID = "r2"
	for _, c := range []store.RolloutChange{
		store.ReplaceRollout{Rollout: bad}, store.DeleteRollout{ID: "r2", Limit: 9},
		store.AppendRolloutEvents{Rollout: "r2", Events: []store.RolloutEvent{{Name: "a", Time: now}}},
	} {
		s.isDamaged(s.db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}, c), store.KindRollout)
	}
	got, err := s.db.Rollout(ctx, "r3")
	noError(s, err)
	equal(s, r, got) // nothing of these commits is there
	failsWith(s, s.db.CommitRollouts(ctx, store.CreateRollout{Rollout: bad}), store.ErrExists)
}

// putMember replaces the damaged member, which is found where it is then, and nowhere else.
func (s *spoilt) putMember() {
	ctx := s.Context()
	m := member("b", rollout.MemberActive, rollout.PlaceReady)
	noError(s, s.db.CommitRollouts(ctx, store.PutMembers{Rollout: "r1", Members: []store.Member{m}}))
	got, err := s.db.Member(ctx, "r1", "b")
	noError(s, err)
	m.Rollout = "r1"
	equal(s, m, got)
	equal(s, []string{"b"}, endpoints(s, s.db.Members(ctx, store.MemberQuery{Rollout: "r1", State: rollout.MemberActive, AnyPlace: true})))
	for _, q := range []store.MemberQuery{{State: rollout.MemberWaiting, AnyPlace: true}, {Only: 1}} {
		q.Rollout = "r1"
		count(s, collect(s, s.db.Members(ctx, q)), 2)
	}
}

// remove deletes the damaged rollout, and one with a damaged member and a damaged line.
func (s *spoilt) remove() {
	ctx := s.Context()
	r, err := s.db.Rollout(ctx, "r1")
	noError(s, err)
	r.Machine.State = rollout.StateEnded
	noError(s, s.db.CommitRollouts(ctx, store.ReplaceRollout{Rollout: r}))
	failsWith(s, s.db.CommitRollouts(ctx, store.DeleteRollout{ID: "r3", Limit: 9, Damaged: true}), store.ErrInUse)
	for _, c := range []store.DeleteRollout{{ID: "r1", Limit: 2}, {ID: "r2", Limit: 2, Damaged: true}} {
		for n := 0; ; n++ {
			err := s.db.CommitRollouts(ctx, c)
			if errors.Is(err, store.ErrNotFound) {
				break
			}
			noError(s, err)
			isTrue(s, "the removal ends", n < 20)
		}
		count(s, collect(s, s.db.Members(ctx, store.MemberQuery{Rollout: c.ID})), 0)
		count(s, collect(s, s.db.Members(ctx, store.MemberQuery{Rollout: c.ID, Only: 1})), 0)
	}
	for _, q := range []store.RolloutQuery{{}, {Active: true}} {
		equal(s, []string{"r3"}, marked(s, s.db.RolloutList(ctx, q), store.KindRollout, rolloutID))
	}
}
