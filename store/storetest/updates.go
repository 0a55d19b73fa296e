package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

func testEmpty(t *testing.T, db store.Store) {
	ctx := t.Context()
	_, err := db.Update(ctx, "none")
	failsWith(t, "Update", err, store.ErrNotFound)
	_, err = db.Image(ctx, "none")
	failsWith(t, "Image", err, store.ErrNotFound)
	_, err = db.Device(ctx, "none")
	failsWith(t, "Device", err, store.ErrNotFound)
	equal(t, "Updates", collect(t, db.Updates(ctx, store.UpdateQuery{}), updateID), []string{})
	equal(t, "oldest Updates", collect(t, db.Updates(ctx, store.UpdateQuery{Oldest: true}), updateID), []string{})
	equal(t, "Images", collect(t, db.Images(ctx, store.ImageQuery{}), imageID), []string{})
	equal(t, "Devices", collect(t, db.Devices(ctx, store.DeviceQuery{}), endpointOf), []string{})
	equal(t, "Events", collect(t, db.Events(ctx, store.EventQuery{}), eventName), []string{})
	equal(t, "last number", commitNothing(t, db), uint64(0))
}

func commitNothing(t testing.TB, db store.Store) uint64 {
	t.Helper()
	seq, err := db.Commit(t.Context())
	if err != nil {
		t.Fatalf("Commit of nothing: %v", err)
	}
	return seq
}

func testUpdate(t *testing.T, db store.Store) {
	seed(t, db)
	u := newUpdate("u1", "ep", "i1")
	u.Key = "key"
	commit(t, db, store.CreateUpdate{Update: u})
	u.Revision = 1
	equal(t, "stored update", getUpdate(t, db, "u1"), u)

	last := commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("u1", "a"), newEvent("u1", "b")}})
	commit(t, db, store.CreateUpdate{Update: newUpdate("u2", "ep2", "i1")})
	equal(t, "Since", getUpdate(t, db, "u2").Since, last)
	equal(t, "last number", commitNothing(t, db), last)
}

