package postgres

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/store"
)

// CommitRollouts implements store.Rollouts.
func (s *Store) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	if err := ctx.Err(); err != nil || len(changes) == 0 {
		return err
	}
	c := &commit{rollouts: make([]store.RolloutChange, len(changes))}
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

// damageOf takes damage out of an error.
func damageOf(err *error) (damaged error) {
	if _, ok := (*err).(*store.DamagedError); ok { //nolint:errorlint // unseal returns it as it is
		damaged, *err = *err, nil
	}
	return damaged
}
