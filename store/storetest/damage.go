package storetest

import (
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// A spoilt is a store with damaged records: the update u2, the image i2, the device ep2, and the
// second line of u1's journal. There are u1 to u3 for ep1 to ep3, the last of the image i2, each
// with two lines.
type spoilt struct {
	*testing.T
	db    store.Store
	spoil func(store.Kind, string)
	line  string // sequence number of the damaged line
}

func newSpoilt(t *testing.T, open func(testing.TB) (store.Store, func(store.Kind, string))) *spoilt {
	db, spoil := open(t)
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
	s := &spoilt{T: t, db: db, spoil: spoil, line: fmt.Sprint(last)}
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

// marked returns the result of key for each record, with a ! before that of a damaged one.
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

func testDamage(t *testing.T, open func(testing.TB) (store.Store, func(store.Kind, string))) {
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
		{"secured", (*spoilt).secured},
		{"labels", (*spoilt).labels},
		{"delete a device", (*spoilt).deleteDevice},
		{"firmware", (*spoilt).firmware},
		{"holds", (*spoilt).holds},
		{"remove", (*spoilt).remove},
		{"remove the rest", (*spoilt).removeRest},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(newSpoilt(t, open)) })
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