func testUpdateErrors(t *testing.T, db store.Store) {
	seed(t, db)
	refuse(t, db, store.ErrNotFound, store.CreateUpdate{Update: newUpdate("u1", "ep", "i2")})
	refuse(t, db, store.ErrNotFound, store.ReplaceUpdate{Update: newUpdate("u1", "ep", "i1")})
	refuse(t, db, store.ErrNotFound, store.AppendEvents{Events: []store.Event{newEvent("u1", "a")}})
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")})
	refuse(t, db, store.ErrExists, store.CreateUpdate{Update: newUpdate("u1", "ep2", "i1")})
	refuse(t, db, store.ErrExists, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")})
}

func testOneActive(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")})
	err := refuse(t, db, store.ErrActive, store.CreateUpdate{Update: newUpdate("u2", "ep", "i1")})
	var active *store.UpdateError
	if !errors.As(err, &active) || active.ID != "u1" {
		t.Fatalf("UpdateError = %+v, want u1", active)
	}
	// An update that has ended blocks no other.
	commit(t, db, store.CreateUpdate{Update: ended(newUpdate("u3", "ep", "i1"))})
	commit(t, db, store.CreateUpdate{Update: newUpdate("u4", "e", "i1")}, store.CreateUpdate{Update: newUpdate("u5", "ep2", "i1")})

	commit(t, db, store.ReplaceUpdate{Update: ended(getUpdate(t, db, "u1"))})
	commit(t, db, store.CreateUpdate{Update: newUpdate("u6", "ep", "i1")})
	// The end of an old update does not free the endpoint of the new one.
	commit(t, db, store.ReplaceUpdate{Update: getUpdate(t, db, "u1")})
	refuse(t, db, store.ErrActive, store.CreateUpdate{Update: newUpdate("u7", "ep", "i1")})
}

// testOneActiveAtOnce creates updates to the same endpoints at once: of each endpoint one succeeds.
func testOneActiveAtOnce(t *testing.T, db store.Store) {
	seed(t, db)
	const callers, endpoints = 8, 12
	var succeeded atomic.Int64
	for n := range endpoints {
		var creating sync.WaitGroup
		for caller := range callers {
			creating.Go(func() {
				u := newUpdate(fmt.Sprintf("u%d-%d", n, caller), fmt.Sprint("ep", n), "i1")
				switch _, err := db.Commit(t.Context(), store.CreateUpdate{Update: u}); {
				case err == nil:
					succeeded.Add(1)
				case !errors.Is(err, store.ErrActive):
					t.Errorf("Commit: %v", err)
				}
			})
		}
		creating.Wait()
	}
	equal(t, "creations at once that succeeded", succeeded.Load(), int64(endpoints))
}

func testKey(t *testing.T, db store.Store) {
	seed(t, db)
	u := newUpdate("u1", "ep", "i1")
	u.Key = "key"
	commit(t, db, store.CreateUpdate{Update: u})
	again := newUpdate("u2", "ep", "no such image")
	again.Key = "key"
	err := refuse(t, db, store.ErrDuplicate, store.CreateUpdate{Update: again})
	var duplicate *store.UpdateError
	if !errors.As(err, &duplicate) || duplicate.ID != "u1" {
		t.Fatalf("UpdateError = %+v, want u1", duplicate)
	}
	commit(t, db, store.ReplaceUpdate{Update: ended(getUpdate(t, db, "u1"))})
	again.Image = "i1"
	refuse(t, db, store.ErrDuplicate, store.CreateUpdate{Update: again})
	// A refused update leaves its key free.
	refuse(t, db, store.ErrNotFound, store.CreateUpdate{Update: withKey(newUpdate("u3", "ep", "none"), "key2")})
	commit(t, db, store.CreateUpdate{Update: withKey(newUpdate("u3", "ep", "i1"), "key2")})
	for _, key := range []string{"key", "key2"} {
		n := len(collect(t, db.Updates(t.Context(), store.UpdateQuery{Key: key}), updateID))
		equal(t, "updates of the key "+key, n, 1)
	}
	equal(t, "updates of no key", collect(t, db.Updates(t.Context(), store.UpdateQuery{Key: "ke"}), updateID), []string{})
}

func withKey(u store.Update, key string) store.Update {
	u.Key = key
	return u
}

func testReplace(t *testing.T, db store.Store) {
	seed(t, db)
	u := newUpdate("u1", "ep", "i1")
	u.Key = "key"
	commit(t, db, store.CreateUpdate{Update: u})
	u = getUpdate(t, db, "u1")

	step := u
	step.Machine.Phase, step.Machine.Bytes, step.Changed = fsm.PhaseTransferring, 100, epoch.AddDate(0, 0, 1)
	step.Machine.Plan.Profile.Protocols, step.Tokens = nil, []string{"cc"}
	wrong := step
	wrong.Endpoint, wrong.Image, wrong.Key, wrong.Since, wrong.Created = "other", "other", "other", 77, epoch.AddDate(1, 0, 0)
	wrong.Labels = map[string]string{"other": ""}
	commit(t, db, store.ReplaceUpdate{Update: wrong})
	step.Revision = 2
	equal(t, "replaced update", getUpdate(t, db, "u1"), step)

	refuse(t, db, store.ErrConflict, store.ReplaceUpdate{Update: u})
	future := step
	future.Revision = 9
	refuse(t, db, store.ErrConflict, store.ReplaceUpdate{Update: future})

	commit(t, db, store.ReplaceUpdate{Update: ended(step)})
	dead := getUpdate(t, db, "u1")
	dead.Machine.Outcome = fsm.OutcomeNone
	refuse(t, db, store.ErrConflict, store.ReplaceUpdate{Update: dead})
	dead.Machine.Outcome, dead.Machine.Reported = fsm.OutcomeSucceeded, fsm.ResultSuccess
	commit(t, db, store.ReplaceUpdate{Update: dead})
	equal(t, "revision", getUpdate(t, db, "u1").Revision, uint64(4))
}

func testAtomic(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")})
	before := getUpdate(t, db, "u1")
	last := commit(t, db, store.AppendEvents{Events: []store.Event{newEvent("u1", "a")}})
	step := before
	step.Machine.Phase = fsm.PhasePreparing
	refuse(t, db, store.ErrActive,
		store.ReplaceUpdate{Update: step},
		store.AppendEvents{Events: []store.Event{newEvent("u1", "b")}},
		store.CreateImage{Image: newImage("i2", "2.0")},
		store.PutRegistration{Endpoint: "ep", Registration: newRegistration("r")},
		store.PutFirmware{Endpoint: "ep2", Firmware: store.Firmware{Version: "1"}},
		store.CreateUpdate{Update: newUpdate("u2", "ep3", "i2")},
		store.CreateUpdate{Update: newUpdate("u3", "ep", "i1")},
	)
	ctx := t.Context()
	equal(t, "update", getUpdate(t, db, "u1"), before)
	equal(t, "updates", collect(t, db.Updates(ctx, store.UpdateQuery{}), updateID), []string{"u1"})
	equal(t, "active updates", collect(t, db.Updates(ctx, store.UpdateQuery{Active: true}), updateID), []string{"u1"})
	equal(t, "events", collect(t, db.Events(ctx, store.EventQuery{}), eventName), []string{"a"})
	equal(t, "images", collect(t, db.Images(ctx, store.ImageQuery{}), imageID), []string{"i1"})
	equal(t, "devices", collect(t, db.Devices(ctx, store.DeviceQuery{}), endpointOf), []string{})
	equal(t, "last number", commitNothing(t, db), last)
	commit(t, db, store.CreateImage{Image: newImage("i2", "2.0")}, store.CreateUpdate{Update: newUpdate("u2", "ep3", "i2")})
}

func testOrder(t *testing.T, db store.Store) {
	first := newUpdate("u1", "ep", "i1")
	second := ended(first)
	second.Revision = 1
	seq := commit(t, db,
		store.CreateImage{Image: newImage("i1", "1.0")},
		store.CreateUpdate{Update: first},
		store.AppendEvents{Events: []store.Event{newEvent("u1", "a")}},
		store.ReplaceUpdate{Update: second},
		store.CreateUpdate{Update: newUpdate("u2", "ep", "i1")},
		store.AppendEvents{Events: []store.Event{newEvent("u2", "b")}},
	)
	equal(t, "revision", getUpdate(t, db, "u1").Revision, uint64(2))
	equal(t, "Since", getUpdate(t, db, "u2").Since, uint64(0))
	equal(t, "last number", commitNothing(t, db), seq)
	equal(t, "events", collect(t, db.Events(t.Context(), store.EventQuery{}), eventName), []string{"a", "b"})

	u := getUpdate(t, db, "u2")
	commit(t, db, store.ReplaceUpdate{Update: ended(u)}, store.DeleteImage{ID: "i1"},
		store.CreateImage{Image: newImage("i1", "1.0")})
	refuse(t, db, store.ErrNotFound, store.DeleteImage{ID: "i1"}, store.CreateUpdate{Update: newUpdate("u3", "ep", "i1")})
	refuse(t, db, store.ErrInUse, store.CreateUpdate{Update: newUpdate("u3", "ep", "i1")}, store.DeleteImage{ID: "i1"})
}

func testLabels(t *testing.T, db store.Store) {
	seed(t, db)
	labels := map[string]string{"site": "north", "team/a.b-c_D9": "", "x": "日本 = &"}
	u := newUpdate("u1", "ep", "i1")
	u.Labels = labels
	commit(t, db, store.CreateUpdate{Update: u})
	want := newUpdate("u1", "ep", "i1")
	want.Revision, want.Labels = 1, map[string]string{"site": "north", "team/a.b-c_D9": "", "x": "日本 = &"}
	labels["site"] = "spoilt"
	equal(t, "labelled update", getUpdate(t, db, "u1"), want)

	for _, bad := range []map[string]string{
		{"": "a"}, {"a b": "a"}, {"a=b": "a"}, {"é": "a"}, {"a\n": "a"}, {strings.Repeat("x", store.MaxLabelName+1): "a"},
		{"a": "\x00"}, {"a": "\xff"}, {"a": strings.Repeat("x", store.MaxLabelValue+1)}, manyLabels(store.MaxLabels + 1),
	} {
		u := newUpdate("u2", "ep2", "i1")
		u.Labels = bad
		refuse(t, db, store.ErrInvalid, store.CreateUpdate{Update: u})
	}
	most := newUpdate("u2", "ep2", "i1")
	most.Labels = manyLabels(store.MaxLabels - 1)
	most.Labels["site"] = strings.Repeat("é", store.MaxLabelValue/2)
	commit(t, db, store.CreateUpdate{Update: most}, store.CreateUpdate{Update: newUpdate("u3", "ep3", "i1")})

	for _, test := range []struct {
		q    store.UpdateQuery
		want []string
	}{
		{store.UpdateQuery{Labels: map[string]string{}}, []string{"u3", "u2", "u1"}},
		{store.UpdateQuery{Labels: map[string]string{"site": "north"}}, []string{"u1"}},
		{store.UpdateQuery{Labels: map[string]string{"site": "north", "x": "日本 = &"}}, []string{"u1"}},
		{store.UpdateQuery{Labels: map[string]string{"site": "north", "x": "y"}}, []string{}},
		{store.UpdateQuery{Labels: map[string]string{"site": ""}}, []string{}},
		{store.UpdateQuery{Labels: map[string]string{"none": ""}}, []string{}},
		{store.UpdateQuery{Labels: map[string]string{"team/a.b-c_D9": ""}}, []string{"u1"}},
		{store.UpdateQuery{Labels: map[string]string{"site": "north"}, Endpoint: "ep2"}, []string{}},
		{store.UpdateQuery{Labels: map[string]string{"site": most.Labels["site"]}, Active: true, Oldest: true}, []string{"u2"}},
	} {
		if got := collect(t, db.Updates(t.Context(), test.q), updateID); !sameStrings(got, test.want) {
			t.Errorf("Updates(%+v) = %v, want %v", test.q, got, test.want)
		}
	}
}

func manyLabels(n int) map[string]string {
	labels := make(map[string]string)
	for i := range n {
		labels[strings.Repeat("x", store.MaxLabelName-2)+id(i)[len(id(i))-2:]] = "v"
	}
	return labels
}

func testDeleteUpdate(t *testing.T, db store.Store) {
	seed(t, db)
	ctx := t.Context()
	commit(t, db, store.CreateUpdate{Update: withKey(newUpdate("u1", "ep", "i1"), "key")},
		store.AppendEvents{Events: []store.Event{newEvent("u1", "a"), newEvent("u1", "b")}},
		store.CreateUpdate{Update: ended(newUpdate("u2", "ep", "i1"))},
		store.AppendEvents{Events: []store.Event{newEvent("u2", "c")}})
	gone := store.DeleteUpdate{ID: "u1"}
	err := refuse(t, db, store.ErrActive, gone)
	if active, ok := errors.AsType[*store.UpdateError](err); !ok || active.Err != store.ErrActive || active.ID != "u1" {
		t.Fatalf("%#v, want ErrActive of u1", err)
	}
	refuse(t, db, store.ErrNotFound, store.DeleteUpdate{ID: "u"})
	refuse(t, db, store.ErrInvalid, store.DeleteUpdate{})
	last := commitNothing(t, db)

	end := store.ReplaceUpdate{Update: ended(getUpdate(t, db, "u1"))}
	refuse(t, db, store.ErrNotFound, end, gone, gone)
	commit(t, db, end, gone)
	_, err = db.Update(ctx, "u1")
	failsWith(t, "Update of a deleted one", err, store.ErrNotFound)
	refuse(t, db, store.ErrNotFound, gone)
	refuse(t, db, store.ErrNotFound, end)
	refuse(t, db, store.ErrNotFound, store.AppendEvents{Events: []store.Event{newEvent("u1", "d")}})
	for _, q := range []store.UpdateQuery{{}, {Endpoint: "ep"}, {Image: "i1"}} {
		equal(t, "updates that are left", collect(t, db.Updates(ctx, q), updateID), []string{"u2"})
	}
	equal(t, "updates of its key", collect(t, db.Updates(ctx, store.UpdateQuery{Key: "key"}), updateID), []string{})
	equal(t, "events", collect(t, db.Events(ctx, store.EventQuery{}), eventName), []string{"c"})
	equal(t, "its events", collect(t, db.Events(ctx, store.EventQuery{Update: "u1"}), eventName), []string{})
	equal(t, "last number", commitNothing(t, db), last)

	// The id and the key are free, and the new update inherits nothing from the old one.
	commit(t, db, store.CreateUpdate{Update: withKey(newUpdate("u1", "ep", "i1"), "key")},
		store.AppendEvents{Events: []store.Event{newEvent("u1", "e")}})
	equal(t, "events of the new one", collect(t, db.Events(ctx, store.EventQuery{Update: "u1"}), eventName), []string{"e"})
	if next := commitNothing(t, db); next <= last {
		t.Fatalf("last number is %d, want more than %d: numbers are not used twice", next, last)
	}
	commit(t, db, store.DeleteUpdate{ID: "u2"}, store.ReplaceUpdate{Update: ended(getUpdate(t, db, "u1"))}, gone,
		store.DeleteImage{ID: "i1"})
}
