package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/page"
)

// chunk is how many rows a query reads at a time. The loop's body runs between the queries, so that
// it holds no connection.
const chunk = 256

// query yields the rows of a list that scan selects, by the rules of [page.List].
//
// The function next returns a query for the n rows after last, which is nil at the start.
func query[T any](ctx context.Context, s *Store, limit int, keep func(T) bool, bare func(T) T,
	next func(last *T, n int) (string, []any), scan func(pgx.Rows) (record T, selected bool, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var last *T
		n := chunk
		if limit > 0 {
			n = min(n, limit)
		}
		read := func(found []page.Found[T]) ([]page.Found[T], bool, error) {
			sql, args := next(last, n)
			err := s.read(ctx, func(ctx context.Context) error {
				found = found[:0]
				rows, err := s.pool.Query(ctx, sql, args...)
				if err != nil {
					return err
				}
				defer rows.Close()
				return each(rows, func() error {
					record, selected, err := scan(rows)
					if err != nil && !errors.Is(err, store.ErrDamaged) {
						return err
					}
					found = append(found, page.Found[T]{Record: record, Selected: selected, Damaged: err})
					return nil
				})
			})
			if err != nil {
				return nil, false, err
			}
			more := len(found) == n
			if n = chunk; more {
				last = new(found[len(found)-1].Record)
			}
			return found, more, nil
		}
		page.List[T]{Limit: limit, Keep: keep, Bare: bare, Next: read}.Yield(yield)
	}
}

// one returns the record of a query that has one row, or ErrNotFound.
func one[T any](ctx context.Context, s *Store, sql string, args []any, scan func(row pgx.Row) (T, error)) (record T, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		found, err := scan(s.pool.QueryRow(ctx, sql, args...))
		if errors.Is(err, pgx.ErrNoRows) {
			return store.ErrNotFound
		}
		if err == nil {
			record = found
		}
		return err
	})
	return record, err
}

const updateFields = `id, endpoint, image, key, labels::text, created, since, revision, record`

// scanUpdate returns an update. Of a damaged one it returns its id and, in the other fields, what
// the other columns have.
func scanUpdate(row pgx.Row, more ...any) (u store.Update, err error) {
	var labels string
	var created *time.Time
	var data []byte
	if err := row.Scan(append([]any{&u.ID, &u.Endpoint, &u.Image, &u.Key, &labels, &created, &u.Since, &u.Revision, &data}, more...)...); err != nil {
		return u, err
	}
	u.Created = timeOf(created)
	if u.Labels, err = parseLabels(labels); err != nil {
		return u, &store.DamagedError{Kind: store.KindUpdate, Key: u.ID, Err: err}
	}
	return u, unsealUpdate(&u, data)
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, id string) (store.Update, error) {
	return one(ctx, s, s.sql(`SELECT `+updateFields+` FROM otago.firmware_updates WHERE namespace = $1::text AND id = $2::text`),
		[]any{s.config.Namespace, id}, func(row pgx.Row) (store.Update, error) { return scanUpdate(row) })
}

// Image implements store.Store.
func (s *Store) Image(ctx context.Context, id string) (store.Image, error) {
	return one(ctx, s, s.sql(`SELECT id, record FROM otago.firmware_images WHERE namespace = $1::text AND id = $2::text`),
		[]any{s.config.Namespace, id}, scanImage)
}

func scanImage(row pgx.Row) (store.Image, error) {
	var id string
	var data []byte
	if err := row.Scan(&id, &data); err != nil {
		return store.Image{}, err
	}
	return unsealImage(id, data)
}

// Images implements store.Store.
func (s *Store) Images(ctx context.Context, q store.ImageQuery) iter.Seq2[store.Image, error] {
	next := func(last *store.Image, n int) (string, []any) {
		var w where
		w.and("namespace = ?::text", s.config.Namespace)
		if q.SHA256 != "" {
			w.and("sha256 = ?::text", q.SHA256)
		}
		after := q.After
		if last != nil {
			after = last.ID
		}
		w.and("id > ?::text", after)
		limit := w.arg(n)
		selected := where{args: w.args}
		selected.and("true")
		if q.Name != "" {
			selected.and("name = ?::text", q.Name)
		}
		if q.Version != "" {
			selected.and("version = ?::text", q.Version)
		}
		return s.sql(fmt.Sprintf(`SELECT id, record, %s FROM (SELECT * FROM otago.firmware_images WHERE %s ORDER BY id LIMIT %s::integer) AS i
			ORDER BY id`, selected.text.String(), w.text.String(), limit)), selected.args
	}
	scan := func(rows pgx.Rows) (store.Image, bool, error) {
		var id string
		var data []byte
		var selected bool
		if err := rows.Scan(&id, &data, &selected); err != nil {
			return store.Image{}, false, err
		}
		i, err := unsealImage(id, data)
		if err != nil {
			i.SHA256 = q.SHA256
		}
		return i, selected, err
	}
	return query(ctx, s, q.Limit, nil, func(i store.Image) store.Image { return store.Image{ID: i.ID} }, next, scan)
}

// compareText compares pairs of texts.
func compareText(a1, a2, b1, b2 string) int { return cmp.Or(cmp.Compare(a1, b1), cmp.Compare(a2, b2)) }
