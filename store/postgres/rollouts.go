package postgres

import (
	"context"
	"errors"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/store"
)

// CommitRollouts implements store.Rollouts.
func (s *Store) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	if err := ctx.Err(); err != nil || len(changes) == 0 {
		return err
	}
	c := &commit{rollouts: make([]store.RolloutChange, len(changes)), done: make(chan struct{})}
	for i, change := range changes {
		var err error
		if c.rollouts[i], err = store.NormalizeRollout(change); err != nil {
			return err
		}
	}
	_, err := s.commit(ctx, c)
	return err
}

func (n *needs) addRollout(change store.RolloutChange) {
	switch c := change.(type) {
	case store.CreateRollout:
		n.rollouts.add(c.Rollout.ID)
		n.images.add(c.Rollout.Image)
	case store.ReplaceRollout:
		n.rollouts.add(c.Rollout.ID)
	case store.PutMembers:
		n.rollouts.add(c.Rollout)
	case store.AppendRolloutEvents:
		n.rollouts.add(c.Rollout)
	case store.DeleteRollout:
		n.rollouts.add(c.ID)
		if n.limits == nil {
			n.limits = map[string]int{}
		}
		n.limits[c.ID] += min(c.Limit, math.MaxInt32) // more than there can be in one transaction
	}
}

// loadRollouts reads and locks rollouts. Members are not read: those who put them have done that.
func (s *Store) loadRollouts(batch *pgx.Batch, n *needs, w *work) {
	batch.Queue(s.sql(`SELECT `+rolloutFields+` FROM otago.rollouts
		WHERE namespace = $1::text AND id = ANY($2::text[]) ORDER BY id FOR NO KEY UPDATE`), s.config.Namespace, list(n.rollouts)).
		Query(func(rows pgx.Rows) error {
			return each(rows, func() error {
				row := rolloutRow{stored: true, live: true}
				var err error
				row.rollout, err = scanRollout(rows)
				row.damaged = damageOf(&err)
				w.rollouts[row.rollout.ID] = row
				return err
			})
		})
	for _, id := range slices.Sorted(maps.Keys(n.limits)) {
		batch.Queue(s.sql(`SELECT count(*) FROM (
				(SELECT FROM otago.rollout_members WHERE namespace = $1::text AND rollout = $2::text LIMIT $3::bigint)
				UNION ALL (SELECT FROM otago.rollout_journal WHERE namespace = $1::text AND rollout = $2::text LIMIT $3::bigint)
			) AS records`), s.config.Namespace, id, n.limits[id]).
			QueryRow(func(row pgx.Row) error {
				found := w.rollouts[id]
				err := row.Scan(&found.records)
				w.rollouts[id] = found
				return err
			})
	}
}

func (w *work) rolloutChange(change store.RolloutChange) error {
	switch c := change.(type) {
	case store.CreateRollout:
		r := c.Rollout
		row := w.rollouts[r.ID]
		switch {
		case row.live:
			return store.ErrExists
		case !w.images[r.Image].live:
			return store.ErrNotFound
		}
		r.Revision, r.Lines = 1, 0
		put(w, w.rollouts, r.ID, rolloutRow{stored: row.stored, live: true, rollout: r, changed: true, remove: row.remove})
		return nil
	case store.ReplaceRollout:
		r := c.Rollout
		row := w.rollouts[r.ID]
		switch {
		case !row.live:
			return store.ErrNotFound
		case row.damaged != nil:
			return row.damaged
		case row.rollout.Revision != r.Revision:
			return store.ErrConflict
		}
		r.Revision++
		r.Image, r.Lines, r.Created = row.rollout.Image, row.rollout.Lines, row.rollout.Created
		row.rollout, row.changed = r, true
		put(w, w.rollouts, r.ID, row)
	case store.PutMembers:
		if !w.rollouts[c.Rollout].live {
			return store.ErrNotFound
		}
		for _, m := range c.Members {
			put(w, w.members, memberKey{c.Rollout, m.Endpoint}, m)
		}
	case store.AppendRolloutEvents:
		row := w.rollouts[c.Rollout]
		switch {
		case !row.live:
			return store.ErrNotFound
		case row.damaged != nil:
			return row.damaged
		}
		n := len(w.rolloutEvents)
		w.undo = append(w.undo, func() { w.rolloutEvents = w.rolloutEvents[:n] })
		for _, e := range c.Events {
			row.rollout.Lines++
			e.Seq = row.rollout.Lines
			w.rolloutEvents = append(w.rolloutEvents, e)
		}
		row.changed = true
		put(w, w.rollouts, c.Rollout, row)
	case store.DeleteRollout:
		row := w.rollouts[c.ID]
		switch {
		case !row.live:
			return store.ErrNotFound
		case row.damaged != nil && c.Damaged:
		case row.damaged != nil:
			return row.damaged
		case row.rollout.Machine.Active():
			return store.ErrInUse
		}
		n := min(c.Limit, row.records)
		row.records -= n
		row.remove += n
		if n < c.Limit { // these were the last ones
			row = rolloutRow{stored: row.stored, remove: row.remove}
		}
		put(w, w.rollouts, c.ID, row)
	}
	return nil
}

