package storetest

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// A spoilt is a store with damaged records: the update u2, the image i2, the device ep2, and the second line of u1's
// journal. There are u1 to u3 for ep1 to ep3, the last of the image i2, each with two lines.
type spoilt struct {
	*testing.T
	db   store.Store
	line string // sequence number of the damaged one
}

func newSpoilt(t *testing.T, d damage) *spoilt {
	db, spoil := d.open(t)
	t.Cleanup(func() { closeStore(t, db) })
	seed(t, db)
	commit(t, db, store.CreateImage{Image: newImage("i2", "2.0")})
	var last uint64
	for n, image := range []string{"i1", "i1", "i2"} {
		id, ep := fmt.Sprint("u", n+1), fmt.Sprint("ep", n+1)
		commit(t, db, store.CreateUpdate{Update: withKey(newUpdate(id, ep, image), "key of "+id)},
			store.PutRegistration{Endpoint: ep, Registration: newRegistration("r")})
	}
	for _, line := range []string{"a", "b"} {
		for _, id := range []string{"u1", "u2", "u3"} {
			seq := commit(t, db, store.AppendEvents{Events: []store.Event{newEvent(id, line)}})
			if id == "u1" {
				last = seq
			}
		}
	}
	s := &spoilt{T: t, db: db, line: fmt.Sprint(last)}
	for kind, key := range s.records() {
		spoil(kind, key)
	}
	return s
}

func (s *spoilt) records() map[store.Kind]string {
	return map[store.Kind]string{
		store.KindUpdate: "u2", store.KindImage: "i2", store.KindDevice: "ep2", store.KindEvent: s.line,
	}
}

// isDamaged asserts that the error says which record is damaged.
func (s *spoilt) isDamaged(what string, err error, kind store.Kind) {
	s.Helper()
	failsWith(s, what, err, store.ErrDamaged)
	var damaged *store.DamagedError
	if !errors.As(err, &damaged) || damaged.Kind != kind || damaged.Key != s.records()[kind] || damaged.Err == nil {
		s.Fatalf("%s = %#v, want a DamagedError of %s %s", what, err, kind, s.records()[kind])
	}
}

// marked returns what key makes of each record, with a ! before that of a damaged one.
func marked[T any](s *spoilt, seq iter.Seq2[T, error], kind store.Kind, key func(T) string) []string {
	s.Helper()
	keys := []string{}
	for record, err := range seq {
		mark := ""
		if err != nil {
			mark = "!"
			s.isDamaged("pair", err, kind)
		}
		keys = append(keys, mark+key(record))
	}
	return keys
}

func testDamage(t *testing.T, d damage) {
	for _, test := range []struct {
		name string
		run  func(*spoilt)
	}{
		{"get", (*spoilt).get},
		{"updates", (*spoilt).updates},
		{"other sequences", (*spoilt).others},
		{"commit", (*spoilt).commit},
		{"many commits", (*spoilt).commits},
		{"registration", (*spoilt).registration},
		{"firmware", (*spoilt).firmware},
		{"holds", (*spoilt).holds},
		{"remove", (*spoilt).remove},
		{"remove the rest", (*spoilt).removeRest},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(newSpoilt(t, d)) })
	}
}

func (s *spoilt) get() {
	ctx := s.Context()
	_, err := s.db.Update(ctx, "u2")
	s.isDamaged("Update", err, store.KindUpdate)
	_, err = s.db.Image(ctx, "i2")
	s.isDamaged("Image", err, store.KindImage)
	_, err = s.db.Device(ctx, "ep2")
	s.isDamaged("Device", err, store.KindDevice)
	getUpdate(s, s.db, "u1")
	getDevice(s, s.db, "ep1")
}

