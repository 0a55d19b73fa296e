package storetest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// A mapStore keeps records in maps. It passes storetest.Run, and is short rather than fast: a
// commit works on a copy of all maps, and a query reads all records.
type mapStore struct {
	mu     sync.Mutex
	tables tables
	closed bool
}

type tables struct {
	updates map[string]store.Update
	images  map[string]store.Image
	devices map[string]store.Device
	events  map[uint64]store.Event
	keys    map[string]oldKey // of updates that were deleted
	seq     uint64
	deleted uint64 // highest number of a line that was deleted
}

// An oldKey is an idempotency key that outlives its update.
type oldKey struct {
	id    string
	until time.Time
}

func newMapStore() *mapStore {
	return &mapStore{tables: tables{
		updates: map[string]store.Update{}, images: map[string]store.Image{},
		devices: map[string]store.Device{}, events: map[uint64]store.Event{},
		keys: map[string]oldKey{},
	}}
}

// Commit implements store.Store. A back end with transactions uses one here instead of the copy.
func (s *mapStore) Commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, store.ErrClosed
	}
	t := tables{
		maps.Clone(s.tables.updates), maps.Clone(s.tables.images),
		maps.Clone(s.tables.devices), maps.Clone(s.tables.events),
		maps.Clone(s.tables.keys), s.tables.seq, s.tables.deleted,
	}
	for _, c := range changes {
		c, err := store.Normalize(c) // every back end does this first
		if err == nil {
			err = t.apply(c, s.tables.seq)
		}
		if err != nil {
			return 0, err
		}
	}
	s.tables = t
	return t.seq, nil
}

func (t *tables) apply(c store.Change, since uint64) error {
	switch c := c.(type) {
	case store.CreateUpdate:
		return t.createUpdate(copyOf(c.Update), since)
	case store.ReplaceUpdate:
		return t.replaceUpdate(copyOf(c.Update))
	case store.DeleteUpdate:
		return t.deleteUpdate(c)
	case store.AppendEvents:
		return t.appendEvents(c.Events)
	case store.CreateImage:
		return t.createImage(c.Image)
	case store.DeleteImage:
		return t.deleteImage(c.ID)
	case store.PutRegistration:
		d := t.devices[c.Endpoint]
		c.Registration.Secured = c.Registration.Secured || d.Registration.Secured
		d.Endpoint, d.Registration = c.Endpoint, c.Registration
		t.devices[c.Endpoint] = d
	case store.PutFirmware:
		d := t.devices[c.Endpoint]
		c.Firmware.Holds = d.Firmware.Holds
		d.Endpoint, d.Firmware = c.Endpoint, c.Firmware
		t.devices[c.Endpoint] = copyOf(d)
	case store.PutHolds:
		d, found := t.devices[c.Endpoint]
		if found || c.Holds != "" {
			d.Endpoint, d.Firmware.Holds = c.Endpoint, c.Holds
			t.devices[c.Endpoint] = d
		}
	case store.PutFacts:
		d := t.devices[c.Endpoint]
		d.Endpoint, d.Facts = c.Endpoint, c.Facts
		t.devices[c.Endpoint] = d
	case store.PutLabels:
		d, found := t.devices[c.Endpoint]
		if found || len(c.Labels) > 0 {
			d.Endpoint, d.Labels = c.Endpoint, c.Labels
			t.devices[c.Endpoint] = d
		}
	case store.DeleteDevice:
		return t.deleteDevice(c.Endpoint)
	case store.RemoveDamaged: // no record of this back end is ever damaged
		return t.removeDamaged(c)
	}
	return nil
}

// active returns an error of the category that names an active update that matches.
func (t *tables) active(category error, match func(store.Update) bool) error {
	for _, u := range t.updates {
		if u.Active() && match(u) {
			return &store.UpdateError{Err: category, ID: u.ID}
		}
	}
	return nil
}

