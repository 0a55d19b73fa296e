package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/otago-iot/otago/store"
)

// together calls fn n times at once and returns how many calls returned nil. Any error other than
// expected ends the test.
func together(t *testing.T, n int, expected error, fn func(i int) error) int {
	t.Helper()
	var start, done sync.WaitGroup
	var won atomic.Int32
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			switch err := fn(i); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, expected):
				t.Errorf("call %d: %v, want nil or %v", i, err, expected)
			}
		})
	}
	start.Done()
	done.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return int(won.Load())
}

func testRaceCreate(t *testing.T, db store.Store) {
	seed(t, db)
	won := together(t, 100, store.ErrActive, func(i int) error {
		_, err := db.Commit(t.Context(), store.CreateUpdate{Update: newUpdate(id(i), "ep", "i1")},
			store.AppendEvents{Events: []store.Event{newEvent(id(i), "a")}})
		return err
	})
	equal(t, "updates created", won, 1)
	equal(t, "updates", len(collect(t, db.Updates(t.Context(), store.UpdateQuery{}), updateID)), 1)
	equal(t, "events", len(collect(t, db.Events(t.Context(), store.EventQuery{}), eventName)), 1)

	won = together(t, 100, store.ErrDuplicate, func(i int) error {
		u := withKey(newUpdate(id(200+i), fmt.Sprint("other", i), "i1"), "key")
		_, err := db.Commit(t.Context(), store.CreateUpdate{Update: u})
		return err
	})
	equal(t, "updates created with one key", won, 1)
}

func testRaceReplace(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")})
	for range 5 {
		u := getUpdate(t, db, "u1")
		won := together(t, 50, store.ErrConflict, func(i int) error {
			mine := u
			mine.Machine.Bytes = int64(i)
			_, err := db.Commit(t.Context(), store.ReplaceUpdate{Update: mine})
			return err
		})
		equal(t, "writers that won", won, 1)
		equal(t, "revision", getUpdate(t, db, "u1").Revision, u.Revision+1)
	}
}

// testRaceDelete deletes an update while lines are appended to its journal: no line is left.
func testRaceDelete(t *testing.T, db store.Store) {
	seed(t, db)
	for range 20 {
		commit(t, db, store.CreateUpdate{Update: ended(newUpdate("u1", "ep", "i1"))})
		deleted := together(t, 20, store.ErrNotFound, func(i int) error {
			if i%4 == 0 {
				_, err := db.Commit(t.Context(), store.DeleteUpdate{ID: "u1"})
				return err
			}
			_, err := db.Commit(t.Context(), store.AppendEvents{Events: []store.Event{newEvent("u1", "a")}})
			if err == nil {
				return store.ErrNotFound // only the delete counts
			}
			return err
		})
		equal(t, "updates deleted", deleted, 1)
		equal(t, "events", collect(t, db.Events(t.Context(), store.EventQuery{}), eventName), []string{})
	}
}

// testRaceImage deletes an image while updates to it are being created: only one of the two
// succeeds.
func testRaceImage(t *testing.T, db store.Store) {
	for round := range 10 {
		image := newImage(fmt.Sprint("i", round), fmt.Sprint(round))
		commit(t, db, store.CreateImage{Image: image})
		var deleted, created atomic.Int32
		together(t, 20, nil, func(i int) error {
			if i%2 == 0 {
				_, err := db.Commit(t.Context(), store.DeleteImage{ID: image.ID})
				if err == nil {
					deleted.Add(1)
				} else if !errors.Is(err, store.ErrInUse) && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				return nil
			}
			u := newUpdate(id(100*round+i), fmt.Sprint("ep", round, "-", i), image.ID)
			_, err := db.Commit(t.Context(), store.CreateUpdate{Update: u})
			if err == nil {
				created.Add(1)
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		})
		if (deleted.Load() == 1) == (created.Load() > 0) || deleted.Load() > 1 {
			t.Fatalf("image deleted %d times, %d updates to it created", deleted.Load(), created.Load())
		}
	}
}

func testRaceVersion(t *testing.T, db store.Store) {
	won := together(t, 50, store.ErrVersionTaken, func(i int) error {
		_, err := db.Commit(t.Context(), store.CreateImage{Image: newImage(fmt.Sprint("i", i), "1.0")})
		return err
	})
	equal(t, "images created", won, 1)
}

// testRaceAll runs writers and readers of everything at once, and counts the records afterwards.
func testRaceAll(t *testing.T, db store.Store) {
	seed(t, db)
	const workers, rounds = 16, 12
	together(t, workers, nil, func(w int) error {
		ep := fmt.Sprint("ep", w)
		for n := range rounds {
			u := newUpdate(id(100*w+n), ep, "i1")
			if _, err := db.Commit(t.Context(), store.CreateUpdate{Update: u},
				store.AppendEvents{Events: []store.Event{newEvent(u.ID, "created")}}); err != nil {
				return err
			}
			u, err := db.Update(t.Context(), u.ID)
			if err != nil {
				return err
			}
			if _, err := db.Commit(t.Context(), store.ReplaceUpdate{Update: ended(u)},
				store.AppendEvents{Events: []store.Event{newEvent(u.ID, "ended")}},
				store.PutRegistration{Endpoint: ep, Registration: newRegistration("r")}); err != nil {
				return err
			}
			for _, err := range db.Events(t.Context(), store.EventQuery{Update: u.ID}) {
				if err != nil {
					return err
				}
			}
			for _, err := range db.Updates(t.Context(), store.UpdateQuery{Active: true}) {
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	ctx := t.Context()
	equal(t, "active updates", collect(t, db.Updates(ctx, store.UpdateQuery{Active: true}), updateID), []string{})
	equal(t, "updates", len(collect(t, db.Updates(ctx, store.UpdateQuery{}), updateID)), workers*rounds)
	equal(t, "events", len(collect(t, db.Events(ctx, store.EventQuery{}), eventName)), 2*workers*rounds)
	equal(t, "devices", len(collect(t, db.Devices(ctx, store.DeviceQuery{}), endpointOf)), workers)
}