func (s *Store) flushRollouts(batch *pgx.Batch, w *work) {
	space := s.config.Namespace
	for _, id := range slices.Sorted(maps.Keys(w.rollouts)) {
		row := w.rollouts[id]
		if row.remove > 0 {
			batch.Queue(s.sql(`WITH m AS (
					DELETE FROM otago.rollout_members WHERE namespace = $1::text AND rollout = $2::text AND endpoint IN (
						SELECT endpoint FROM otago.rollout_members WHERE namespace = $1::text AND rollout = $2::text ORDER BY endpoint LIMIT $3::bigint)
					RETURNING endpoint),
				n AS (DELETE FROM otago.rollout_named WHERE namespace = $1::text AND rollout = $2::text AND endpoint IN (SELECT endpoint FROM m))
				DELETE FROM otago.rollout_journal WHERE namespace = $1::text AND rollout = $2::text AND seq IN (
					SELECT seq FROM otago.rollout_journal WHERE namespace = $1::text AND rollout = $2::text ORDER BY seq
					LIMIT $3::bigint - (SELECT count(*) FROM m))`), space, id, row.remove)
		}
		switch {
		case row.stored && !row.live:
			batch.Queue(s.sql(`DELETE FROM otago.rollouts WHERE namespace = $1::text AND id = $2::text`), space, id)
		case row.live && row.changed:
			s.putRollout(batch, &row.rollout)
		}
	}
	s.flushMembers(batch, w)
	if len(w.rolloutEvents) == 0 {
		return
	}
	var rollouts, events, details, actors, endpoints []string
	var seqs []int64
	var times []*time.Time
	for _, e := range w.rolloutEvents {
		rollouts, seqs, times = append(rollouts, e.Rollout), append(seqs, int64(e.Seq)), append(times, null(e.Time))
		events, details, actors = append(events, e.Name), append(details, e.Detail), append(actors, e.Actor)
		endpoints = append(endpoints, e.Endpoint)
	}
	batch.Queue(s.sql(`INSERT INTO otago.rollout_journal (namespace, rollout, seq, time, event, detail, actor, endpoint)
		SELECT $1::text, * FROM unnest($2::text[], $3::bigint[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[])`),
		space, rollouts, seqs, times, events, details, actors, endpoints)
}

