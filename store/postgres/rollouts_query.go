package postgres

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/store"
)

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
