package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// callers is how many goroutines per processor a parallel benchmark uses.
const callers = 64

// Benchmark measures the calls that a server makes all day. All back ends run the same benchmarks,
// so that they can be compared in one run.
func Benchmark(b *testing.B, open func(t testing.TB) store.Store) {
	for _, bench := range []struct {
		name string
		run  func(*testing.B, store.Store)
	}{
		{"register/one caller", benchRegister},
		{"register/many callers", parallel(benchRegisterParallel)},
		{"step/one caller", benchStep},
		{"step/many callers", parallel(benchStepParallel)},
		{"active update of an endpoint", benchActive},
		{"list 1000 devices", benchDevices},
	} {
		b.Run(bench.name, func(b *testing.B) {
			db := open(b)
			defer closeStore(b, db)
			bench.run(b, db)
		})
	}
}

func parallel(run func(*testing.B, store.Store)) func(*testing.B, store.Store) {
	return func(b *testing.B, db store.Store) {
		b.SetParallelism(callers)
		run(b, db)
	}
}

func benchRegister(b *testing.B, db store.Store) {
	n := 0
	for b.Loop() {
		commit(b, db, store.PutRegistration{Endpoint: fmt.Sprint("ep", n), Registration: newRegistration("r")})
		n++
	}
}

func benchRegisterParallel(b *testing.B, db store.Store) {
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := db.Commit(b.Context(), store.PutRegistration{
				Endpoint: fmt.Sprint("ep", n.Add(1)), Registration: newRegistration("r"),
			})
			if err != nil {
				b.Error(err)
			}
		}
	})
}

// step is one step of an update: its record and a line of the journal.
func step(b *testing.B, db store.Store, u store.Update) store.Update {
	u.Machine.Phase = fsm.PhaseTransferring
	_, err := db.Commit(b.Context(), store.ReplaceUpdate{Update: u},
		store.AppendEvents{Events: []store.Event{newEvent(u.ID, "step")}})
	if err != nil {
		b.Error(err)
	}
	u.Revision++
	return u
}

func benchStep(b *testing.B, db store.Store) {
	seed(b, db)
	commit(b, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")})
	u := getUpdate(b, db, "u1")
	for b.Loop() {
		u = step(b, db, u)
	}
}

func benchStepParallel(b *testing.B, db store.Store) {
	seed(b, db)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		name := id(int(n.Add(1)))
		u := newUpdate(name, name, "i1")
		if _, err := db.Commit(b.Context(), store.CreateUpdate{Update: u}); err != nil {
			b.Error(err)
		}
		u.Revision = 1
		for pb.Next() {
			u = step(b, db, u)
		}
	})
}

func benchActive(b *testing.B, db store.Store) {
	seed(b, db)
	fill(b, db, 10000, 1)
	n := 0
	for b.Loop() {
		q := store.UpdateQuery{Endpoint: fmt.Sprint("ep", n%10000), Active: true}
		if ids := collect(b, db.Updates(b.Context(), q), updateID); len(ids) != 1 {
			b.Fatal("no update")
		}
		n += 7
	}
}

func benchDevices(b *testing.B, db store.Store) {
	seed(b, db)
	fill(b, db, 10000, 1)
	for b.Loop() {
		q := store.DeviceQuery{After: "ep2", Limit: 1000}
		if eps := collect(b, db.Devices(b.Context(), q), endpointOf); len(eps) != 1000 {
			b.Fatal("wrong number of devices")
		}
	}
}
