package postgres

import (
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
