package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// chunk is how many rows a query reads at a time. The loop's body runs between the queries, so that
// it holds no connection.
const chunk = 256

// query yields the rows of a list that scan selects, if keep is nil or returns true, and at most
// limit records. It yields damaged records too; any other error ends it. If there is a limit, it
// ends with ErrShort, and what bare returns of the last record, after MaxSkipped records that are
// not selected.
//
// The function next returns a query for the n rows after last, which is nil at the start.
func query[T any](ctx context.Context, s *Store, limit int, keep func(T) bool, bare func(T) T,
	next func(last *T, n int) (string, []any), scan func(pgx.Rows) (record T, selected bool, err error)) iter.Seq2[T, error] {
	type pair struct {
		record   T
		selected bool
		damaged  error
	}
	return func(yield func(T, error) bool) {
		var zero T
		var last *T
		left, skipped, n := limit, 0, chunk
		if limit > 0 {
			n = min(n, limit)
		}
		var read []pair
		for more := true; more; n = chunk {
			sql, args := next(last, n)
			err := s.read(ctx, func(ctx context.Context) error {
				read = read[:0]
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
					read = append(read, pair{record, selected, err})
					return nil
				})
			})
			if err != nil {
				yield(zero, err)
				return
			}
			more = len(read) == n
			for _, p := range read {
				if !p.selected || keep != nil && p.damaged == nil && !keep(p.record) {
					if skipped++; limit > 0 && skipped == store.MaxSkipped {
						yield(bare(p.record), store.ErrShort)
						return
					}
					continue
				}
				if !yield(p.record, p.damaged) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if len(read) > 0 {
				last = new(read[len(read)-1].record)
			}
		}
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

// A condition is a condition of a query, in which each ? stands for one of the values.
type condition struct {
	text   string
	values []any
}

// A where is the conditions of a query, and the arguments of all of it.
type where struct {
	text strings.Builder
	args []any
}

// arg adds an argument, and returns its place.
func (w *where) arg(value any) string {
	w.args = append(w.args, value)
	return fmt.Sprintf("$%d", len(w.args))
}

func (w *where) and(text string, values ...any) {
	if w.text.Len() > 0 {
		w.text.WriteString(" AND ")
	}
	for _, value := range values {
		text = strings.Replace(text, "?", w.arg(value), 1)
	}
	w.text.WriteString(text)
}

func (w *where) all(conditions []condition) {
	for _, c := range conditions {
		w.and(c.text, c.values...)
	}
}

// A plan says how to read a list of updates: by the index that selects least as a rule, which has
// the updates in order, and by further conditions on what it has.
type plan struct {
	label *[2]string // name and value, if the index is that of labels
	index []condition
	rest  []condition
}

func planOf(q *store.UpdateQuery) (p plan) {
	var all []condition // each is one that an index begins with
	add := func(text string, values ...any) { all = append(all, condition{text, values}) }
	outcome := func() { add("outcome = ?::text", string(q.Outcome)) }
	rare := q.Outcome != fsm.OutcomeNone && q.Outcome != fsm.OutcomeSucceeded && !q.ByEnd
	if q.ByEnd {
		outcome()
	}
	if q.Key != "" {
		add("key = ?::text AND key <> ''", q.Key)
	}
	if q.Active {
		add("outcome IS NULL")
	}
	if q.Endpoint != "" {
		add("endpoint = ?::text", q.Endpoint)
	}
	if rare {
		outcome()
	}
	first := len(all) // of the labels
	for _, name := range slices.Sorted(maps.Keys(q.Labels)) {
		add(`EXISTS (SELECT FROM otago.firmware_update_labels AS l
			WHERE l.namespace = u.namespace AND l.name = ?::text AND l.value = ?::text AND l.update_id = u.id)`, name, q.Labels[name])
	}
	if q.Image != "" {
		add("image = ?::text", q.Image)
	}
	if q.Outcome != fsm.OutcomeNone && !rare && !q.ByEnd {
		outcome()
	}
	switch {
	case len(all) == 0:
		return p
	case first == 0 && len(q.Labels) > 0:
		name := all[0].values[0].(string)
		p.label = &[2]string{name, q.Labels[name]}
		p.rest = all[1:]
		return p
	}
	p.index, p.rest = all[:1], all[1:]
	// There are indexes of the active updates of an endpoint, and of those to an image.
	for i, c := range p.rest {
		if q.Active && q.Key == "" && !q.ByEnd && (strings.HasPrefix(c.text, "endpoint") || strings.HasPrefix(c.text, "image") && q.Endpoint == "") {
			p.index, p.rest = append(slices.Clone(p.index), c), slices.Delete(slices.Clone(p.rest), i, i+1)
			break
		}
	}
	return p
}

// Updates implements store.Store.
//
// Its query reads the rows of one index, in order and at most as many as are asked for, and says of
// each whether it fits the other conditions: so a page takes the same time however few rows fit.
func (s *Store) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	none := q.ByEnd && q.Outcome == fsm.OutcomeNone || q.Active && q.Outcome != fsm.OutcomeNone
	next := func(last *store.Update, n int) (string, []any) {
		if none {
			n = 0
		}
		return s.updatesQuery(&q, last, n)
	}
	scan := func(rows pgx.Rows) (store.Update, bool, error) {
		var selected bool
		var ended *time.Time
		u, err := scanUpdate(rows, &selected, &ended)
		if err != nil { // what is certain
			u = store.Update{ID: u.ID, Endpoint: q.Endpoint, Image: q.Image, Key: q.Key}
			if q.ByEnd {
				u.Machine.Outcome, u.Machine.Ended = q.Outcome, timeOf(ended)
			}
		}
		return u, selected, err
	}
	bare := func(u store.Update) store.Update {
		short := store.Update{ID: u.ID}
		if q.ByEnd {
			short.Machine.Outcome, short.Machine.Ended = q.Outcome, u.End()
		}
		return short
	}
	if q.Skip <= 0 || none {
		return query(ctx, s, q.Limit, q.Filter, bare, next, scan)
	}
	return func(yield func(store.Update, error) bool) {
		last, err := s.skip(ctx, &q)
		if errors.Is(err, store.ErrNotFound) {
			return // there are not so many
		}
		if err != nil {
			yield(store.Update{}, err)
			return
		}
		after := q
		after.Skip, after.After, after.AfterEnd = 0, last.ID, last.Machine.Ended
		s.Updates(ctx, after)(yield)
	}
}

