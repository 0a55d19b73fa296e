package kv

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math"

	"github.com/otago-iot/otago/store"
)

// chunk is how many entries a query reads in one transaction. The loop's body runs between
// transactions, so that it can write, and a slow body blocks no other caller.
const chunk = 128

// A scan is the rest of a walk through the keys with a prefix.
type scan struct {
	table  Table
	prefix []byte
	last   []byte // the last key read, nil at the start
	down   bool
	exact  bool // only the key that equals the prefix
}

// entries yields the rest of the scan.
func (s *scan) entries(r Reader) iter.Seq2[[]byte, []byte] {
	switch {
	case s.down && s.last != nil:
		return r.Descend(s.table, s.last)
	case s.down:
		return r.Descend(s.table, after(s.prefix))
	case s.last != nil:
		return r.Ascend(s.table, append(bytes.Clone(s.last), 0))
	}
	return r.Ascend(s.table, s.prefix)
}

// A pair is what a query yields: a record, or what is known of a damaged record.
type pair[T any] struct {
	record  T
	damaged error
}

// query yields the results of load for the entries of the scan, if keep returns true, and at most
// limit records. It yields damaged records too; any other error ends it.
func query[T any](ctx context.Context, s *Store, sc scan, limit int,
	load func(r Reader, key, value []byte) (T, bool, error), keep func(T) bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		sc, left := sc, limit
		found := make([]pair[T], 0, chunk)
		for {
			found = found[:0]
			more := false
			err := s.view(ctx, func(r Reader) error {
				seen := 0
				for key, value := range sc.entries(r) {
					if !bytes.HasPrefix(key, sc.prefix) || sc.exact && len(key) > len(sc.prefix) {
						return nil
					}
					record, ok, err := load(r, key, value)
					if err != nil && !errors.Is(err, store.ErrDamaged) {
						return err
					}
					if ok {
						found = append(found, pair[T]{record, err})
					}
					if seen++; seen == chunk {
						sc.last, more = bytes.Clone(key), true
						return nil
					}
				}
				return nil
			})
			for _, p := range found {
				if keep != nil && p.damaged == nil && !keep(p.record) {
					continue
				}
				if !yield(p.record, p.damaged) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if err != nil {
				yield(zero, err)
				return
			}
			if !more {
				return
			}
		}
	}
}

// get returns one record.
func get[T any](ctx context.Context, s *Store, k *kind[T], key string) (record T, err error) {
	err = s.view(ctx, func(r Reader) error {
		data := r.Get(k.table, []byte(key))
		if data == nil {
			return store.ErrNotFound
		}
		found, err := k.decode([]byte(key), data)
		if err == nil {
			record = found
		}
		return err
	})
	return record, err
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, id string) (store.Update, error) {
	return get(ctx, s, &updateKind, id)
}

// Image implements store.Store.
func (s *Store) Image(ctx context.Context, id string) (store.Image, error) {
	return get(ctx, s, &imageKind, id)
}

// Device implements store.Store.
func (s *Store) Device(ctx context.Context, endpoint string) (store.Device, error) {
	return get(ctx, s, &deviceKind, endpoint)
}

// Updates implements store.Store.
func (s *Store) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	sc := scan{down: !q.Oldest}
	var id func(key, value []byte) []byte
	var known store.Update // what the index says of a damaged record
	switch {
	case q.Key != "":
		sc, known.Key = scan{table: updateKeys, prefix: []byte(q.Key), exact: true}, q.Key
		id = func(_, value []byte) []byte { return value }
	case q.Active && q.Endpoint != "":
		sc, known.Endpoint = scan{table: activeOf, prefix: []byte(q.Endpoint), exact: true}, q.Endpoint
		id = func(_, value []byte) []byte { return value }
	case q.Active && q.Image != "":
		sc.table, sc.prefix, id, known.Image = activeImages, join(q.Image, ""), compound, q.Image
	case q.Endpoint != "":
		sc.table, sc.prefix, id, known.Endpoint = byEndpoint, join(q.Endpoint, ""), compound, q.Endpoint
	case q.Image != "":
		sc.table, sc.prefix, id, known.Image = byImage, join(q.Image, ""), compound, q.Image
	case q.Active:
		sc.table, id = active, func(key, _ []byte) []byte { return key }
	default:
		sc.table, id = updates, func(key, _ []byte) []byte { return key }
	}
	if q.After != "" && !sc.exact {
		sc.last = append(bytes.Clone(sc.prefix), q.After...)
	}
	load := func(r Reader, key, value []byte) (store.Update, bool, error) {
		id := id(key, value)
		u, err := updateKind.decode(id, r.Get(updates, id))
		if err != nil {
			u.Endpoint, u.Image, u.Key = known.Endpoint, known.Image, known.Key
			return u, follows(q, u.ID), err
		}
		return u, selects(q, u), nil
	}
	return query(ctx, s, sc, q.Limit, load, q.Filter)
}