func (s *Store) putRollout(batch *pgx.Batch, r *store.Rollout) {
	rest := *r
	rest.ID, rest.Lines, rest.Revision = "", 0, 0
	record, err := seal(r.ID, &rest)
	if err != nil {
		panic(err) // NormalizeRollout has refused what cannot be encoded
	}
	m := &r.Machine
	batch.Queue(s.sql(`INSERT INTO otago.rollouts (namespace, id, name, image, state, reason, stage, waiting, active, succeeded, failed,
			rolled_back, skipped, created, changed, started, ended, revision, lines, record)
		VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::integer, $8::integer, $9::integer, $10::integer,
			$11::integer, $12::integer, $13::integer, $14::timestamptz, $15::timestamptz, $16::timestamptz, $17::timestamptz,
			$18::bigint, $19::bigint, $20::bytea)
		ON CONFLICT (namespace, id) DO UPDATE SET name = excluded.name, image = excluded.image, state = excluded.state,
			reason = excluded.reason, stage = excluded.stage, waiting = excluded.waiting, active = excluded.active,
			succeeded = excluded.succeeded, failed = excluded.failed, rolled_back = excluded.rolled_back, skipped = excluded.skipped,
			created = excluded.created, changed = excluded.changed, started = excluded.started, ended = excluded.ended,
			revision = excluded.revision, lines = excluded.lines, record = excluded.record`),
		s.config.Namespace, r.ID, r.Name, r.Image, string(m.State), string(m.Reason), m.Stage+1, m.Total.Waiting, m.Total.Active,
		m.Total.Succeeded, m.Total.Failed, m.Total.RolledBack, m.Total.Skipped, null(r.Created), null(r.Changed), null(m.Started),
		null(m.Ended), r.Revision, r.Lines, record)
}

func (s *Store) flushMembers(batch *pgx.Batch, w *work) {
	if len(w.members) == 0 {
		return
	}
	order := func(a, b memberKey) int { return compareText(a.rollout, a.endpoint, b.rollout, b.endpoint) }
	var rollouts, endpoints, states, places, skipped, updates, zones, cursors []string
	named, namedIn, namedAt := []string{}, []string{}, []string{}
	var stages, attempts []int32
	var records [][]byte
	for _, key := range slices.SortedFunc(maps.Keys(w.members), order) {
		m := w.members[key]
		rest := m
		rest.Rollout, rest.Endpoint = "", ""
		all := m.Cursors()
		for _, cursor := range all[1:] {
			named, namedIn, namedAt = append(named, m.Endpoint), append(namedIn, m.Rollout), append(namedAt, cursor)
		}
		record, err := seal(memberName(m.Rollout, m.Endpoint), &rest)
		if err != nil {
			panic(err) // NormalizeRollout has refused what cannot be encoded
		}
		rollouts, endpoints, records = append(rollouts, m.Rollout), append(endpoints, m.Endpoint), append(records, record)
		states, places = append(states, string(m.Machine.State)), append(places, string(m.Machine.Place))
		skipped, updates = append(skipped, string(m.Machine.Skip)), append(updates, column(m.Machine.Update))
		zones, cursors = append(zones, m.Zone), append(cursors, all[0])
		stages, attempts = append(stages, int32(m.Machine.Stage)), append(attempts, int32(m.Machine.Attempt))
	}
	batch.Queue(s.sql(`INSERT INTO otago.rollout_members (namespace, rollout, endpoint, state, place, skipped, stage, attempt, update_id, zone,
			cursor, record)
		SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::integer[],
			$9::text[], $10::text[], $11::text[], $12::bytea[])
		ON CONFLICT (namespace, rollout, endpoint) DO UPDATE SET state = excluded.state, place = excluded.place,
			skipped = excluded.skipped, stage = excluded.stage, attempt = excluded.attempt, update_id = excluded.update_id,
			zone = excluded.zone, cursor = excluded.cursor, record = excluded.record`),
		s.config.Namespace, rollouts, endpoints, states, places, skipped, stages, attempts, updates, zones, cursors, records)
	batch.Queue(s.sql(`DELETE FROM otago.rollout_named AS n USING unnest($2::text[], $3::text[]) AS m (rollout, endpoint)
		WHERE n.namespace = $1::text AND n.rollout = m.rollout AND n.endpoint = m.endpoint AND n.cursor <> ALL ($4::text[])`),
		s.config.Namespace, rollouts, endpoints, namedAt)
	if len(named) > 0 {
		batch.Queue(s.sql(`INSERT INTO otago.rollout_named (namespace, rollout, cursor, endpoint)
			SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING`), s.config.Namespace, namedIn, namedAt, named)
	}
}

