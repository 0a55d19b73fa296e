package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/otago-iot/otago/store"
)

func testCancelled(t *testing.T, db store.Store) {
	seed(t, db)
	fill(t, db, 300, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range db.Updates(ctx, store.UpdateQuery{}) {
		if err != nil {
			last = err
			continue
		}
		n++
		cancel()
	}
	if n < 300 { // The back end may have read them all before it could notice.
		failsWith(t, "an iteration cut short", last, context.Canceled)
	}
	_, err := db.Commit(ctx, store.PutFirmware{Endpoint: "ep"})
	failsWith(t, "Commit", err, context.Canceled)
	_, err = db.Device(t.Context(), "ep")
	failsWith(t, "Device after a cancelled Commit", err, store.ErrNotFound)
	_, err = db.Update(ctx, id(1))
	failsWith(t, "Update", err, context.Canceled)
	_, err = db.Image(ctx, "i1")
	failsWith(t, "Image", err, context.Canceled)
	_, err = db.Device(ctx, "ep")
	failsWith(t, "Device", err, context.Canceled)
	for _, err := range readAll(ctx, db) {
		failsWith(t, "iteration", err, context.Canceled)
	}
}

// readAll returns the first error of each kind of iteration.
func readAll(ctx context.Context, db store.Store) []error {
	errs := make([]error, 4)
	for _, errs[0] = range db.Updates(ctx, store.UpdateQuery{}) {
		break
	}
	for _, errs[1] = range db.Images(ctx, store.ImageQuery{}) {
		break
	}
	for _, errs[2] = range db.Devices(ctx, store.DeviceQuery{}) {
		break
	}
	for _, errs[3] = range db.Events(ctx, store.EventQuery{}) {
		break
	}
	return errs
}

func testClose(t *testing.T, db store.Store) {
	seed(t, db)
	closeStore(t, db)
	closeStore(t, db)
	ctx := t.Context()
	_, err := db.Commit(ctx, store.PutFirmware{Endpoint: "ep"})
	failsWith(t, "Commit", err, store.ErrClosed)
	_, err = db.Commit(ctx)
	failsWith(t, "Commit of nothing", err, store.ErrClosed)
	_, err = db.Image(ctx, "i1")
	failsWith(t, "Image", err, store.ErrClosed)
	for _, err := range readAll(ctx, db) {
		failsWith(t, "iteration", err, store.ErrClosed)
	}
}

func testReopen(t *testing.T, open func() store.Store) {
	db := open()
	seed(t, db)
	commit(t, db, store.CreateImage{Image: newImage("i2", "2.0")})
	var last uint64
	for i := range 20 {
		u := withKey(newUpdate(id(i), fmt.Sprint("ep", i), "i1"), fmt.Sprint("key", i))
		last = commit(t, db, store.CreateUpdate{Update: u}, store.AppendEvents{Events: []store.Event{newEvent(id(i), "a")}})
	}
	commit(t, db, store.ReplaceUpdate{Update: ended(getUpdate(t, db, id(3)))})
	r := newRegistration("r")
	r.Secured = true
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: r})
	labels := map[string]string{"site": "oslo"}
	commit(t, db, store.PutLabels{Endpoint: "ep", Labels: labels}, store.PutFacts{Endpoint: "ep", Facts: newFacts("S1")})
	before := contents(t, db)
	closeStore(t, db)

	db = open()
	defer func() { closeStore(t, db) }()
	equal(t, "contents", contents(t, db), before)
	equal(t, "last number", commitNothing(t, db), last)
	refuse(t, db, store.ErrActive, store.CreateUpdate{Update: newUpdate("new", "ep1", "i1")})
	refuse(t, db, store.ErrDuplicate, store.CreateUpdate{Update: withKey(newUpdate("new", "new", "i1"), "key3")})
	refuse(t, db, store.ErrInUse, store.DeleteImage{ID: "i1"})
	refuse(t, db, store.ErrVersionTaken, store.CreateImage{Image: newImage("i3", "2.0")})
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: newRegistration("r")})
	equal(t, "Secured", getDevice(t, db, "ep").Registration.Secured, true)
	equal(t, "devices by label", collect(t, db.Devices(t.Context(), store.DeviceQuery{Labels: labels, Model: "S1"}), endpointOf), []string{"ep"})
	commit(t, db, store.CreateUpdate{Update: newUpdate("new", "ep3", "i1")})
	if seq := commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("new", "b")}}); seq <= last {
		t.Fatalf("number %d after reopening, %d before", seq, last)
	}
}

// contents returns all records, for comparison.
func contents(t testing.TB, db store.Store) []any {
	t.Helper()
	var all []any
	for r, err := range db.Updates(t.Context(), store.UpdateQuery{}) {
		all = append(all, r, err)
	}
	for r, err := range db.Images(t.Context(), store.ImageQuery{}) {
		all = append(all, r, err)
	}
	for r, err := range db.Devices(t.Context(), store.DeviceQuery{}) {
		all = append(all, r, err)
	}
	for r, err := range db.Events(t.Context(), store.EventQuery{}) {
		all = append(all, r, err)
	}
	return all
}
