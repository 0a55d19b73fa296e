// Package storetest helps to test stores and what is built on them.
//
// Who writes a back end runs the conformance suite against it, and the benchmarks that all back ends share:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) store.Store { return mystore.New() })
//	}
//
// Who writes a program on a store finds two wrappers here. [Faulty] makes calls fail or wait. [Crash] ends the world
// before or after a chosen commit; with [Cuts] a test goes through all such moments:
//
//	for cut := range storetest.Cuts(n) {
//		db := memory.New()
//		run(storetest.NewCrash(db, cut, stop)) // until stop is called
//		run(db)                                // the restart
//		// now look whether all ended as it would have without the crash
//	}
package storetest
