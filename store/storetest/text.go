package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// oddNames are valid endpoint names that a database may handle wrongly.
var oddNames = []string{
	"/", "..", "../a", "a/b", "a//b", "%", "%2F", "100%", "?a=b&c", "#", " ", " a ", "a b", "\\", "'", `"`, "';--", "`", "*",
	"urn:imei:490154203237518", "é", "e\u0301", "日本", "🛰", "\u2028", "\u00a0", "\uffff", "\ufffd", "\U0010ffff", "ÿ", "A", "a",
	strings.Repeat("x", 254), strings.Repeat("x", store.MaxEndpoint), strings.Repeat("é", 127),
}

func testOddNames(t *testing.T, db store.Store) {
	seed(t, db)
	for i, name := range oddNames {
		commit(t, db, store.CreateUpdate{Update: withKey(newUpdate(id(i), name, "i1"), name)},
			store.PutRegistration{Endpoint: name, Registration: newRegistration(name)})
	}
	want := slices.Sorted(slices.Values(oddNames))
	equal(t, "devices", collect(t, db.Devices(t.Context(), store.DeviceQuery{}), endpointOf), want)
	for i, name := range oddNames {
		equal(t, "registration of "+name, getDevice(t, db, name).Registration.ID, name)
		refuse(t, db, store.ErrActive, store.CreateUpdate{Update: newUpdate("new", name, "i1")})
		for _, q := range []store.UpdateQuery{{Endpoint: name}, {Endpoint: name, Active: true}, {Key: name}} {
			equal(t, "updates of "+name, collect(t, db.Updates(t.Context(), q), updateID), []string{id(i)})
		}
	}
	var paged []string
	q := store.DeviceQuery{Limit: 1}
	for len(paged) < len(want) {
		got := collect(t, db.Devices(t.Context(), q), endpointOf)
		if len(got) == 0 {
			break
		}
		paged, q.After = append(paged, got...), got[0]
	}
	equal(t, "devices one by one", paged, want)
}

func testOddText(t *testing.T, db store.Store) {
	seed(t, db)
	r := newRegistration("r")
	r.Links, r.Identity = "</3/0>;x=\"\xff\x00\"\n\t<&>", "日本\x00"
	r.Registered = time.Date(2025, 1, 2, 3, 4, 5, 123456789, time.FixedZone("east", 7200))
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: r})
	got := getDevice(t, db, "ep").Registration
	equal(t, "links", got.Links, "</3/0>;x=\"\ufffd\ufffd\"\n\t<&>")
	equal(t, "identity", got.Identity, "日本\ufffd")
	equal(t, "time", got.Registered, time.Date(2025, 1, 2, 1, 4, 5, 123456000, time.UTC))

	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep", "i1")})
	e := newEvent("u1", "a")
	e.Detail = strings.Repeat("a", store.MaxDetail-1) + "é"
	commit(t, db, store.AppendEvents{Events: []store.Event{e}})
	for e, err := range db.Events(t.Context(), store.EventQuery{}) {
		failsWith(t, "Events", err, nil)
		equal(t, "cut detail", e.Detail, strings.Repeat("a", store.MaxDetail-1))
	}
}

func testRefused(t *testing.T, db store.Store) {
	seed(t, db)
	for _, bad := range []string{"", "\x00", "a\nb", "\x7f", "\u0085", "\xff", strings.Repeat("x", 256)} {
		refuse(t, db, store.ErrInvalid, store.PutRegistration{Endpoint: bad, Registration: newRegistration("r")})
		refuse(t, db, store.ErrInvalid, store.PutFirmware{Endpoint: bad})
		refuse(t, db, store.ErrInvalid, store.PutHolds{Endpoint: bad})
		refuse(t, db, store.ErrInvalid, store.CreateUpdate{Update: newUpdate("u1", bad, "i1")})
		refuse(t, db, store.ErrInvalid, store.CreateUpdate{Update: newUpdate(bad, "ep", "i1")})
		refuse(t, db, store.ErrInvalid, store.CreateImage{Image: newImage("i2", bad)})
		refuse(t, db, store.ErrInvalid, store.CreateImage{Image: newImage(bad, "2")})
		refuse(t, db, store.ErrInvalid, store.AppendEvents{Events: []store.Event{newEvent("u1", bad)}})
	}
	refuse(t, db, store.ErrInvalid, nil)
	noPhase := newUpdate("u1", "ep", "i1")
	noPhase.Machine.Phase = fsm.Phase("")
	refuse(t, db, store.ErrInvalid, store.CreateUpdate{Update: noPhase})
	long := newRegistration("r")
	long.Links = strings.Repeat("x", store.MaxLinks+1)
	refuse(t, db, store.ErrInvalid, store.PutRegistration{Endpoint: "ep", Registration: long})
	negative := newImage("i2", "2")
	negative.Size = -1
	refuse(t, db, store.ErrInvalid, store.CreateImage{Image: negative})
	equal(t, "devices", collect(t, db.Devices(t.Context(), store.DeviceQuery{}), endpointOf), []string{})
}

func testOwnership(t *testing.T, db store.Store) {
	seed(t, db)
	u := newUpdate("u1", "ep", "i1")
	facts := store.Firmware{State: new(fsm.Idle), Result: new(fsm.ResultSuccess), Delivery: new(fsm.PushOnly), Protocols: []int{1, 2}}
	lines := []store.Event{newEvent("u1", "a")}
	commit(t, db, store.CreateUpdate{Update: u}, store.AppendEvents{Events: lines},
		store.PutFirmware{Endpoint: "ep", Firmware: facts})
	equal(t, "number in the caller's slice", lines[0].Seq, uint64(0))
	spoil := func(u store.Update, d store.Device) {
		u.Tokens[0], u.Machine.Plan.Profile.Protocols[0], d.Firmware.Protocols[0] = "spoilt", fsm.ProtocolCoAP, 99
		*d.Firmware.State, *d.Firmware.Result, *d.Firmware.Delivery = 99, 99, 99
	}
	spoil(u, store.Device{Firmware: facts})
	spoil(getUpdate(t, db, "u1"), getDevice(t, db, "ep"))
	for u, err := range db.Updates(t.Context(), store.UpdateQuery{}) {
		failsWith(t, "Updates", err, nil)
		spoil(u, getDevice(t, db, "ep"))
	}
	want := newUpdate("u1", "ep", "i1")
	want.Revision = 1
	equal(t, "update", getUpdate(t, db, "u1"), want)
	equal(t, "facts", getDevice(t, db, "ep").Firmware, store.Firmware{
		State: new(fsm.Idle), Result: new(fsm.ResultSuccess), Delivery: new(fsm.PushOnly), Protocols: []int{1, 2},
	})
}
