package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otago-iot/otago/store"
)

func newFacts(model string) store.Facts {
	return store.Facts{
		Manufacturer: "Acme", Model: model, Hardware: "rev B", Zone: "Europe/Oslo", Offset: "+01:00", Read: epoch, Basis: "0a0b",
	}
}

// testDeviceLabels: labels and facts survive all that is written about a device, except what
// replaces them, and DeleteDevice.
func testDeviceLabels(t *testing.T, db store.Store) {
	seed(t, db)
	labels := map[string]string{"site": "oslo", "canary": "", "a-1": "x = y"}
	want := store.Device{Endpoint: "ep", Labels: labels}
	commit(t, db, store.PutLabels{Endpoint: "ep", Labels: labels})
	equal(t, "device that has never registered", getDevice(t, db, "ep"), want)
	want.Facts = newFacts("S1")
	commit(t, db, store.PutFacts{Endpoint: "ep", Facts: want.Facts})
	r := newRegistration("r1")
	for n, change := range []func() store.Change{
		func() store.Change {
			want.Registration = r
			return store.PutRegistration{Endpoint: "ep", Registration: r}
		},
		func() store.Change {
			r.Updated = epoch.Add(time.Minute)
			want.Registration = r
			return store.PutRegistration{Endpoint: "ep", Registration: r}
		},
		func() store.Change {
			want.Firmware = store.Firmware{Version: "1.0", Read: epoch}
			return store.PutFirmware{Endpoint: "ep", Firmware: want.Firmware}
		},
		func() store.Change {
			want.Firmware.Holds = strings.Repeat("0a", 32)
			return store.PutHolds{Endpoint: "ep", Holds: want.Firmware.Holds}
		},
		func() store.Change { return store.CreateUpdate{Update: newUpdate("u", "ep", "i1")} },
		func() store.Change {
			r.Ended = epoch.Add(time.Hour)
			want.Registration = r
			return store.PutRegistration{Endpoint: "ep", Registration: r}
		},
		func() store.Change {
			want.Registration = newRegistration("r2")
			return store.PutRegistration{Endpoint: "ep", Registration: want.Registration}
		},
		func() store.Change { return store.ReplaceUpdate{Update: ended(getUpdate(t, db, "u"))} },
		func() store.Change {
			want.Facts = newFacts("S2")
			return store.PutFacts{Endpoint: "ep", Facts: want.Facts}
		},
		func() store.Change {
			want.Labels = map[string]string{"site": "bergen", "new": "1"}
			return store.PutLabels{Endpoint: "ep", Labels: want.Labels}
		},
		func() store.Change { want.Facts = store.Facts{}; return store.PutFacts{Endpoint: "ep"} },
		func() store.Change {
			want.Labels = nil
			return store.PutLabels{Endpoint: "ep", Labels: map[string]string{}}
		},
	} {
		commit(t, db, change())
		equal(t, fmt.Sprint("device after change ", n), getDevice(t, db, "ep"), want)
	}

	commit(t, db, store.PutLabels{Endpoint: "ep", Labels: labels}, store.DeleteDevice{Endpoint: "ep"}, store.PutLabels{Endpoint: "none"})
	for _, endpoint := range []string{"ep", "none"} {
		_, err := db.Device(t.Context(), endpoint)
		failsWith(t, "Device of "+endpoint, err, store.ErrNotFound)
	}
	commit(t, db, store.PutRegistration{Endpoint: "ep", Registration: r})
	equal(t, "device that came back", getDevice(t, db, "ep"), store.Device{Endpoint: "ep", Registration: r})

	many := func(n int) map[string]string {
		all := map[string]string{}
		for i := range n {
			all[fmt.Sprint("n", i)] = strings.Repeat("v", store.MaxDeviceLabelValue)
		}
		return all
	}
	commit(t, db, store.PutLabels{Endpoint: "ep", Labels: many(store.MaxDeviceLabels)})
	for _, bad := range []map[string]string{
		many(store.MaxDeviceLabels + 1), {"": "x"}, {"-a": "x"}, {"a-": "x"}, {"A": "x"}, {"a.b": "x"}, {"a_b": "x"}, {"é": "x"}, {"a b": "x"},
		{strings.Repeat("a", 64): "x"}, {"a": strings.Repeat("x", 64)}, {"a": "\n"}, {"a": "\xff"},
	} {
		refuse(t, db, store.ErrInvalid, store.PutLabels{Endpoint: "ep", Labels: bad})
	}
	refuse(t, db, store.ErrInvalid, store.PutLabels{Labels: labels})
	refuse(t, db, store.ErrInvalid, store.PutFacts{})
	commit(t, db, store.PutLabels{Endpoint: "ep", Labels: map[string]string{strings.Repeat("a", 63): "", "0": "é"}})

	odd := store.Facts{Manufacturer: strings.Repeat("é", 200), Model: "a\x00b\x1b[31m", Hardware: "\xff", Zone: "\n"}
	commit(t, db, store.PutFacts{Endpoint: "ep", Facts: odd})
	equal(t, "facts with odd text", getDevice(t, db, "ep").Facts,
		store.Facts{Manufacturer: strings.Repeat("é", 126) + "…", Model: "a\uFFFDb\uFFFD[31m", Hardware: "\uFFFD", Zone: "\uFFFD"})
}