func (t *tables) createUpdate(u store.Update, since uint64) error {
	for _, other := range t.updates {
		if u.Key != "" && u.Key == other.Key {
			return &store.UpdateError{Err: store.ErrDuplicate, ID: other.ID}
		}
	}
	if old, found := t.keys[u.Key]; found && old.until.After(u.Created) {
		return &store.UpdateError{Err: store.ErrDuplicate, ID: old.id}
	}
	delete(t.keys, u.Key)
	if _, found := t.updates[u.ID]; found {
		return store.ErrExists
	}
	if _, found := t.images[u.Image]; !found {
		return store.ErrNotFound
	}
	if u.Active() {
		same := func(other store.Update) bool { return other.Endpoint == u.Endpoint }
		if err := t.active(store.ErrActive, same); err != nil {
			return err
		}
	}
	u.Revision, u.Since = 1, since
	t.updates[u.ID] = u
	return nil
}

func (t *tables) replaceUpdate(u store.Update) error {
	old, found := t.updates[u.ID]
	if !found {
		return store.ErrNotFound
	}
	if old.Revision != u.Revision || u.Active() && !old.Active() {
		return store.ErrConflict
	}
	u.Endpoint, u.Image, u.Key, u.Labels = old.Endpoint, old.Image, old.Key, old.Labels
	u.Created, u.Since, u.Revision = old.Created, old.Since, u.Revision+1
	t.updates[u.ID] = u
	return nil
}

func (t *tables) deleteUpdate(c store.DeleteUpdate) error {
	u, found := t.updates[c.ID]
	switch {
	case !found:
		return store.ErrNotFound
	case u.Active():
		return &store.UpdateError{Err: store.ErrActive, ID: c.ID}
	}
	delete(t.updates, c.ID)
	for _, e := range t.events {
		if e.Update == c.ID {
			t.deleteLine(e.Seq)
		}
	}
	if u.Key != "" && !c.At.IsZero() {
		maps.DeleteFunc(t.keys, func(_ string, old oldKey) bool { return !old.until.After(c.At) })
		t.keys[u.Key] = oldKey{u.ID, c.At.Add(store.KeyRest)}
	}
	return nil
}

func (t *tables) deleteLine(seq uint64) {
	delete(t.events, seq)
	t.deleted = max(t.deleted, seq)
}

func (t *tables) appendEvents(events []store.Event) error {
	for _, e := range events {
		if _, found := t.updates[e.Update]; !found {
			return store.ErrNotFound
		}
		t.seq++
		e.Seq = t.seq
		t.events[e.Seq] = e
		journal := sorted(t.events, func(o store.Event) bool { return o.Update == e.Update })
		if len(journal) > store.JournalHead+store.JournalTail {
			t.deleteLine(journal[store.JournalHead].Seq)
		}
	}
	return nil
}

func (t *tables) createImage(i store.Image) error {
	if _, found := t.images[i.ID]; found {
		return store.ErrExists
	}
	for _, other := range t.images {
		if other.Name == i.Name && other.Version == i.Version {
			return store.ErrVersionTaken
		}
	}
	t.images[i.ID] = i
	return nil
}

func (t *tables) deleteImage(id string) error {
	if _, found := t.images[id]; !found {
		return store.ErrNotFound
	}
	if err := t.active(store.ErrInUse, func(u store.Update) bool { return u.Image == id }); err != nil {
		return err
	}
	delete(t.images, id)
	return nil
}

func (t *tables) deleteDevice(endpoint string) error {
	if err := t.active(store.ErrActive, func(u store.Update) bool { return u.Endpoint == endpoint }); err != nil {
		return err
	}
	if _, found := t.devices[endpoint]; !found {
		return store.ErrNotFound
	}
	delete(t.devices, endpoint)
	return nil
}

func (t *tables) removeDamaged(c store.RemoveDamaged) error {
	_, update := t.updates[c.Key]
	_, image := t.images[c.Key]
	_, device := t.devices[c.Key]
	event := slices.ContainsFunc(slices.Collect(maps.Keys(t.events)), func(n uint64) bool { return fmt.Sprint(n) == c.Key })
	found := map[store.Kind]bool{
		store.KindUpdate: update, store.KindImage: image, store.KindDevice: device, store.KindEvent: event,
	}
	if found[c.Kind] {
		return store.ErrNotDamaged
	}
	return store.ErrNotFound
}

