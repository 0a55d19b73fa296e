package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/storetest"
)

// TestOwnStore tests the store of the example.
func TestOwnStore(t *testing.T) {
	open := func(testing.TB) store.Store { return newMapStore() }
	storetest.Run(t, open, storetest.Config{})
}

// TestWrappers: the wrappers pass the suite too, as long as they do nothing.
func TestWrappers(t *testing.T) {
	t.Run("faulty", func(t *testing.T) {
		storetest.Run(t, func(testing.TB) store.Store { return &storetest.Faulty{Store: memory.New()} }, storetest.Config{})
	})
	t.Run("crash", func(t *testing.T) {
		storetest.Run(t, func(testing.TB) store.Store {
			db := memory.New()
			return closing{storetest.NewCrash(db, storetest.Cut{}, nil), db}
		}, storetest.Config{})
	})
}

// closing closes the store below a Crash; Crash itself does not, like a process that dies.
type closing struct {
	*storetest.Crash
	below store.Store
}

func (c closing) Close() error { return errors.Join(c.Crash.Close(), c.below.Close()) }

// program is a process under test: it stores two images and, between them, has one effect outside
// its store.
func program(ctx context.Context, db store.Store, effect func(func() error) error, world map[string]int) error {
	for _, id := range []string{"1", "2"} {
		_, err := db.Commit(ctx, store.CreateImage{Image: store.Image{ID: id, Version: id}})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
		if err := effect(func() error { world[id] = 1; return nil }); err != nil {
			return err
		}
	}
	return nil
}

func TestCrash(t *testing.T) {
	count := storetest.NewCrash(memory.New(), storetest.Cut{}, nil)
	if err := program(t.Context(), count, count.Effect, map[string]int{}); err != nil || count.Points() != 4 {
		t.Fatalf("first run: %v, %d points, want 4", err, count.Points())
	}
	cuts := 0
	for cut := range storetest.Cuts(count.Points()) {
		cuts++
		db, world, stopped := memory.New(), map[string]int{}, 0
		crash := storetest.NewCrash(db, cut, func() { stopped++ })
		if err := program(t.Context(), crash, crash.Effect, world); !errors.Is(err, storetest.ErrCrashed) {
			t.Fatalf("%v: run = %v, want ErrCrashed", cut, err)
		}
		<-crash.Crashed()
		done := len(world)
		for range db.Images(t.Context(), store.ImageQuery{}) {
			done++
		}
		want := cut.Point - 1
		if cut.After {
			want++
		}
		if done != want || stopped != 1 {
			t.Errorf("%v: %d points took effect, want %d; stop called %d times", cut, done, want, stopped)
		}
		dead(t, crash)
		if err := program(t.Context(), db, func(f func() error) error { return f() }, world); err != nil || len(world) != 2 {
			t.Errorf("%v: restart: %v, world %v", cut, err, world)
		}
	}
	if cuts != 8 {
		t.Errorf("%d cuts, want 8", cuts)
	}
}

func dead(t *testing.T, db store.Store) {
	t.Helper()
	ctx := t.Context()
	var errs [8]error
	_, errs[0] = db.Commit(ctx)
	_, errs[1] = db.Update(ctx, "1")
	_, errs[2] = db.Image(ctx, "1")
	_, errs[3] = db.Device(ctx, "1")
	for _, errs[4] = range db.Updates(ctx, store.UpdateQuery{}) {
		continue
	}
	for _, errs[5] = range db.Events(ctx, store.EventQuery{}) {
		continue
	}
	for _, errs[6] = range db.Images(ctx, store.ImageQuery{}) {
		continue
	}
	for _, errs[7] = range db.Devices(ctx, store.DeviceQuery{}) {
		continue
	}
	for n, err := range errs {
		if !errors.Is(err, storetest.ErrCrashed) {
			t.Errorf("call %d after the crash: %v", n, err)
		}
	}
}

func ExampleFaulty() {
	ctx := context.Background()
	broken := errors.New("disk is full")
	db := &storetest.Faulty{
		Store: memory.New(),
		Before: func(_ context.Context, call storetest.Call) error {
			if call.Method == "Commit" {
				return broken
			}
			return nil
		},
	}
	_, err := db.Commit(ctx, store.PutFirmware{Endpoint: "ep"})
	fmt.Println(err)
	_, err = db.Device(ctx, "ep")
	fmt.Println(err)
	// Output:
	// disk is full
	// store: not found
}

func TestFaultyAfter(t *testing.T) {
	lost := errors.New("connection is lost")
	db := &storetest.Faulty{
		Store: memory.New(),
		After: func(context.Context, storetest.Call) error { return lost },
	}
	if _, err := db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"}); !errors.Is(err, lost) {
		t.Fatalf("Commit = %v, want %v", err, lost)
	}
	if _, err := db.Device(t.Context(), "ep"); err != nil {
		t.Fatalf("the commit did not take place: %v", err)
	}
}