// testCompatible: an image says for which devices it is made.
func testCompatible(t *testing.T, db store.Store) {
	i := newImage("i", "1")
	i.Compatible = store.Compatible{Manufacturer: "Acme", Model: "S1", Hardware: "rev B"}
	commit(t, db, store.CreateImage{Image: i})
	got, err := db.Image(t.Context(), "i")
	failsWith(t, "Image", err, nil)
	equal(t, "image", got, i)
	for _, bad := range []string{"\x00", "\xff", strings.Repeat("x", 256)} {
		i := newImage("j", "2")
		i.Compatible.Model = bad
		refuse(t, db, store.ErrInvalid, store.CreateImage{Image: i})
	}
}

// testSelection compares queries by labels and facts, page by page, and the counts, with what they
// must be, while devices change.
func testSelection(t *testing.T, db store.Store) {
	devices := map[string]store.Device{}
	put := func(n int, version, model, site string) {
		ep := fmt.Sprintf("ep%02d", n)
		d := store.Device{Endpoint: ep, Firmware: store.Firmware{Version: version}, Registration: newRegistration("r")}
		if n%5 == 0 {
			d.Registration.Ended = epoch
		}
		if d.Facts = newFacts(model); n%2 == 0 {
			d.Facts.Hardware = ""
		}
		if n%3 == 0 {
			d.Facts.Manufacturer = "Other"
		}
		if site != "-" {
			d.Labels = map[string]string{"site": site, "n": fmt.Sprint(n % 2)}
		}
		devices[ep] = d
		commit(t, db, store.PutRegistration{Endpoint: ep, Registration: d.Registration}, store.PutFirmware{Endpoint: ep, Firmware: d.Firmware},
			store.PutFacts{Endpoint: ep, Facts: d.Facts}, store.PutLabels{Endpoint: ep, Labels: d.Labels})
	}
	for n := range 40 {
		put(n, []string{"1.0", "1.1", "2.0", ""}[n%4], []string{"S1", "S2", ""}[n%3], []string{"oslo", "", "-"}[n/3%3])
	}
	check := func() {
		t.Helper()
		var none store.DeviceQuery
		for _, q := range []store.DeviceQuery{
			none, {Labels: map[string]string{"site": "oslo"}}, {Labels: map[string]string{"site": ""}}, {Labels: map[string]string{"site": "x"}},
			{Labels: map[string]string{"site": "oslo", "n": "1"}}, {Model: "S1"}, {Model: "S3"}, {Hardware: "rev B"}, {Manufacturer: "Other"},
			{Versions: []string{"1.0"}}, {Versions: []string{"1.0", "2.0", "1.0", "9"}}, {Versions: []string{"", "2.0"}},
			{Versions: []string{"1.1"}, Model: "S2", Registered: true}, {Registered: true, Labels: map[string]string{"n": "0"}},
			{Manufacturer: "Acme", Model: "S2", Hardware: "rev B", Versions: []string{"1.0", "1.1"}, Labels: map[string]string{"site": "oslo"}},
			{Filter: func(d store.Device) bool { return d.Labels["n"] == "1" }, Model: "S1"},
		} {
			var want []string
			for _, ep := range slices.Sorted(maps.Keys(devices)) {
				if d := devices[ep]; q.Selects(&d) && (q.Filter == nil || q.Filter(d)) {
					want = append(want, ep)
				}
			}
			for _, limit := range []int{0, 3} {
				q := q
				q.Limit = limit
				var got []string
				for {
					n := 0
					for d, err := range db.Devices(t.Context(), q) {
						if err != nil {
							t.Fatalf("Devices(%+v): %v", q, err)
						}
						equal(t, "selected device", d, devices[d.Endpoint])
						got, n = append(got, d.Endpoint), n+1
						q.After = d.Endpoint
					}
					if limit == 0 || n < limit {
						break
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("Devices(%+v) = %v, want %v", q, got, want)
				}
			}
		}
		versions, models := map[string]uint64{}, map[string]uint64{}
		for _, d := range devices {
			versions[d.Firmware.Version]++
			models[d.Facts.Model]++
		}
		sorted := func(counts map[string]uint64) (all []store.DeviceCount) {
			delete(counts, "")
			for _, value := range slices.Sorted(maps.Keys(counts)) {
				all = append(all, store.DeviceCount{Value: value, Devices: counts[value]})
			}
			return all
		}
		got, err := db.DeviceCounts(t.Context())
		failsWith(t, "DeviceCounts", err, nil)
		n := uint64(len(devices))
		want := store.DeviceCounts{Devices: n, WithVersion: n - versions[""], WithModel: n - models[""]}
		want.Versions, want.Models = sorted(versions), sorted(models)
		equal(t, "counts of devices", got, want)
	}
	check()
	put(0, "1.1", "S1", "oslo")
	put(3, "3.0", "S3", "-")
	put(39, "1.0", "", "x")
	check()
	refuse(t, db, store.ErrNotFound, store.PutLabels{Endpoint: "ep00"}, store.PutFacts{Endpoint: "ep01"}, store.DeleteDevice{Endpoint: "none"})
	check()
	for _, ep := range []string{"ep00", "ep03", "ep17"} {
		delete(devices, ep)
		commit(t, db, store.DeleteDevice{Endpoint: ep})
	}
	check()
	put(17, "2.0", "S2", "oslo")
	check()
}

// testManyValues: as many values as devices, which may be serial numbers, take neither much memory
// nor the order of a page.
func testManyValues(t *testing.T, db store.Store) {
	const n = store.MaxDeviceCounts + 200
	var changes []store.Change
	var versions []string
	for i := range n {
		ep, value := fmt.Sprintf("ep%05d", n-i), fmt.Sprintf("v%05d", i)
		versions = append(versions, value)
		changes = append(changes, store.PutFirmware{Endpoint: ep, Firmware: store.Firmware{Version: value}},
			store.PutLabels{Endpoint: ep, Labels: map[string]string{"serial": value}})
	}
	commit(t, db, changes...)
	c, err := db.DeviceCounts(t.Context())
	failsWith(t, "DeviceCounts", err, nil)
	if c.Devices != n || c.WithVersion != n || c.WithModel != 0 || len(c.Versions) != store.MaxDeviceCounts || c.Versions[0] != (store.DeviceCount{Value: "v00000", Devices: 1}) {
		t.Fatalf("DeviceCounts = %d devices, %d versions", c.Devices, len(c.Versions))
	}
	for _, q := range []store.DeviceQuery{{Versions: versions}, {Versions: versions[:50]}} {
		got := collect(t, db.Devices(t.Context(), q), endpointOf)
		if len(got) != len(q.Versions) || !slices.IsSorted(got) {
			t.Fatalf("%d devices of %d versions, sorted: %v", len(got), len(q.Versions), slices.IsSorted(got))
		}
	}
	q := store.DeviceQuery{Labels: map[string]string{"serial": "v00010"}, Limit: 10}
	equal(t, "device by its serial number", collect(t, db.Devices(t.Context(), q), endpointOf), []string{fmt.Sprintf("ep%05d", n-10)})
}

// labels damages the record of a device that has labels: it keeps them, and neither the indexes nor
// the counts have what is gone.
func (s *spoilt) labels() {
	labels := map[string]string{"site": "oslo", "canary": ""}
	for n, replace := range []store.Change{
		store.PutRegistration{Endpoint: "labelled", Registration: newRegistration("new")},
		store.PutFirmware{Endpoint: "labelled", Firmware: store.Firmware{Version: "2"}},
		store.PutFacts{Endpoint: "labelled", Facts: newFacts("S2")},
		store.PutLabels{Endpoint: "labelled", Labels: labels},
		store.PutHolds{Endpoint: "labelled", Holds: strings.Repeat("0a", 32)},
		store.RemoveDamaged{Kind: store.KindDevice, Key: "labelled"},
	} {
		commit(s, s.db, store.PutRegistration{Endpoint: "labelled", Registration: newRegistration("r")},
			store.PutFirmware{Endpoint: "labelled", Firmware: store.Firmware{Version: "1"}},
			store.PutFacts{Endpoint: "labelled", Facts: newFacts("S1")}, store.PutLabels{Endpoint: "labelled", Labels: labels},
			store.PutLabels{Endpoint: "other", Labels: labels})
		s.spoil(store.KindDevice, "labelled")
		for _, q := range []store.DeviceQuery{{Labels: labels}, {Model: "S1"}, {Versions: []string{"1"}}} {
			var damaged bool
			for d, err := range s.db.Devices(s.Context(), q) {
				damaged = damaged || d.Endpoint == "labelled" && errors.Is(err, store.ErrDamaged)
			}
			if !damaged {
				s.Errorf("Devices(%+v) leaves out the damaged device", q)
			}
		}
		commit(s, s.db, replace)
		d := getDevice(s, s.db, "labelled")
		equal(s, fmt.Sprint("labels after change ", n), d.Labels, labels)
		q := store.DeviceQuery{Labels: labels}
		equal(s, "devices by label", collect(s, s.db.Devices(s.Context(), q), endpointOf), []string{"labelled", "other"})
		q = store.DeviceQuery{Model: "S1"}
		equal(s, "devices by a model that is gone", collect(s, s.db.Devices(s.Context(), q), endpointOf), []string{})
		c, err := s.db.DeviceCounts(s.Context())
		failsWith(s, "DeviceCounts", err, nil)
		want := store.DeviceCounts{Devices: 5}
		if d.Firmware.Version != "" {
			want.WithVersion = 1
			want.Versions = []store.DeviceCount{{Value: d.Firmware.Version, Devices: 1}}
		}
		if d.Facts.Model != "" {
			want.WithModel = 1
			want.Models = []store.DeviceCount{{Value: d.Facts.Model, Devices: 1}}
		}
		equal(s, fmt.Sprint("counts after change ", n), c, want)
	}
	s.spoil(store.KindDevice, "labelled")
	commit(s, s.db, store.DeleteDevice{Endpoint: "labelled"})
	q := store.DeviceQuery{Labels: labels}
	equal(s, "devices by label after DeleteDevice", collect(s, s.db.Devices(s.Context(), q), endpointOf), []string{"other"})
	c, err := s.db.DeviceCounts(s.Context())
	failsWith(s, "DeviceCounts", err, nil)
	equal(s, "counts after DeleteDevice", c, store.DeviceCounts{Devices: 4})
}
