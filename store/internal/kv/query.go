package kv

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/page"
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

	// walk yields the entries from a key on instead of those of the table, if it is set.
	walk func(r Reader, from []byte) iter.Seq2[[]byte, []byte]

	skip  int // how many of the entries that match are left out
	match func(r Reader, key, value []byte) bool
}

// entries yields the rest of the scan.
func (s *scan) entries(r Reader) iter.Seq2[[]byte, []byte] {
	switch {
	case s.walk != nil && s.last != nil:
		return s.walk(r, append(bytes.Clone(s.last), 0))
	case s.walk != nil:
		return s.walk(r, nil)
	case s.down && s.last != nil:
		return r.Descend(s.table, s.last)
	case s.down:
		return r.Descend(s.table, after(s.prefix))
	case s.last != nil:
		return r.Ascend(s.table, append(bytes.Clone(s.last), 0))
	}
	return r.Ascend(s.table, s.prefix)
}

// query yields the results of load for the entries of the scan, by the rules of [page.List].
func query[T any](ctx context.Context, s *Store, sc scan, limit int,
	load func(r Reader, key, value []byte) (T, bool, error), keep func(T) bool, bare func(T) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		sc := sc
		read := func(found []page.Found[T]) (all []page.Found[T], more bool, err error) {
			err = s.view(ctx, func(r Reader) error {
				seen := 0
				for key, value := range sc.entries(r) {
					if !bytes.HasPrefix(key, sc.prefix) || sc.exact && len(key) > len(sc.prefix) {
						return nil
					}
					if sc.skip > 0 {
						if sc.match(r, key, value) {
							sc.skip--
						}
					} else {
						record, ok, err := load(r, key, value)
						if err != nil && !errors.Is(err, store.ErrDamaged) {
							return err
						}
						found = append(found, page.Found[T]{Record: record, Selected: ok, Damaged: err})
					}
					if seen++; seen == chunk {
						sc.last, more = bytes.Clone(key), true
						return nil
					}
				}
				return nil
			})
			return found, more, err
		}
		page.List[T]{Limit: limit, Keep: keep, Bare: bare, Next: read}.Yield(yield)
	}
}

// get returns one record.
func get[T any](ctx context.Context, s *Store, k *kind[T], key string) (record T, err error) {
	return getBy(ctx, s, k.table, key, func(_ Reader, key, data []byte, record *T) error { return k.decodeTo(record, key, data) })
}

// getBy returns the record that read makes of the data of a key. It is the zero value if there is
// an error.
func getBy[T any](ctx context.Context, s *Store, t Table, key string, read func(r Reader, key, data []byte, record *T) error) (T, error) {
	record := new(T)
	err := s.view(ctx, func(r Reader) error {
		data := r.Get(t, []byte(key))
		if data == nil {
			return store.ErrNotFound
		}
		return read(r, []byte(key), data, record)
	})
	if err != nil {
		*record = *new(T)
	}
	return *record, err
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
	return getBy(ctx, s, devices, endpoint, readDevice)
}

// Events implements store.Store.
func (s *Store) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		after := q.After
		read := func(found []page.Found[store.Event]) (all []page.Found[store.Event], more bool, err error) {
			err = s.view(ctx, func(r Reader) error {
				for e := range runsAfter(r, q.Update, after) {
					found = appendLines(found, r, q.Update, e, after)
					if more = len(found) >= chunk; more {
						break
					}
				}
				return nil
			})
			if more {
				after = found[len(found)-1].Record.Seq
			}
			return found, more, err
		}
		page.List[store.Event]{Limit: q.Limit, Next: read}.Yield(yield)
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
func appendLines(found []page.Found[store.Event], r Reader, update string, first, after uint64) []page.Found[store.Event] {
	key := number(first)
	lines, err := runKind.decode(key, r.Get(events, key))
	if err == nil && update != "" && lines.Update != update {
		err = runKind.damaged(key, errors.New("it is of another update"))
	}
	if err != nil {
		if first > after {
			found = append(found, page.Found[store.Event]{Record: store.Event{Seq: first, Update: update}, Selected: true, Damaged: err})
		}
		return found
	}
	for at := range lines.Lines {
		if first+uint64(at) > after {
			found = append(found, page.Found[store.Event]{Record: lines.event(first, at), Selected: true})
		}
	}
	return found
}

// Span implements store.Store.
func (s *Store) Span(ctx context.Context) (span store.Span, err error) {
	err = s.view(ctx, func(r Reader) error {
		span = store.Span{Last: parseNumber(r.Get(Meta, seqKey)), Deleted: parseNumber(r.Get(Meta, deletedKey))}
		for key := range r.Ascend(events, nil) {
			span.First = parseNumber(key)
			break
		}
		return nil
	})
	return span, err
}

// Counts implements store.Store.
func (s *Store) Counts(ctx context.Context, image string) (all []store.Count, err error) {
	var prefix []byte
	if image != "" {
		prefix = join(image, "")
	}
	err = s.view(ctx, func(r Reader) error {
		all = nil
		for key, value := range r.Ascend(counts, prefix) {
			if !bytes.HasPrefix(key, prefix) {
				break
			}
			all = append(all, store.Count{Image: string(text(key)), Outcome: fsm.Outcome(rest(key)), Updates: parseNumber(value)})
		}
		return nil
	})
	slices.SortFunc(all, func(a, b store.Count) int {
		return cmp.Or(cmp.Compare(a.Image, b.Image), cmp.Compare(a.Outcome, b.Outcome))
	})
	return all, err
}

// Images implements store.Store.
func (s *Store) Images(ctx context.Context, q store.ImageQuery) iter.Seq2[store.Image, error] {
	sc := scan{table: images}
	id := func(key, _ []byte) []byte { return key }
	if q.SHA256 != "" {
		sc.table, sc.prefix, id = imageDigest, join(q.SHA256, ""), func(key, _ []byte) []byte { return rest(key) }
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
	return query(ctx, s, sc, q.Limit, load, nil, func(i store.Image) store.Image { return store.Image{ID: i.ID} })
}
