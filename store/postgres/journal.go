package postgres

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// maxSeq is the highest number that a column of type bigint can have.
const maxSeq = math.MaxInt64

const lineColumns = `seq, update_id, endpoint, time, event, detail, phase, state, result, outcome`

// scanLine returns a line of the journal. A word that names nothing is damage.
func scanLine(rows pgx.Rows) (e store.Event, err error) {
	var phase, state, result, outcome string
	var at *time.Time
	if err := rows.Scan(&e.Seq, &e.Update, &e.Endpoint, &at, &e.Name, &e.Detail, &phase, &state, &result, &outcome); err != nil {
		return e, err
	}
	e.Time = timeOf(at)
	for _, word := range []struct {
		text string
		set  interface{ UnmarshalText(text []byte) error }
	}{{phase, &e.Phase}, {state, &e.State}, {result, &e.Result}, {outcome, &e.Outcome}} {
		if word.text == "" {
			continue
		}
		if err := word.set.UnmarshalText([]byte(word.text)); err != nil {
			return store.Event{Seq: e.Seq, Update: e.Update}, &store.DamagedError{Kind: store.KindEvent, Key: strconv.FormatUint(e.Seq, 10), Err: err}
		}
	}
	return e, nil
}

// flushJournal queues the statements that number lines, and those that remove lines, since the row
// of the namespace has the numbers of both. They are the last ones before the end of a transaction:
// see the comment of the package.
func (s *Store) flushJournal(batch *pgx.Batch, w *work) {
	space := s.config.Namespace
	if n := len(w.events); n > 0 {
		dropped := 0
		for i := range w.events {
			if w.events[i].dropped {
				dropped = i + 1
			}
		}
		batch.Queue(s.sql(`UPDATE otago.namespaces SET seq = seq + $2::bigint,
			deleted = CASE WHEN $3::bigint > 0 THEN seq + $3::bigint ELSE deleted END WHERE name = $1::text`), space, n, dropped)
	}
	var gone []string
	for _, id := range slices.Sorted(maps.Keys(w.updates)) {
		if row := w.updates[id]; row.stored && (!row.live || row.remade) {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		batch.Queue(s.sql(removeLines+`update_id = ANY($2::text[])`+removedLines), space, gone)
	}
	for _, seq := range slices.Sorted(maps.Keys(w.lines)) {
		if w.lines[seq].live {
			continue
		}
		batch.Queue(s.sql(removeLines+`seq = $2::bigint`+removedLines), space, int64(seq))
		if update := w.lines[seq].update; !w.updates[update].live {
			batch.Queue(s.sql(`UPDATE otago.firmware_updates SET lines = lines - 1 WHERE namespace = $1::text AND id = $2::text`), space, update)
		}
	}
	s.insertLines(batch, w)
	for _, id := range slices.Sorted(maps.Keys(w.updates)) {
		if row := w.updates[id]; row.live && kept(row.lines) < row.lines {
			batch.Queue(s.sql(removeLines+`seq IN (SELECT seq FROM otago.firmware_journal
				WHERE namespace = $1::text AND update_id = $2::text ORDER BY seq OFFSET $3::integer LIMIT $4::integer)`+removedLines),
				space, id, store.JournalHead, row.lines-kept(row.lines))
		}
	}
}

// A statement that removes lines, and remembers the highest number.
const (
	removeLines  = `WITH gone AS (DELETE FROM otago.firmware_journal WHERE namespace = $1::text AND `
	removedLines = ` RETURNING seq)
		UPDATE otago.namespaces SET deleted = greatest(deleted, (SELECT max(seq) FROM gone)) WHERE name = $1::text`
)

func (s *Store) insertLines(batch *pgx.Batch, w *work) {
	var offsets []int64
	var updates, endpoints, events, details, phases, states, results, outcomes []string
	var times []*time.Time
	for i := range w.events {
		e := &w.events[i]
		if e.dropped {
			continue
		}
		offsets, updates, endpoints = append(offsets, int64(i+1-len(w.events))), append(updates, e.Update), append(endpoints, e.Endpoint)
		times, events, details = append(times, null(e.Time)), append(events, e.Name), append(details, e.Detail)
		phases, states = append(phases, string(e.Phase)), append(states, e.State.String())
		results, outcomes = append(results, e.Result.String()), append(outcomes, string(e.Outcome))
	}
	if len(offsets) == 0 {
		return
	}
	batch.Queue(s.sql(`INSERT INTO otago.firmware_journal (namespace, seq, update_id, endpoint, time, event, detail, phase, state, result, outcome)
		SELECT $1::text, n.seq + e.at, update_id, endpoint, time, event, detail, phase, state, result, outcome
		FROM otago.namespaces AS n, unnest($2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
			$9::text[], $10::text[], $11::text[]) AS e (at, update_id, endpoint, time, event, detail, phase, state, result, outcome)
		WHERE n.name = $1::text`), s.config.Namespace, offsets, updates, endpoints, times, events, details, phases, states, results, outcomes)
}

// Events implements store.Store.
func (s *Store) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		if q.After > maxSeq {
			q.After = maxSeq
		}
		sql := `SELECT ` + lineColumns + ` FROM otago.firmware_journal WHERE namespace = $1::text AND seq > $2::bigint`
		args := []any{s.config.Namespace, q.After}
		if q.Update != "" {
			sql += ` AND update_id = $4::text`
			args = append(args, chunk, q.Update)
		}
		sql = s.sql(sql + ` ORDER BY seq LIMIT $3::integer`)
		query(ctx, s, q.Limit, nil, nil, func(last *store.Event, n int) (string, []any) {
			if last != nil {
				args[1] = last.Seq
			}
			return sql, append([]any{args[0], args[1], n}, args[min(len(args), 3):]...)
		}, func(rows pgx.Rows) (store.Event, bool, error) {
			e, err := scanLine(rows)
			return e, true, err
		})(yield)
	}
}

// Span implements store.Store.
func (s *Store) Span(ctx context.Context) (span store.Span, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		var first *int64
		err := s.pool.QueryRow(ctx, s.sql(`SELECT (SELECT min(seq) FROM otago.firmware_journal WHERE namespace = $1::text),
			coalesce(max(seq), 0), coalesce(max(deleted), 0) FROM otago.namespaces WHERE name = $1::text`), s.config.Namespace).Scan(&first, &span.Last, &span.Deleted)
		if err == nil && first != nil {
			span.First = uint64(*first)
		}
		return err
	})
	return span, err
}

// Counts implements store.Store.
func (s *Store) Counts(ctx context.Context, image string) (all []store.Count, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		all = nil
		rows, err := s.pool.Query(ctx, s.sql(`SELECT image, outcome, updates FROM otago.firmware_update_counts
			WHERE namespace = $1::text AND updates > 0 AND ($2::text = '' OR image = $2::text) ORDER BY image, outcome`), s.config.Namespace, image)
		if err != nil {
			return err
		}
		defer rows.Close()
		return each(rows, func() error {
			var c store.Count
			var outcome string
			if err := rows.Scan(&c.Image, &outcome, &c.Updates); err != nil {
				return err
			}
			if c.Outcome = fsm.Outcome(outcome); outcome != "" {
				if err := c.Outcome.UnmarshalText([]byte(outcome)); err != nil {
					return fmt.Errorf("postgres: counts: %w", err)
				}
			}
			all = append(all, c)
			return nil
		})
	})
	return all, err
}
