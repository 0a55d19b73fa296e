// Package storetest tests stores, and programs that use one.
//
// The test of a back end runs the conformance suite, and the benchmarks that all back ends share:
//
//	func TestStore(t *testing.T) {
//		open := func(t testing.TB) store.Store { return mystore.New() }
//		storetest.Run(t, open, storetest.Config{})
//	}
//
// The test of a program wraps its store. [Faulty] makes calls fail or wait. [Crash] ends the
// process before or after a chosen commit; with [Cuts] a test goes through all such moments:
//
//	for cut := range storetest.Cuts(n) {
//		db := memory.New()
//		run(storetest.NewCrash(db, cut, stop)) // until stop is called
//		run(db)                                // the restart
//		// compare the result with that of a run without a crash
//	}
package storetest

import (
	"testing"

	"github.com/otago-iot/otago/store"
)

// Config says what a back end offers besides store.Store. Run skips the tests for a nil field, and
// says so. The zero Config works.
type Config struct {
	// Durable is for a back end whose records outlive the store that wrote them. It prepares a
	// place for one test, and returns a function that opens the store there, each time after the
	// previous store was closed.
	Durable func(t testing.TB) (open func() store.Store)

	// Damage has, by name, the ways in which a record of this back end can be damaged, as a failing
	// disk does. Each function opens an empty store, which Run closes, and returns it with a
	// function that damages a stored record; kind and key are those of a store.DamagedError.
	Damage map[string]func(t testing.TB) (db store.Store, spoil func(kind store.Kind, key string))
}

// Run runs the conformance suite, with a test function for each rule of store.Store. For each test
// it calls open to get an empty store, and closes that store after the test.
func Run(t *testing.T, open func(t testing.TB) store.Store, config Config) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := open(t)
			defer closeStore(t, db)
			test.run(t, db)
		})
	}
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

var tests = []struct {
	name string
	run  func(*testing.T, store.Store)
}{
	{"empty", testEmpty},
	{"update", testUpdate},
	{"update errors", testUpdateErrors},
	{"one active update", testOneActive},
	{"one active update of many at once", testOneActiveAtOnce},
	{"idempotency key", testKey},
	{"replace", testReplace},
	{"labels", testLabels},
	{"delete an update", testDeleteUpdate},
	{"atomic", testAtomic},
	{"order in a commit", testOrder},
	{"image", testImage},
	{"image in use", testImageInUse},
	{"compatible", testCompatible},
	{"device", testDevice},
	{"package that a device holds", testHolds},
	{"labels and facts of a device", testDeviceLabels},
	{"renewals", testRenewals},
	{"secured is sticky", testSecured},
	{"delete a device", testDeleteDevice},
	{"journal", testJournal},
	{"journal bounds", testJournalBounds},
	{"fields of the journal", testJournalFields},
	{"follow the journal", testFollow},
	{"update queries", testUpdateQueries},
	{"outcomes", testOutcomes},
	{"ends", testEnds},
	{"short pages", testShortPages},
	{"keys of deleted updates", testOldKeys},
	{"span of the journal", testSpan},
	{"image queries", testImageQueries},
	{"device queries", testDeviceQueries},
	{"devices by labels and facts", testSelection},
	{"many values", testManyValues},
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
