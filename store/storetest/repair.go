package storetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/otago-iot/otago/store"
)

// commit makes commits with a change to a damaged record beside other changes, and checks that none
// takes effect.
func (s *spoilt) commit() {
	damaged := newUpdate("u2", "ep2", "i1")
	damaged.Revision = 1
	healthy := getUpdate(s, s.db, "u1")
	err := refuse(s, s.db, store.ErrDamaged, store.ReplaceUpdate{Update: healthy}, store.ReplaceUpdate{Update: damaged})
	s.isDamaged("ReplaceUpdate", err, store.KindUpdate)
	equal(s, "revision of the other one", getUpdate(s, s.db, "u1").Revision, healthy.Revision)
	commit(s, s.db, store.ReplaceUpdate{Update: healthy})

	refuse(s, s.db, store.ErrInUse, store.DeleteImage{ID: "i2"})
	commit(s, s.db, store.ReplaceUpdate{Update: ended(getUpdate(s, s.db, "u3"))})
	s.isDamaged("DeleteImage", refuse(s, s.db, store.ErrDamaged, store.DeleteImage{ID: "i2"}), store.KindImage)

	err = refuse(s, s.db, store.ErrActive, store.CreateUpdate{Update: newUpdate("u4", "ep2", "i1")})
	var active *store.UpdateError
	if !errors.As(err, &active) || active.ID != "u2" {
		s.Fatalf("UpdateError = %+v, want u2", active)
	}
	refuse(s, s.db, store.ErrExists, store.CreateUpdate{Update: newUpdate("u2", "ep4", "i1")})
	refuse(s, s.db, store.ErrDuplicate, store.CreateUpdate{Update: withKey(newUpdate("u4", "ep4", "i1"), "key of u2")})
}

// commits makes several commits at once, which a back end may write in one transaction: only those
// that need the damaged record fail.
func (s *spoilt) commits() {
	damaged := newUpdate("u2", "ep2", "i1")
	damaged.Revision = 1
	const n = 40
	won := together(s.T, n, store.ErrDamaged, func(i int) error {
		change := store.Change(store.CreateUpdate{Update: newUpdate(id(i), fmt.Sprint("new", i), "i1")})
		if i%2 == 0 {
			change = store.ReplaceUpdate{Update: damaged}
		}
		_, err := s.db.Commit(s.Context(), change)
		return err
	})
	equal(s, "commits beside those that fail", won, n/2)
	equal(s, "updates", len(marked(s, s.db.Updates(s.Context(), store.UpdateQuery{}), store.KindUpdate, updateID)), 3+n/2)
}

// registration replaces the damaged device: a device must be able to register.
func (s *spoilt) registration() {
	want := store.Device{Endpoint: "ep2", Registration: newRegistration("new")}
	commit(s, s.db, store.PutRegistration{Endpoint: "ep2", Registration: want.Registration})
	equal(s, "device that registered again", getDevice(s, s.db, "ep2"), want)
}

// secured damages the record of a device that used credentials: the store still knows that it did.
func (s *spoilt) secured() {
	r := newRegistration("r")
	r.Secured = true
	for n, replace := range []store.Change{
		store.PutRegistration{Endpoint: "secured", Registration: newRegistration("new")},
		store.PutFirmware{Endpoint: "secured", Firmware: store.Firmware{Version: "2"}},
		store.PutHolds{Endpoint: "secured", Holds: strings.Repeat("0a", 32)},
		store.RemoveDamaged{Kind: store.KindDevice, Key: "secured"},
	} {
		commit(s, s.db, store.PutRegistration{Endpoint: "secured", Registration: r})
		s.spoil(store.KindDevice, "secured")
		for d, err := range s.db.Devices(s.Context(), store.DeviceQuery{After: "ep3"}) {
			failsWith(s, "pair", err, store.ErrDamaged)
			equal(s, "what is known of a damaged one", d,
				store.Device{Endpoint: "secured", Registration: store.RegistrationRecord{Secured: true}})
		}
		commit(s, s.db, replace)
		if !getDevice(s, s.db, "secured").Registration.Secured {
			s.Errorf("change %d forgets that a damaged device is Secured", n)
		}
	}
	commit(s, s.db, store.DeleteDevice{Endpoint: "secured"}, store.PutRegistration{Endpoint: "secured", Registration: newRegistration("new")})
	if getDevice(s, s.db, "secured").Registration.Secured {
		s.Error("a deleted device is still Secured")
	}
}

// deleteDevice deletes the damaged device once its update, which may be damaged too, has ended.
func (s *spoilt) deleteDevice() {
	gone := store.DeleteDevice{Endpoint: "ep2"}
	refuse(s, s.db, store.ErrActive, gone)
	commit(s, s.db, store.RemoveDamaged{Kind: store.KindUpdate, Key: "u2"}, gone)
	_, err := s.db.Device(s.Context(), "ep2")
	failsWith(s, "Device of a deleted one", err, store.ErrNotFound)
}

func (s *spoilt) firmware() {
	want := store.Device{Endpoint: "ep2", Firmware: store.Firmware{Version: "2"}}
	commit(s, s.db, store.PutFirmware{Endpoint: "ep2", Firmware: want.Firmware})
	equal(s, "device that was read", getDevice(s, s.db, "ep2"), want)
}

func (s *spoilt) holds() {
	want := store.Device{Endpoint: "ep2", Firmware: store.Firmware{Holds: strings.Repeat("0a", 32)}}
	commit(s, s.db, store.PutHolds{Endpoint: "ep2", Holds: want.Firmware.Holds})
	equal(s, "device that holds a package", getDevice(s, s.db, "ep2"), want)
}

