package storetest

import (
	"encoding"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// testUnknownNames tries to store, in each field that is an enumeration, a word that names none of
// its values. The store would write it, and fail to read it.
func testUnknownNames(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep1", "i1")})
	u := newUpdate("u2", "ep2", "i1")
	u.Machine.Plan.Profile.Protocols = []fsm.Protocol{fsm.ProtocolCoAP}
	tried := spoilNames(reflect.ValueOf(&u.Machine).Elem(), "Machine", func(field string) {
		t.Logf("%s", field)
		refuse(t, db, store.ErrInvalid, store.CreateUpdate{Update: u})
		stored := getUpdate(t, db, "u1")
		stored.Machine = u.Machine
		refuse(t, db, store.ErrInvalid, store.ReplaceUpdate{Update: stored})
	})
	for _, field := range []string{
		"Machine.Phase", "Machine.Outcome", "Machine.Delivery", "Machine.Protocol", "Machine.Plan.Delivery",
		"Machine.Plan.Protocol", "Machine.Plan.Profile.Delivery", "Machine.Plan.Profile.Protocols",
	} {
		if !slices.Contains(tried, field) {
			t.Errorf("%s was not tried, only %v", field, tried)
		}
	}
	e := newEvent("u1", "a")
	tried = spoilNames(reflect.ValueOf(&e).Elem(), "Event", func(string) {
		refuse(t, db, store.ErrInvalid, store.AppendEvents{Events: []store.Event{newEvent("u1", "b"), e}})
	})
	equal(t, "fields of an event", tried, []string{"Event.Phase", "Event.Outcome"})

	late := newUpdate("u2", "ep2", "i1")
	late.Changed = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	refuse(t, db, store.ErrInvalid, store.CreateUpdate{Update: late})

	ctx := t.Context()
	equal(t, "updates", collect(t, db.Updates(ctx, store.UpdateQuery{}), updateID), []string{"u1"})
	equal(t, "events", collect(t, db.Events(ctx, store.EventQuery{}), eventName), []string{})
	commit(t, db, store.CreateUpdate{Update: u})
}

// spoilNames puts an unknown word into each field of v that is an enumeration of words, or into the
// first element of a slice of them, calls try, and restores the value. It returns the fields.
func spoilNames(v reflect.Value, path string, try func(field string)) []string {
	switch _, named := v.Interface().(encoding.TextMarshaler); {
	case named && v.Kind() == reflect.String:
		was := v.String()
		v.SetString("no such word")
		try(path)
		v.SetString(was)
		return []string{path}
	case v.Kind() == reflect.Slice && v.Len() > 0:
		return spoilNames(v.Index(0), path, try)
	case named || v.Kind() != reflect.Struct:
		return nil
	}
	var fields []string
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue // a field of the machine's memory, which fills itself
		}
		fields = append(fields, spoilNames(v.Field(i), path+"."+v.Type().Field(i).Name, try)...)
	}
	return fields
}