const rolloutFields = `id, revision, lines, record`

func scanRollout(row pgx.Row) (r store.Rollout, err error) {
	var id string
	var revision, lines uint64
	var data []byte
	if err := row.Scan(&id, &revision, &lines, &data); err != nil {
		return r, err
	}
	if err = unseal(store.KindRollout, id, data, &r); err == nil {
		r.Revision, r.Lines = revision, lines
	}
	r.ID = id
	return r, err
}

const memberFields = `rollout, endpoint, record`

func memberName(rollout, endpoint string) string { return rollout + " " + endpoint }

func scanMember(row pgx.Row) (m store.Member, err error) {
	var rollout, endpoint string
	var data []byte
	if err := row.Scan(&rollout, &endpoint, &data); err != nil {
		return m, err
	}
	err = unseal(store.KindMember, memberName(rollout, endpoint), data, &m)
	m.Rollout, m.Endpoint = rollout, endpoint
	return m, err
}

// Rollout implements store.Rollouts.
func (s *Store) Rollout(ctx context.Context, id string) (store.Rollout, error) {
	return one(ctx, s, s.sql(`SELECT `+rolloutFields+` FROM otago.rollouts WHERE namespace = $1::text AND id = $2::text`),
		[]any{s.config.Namespace, id}, scanRollout)
}

// RolloutList implements store.Rollouts.
func (s *Store) RolloutList(ctx context.Context, q store.RolloutQuery) iter.Seq2[store.Rollout, error] {
	sql := `SELECT ` + rolloutFields + ` FROM otago.rollouts WHERE namespace = $1::text AND ($2::text = '' OR id < $2::text)`
	if q.Active {
		sql += ` AND state <> 'ended'`
	}
	sql = s.sql(sql + ` ORDER BY id DESC LIMIT $3::integer`)
	next := func(last *store.Rollout, n int) (string, []any) {
		after := q.After
		if last != nil {
			after = last.ID
		}
		return sql, []any{s.config.Namespace, after, n}
	}
	return query(ctx, s, q.Limit, nil, nil, next, selected(scanRollout))
}

// selected makes of a function that reads a row one of a list that selects all its rows.
func selected[T any](scan func(pgx.Row) (T, error)) func(pgx.Rows) (T, bool, error) {
	return func(rows pgx.Rows) (T, bool, error) {
		record, err := scan(rows)
		return record, true, err
	}
}

// Member implements store.Rollouts.
func (s *Store) Member(ctx context.Context, rollout, endpoint string) (store.Member, error) {
	return one(ctx, s, s.sql(`SELECT `+memberFields+` FROM otago.rollout_members
		WHERE namespace = $1::text AND rollout = $2::text AND endpoint = $3::text`), []any{s.config.Namespace, rollout, endpoint}, scanMember)
}

// Members implements store.Rollouts.
func (s *Store) Members(ctx context.Context, q store.MemberQuery) iter.Seq2[store.Member, error] {
	same := func(m store.Member) store.Member { return m }
	prefix := q.Prefix()
	if prefix == "" {
		sql := s.sql(`SELECT ` + memberFields + ` FROM otago.rollout_members
			WHERE namespace = $1::text AND rollout = $2::text AND endpoint > $3::text ORDER BY endpoint LIMIT $4::integer`)
		next := func(last *store.Member, n int) (string, []any) {
			after := q.After
			if last != nil {
				after = last.Endpoint
			}
			return sql, []any{s.config.Namespace, q.Rollout, after, n}
		}
		return query(ctx, s, q.Limit, nil, same, next, selected(scanMember))
	}
	// A prefix ends with a full stop; a slash is the character after it.
	end := strings.TrimSuffix(prefix, ".") + "/"
	const within = ` WHERE namespace = $1::text AND rollout = $2::text AND cursor > $3::text AND cursor < $4::text ORDER BY cursor LIMIT $5::integer`
	sql := s.sql(`SELECT ` + memberFields + `, cursor FROM otago.rollout_members` + within)
	if q.Only > 0 {
		sql = s.sql(`SELECT m.rollout, m.endpoint, m.record, n.cursor FROM (SELECT * FROM otago.rollout_named` + within + `) AS n
			JOIN otago.rollout_members AS m USING (namespace, rollout, endpoint) ORDER BY n.cursor`)
	}
	return func(yield func(store.Member, error) bool) {
		after := max(q.After, prefix)
		next := func(_ *store.Member, n int) (string, []any) {
			return sql, []any{s.config.Namespace, q.Rollout, after, end, n}
		}
		scan := func(rows pgx.Rows) (store.Member, bool, error) {
			m, err := scanMember(&withCursor{rows, &after})
			if errors.Is(err, store.ErrDamaged) {
				m = store.MemberAt(q.Rollout, after)
			}
			return m, true, err
		}
		query(ctx, s, q.Limit, nil, same, next, scan)(yield)
	}
}