func (s *spoilt) updates() {
	odd := func(u store.Update) bool {
		if u.Machine.Phase == "" {
			s.Errorf("a Filter was asked for the damaged %s", u.ID)
		}
		return u.ID != "u3"
	}
	for _, test := range []struct {
		q    store.UpdateQuery
		want []string
	}{
		{store.UpdateQuery{}, []string{"u3", "!u2", "u1"}},
		{store.UpdateQuery{Oldest: true, Active: true}, []string{"u1", "!u2", "u3"}},
		{store.UpdateQuery{Filter: odd}, []string{"!u2", "u1"}},
		{store.UpdateQuery{Limit: 2}, []string{"u3", "!u2"}},
		{store.UpdateQuery{After: "u2"}, []string{"u1"}},
		{store.UpdateQuery{Oldest: true, After: "u2"}, []string{"u3"}},
		{store.UpdateQuery{Endpoint: "ep2"}, []string{"!u2"}},
		{store.UpdateQuery{Endpoint: "ep2", Active: true}, []string{"!u2"}},
		{store.UpdateQuery{Endpoint: "ep2", Active: true, After: "u1"}, []string{}},
		{store.UpdateQuery{Endpoint: "ep1"}, []string{"u1"}},
		{store.UpdateQuery{Image: "i1"}, []string{"!u2", "u1"}},
		{store.UpdateQuery{Image: "i1", Active: true}, []string{"!u2", "u1"}},
		{store.UpdateQuery{Image: "i2"}, []string{"u3"}},
		{store.UpdateQuery{Key: "key of u2"}, []string{"!u2"}},
		{store.UpdateQuery{Key: "key of u1"}, []string{"u1"}},
	} {
		if got := marked(s, s.db.Updates(s.Context(), test.q), store.KindUpdate, updateID); !sameStrings(got, test.want) {
			s.Errorf("Updates(%+v) = %v, want %v", test.q, got, test.want)
		}
	}
	for u := range s.db.Updates(s.Context(), store.UpdateQuery{Endpoint: "ep2"}) {
		equal(s, "endpoint that was asked for", u.Endpoint, "ep2")
		equal(s, "machine of a damaged update", u.Machine, fsm.Update{})
	}
}

func (s *spoilt) others() {
	ctx := s.Context()
	equal(s, "images", marked(s, s.db.Images(ctx, store.ImageQuery{}), store.KindImage, imageID), []string{"i1", "!i2"})
	q := store.ImageQuery{SHA256: newImage("i2", "").SHA256}
	equal(s, "images by digest", marked(s, s.db.Images(ctx, q), store.KindImage, imageID), []string{"!i2"})
	equal(s, "devices", marked(s, s.db.Devices(ctx, store.DeviceQuery{Registered: true}), store.KindDevice, endpointOf),
		[]string{"ep1", "!ep2", "ep3"})
	equal(s, "devices after the damaged one",
		marked(s, s.db.Devices(ctx, store.DeviceQuery{After: "ep2"}), store.KindDevice, endpointOf), []string{"ep3"})
	about := func(e store.Event) string { return e.Update + e.Name }
	equal(s, "journal", marked(s, s.db.Events(ctx, store.EventQuery{Update: "u1"}), store.KindEvent, about), []string{"u1a", "!u1"})
	equal(s, "journal of a damaged update", marked(s, s.db.Events(ctx, store.EventQuery{Update: "u2"}), store.KindEvent, about),
		[]string{"u2a", "u2b"})
	var all []string
	for e, err := range s.db.Events(ctx, store.EventQuery{}) {
		if err != nil {
			s.isDamaged("Events", err, store.KindEvent)
			equal(s, "number of the damaged line", fmt.Sprint(e.Seq), s.line)
			e.Name = "!"
		}
		all = append(all, e.Name)
	}
	equal(s, "events", all, []string{"a", "a", "a", "!", "b", "b"})
}

// commit changes what is damaged, beside what is not, and nothing of that takes place.
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
	var active *store.ActiveError
	if !errors.As(err, &active) || active.ID != "u2" {
		s.Fatalf("ActiveError = %+v, want u2", active)
	}
	refuse(s, s.db, store.ErrExists, store.CreateUpdate{Update: newUpdate("u2", "ep4", "i1")})
	refuse(s, s.db, store.ErrDuplicate, store.CreateUpdate{Update: withKey(newUpdate("u4", "ep4", "i1"), "key of u2")})
}

// commits lets commits come together, so that a back end may write them in one transaction: only those fail that need the
// damaged record.
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

// registration replaces the damaged device, as a device must be able to register.
func (s *spoilt) registration() {
	want := store.Device{Endpoint: "ep2", Registration: newRegistration("new")}
	commit(s, s.db, store.PutRegistration{Endpoint: "ep2", Registration: want.Registration})
	equal(s, "device that registered anew", getDevice(s, s.db, "ep2"), want)
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
	// Nothing is left that another update of the same id would meet.
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