// copyOf returns a copy that shares no slice, map or pointer with v.
func copyOf[T any](v T) (c T) {
	data, err := json.Marshal(v) // as a back end writes it to a column
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		panic(err) // Normalize has refused values that JSON cannot hold
	}
	return c
}

// sorted returns the records that match, by rising key.
func sorted[K cmp.Ordered, T any](table map[K]T, match func(T) bool) []T {
	var records []T
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if match(table[key]) {
			records = append(records, table[key])
		}
	}
	return records
}

// list yields copies of the records that read returns, at most limit; 0 means all. The loop's body
// may commit, as the store is not locked while it runs.
func list[T any](ctx context.Context, s *mapStore, limit int, read func(t tables) []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		s.mu.Lock()
		records, closed := read(s.tables), s.closed
		s.mu.Unlock()
		for n, record := range records {
			if closed || ctx.Err() != nil {
				break
			}
			if n == limit && limit > 0 || !yield(copyOf(record), nil) {
				return
			}
		}
		if closed {
			yield(zero, store.ErrClosed)
		} else if err := ctx.Err(); err != nil {
			yield(zero, err)
		}
	}
}

// one returns a copy of a single record.
func one[T any](ctx context.Context, s *mapStore, get func(t tables) (T, bool)) (record T, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return record, err
	}
	if s.closed {
		return record, store.ErrClosed
	}
	found, ok := get(s.tables)
	if !ok {
		return record, store.ErrNotFound
	}
	return copyOf(found), nil
}

func (s *mapStore) Update(ctx context.Context, id string) (store.Update, error) {
	return one(ctx, s, func(t tables) (store.Update, bool) { u, ok := t.updates[id]; return u, ok })
}

func (s *mapStore) Image(ctx context.Context, id string) (store.Image, error) {
	return one(ctx, s, func(t tables) (store.Image, bool) { i, ok := t.images[id]; return i, ok })
}

func (s *mapStore) Device(ctx context.Context, endpoint string) (store.Device, error) {
	return one(ctx, s, func(t tables) (store.Device, bool) { d, ok := t.devices[endpoint]; return d, ok })
}

func (s *mapStore) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	all := list(ctx, s, 0, func(t tables) []store.Update {
		records := sorted(t.updates, func(u store.Update) bool {
			for name, value := range q.Labels {
				if has, ok := u.Labels[name]; !ok || has != value {
					return false
				}
			}
			return (q.Endpoint == "" || q.Endpoint == u.Endpoint) && (q.Image == "" || q.Image == u.Image) &&
				(q.Key == "" || q.Key == u.Key) && (!q.Active || u.Active()) &&
				(q.Outcome == fsm.OutcomeNone || q.Outcome == u.Outcome()) &&
				(!q.ByEnd || !u.Active() && q.Outcome != fsm.OutcomeNone)
		})
		last := store.Update{ID: q.After}
		last.Machine.Ended, last.Machine.Outcome = q.AfterEnd, q.Outcome
		order := func(a, b store.Update) int { return cmp.Compare(a.ID, b.ID) }
		if q.ByEnd {
			order = func(a, b store.Update) int { return cmp.Or(a.End().Compare(b.End()), cmp.Compare(a.ID, b.ID)) }
		}
		slices.SortFunc(records, order)
		if !q.Oldest {
			slices.Reverse(records)
		}
		if q.After != "" {
			records = slices.DeleteFunc(records, func(u store.Update) bool {
				return q.Oldest && order(u, last) <= 0 || !q.Oldest && order(u, last) >= 0
			})
		}
		return records[min(q.Skip, len(records)):]
	})
	return func(yield func(store.Update, error) bool) { // Filter may call the store, so call it here, without the lock
		left, skipped := q.Limit, 0
		for u, err := range all {
			if err == nil && q.Filter != nil && !q.Filter(u) {
				if skipped++; q.Limit > 0 && skipped == store.MaxSkipped {
					short := store.Update{ID: u.ID}
					if q.ByEnd {
						short.Machine.Outcome, short.Machine.Ended = q.Outcome, u.End()
					}
					yield(short, store.ErrShort)
					return
				}
				continue
			}
			if left--; !yield(u, err) || left == 0 {
				return
			}
		}
	}
}