func compound(key, _ []byte) []byte { return rest(key) }

// selects reports whether the query selects the update, apart from Filter, which runs outside the
// transaction.
func selects(q store.UpdateQuery, u store.Update) bool {
	return (q.Endpoint == "" || q.Endpoint == u.Endpoint) && (q.Image == "" || q.Image == u.Image) &&
		(q.Key == "" || q.Key == u.Key) && (!q.Active || u.Active()) && follows(q, u.ID) && labelled(u, q.Labels)
}

// labelled reports whether an update has all labels, with their values.
func labelled(u store.Update, labels map[string]string) bool {
	for name, value := range labels {
		if has, ok := u.Labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// follows reports whether an id comes after the page before.
func follows(q store.UpdateQuery, id string) bool {
	return q.After == "" || q.Oldest && id > q.After || !q.Oldest && id < q.After
}

// Events implements store.Store.
func (s *Store) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		after, left := q.After, q.Limit
		found := make([]pair[store.Event], 0, chunk)
		for more := true; more; {
			found, more = found[:0], false
			err := s.view(ctx, func(r Reader) error {
				for e := range runsAfter(r, q.Update, after) {
					found = appendLines(found, r, q.Update, e, after)
					if more = len(found) >= chunk; more {
						break
					}
				}
				return nil
			})
			for _, p := range found {
				after = p.record.Seq
				if !yield(p.record, p.damaged) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if err != nil {
				yield(store.Event{}, err)
				return
			}
		}
	}
}

// runsAfter yields the first line of each run that may have lines after a number: of one update, or
// with "" of all.
func runsAfter(r Reader, update string, after uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if update != "" {
			var j journalIndex
			j.parse(r.Get(journal, []byte(update)))
			for _, e := range j.runs {
				if e.end() > after+1 && !yield(e.first) {
					return
				}
			}
			return
		}
		if after == math.MaxUint64 {
			return
		}
		from := number(after + 1)
		for key := range r.Descend(events, from) {
			if !yield(parseNumber(key)) { // its last lines may come after
				return
			}
			break
		}
		for key := range r.Ascend(events, from) {
			if !yield(parseNumber(key)) {
				return
			}
		}
	}
}

// appendLines appends the lines of a run that come after a number. A run that cannot be read counts
// as its first line.
func appendLines(found []pair[store.Event], r Reader, update string, first, after uint64) []pair[store.Event] {
	key := number(first)
	lines, err := runKind.decode(key, r.Get(events, key))
	if err == nil && update != "" && lines.Update != update {
		err = runKind.damaged(key, errors.New("it is of another update"))
	}
	if err != nil {
		if first > after {
			found = append(found, pair[store.Event]{store.Event{Seq: first, Update: update}, err})
		}
		return found
	}
	for at := range lines.Lines {
		if first+uint64(at) > after {
			found = append(found, pair[store.Event]{lines.event(first, at), nil})
		}
	}
	return found
}

// Images implements store.Store.
func (s *Store) Images(ctx context.Context, q store.ImageQuery) iter.Seq2[store.Image, error] {
	sc := scan{table: images}
	id := func(key, _ []byte) []byte { return key }
	if q.SHA256 != "" {
		sc.table, sc.prefix, id = imageDigest, join(q.SHA256, ""), compound
	}
	if q.After != "" {
		sc.last = append(bytes.Clone(sc.prefix), q.After...)
	}
	load := func(r Reader, key, value []byte) (store.Image, bool, error) {
		id := id(key, value)
		i, err := imageKind.decode(id, r.Get(images, id))
		if err != nil {
			i.SHA256 = q.SHA256
			return i, true, err
		}
		return i, (q.Name == "" || q.Name == i.Name) && (q.Version == "" || q.Version == i.Version), nil
	}
	return query(ctx, s, sc, q.Limit, load, nil)
}

// Devices implements store.Store.
func (s *Store) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[store.Device, error] {
	sc := scan{table: devices}
	if q.After != "" {
		sc.last = []byte(q.After)
	}
	load := func(r Reader, key, value []byte) (store.Device, bool, error) {
		d, err := deviceKind.decode(key, value)
		d.Registration.Secured = d.Registration.Secured || r.Get(secured, key) != nil
		return d, err != nil || !q.Registered || d.Registration.Ended.IsZero(), err
	}
	return query(ctx, s, sc, q.Limit, load, nil)
}