func (s *spoilt) remove() {
	for _, c := range []store.RemoveDamaged{
		{Kind: store.KindUpdate, Key: "u1"}, {Kind: store.KindImage, Key: "i1"}, {Kind: store.KindDevice, Key: "ep1"},
		{Kind: store.KindEvent, Key: fmt.Sprint(commitNothing(s, s.db))},
	} {
		refuse(s, s.db, store.ErrNotDamaged, c)
		c.Key = "999999"
		refuse(s, s.db, store.ErrNotFound, c)
		c.Key = ""
		refuse(s, s.db, store.ErrInvalid, c)
	}
	refuse(s, s.db, store.ErrInvalid, store.RemoveDamaged{Kind: "record", Key: "u2"})
	refuse(s, s.db, store.ErrInvalid, store.RemoveDamaged{Kind: store.KindEvent, Key: "0" + s.line})

	gone := store.RemoveDamaged{Kind: store.KindUpdate, Key: "u2"}
	refuse(s, s.db, store.ErrNotFound, gone, gone)
	_, err := s.db.Update(s.Context(), "u2")
	s.isDamaged("Update after a commit that was refused", err, store.KindUpdate)

	next := withKey(newUpdate("u4", "ep2", "i1"), "key of u2")
	commit(s, s.db, gone, store.CreateUpdate{Update: next})
	next.Revision, next.Since = 1, commitNothing(s, s.db)
	equal(s, "update in its place", getUpdate(s, s.db, "u4"), next)
	_, err = s.db.Update(s.Context(), "u2")
	failsWith(s, "Update of a removed one", err, store.ErrNotFound)
	for _, test := range []struct {
		q    store.UpdateQuery
		want []string
	}{
		{store.UpdateQuery{}, []string{"u4", "u3", "u1"}},
		{store.UpdateQuery{Active: true}, []string{"u4", "u3", "u1"}},
		{store.UpdateQuery{Endpoint: "ep2"}, []string{"u4"}},
		{store.UpdateQuery{Endpoint: "ep2", Active: true}, []string{"u4"}},
		{store.UpdateQuery{Image: "i1"}, []string{"u4", "u1"}},
		{store.UpdateQuery{Image: "i1", Active: true}, []string{"u4", "u1"}},
		{store.UpdateQuery{Key: "key of u2"}, []string{"u4"}},
	} {
		if got := collect(s, s.db.Updates(s.Context(), test.q), updateID); !sameStrings(got, test.want) {
			s.Errorf("Updates(%+v) = %v, want %v", test.q, got, test.want)
		}
	}
	refuse(s, s.db, store.ErrNotFound, store.AppendEvents{Events: []store.Event{newEvent("u2", "c")}})
	q := store.EventQuery{Update: "u2"}
	equal(s, "journal of a removed update", collect(s, s.db.Events(s.Context(), q), eventName), []string{})
	for e := range s.db.Events(s.Context(), store.EventQuery{}) {
		if e.Update == "u2" {
			s.Errorf("line %+v of a removed update", e)
		}
	}
	// Nothing is left that a new update with the same id would find.
	lines := make([]store.Event, store.JournalHead+store.JournalTail)
	for i := range lines {
		lines[i] = newEvent("u2", "c")
	}
	commit(s, s.db, store.CreateUpdate{Update: ended(newUpdate("u2", "ep2", "i1"))}, store.AppendEvents{Events: lines})
	equal(s, "journal", len(collect(s, s.db.Events(s.Context(), q), eventName)), len(lines))

	for _, id := range []string{"u1", "u4"} {
		commit(s, s.db, store.ReplaceUpdate{Update: ended(getUpdate(s, s.db, id))})
	}
	commit(s, s.db, store.DeleteImage{ID: "i1"})
}

func (s *spoilt) removeRest() {
	ctx := s.Context()
	image := store.RemoveDamaged{Kind: store.KindImage, Key: "i2"}
	refuse(s, s.db, store.ErrInUse, image)
	commit(s, s.db, store.ReplaceUpdate{Update: ended(getUpdate(s, s.db, "u3"))})
	commit(s, s.db, image, store.CreateImage{Image: newImage("i3", "2.0")})
	equal(s, "images", collect(s, s.db.Images(ctx, store.ImageQuery{}), imageID), []string{"i1", "i3"})
	q := store.ImageQuery{SHA256: newImage("i2", "").SHA256}
	equal(s, "images by digest", collect(s, s.db.Images(ctx, q), imageID), []string{})

	commit(s, s.db, store.RemoveDamaged{Kind: store.KindDevice, Key: "ep2"})
	_, err := s.db.Device(ctx, "ep2")
	failsWith(s, "Device of a removed one", err, store.ErrNotFound)
	equal(s, "devices", collect(s, s.db.Devices(ctx, store.DeviceQuery{}), endpointOf), []string{"ep1", "ep3"})

	commit(s, s.db, store.RemoveDamaged{Kind: store.KindEvent, Key: s.line})
	equal(s, "journal", collect(s, s.db.Events(ctx, store.EventQuery{Update: "u1"}), eventName), []string{"a"})
	equal(s, "events", len(collect(s, s.db.Events(ctx, store.EventQuery{}), eventName)), 5)
	lines := make([]store.Event, 2*(store.JournalHead+store.JournalTail))
	for i := range lines {
		lines[i] = newEvent("u1", "c")
	}
	commit(s, s.db, store.AppendEvents{Events: lines})
	equal(s, "bounded journal", len(collect(s, s.db.Events(ctx, store.EventQuery{Update: "u1"}), eventName)),
		store.JournalHead+store.JournalTail)
}