func (s *mapStore) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return list(ctx, s, q.Limit, func(t tables) []store.Event {
		return sorted(t.events, func(e store.Event) bool {
			return e.Seq > q.After && (q.Update == "" || q.Update == e.Update)
		})
	})
}

// Span implements store.Store.
func (s *mapStore) Span(ctx context.Context) (store.Span, error) {
	return one(ctx, s, func(t tables) (store.Span, bool) {
		span := store.Span{Last: t.seq, Deleted: t.deleted}
		for seq := range t.events {
			if span.First == 0 || seq < span.First {
				span.First = seq
			}
		}
		return span, true
	})
}

// Counts implements store.Store. A back end with many updates keeps the counts, and changes them in
// each commit.
func (s *mapStore) Counts(ctx context.Context, image string) ([]store.Count, error) {
	return one(ctx, s, func(t tables) ([]store.Count, bool) {
		var counts []store.Count
		for _, u := range sorted(t.updates, func(u store.Update) bool { return image == "" || u.Image == image }) {
			same := func(c store.Count) bool { return c.Image == u.Image && c.Outcome == u.Outcome() }
			i := slices.IndexFunc(counts, same)
			if i < 0 {
				i = len(counts)
				counts = append(counts, store.Count{Image: u.Image, Outcome: u.Outcome()})
			}
			counts[i].Updates++
		}
		slices.SortFunc(counts, func(a, b store.Count) int {
			return cmp.Or(cmp.Compare(a.Image, b.Image), cmp.Compare(a.Outcome, b.Outcome))
		})
		return counts, true
	})
}

func (s *mapStore) Images(ctx context.Context, q store.ImageQuery) iter.Seq2[store.Image, error] {
	return list(ctx, s, q.Limit, func(t tables) []store.Image {
		return sorted(t.images, func(i store.Image) bool {
			return i.ID > q.After && (q.Name == "" || q.Name == i.Name) &&
				(q.Version == "" || q.Version == i.Version) && (q.SHA256 == "" || q.SHA256 == i.SHA256)
		})
	})
}

func (s *mapStore) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[store.Device, error] {
	all := list(ctx, s, 0, func(t tables) []store.Device {
		return sorted(t.devices, func(d store.Device) bool {
			return d.Endpoint > q.After && q.Selects(&d)
		})
	})
	return func(yield func(store.Device, error) bool) {
		left := q.Limit
		for d, err := range all {
			if err == nil && q.Filter != nil && !q.Filter(d) {
				continue
			}
			if left--; !yield(d, err) || left == 0 {
				return
			}
		}
	}
}

// DeviceCounts implements store.Store. A back end keeps counts in a table.
func (s *mapStore) DeviceCounts(ctx context.Context) (c store.DeviceCounts, err error) {
	versions, models := map[string]uint64{}, map[string]uint64{}
	for d, err := range s.Devices(ctx, store.DeviceQuery{}) {
		if err != nil {
			return c, err
		}
		c.Devices++
		versions[d.Firmware.Version]++
		models[d.Facts.Model]++
	}
	c.WithVersion, c.WithModel = c.Devices-versions[""], c.Devices-models[""]
	c.Versions, c.Models = lowest(versions), lowest(models)
	return c, nil
}

func lowest(counts map[string]uint64) (all []store.DeviceCount) {
	delete(counts, "")
	for _, value := range slices.Sorted(maps.Keys(counts)) {
		if len(all) < store.MaxDeviceCounts {
			all = append(all, store.DeviceCount{Value: value, Devices: counts[value]})
		}
	}
	return all
}

func (s *mapStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// A store of your own, in maps. Its test is one call:
//
//	storetest.Run(t, func(testing.TB) store.Store { return newMapStore() }, storetest.Config{})
func Example_ownStore() {
	ctx := context.Background()
	var db store.Store = newMapStore()
	defer db.Close()
	_, err := db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "1", Name: "sensor", Version: "1.1.0"}})
	fmt.Println(err)
	_, err = db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "2", Name: "sensor", Version: "1.1.0"}})
	fmt.Println(err)
	// Output:
	// <nil>
	// store: another image has this name and version
}
