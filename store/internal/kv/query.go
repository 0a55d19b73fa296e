package kv

import (
	"bytes"
	"context"
	"iter"

	"github.com/otago-iot/otago/store"
)

// chunk is how many entries a query looks at in one transaction. Between chunks it holds none, so that the loop's body
// can write, and a slow body keeps nobody waiting.
const chunk = 128

// A scan walks a part of a table: the keys with the prefix, after or before the last one seen.
type scan struct {
	table  Table
	prefix []byte
	last   []byte // key to go on from, nil at the start
	down   bool
	exact  bool // only the key that equals the prefix
}

// entries yields what is left of the scan in this transaction.
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

// query yields what load makes of each entry of the scan, as far as keep wants it, at most limit of them.
func query[T any](ctx context.Context, s *Store, sc scan, limit int,
	load func(r Reader, key, value []byte) (T, bool, error), keep func(T) bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		sc, left := sc, limit
		found := make([]T, 0, chunk)
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
					if err != nil {
						return err
					}
					if ok {
						found = append(found, record)
					}
					if seen++; seen == chunk {
						sc.last, more = bytes.Clone(key), true
						return nil
					}
				}
				return nil
			})
			for _, record := range found {
				if keep != nil && !keep(record) {
					continue
				}
				if !yield(record, nil) {
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
func get[T any](ctx context.Context, s *Store, t Table, key string) (record T, err error) {
	err = s.view(ctx, func(r Reader) error {
		data := r.Get(t, []byte(key))
		if data == nil {
			return store.ErrNotFound
		}
		record, err = decode[T](data)
		return err
	})
	return record, err
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, id string) (store.Update, error) {
	return get[store.Update](ctx, s, updates, id)
}

// Image implements store.Store.
func (s *Store) Image(ctx context.Context, id string) (store.Image, error) {
	return get[store.Image](ctx, s, images, id)
}

// Device implements store.Store.
func (s *Store) Device(ctx context.Context, endpoint string) (store.Device, error) {
	return get[store.Device](ctx, s, devices, endpoint)
}

// Updates implements store.Store.
func (s *Store) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	sc := scan{down: !q.Oldest}
	var id func(key, value []byte) []byte
	switch {
	case q.Key != "":
		sc = scan{table: updateKeys, prefix: []byte(q.Key), exact: true}
		id = func(_, value []byte) []byte { return value }
	case q.Active && q.Endpoint != "":
		sc = scan{table: activeOf, prefix: []byte(q.Endpoint), exact: true}
		id = func(_, value []byte) []byte { return value }
	case q.Active && q.Image != "":
		sc.table, sc.prefix, id = activeImages, join(q.Image, ""), compound
	case q.Endpoint != "":
		sc.table, sc.prefix, id = byEndpoint, join(q.Endpoint, ""), compound
	case q.Image != "":
		sc.table, sc.prefix, id = byImage, join(q.Image, ""), compound
	case q.Active:
		sc.table, id = active, func(key, _ []byte) []byte { return key }
	default:
		sc.table, id = updates, func(key, _ []byte) []byte { return key }
	}
	if q.After != "" && !sc.exact {
		sc.last = append(bytes.Clone(sc.prefix), q.After...)
	}
	load := func(r Reader, key, value []byte) (store.Update, bool, error) {
		u, err := decode[store.Update](r.Get(updates, id(key, value)))
		return u, err == nil && selects(q, u), err
	}
	return query(ctx, s, sc, q.Limit, load, q.Filter)
}

func compound(key, _ []byte) []byte { return rest(key) }

// selects reports whether the query selects the update, whatever index led to it. Filter is not asked: it runs outside
// the transaction.
func selects(q store.UpdateQuery, u store.Update) bool {
	return (q.Endpoint == "" || q.Endpoint == u.Endpoint) && (q.Image == "" || q.Image == u.Image) &&
		(q.Key == "" || q.Key == u.Key) && (!q.Active || u.Active()) &&
		(q.After == "" || q.Oldest && u.ID > q.After || !q.Oldest && u.ID < q.After)
}

// Events implements store.Store.
func (s *Store) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	sc := scan{table: events, last: number(q.After)}
	seq := func(key []byte) []byte { return key }
	if q.Update != "" {
		sc.table, sc.prefix, seq = journal, join(q.Update, ""), rest
		sc.last = join(q.Update, number(q.After))
	}
	load := func(r Reader, key, _ []byte) (store.Event, bool, error) {
		e, err := decode[store.Event](r.Get(events, seq(key)))
		return e, err == nil, err
	}
	return query(ctx, s, sc, q.Limit, load, nil)
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
		i, err := decode[store.Image](r.Get(images, id(key, value)))
		return i, err == nil && (q.Name == "" || q.Name == i.Name) && (q.Version == "" || q.Version == i.Version), err
	}
	return query(ctx, s, sc, q.Limit, load, nil)
}

// Devices implements store.Store.
func (s *Store) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[store.Device, error] {
	sc := scan{table: devices}
	if q.After != "" {
		sc.last = []byte(q.After)
	}
	load := func(_ Reader, _, value []byte) (store.Device, bool, error) {
		d, err := decode[store.Device](value)
		return d, err == nil && (!q.Registered || d.Registration.Ended.IsZero()), err
	}
	return query(ctx, s, sc, q.Limit, load, nil)
}
