// Package rollouttest tests stores of rollouts.
//
// The test of a back end opens a store that keeps updates and rollouts, and runs the suite:
//
//	func TestRollouts(t *testing.T) {
//		open := func(t testing.TB) rollouttest.Store { return mystore.New() }
//		rollouttest.Run(t, open, rollouttest.Config{})
//	}
package rollouttest

import (
	"errors"
	"iter"
	"reflect"
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

// Config says what a back end offers besides [Store]. Run skips the tests for a nil field, and says
// so. The zero Config works.
type Config struct {
	// Durable is for a back end whose records outlive the store that wrote them: see
	// storetest.Config.
	Durable func(t testing.TB) (open func() Store)

	// Damage has, by name, the ways in which a record of this back end can be damaged, as a failing
	// disk does. Each function opens an empty store, which Run closes, and returns it with a
	// function that damages a stored record; kind and key are those of a store.DamagedError.
	Damage map[string]func(t testing.TB) (db Store, spoil func(kind store.Kind, key string))

	// Members is how many members the largest rollout has. The suite compares what queries and
	// commits cost there and in a small one, by the memory that they allocate in this process; a
	// back end that works elsewhere needs a test of its own. Default: 20,000, with -short 4,000.
	Members int
}

// Run runs the conformance suite, with a test for each rule of [store.Rollouts]. For each test it
// calls open to get an empty store, and closes that store after the test.
func Run(t *testing.T, open func(t testing.TB) Store, config Config) {
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
		{"members of many endpoints", testMembersOfMany},
		{"pages", testPages},
		{"odd names", testOddNames},
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
	t.Run("many members", func(t *testing.T) { testMany(t, open, config.Members) })
	t.Run("a crash between any two commits", func(t *testing.T) { testCrash(t, open, config.Durable) })
	t.Run("reopen", func(t *testing.T) {
		if config.Durable == nil {
			t.Skip("Config.Durable is not set")
		}
		testReopen(t, config.Durable(t))
	})
	t.Run("damage", func(t *testing.T) {
		if len(config.Damage) == 0 {
			t.Skip("Config.Damage is not set")
		}
		for name, open := range config.Damage {
			t.Run(name, func(t *testing.T) { testDamage(t, open) })
		}
	})
}

const image = "0123456789abcdef0123456789abcdef"

// now has the precision of stores.
var now = time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)

// newRollout stores an image, if there is a store without one, and returns the record of a rollout.
func newRollout(t testing.TB, db Store, id string) store.Rollout {
	t.Helper()
	if db != nil {
		_, err := db.Commit(t.Context(), store.CreateImage{Image: store.Image{ID: image, Name: "n", Version: "1", Created: now}})
		if !errors.Is(err, store.ErrExists) {
			noError(t, err)
		}
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
func create(t testing.TB, db Store, id string) store.Rollout {
	t.Helper()
	r := newRollout(t, db, id)
	noError(t, db.CommitRollouts(t.Context(), store.CreateRollout{Rollout: r}))
	r.Revision = 1
	return r
}

func member(endpoint string, state rollout.MemberState, place rollout.Place) store.Member {
	return store.Member{Endpoint: endpoint, Zone: "+02:00", Machine: rollout.Member{State: state, Place: place, Only: 5, Attempt: 2}}
}

func collect[T any](t testing.TB, all iter.Seq2[T, error]) (list []T) {
	t.Helper()
	for v, err := range all {
		noError(t, err)
		list = append(list, v)
	}
	return list
}

func endpoints(t testing.TB, all iter.Seq2[store.Member, error]) (list []string) {
	t.Helper()
	for _, m := range collect(t, all) {
		list = append(list, m.Endpoint)
	}
	return list
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