// withCursor reads the cursor of a row besides its other columns.
type withCursor struct {
	pgx.Row
	cursor *string
}

func (r *withCursor) Scan(to ...any) error { return r.Row.Scan(append(to, r.cursor)...) }

// MembersOf implements store.Rollouts.
func (s *Store) MembersOf(ctx context.Context, endpoints []string) iter.Seq2[store.Member, error] {
	return func(yield func(store.Member, error) bool) {
		for part := range slices.Chunk(endpoints, chunk) {
			sql := s.sql(`SELECT m.rollout, m.endpoint, m.record FROM otago.rollout_members AS m
				JOIN otago.rollouts AS r ON r.namespace = m.namespace AND r.id = m.rollout AND r.state <> 'ended'
				WHERE m.namespace = $1::text AND m.endpoint = ANY($2::text[]) AND (m.endpoint, m.rollout) > ($3::text, $4::text)
				ORDER BY m.endpoint, m.rollout LIMIT $5::integer`)
			next := func(last *store.Member, n int) (string, []any) {
				var after memberKey
				if last != nil {
					after = memberKey{last.Rollout, last.Endpoint}
				}
				return sql, []any{s.config.Namespace, part, after.endpoint, after.rollout, n}
			}
			for m, err := range query(ctx, s, 0, nil, nil, next, selected(scanMember)) {
				if !yield(m, err) {
					return
				}
			}
		}
	}
}

// RolloutEvents implements store.Rollouts.
func (s *Store) RolloutEvents(ctx context.Context, q store.RolloutEventQuery) iter.Seq2[store.RolloutEvent, error] {
	sql := s.sql(`SELECT rollout, seq, time, event, detail, actor, endpoint FROM otago.rollout_journal
		WHERE namespace = $1::text AND rollout = $2::text AND seq > $3::bigint ORDER BY seq LIMIT $4::integer`)
	next := func(last *store.RolloutEvent, n int) (string, []any) {
		after := min(q.After, maxSeq)
		if last != nil {
			after = last.Seq
		}
		return sql, []any{s.config.Namespace, q.Rollout, after, n}
	}
	return query(ctx, s, q.Limit, nil, nil, next, selected(func(row pgx.Row) (e store.RolloutEvent, err error) {
		var at *time.Time
		err = row.Scan(&e.Rollout, &e.Seq, &at, &e.Name, &e.Detail, &e.Actor, &e.Endpoint)
		if e.Time = timeOf(at); err == nil && e.Name == "" {
			key := memberName(e.Rollout, strconv.FormatUint(e.Seq, 10))
			e = store.RolloutEvent{Rollout: e.Rollout, Seq: e.Seq}
			err = &store.DamagedError{Kind: store.KindRolloutEvent, Key: key, Err: errors.New("it has no name")}
		}
		return e, err
	}))
}

// damageOf takes damage out of an error.
func damageOf(err *error) (damaged error) {
	if _, ok := (*err).(*store.DamagedError); ok { //nolint:errorlint // unseal returns it as it is
		damaged, *err = *err, nil
	}
	return damaged
}