// skip returns the last one of the updates that a query passes over.
func (s *Store) skip(ctx context.Context, q *store.UpdateQuery) (store.Update, error) {
	p := planOf(q)
	var w where
	w.and("namespace = ?::text", s.config.Namespace)
	if p.label != nil {
		w.and(`EXISTS (SELECT FROM otago.firmware_update_labels AS l
			WHERE l.namespace = u.namespace AND l.name = ?::text AND l.value = ?::text AND l.update_id = u.id)`, p.label[0], p.label[1])
	}
	w.all(p.index)
	w.all(p.rest)
	order := w.after(q, nil, "id")
	sql := fmt.Sprintf(`SELECT id, ended FROM otago.firmware_updates AS u WHERE %s %s OFFSET %s::bigint LIMIT 1`, w.text.String(), order, w.arg(q.Skip-1))
	return one(ctx, s, s.sql(sql), w.args, func(row pgx.Row) (u store.Update, err error) {
		var ended *time.Time
		err = row.Scan(&u.ID, &ended)
		u.Machine.Ended = timeOf(ended)
		return u, err
	})
}

// after adds the condition that a row comes after last, or after the page before, and returns the
// order. The column of ids has a name.
func (w *where) after(q *store.UpdateQuery, last *store.Update, column string) (order string) {
	id, end := q.After, q.AfterEnd
	if last != nil {
		id, end = last.ID, last.End()
	}
	sign, direction := "<", " DESC"
	if q.Oldest {
		sign, direction = ">", " ASC"
	}
	switch {
	case q.ByEnd && id != "":
		w.and("(ended, "+column+") "+sign+" (?::timestamptz, ?::text)", end, id)
	case id != "":
		w.and(column+" "+sign+" ?::text", id)
	}
	if q.ByEnd {
		return "ORDER BY ended" + direction + ", " + column + direction
	}
	return "ORDER BY " + column + direction
}

// updatesQuery returns the query for n rows after last.
func (s *Store) updatesQuery(q *store.UpdateQuery, last *store.Update, n int) (string, []any) {
	p := planOf(q)
	var w where
	w.and("namespace = ?::text", s.config.Namespace)
	var inner string
	if p.label != nil {
		w.and("name = ?::text AND value = ?::text", p.label[0], p.label[1])
		order := w.after(q, last, "update_id")
		inner = fmt.Sprintf(`SELECT u.* FROM (SELECT namespace, update_id FROM otago.firmware_update_labels WHERE %s %s LIMIT %s::integer) AS l
			JOIN otago.firmware_updates AS u ON u.namespace = l.namespace AND u.id = l.update_id`, w.text.String(), order, w.arg(n))
	} else {
		w.all(p.index)
		order := w.after(q, last, "id")
		inner = fmt.Sprintf(`SELECT * FROM otago.firmware_updates WHERE %s %s LIMIT %s::integer`, w.text.String(), order, w.arg(n))
	}
	selected := where{args: w.args}
	selected.and("true")
	selected.all(p.rest)
	var none where
	order := none.after(&store.UpdateQuery{ByEnd: q.ByEnd, Oldest: q.Oldest}, nil, "id")
	return s.sql(fmt.Sprintf(`SELECT %s, (%s) IS TRUE, ended FROM (%s) AS u %s`, updateFields, selected.text.String(), inner, order)), selected.args
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
