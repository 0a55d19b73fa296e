package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/group"
)

type commit struct {
	group.Commit
	changes  []store.Change
	rollouts []store.RolloutChange
	lines    int // of the transaction when it was applied
	seq      uint64
	err      error
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(changes) == 0 {
		return one(ctx, s, s.sql(`SELECT coalesce(max(seq), 0) FROM otago.namespaces WHERE name = $1::text`), []any{s.config.Namespace},
			func(row pgx.Row) (seq uint64, err error) { return seq, row.Scan(&seq) })
	}
	c := &commit{changes: make([]store.Change, len(changes))}
	for i, change := range changes {
		var err error
		if c.changes[i], err = prepare(change); err != nil {
			return 0, err
		}
	}
	return s.commit(ctx, c)
}

// commit writes a commit, alone or with others.
func (s *Store) commit(ctx context.Context, c *commit) (uint64, error) {
	if s.config.ReadOnly {
		return 0, errReadOnly
	}
	if err := s.queue.Do(ctx, c); err != nil {
		s.ends.Ended(err)
		return 0, err
	}
	return c.seq, c.err
}

// writeGroup writes the commits that wait.
func (s *Store) writeGroup(commits []*commit) {
	s.write(commits)
	for _, c := range commits {
		s.ends.Ended(c.err)
	}
}

var errReadOnly = errors.New("postgres: the store is read only")
