package storetest

import (
	"testing"

	"github.com/otago-iot/otago/store"
)

// An Option tells Run what a back end can do beyond what all can.
type Option interface{ apply(*suite) }

type option func(*suite)

func (o option) apply(s *suite) { o(s) }

// Durable says that records outlive the store that wrote them. The function prepares a place for one test and returns one
// that opens it, each time anew, after the store before was closed.
func Durable(place func(t testing.TB) (open func() store.Store)) Option {
	return option(func(s *suite) { s.place = place })
}

// Damage says how a record of this back end can be damaged, as by a failing disk or by a fault that is long repaired. The
// function opens an empty store, which Run closes, and returns with it one that damages a stored record; kind and key are
// those of a store.DamagedError. The option may be given more than once, with a name for each way of damage.
func Damage(name string, open func(t testing.TB) (db store.Store, spoil func(kind store.Kind, key string))) Option {
	return option(func(s *suite) { s.damages = append(s.damages, damage{name, open}) })
}

type suite struct {
	place   func(t testing.TB) func() store.Store
	damages []damage
}

type damage struct {
	name string
	open func(t testing.TB) (store.Store, func(store.Kind, string))
}

// Run runs the conformance suite. The function opens an empty store; it is called for each test, and Run closes what it
// returns. What an option was not given for is skipped and says so.
func Run(t *testing.T, open func(t testing.TB) store.Store, opts ...Option) {
	var s suite
	for _, o := range opts {
		o.apply(&s)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := open(t)
			defer closeStore(t, db)
			test.run(t, db)
		})
	}
	t.Run("reopen", func(t *testing.T) {
		if s.place == nil {
			t.Skip("the back end is not declared Durable")
		}
		testReopen(t, s.place(t))
	})
	t.Run("damage", func(t *testing.T) {
		if len(s.damages) == 0 {
			t.Skip("the back end does not say how to Damage its records")
		}
		for _, d := range s.damages {
			t.Run(d.name, func(t *testing.T) { testDamage(t, d) })
		}
	})
}

var tests = []struct {
	name string
	run  func(*testing.T, store.Store)
}{
	{"empty", testEmpty},
	{"update", testUpdate},
	{"update errors", testUpdateErrors},
	{"one active update", testOneActive},
	{"idempotency key", testKey},
	{"replace", testReplace},
	{"labels", testLabels},
	{"delete an update", testDeleteUpdate},
	{"atomic", testAtomic},
	{"order in a commit", testOrder},
	{"image", testImage},
	{"image in use", testImageInUse},
	{"device", testDevice},
	{"package that a device holds", testHolds},
	{"secured is sticky", testSecured},
	{"delete a device", testDeleteDevice},
	{"journal", testJournal},
	{"journal bounds", testJournalBounds},
	{"update queries", testUpdateQueries},
	{"image queries", testImageQueries},
	{"device queries", testDeviceQueries},
	{"paging while writing", testPaging},
	{"write in a loop", testWriteInLoop},
	{"range again", testRangeAgain},
	{"odd names", testOddNames},
	{"odd text", testOddText},
	{"refused text", testRefused},
	{"unknown names", testUnknownNames},
	{"ownership", testOwnership},
	{"cancelled context", testCancelled},
	{"close", testClose},
	{"random changes", testRandom},
	{"race to create", testRaceCreate},
	{"race to replace", testRaceReplace},
	{"race to delete", testRaceDelete},
	{"race for an image", testRaceImage},
	{"race for a version", testRaceVersion},
	{"race of all", testRaceAll},
}

func closeStore(t testing.TB, db store.Store) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
