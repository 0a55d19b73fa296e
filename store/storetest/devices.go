package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

func sameStrings(a, b []string) bool { return slices.Equal(a, b) }

func getDevice(t testing.TB, db store.Store, endpoint string) store.Device {
	t.Helper()
	d, err := db.Device(t.Context(), endpoint)
	if err != nil {
		t.Fatalf("Device(%q): %v", endpoint, err)
	}
	return d
}

func testDevice(t *testing.T, db store.Store) {
	want := store.Device{Endpoint: "ep", Registration: newRegistration("r1")}
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: want.Registration})
	equal(t, "registered device", getDevice(t, db, "ep"), want)

	want.Firmware = store.Firmware{
		State: new(fsm.Downloaded), Result: new(fsm.Result(99)), Version: "1.0", Protocols: []int{0, 2, 77},
		Delivery: new(fsm.PushAndPull), Component: "modem", Read: epoch,
	}
	commit(t, db, store.PutFirmware{Endpoint: "ep", Firmware: want.Firmware})
	equal(t, "read device", getDevice(t, db, "ep"), want)

	want.Registration.ID, want.Registration.Ended = "r2", epoch
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: want.Registration})
	want.Firmware.Protocols = []int{}
	commit(t, db, store.PutFirmware{Endpoint: "ep", Firmware: want.Firmware})
	equal(t, "device with an empty list", getDevice(t, db, "ep"), want)
	want.Firmware = store.Firmware{}
	commit(t, db, store.PutFirmware{Endpoint: "ep", Firmware: want.Firmware})
	equal(t, "device with no list", getDevice(t, db, "ep"), want)

	commit(t, db, store.PutFirmware{Endpoint: "ep2", Firmware: store.Firmware{Version: "2"}})
	equal(t, "device that never registered", getDevice(t, db, "ep2"),
		store.Device{Endpoint: "ep2", Firmware: store.Firmware{Version: "2"}})
}

// testRenewals: a registration with new times is as durable as any other, and takes nothing from
// the rest of the record.
func testRenewals(t *testing.T, db store.Store) {
	want := store.Device{Endpoint: "ep", Registration: newRegistration("r1"), Firmware: store.Firmware{Version: "1", Read: epoch}}
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: want.Registration}, store.PutFirmware{Endpoint: "ep", Firmware: want.Firmware})
	commit(t, db, store.PutRegistration{Endpoint: "other", Registration: want.Registration})
	r := &want.Registration
	for n, change := range []func(){
		func() { r.Updated, r.LastSeen = epoch.Add(time.Minute), epoch.Add(time.Minute) },
		func() { r.LastSeen = epoch.Add(2 * time.Minute) },
		func() { r.Address = "192.0.2.2:5683" },
		func() { r.Updated = epoch.Add(3 * time.Minute) },
		func() { r.Updated, r.LastSeen = epoch.Add(-time.Minute), time.Time{} },
		func() { r.Updated = time.Time{} },
		func() { r.Ended = epoch.Add(time.Hour) },
		func() { *r = newRegistration("r2") },
		func() { r.Updated = epoch.Add(4 * time.Minute) },
	} {
		change()
		commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: *r})
		equal(t, fmt.Sprint("device after renewal ", n), getDevice(t, db, "ep"), want)
		want.Firmware.Version = fmt.Sprint("1.", n)
		commit(t, db, store.PutFirmware{Endpoint: "ep", Firmware: want.Firmware})
		for d, err := range db.Devices(t.Context(), store.DeviceQuery{Limit: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			equal(t, fmt.Sprint("listed device after renewal ", n), d, want)
		}
	}
	commit(t, db, store.DeleteDevice{Endpoint: "ep"}, store.PutFirmware{Endpoint: "ep", Firmware: want.Firmware})
	want.Registration = store.RegistrationRecord{}
	equal(t, "device that was deleted, and has firmware again", getDevice(t, db, "ep"), want)
	equal(t, "other device", getDevice(t, db, "other"), store.Device{Endpoint: "other", Registration: newRegistration("r1")})
}

