package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// A model is the simplest store that keeps the rules, except those of the journal.
type model struct {
	updates map[string]store.Update
	images  map[string]store.Image
	devices map[string]store.Device
}

// apply returns the model after the changes, or the error that they cause.
func (m model) apply(changes []store.Change) (model, error) {
	m = model{maps.Clone(m.updates), maps.Clone(m.images), maps.Clone(m.devices)}
	for _, c := range changes {
		if err := m.one(c); err != nil {
			return model{}, err
		}
	}
	return m, nil
}

func (m model) one(c store.Change) error {
	switch c := c.(type) {
	case store.CreateUpdate:
		return m.create(c.Update)
	case store.ReplaceUpdate:
		old, ok := m.updates[c.Update.ID]
		switch {
		case !ok:
			return store.ErrNotFound
		case old.Revision != c.Update.Revision, c.Update.Active() && !old.Active():
			return store.ErrConflict
		}
		old.Machine, old.Tokens, old.Changed, old.Revision = c.Update.Machine, c.Update.Tokens, c.Update.Changed, old.Revision+1
		m.updates[old.ID] = old
	case store.DeleteUpdate:
		switch u, ok := m.updates[c.ID]; {
		case !ok:
			return store.ErrNotFound
		case u.Active():
			return store.ErrActive
		}
		delete(m.updates, c.ID)
	case store.CreateImage:
		if _, ok := m.images[c.Image.ID]; ok {
			return store.ErrExists
		}
		for _, i := range m.images {
			if i.Name == c.Image.Name && i.Version == c.Image.Version {
				return store.ErrVersionTaken
			}
		}
		m.images[c.Image.ID] = c.Image
	case store.DeleteImage:
		if _, ok := m.images[c.ID]; !ok {
			return store.ErrNotFound
		}
		for _, u := range m.updates {
			if u.Active() && u.Image == c.ID {
				return store.ErrInUse
			}
		}
		delete(m.images, c.ID)
	case store.DeleteDevice:
		if m.busy(c.Endpoint) {
			return store.ErrActive
		}
		if _, ok := m.devices[c.Endpoint]; !ok {
			return store.ErrNotFound
		}
		delete(m.devices, c.Endpoint)
	case store.PutFirmware:
		d := m.devices[c.Endpoint]
		c.Firmware.Holds = d.Firmware.Holds
		d.Endpoint, d.Firmware = c.Endpoint, c.Firmware
		m.devices[c.Endpoint] = d
	case store.PutFacts:
		d := m.devices[c.Endpoint]
		d.Endpoint, d.Facts = c.Endpoint, c.Facts
		m.devices[c.Endpoint] = d
	case store.PutLabels:
		if d, ok := m.devices[c.Endpoint]; ok || len(c.Labels) > 0 {
			d.Endpoint, d.Labels = c.Endpoint, c.Labels
			m.devices[c.Endpoint] = d
		}
	case store.PutHolds:
		if d, ok := m.devices[c.Endpoint]; ok || c.Holds != "" {
			d.Endpoint, d.Firmware.Holds = c.Endpoint, c.Holds
			m.devices[c.Endpoint] = d
		}
	}
	return nil
}

// busy reports whether an endpoint has an active update.
func (m model) busy(endpoint string) bool {
	for _, u := range m.updates {
		if u.Active() && u.Endpoint == endpoint {
			return true
		}
	}
	return false
}

func (m model) create(u store.Update) error {
	for _, other := range m.updates {
		if u.Key != "" && other.Key == u.Key {
			return store.ErrDuplicate
		}
	}
	if _, ok := m.updates[u.ID]; ok {
		return store.ErrExists
	}
	if _, ok := m.images[u.Image]; !ok {
		return store.ErrNotFound
	}
	if u.Active() && m.busy(u.Endpoint) {
		return store.ErrActive
	}
	u.Revision = 1
	m.updates[u.ID] = u
	return nil
}

// testRandom compares the store with the model after random commits. The store refuses about half
// of them.
func testRandom(t *testing.T, db store.Store) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	m := model{map[string]store.Update{}, map[string]store.Image{}, map[string]store.Device{}}
	for n := range 400 {
		changes := make([]store.Change, 1+rnd.IntN(3))
		for i := range changes {
			changes[i] = randomChange(rnd, m)
		}
		next, want := m.apply(changes)
		if _, got := db.Commit(t.Context(), changes...); !errors.Is(got, want) || (got == nil) != (want == nil) {
			t.Fatalf("commit %d of %+v:\n got %v\nwant %v", n, changes, got, want)
		}
		if want == nil {
			m = next
		}
		if n%20 == 19 {
			m.compare(t, db, rnd)
		}
	}
}

func randomChange(rnd *rand.Rand, m model) store.Change {
	image := fmt.Sprint("i", rnd.IntN(4))
	switch rnd.IntN(10) {
	case 0, 1:
		u := newUpdate(id(rnd.IntN(200)), fmt.Sprint("ep", rnd.IntN(9)), image)
		if rnd.IntN(3) == 0 {
			u.Key = fmt.Sprint("key", rnd.IntN(40))
		}
		if rnd.IntN(3) == 0 {
			u.Labels = map[string]string{"n": fmt.Sprint(rnd.IntN(3))}
		}
		if rnd.IntN(4) == 0 {
			u = ended(u)
		}
		return store.CreateUpdate{Update: u}
	case 2, 3:
		ids := slices.Sorted(maps.Keys(m.updates))
		if len(ids) == 0 {
			return store.ReplaceUpdate{Update: newUpdate(id(0), "ep", image)}
		}
		u := m.updates[ids[rnd.IntN(len(ids))]]
		u.Machine.Bytes++
		switch rnd.IntN(4) {
		case 0:
			u.Revision--
		case 1, 2:
			u = ended(u)
		}
		return store.ReplaceUpdate{Update: u}
	case 9:
		return store.DeleteUpdate{ID: id(rnd.IntN(200))}
	case 4:
		return store.CreateImage{Image: newImage(image, fmt.Sprint(rnd.IntN(4)))}
	case 5:
		return store.DeleteImage{ID: image}
	case 6:
		return store.DeleteDevice{Endpoint: fmt.Sprint("ep", rnd.IntN(9))}
	case 7:
		return store.PutHolds{Endpoint: fmt.Sprint("ep", rnd.IntN(9)), Holds: []string{"", strings.Repeat("0a", 32)}[rnd.IntN(2)]}
	}
	endpoint := fmt.Sprint("ep", rnd.IntN(9))
	switch rnd.IntN(3) {
	case 0:
		return store.PutFacts{Endpoint: endpoint, Facts: store.Facts{Model: []string{"", "S1", "S2"}[rnd.IntN(3)]}}
	case 1:
		return store.PutLabels{Endpoint: endpoint, Labels: []map[string]string{nil, {"n": "0"}, {"n": "1", "site": ""}}[rnd.IntN(3)]}
	}
	return store.PutFirmware{Endpoint: endpoint, Firmware: store.Firmware{Version: []string{"", "1", "2"}[rnd.IntN(3)]}}
}

// compare reads everything, and part of it again by a random query.
func (m model) compare(t *testing.T, db store.Store, rnd *rand.Rand) {
	t.Helper()
	q := store.UpdateQuery{Oldest: true}
	var want []any
	add := func(selects func(store.Update) bool) {
		for _, id := range slices.Sorted(maps.Keys(m.updates)) {
			if selects(m.updates[id]) {
				want = append(want, m.updates[id], error(nil))
			}
		}
	}
	add(func(store.Update) bool { return true })
	for _, id := range slices.Sorted(maps.Keys(m.images)) {
		want = append(want, m.images[id], error(nil))
	}
	for _, endpoint := range slices.Sorted(maps.Keys(m.devices)) {
		want = append(want, m.devices[endpoint], error(nil))
	}
	some := store.UpdateQuery{Oldest: true, Active: rnd.IntN(2) == 0, After: id(rnd.IntN(50))}
	if rnd.IntN(2) == 0 {
		some.Endpoint = fmt.Sprint("ep", rnd.IntN(9))
	}
	if rnd.IntN(2) == 0 {
		some.Image = fmt.Sprint("i", rnd.IntN(4))
	}
	if rnd.IntN(2) == 0 {
		some.Labels = map[string]string{"n": fmt.Sprint(rnd.IntN(3))}
	}
	if rnd.IntN(3) == 0 {
		some.Outcome = fsm.OutcomeSucceeded
	}
	add(func(u store.Update) bool {
		return (some.Outcome == fsm.OutcomeNone || some.Outcome == u.Outcome()) && (len(some.Labels) == 0 || u.Labels["n"] == some.Labels["n"]) && (!some.Active || u.Active()) && u.ID > some.After && (some.Endpoint == "" || some.Endpoint == u.Endpoint) &&
			(some.Image == "" || some.Image == u.Image)
	})

	of := store.DeviceQuery{Model: []string{"", "S1"}[rnd.IntN(2)]}
	if rnd.IntN(2) == 0 {
		of.Versions = []string{"1", "2"}[:1+rnd.IntN(2)]
	}
	if rnd.IntN(2) == 0 {
		of.Labels = map[string]string{"n": fmt.Sprint(rnd.IntN(2))}
	}
	var devices store.DeviceCounts
	for _, endpoint := range slices.Sorted(maps.Keys(m.devices)) {
		d := m.devices[endpoint]
		if of.Selects(&d) {
			want = append(want, d, error(nil))
		}
		devices.Devices++
		if d.Firmware.Version != "" {
			devices.WithVersion++
		}
		if d.Facts.Model != "" {
			devices.WithModel++
		}
	}

	var got []any
	for u, err := range db.Updates(t.Context(), q) {
		got = append(got, u, err)
	}
	for i, err := range db.Images(t.Context(), store.ImageQuery{}) {
		got = append(got, i, err)
	}
	for d, err := range db.Devices(t.Context(), store.DeviceQuery{}) {
		got = append(got, d, err)
	}
	for u, err := range db.Updates(t.Context(), some) {
		got = append(got, u, err)
	}
	for d, err := range db.Devices(t.Context(), of) {
		got = append(got, d, err)
	}
	equal(t, fmt.Sprintf("everything, and %+v, and %+v", some, of), got, want)
	counted, err := db.DeviceCounts(t.Context())
	failsWith(t, "DeviceCounts", err, nil)
	counted.Versions, counted.Models = nil, nil
	equal(t, "counts of devices", counted, devices)

	type cell struct {
		image   string
		outcome fsm.Outcome
	}
	updates, counts := map[cell]uint64{}, map[cell]uint64{}
	for _, u := range m.updates {
		updates[cell{u.Image, u.Outcome()}]++
	}
	all, err := db.Counts(t.Context(), "")
	failsWith(t, "Counts", err, nil)
	for _, c := range all {
		counts[cell{c.Image, c.Outcome}] = c.Updates
	}
	equal(t, "counts", counts, updates)
}