func testHolds(t *testing.T, db store.Store) {
	a, b := strings.Repeat("0a", 32), strings.Repeat("f9", 32)
	commit(t, db, store.PutHolds{Endpoint: "none"})
	_, err := db.Device(t.Context(), "none")
	failsWith(t, "Device of which nothing is known", err, store.ErrNotFound)

	want := store.Device{Endpoint: "ep", Registration: newRegistration("r1")}
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: want.Registration})
	facts := store.Firmware{State: new(fsm.Downloaded), Version: "1.0", Read: epoch, Holds: b}
	want.Firmware = facts
	want.Firmware.Holds = ""
	commit(t, db, store.PutFirmware{Endpoint: "ep", Firmware: facts})
	equal(t, "device without a claim", getDevice(t, db, "ep"), want)

	want.Firmware.Holds = a
	commit(t, db, store.PutHolds{Endpoint: "ep", Holds: a})
	equal(t, "device with a claim", getDevice(t, db, "ep"), want)
	for _, late := range []string{"", b} {
		facts.Holds = late
		commit(t, db, store.PutFirmware{Endpoint: "ep", Firmware: facts})
		equal(t, "claim after facts that were read", getDevice(t, db, "ep"), want)
	}
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: want.Registration})
	equal(t, "claim after a registration", getDevice(t, db, "ep"), want)

	want.Firmware.Holds = ""
	commit(t, db, store.PutHolds{Endpoint: "ep"}, store.PutFirmware{Endpoint: "ep", Firmware: facts})
	equal(t, "claim that was cleared before facts came late", getDevice(t, db, "ep"), want)

	commit(t, db, store.PutHolds{Endpoint: "ep2", Holds: b})
	equal(t, "device of which nothing else is known", getDevice(t, db, "ep2"),
		store.Device{Endpoint: "ep2", Firmware: store.Firmware{Holds: b}})
	for _, bad := range []string{"0", a[1:], a + "0", strings.ToUpper(b), strings.Repeat("g", 64), strings.Repeat(" ", 64)} {
		refuse(t, db, store.ErrInvalid, store.PutHolds{Endpoint: "ep", Holds: bad})
	}
}

func testSecured(t *testing.T, db store.Store) {
	r := newRegistration("r1")
	r.Secured, r.Identity = true, "id"
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: r})
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: newRegistration("r2")})
	got := getDevice(t, db, "ep").Registration
	if !got.Secured || got.ID != "r2" || got.Identity != "" {
		t.Fatalf("registration = %+v, want r2, still Secured, without identity", got)
	}
	commit(t, db, store.PutFirmware{Endpoint: "ep", Firmware: store.Firmware{}})
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: store.RegistrationRecord{Ended: epoch}})
	if !getDevice(t, db, "ep").Registration.Secured {
		t.Fatal("Secured was forgotten")
	}
}

func testDeleteDevice(t *testing.T, db store.Store) {
	seed(t, db)
	r := newRegistration("r1")
	r.Secured, r.Identity = true, "id"
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: r}, store.CreateUpdate{Update: newUpdate("u", "ep", "i1")})
	commit(t, db, store.PutFirmware{Endpoint: "other", Firmware: store.Firmware{Version: "2"}})
	gone := store.DeleteDevice{Endpoint: "ep"}
	err := refuse(t, db, store.ErrActive, gone)
	if active, ok := errors.AsType[*store.UpdateError](err); !ok || active.Err != store.ErrActive || active.ID != "u" {
		t.Fatalf("%#v, want ErrActive of u", err)
	}
	equal(t, "device after a refusal", getDevice(t, db, "ep"), store.Device{Endpoint: "ep", Registration: r})

	commit(t, db, store.ReplaceUpdate{Update: ended(getUpdate(t, db, "u"))}, gone)
	_, err = db.Device(t.Context(), "ep")
	failsWith(t, "Device of a deleted one", err, store.ErrNotFound)
	equal(t, "devices", collect(t, db.Devices(t.Context(), store.DeviceQuery{}), endpointOf), []string{"other"})
	refuse(t, db, store.ErrNotFound, gone)
	refuse(t, db, store.ErrNotFound, store.DeleteDevice{Endpoint: "other"}, store.DeleteDevice{Endpoint: "other"})
	refuse(t, db, store.ErrInvalid, store.DeleteDevice{})
	getUpdate(t, db, "u")

	// The device may come back as a new one.
	again := store.Device{Endpoint: "ep", Registration: newRegistration("r2")}
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: again.Registration})
	equal(t, "device that came back", getDevice(t, db, "ep"), again)
	commit(t, db, store.DeleteDevice{Endpoint: "ep"}, store.PutHolds{Endpoint: "ep"})
	_, err = db.Device(t.Context(), "ep")
	failsWith(t, "Device of one that was deleted again", err, store.ErrNotFound)
}

func testDeviceQueries(t *testing.T, db store.Store) {
	for _, ep := range []string{"b", "a", "c", "é", "Z", "ab"} {
		r := newRegistration("r")
		if ep == "ab" {
			r.Ended = epoch
		}
		commit(t, db, store.PutRegistration{Endpoint: ep, Registration: r})
	}
	for _, test := range []struct {
		q    store.DeviceQuery
		want []string
	}{
		{store.DeviceQuery{}, []string{"Z", "a", "ab", "b", "c", "é"}},
		{store.DeviceQuery{Registered: true}, []string{"Z", "a", "b", "c", "é"}},
		{store.DeviceQuery{After: "a", Limit: 2}, []string{"ab", "b"}},
		{store.DeviceQuery{After: "a", Registered: true, Limit: 2}, []string{"b", "c"}},
		{store.DeviceQuery{After: "aa"}, []string{"ab", "b", "c", "é"}},
		{store.DeviceQuery{After: "é"}, []string{}},
	} {
		if got := collect(t, db.Devices(t.Context(), test.q), endpointOf); !sameStrings(got, test.want) {
			t.Errorf("Devices(%+v) = %v, want %v", test.q, got, test.want)
		}
	}
}
