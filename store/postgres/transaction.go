package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/otago-iot/otago/store"
)

const (
	// writeTime bounds how long a group is tried while the database is away. A caller that waits
	// longer would not answer its device in time.
	writeTime = 8 * time.Second
	// lockTime bounds how long a transaction waits for a row that another one has locked, a
	// stranger's as a rule. It is tried lockTries times.
	lockTime      = time.Second
	lockTries     = 2
	statementTime = writeTime

	retryPause = 20 * time.Millisecond
	longPause  = 500 * time.Millisecond
)

// idleTime bounds how long the rows of a transaction stay locked if this process stops in the
// middle of it: not until another one takes over.
func idleTime() time.Duration { return leaseTime / 2 }

// write commits a group in one transaction, and sets the result of each commit. If the database
// refuses the transaction for good, each commit is tried alone, since one must not harm others.
func (s *Store) write(group []*commit) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	err := s.try(ctx, group)
	if err == nil {
		return
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && len(group) > 1 && !full(pg) && (pg.Code == lockTimeout || !temporary(err)) {
		for _, c := range group {
			s.write([]*commit{c})
		}
		return
	}
	for _, c := range group {
		c.seq, c.err = 0, fmt.Errorf("store: commit: %w", explain(err))
	}
}

// try makes the transaction of a group until it has taken place, or cannot.
func (s *Store) try(ctx context.Context, group []*commit) error {
	var last error
	locked := 0
	for wait := retryPause; ; wait = min(2*wait, longPause) {
		err := s.settle(ctx)
		sent := false
		if err == nil {
			sent, err = s.transact(ctx, group)
		}
		if err == nil {
			return nil
		}
		pg, answered := errors.AsType[*pgconn.PgError](err)
		if answered && pg.SeverityUnlocalized == "FATAL" {
			answered = false // the connection has ended, perhaps after the commit
		}
		switch {
		case errors.Is(err, ErrLost):
			s.lose()
			return ErrLost
		case sent && !answered:
			s.lease.unsettle = true
			took, unknown := s.tookPlace(ctx, group)
			if unknown != nil {
				return fmt.Errorf("it is not known whether it took place: %w; %w", err, unknown)
			}
			if took {
				return nil
			}
		case answered && pg.Code == "23502" && pg.TableName == "leases":
			s.lease.unsettle = true // the row is not as it was: whose is it?
		case answered && pg.Code == "23505": // another server was faster; the rules say who loses
		case answered && full(pg):
			return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
		case answered && pg.Code == lockTimeout:
			if locked++; locked == lockTries {
				return err
			}
		case ctx.Err() != nil && last != nil:
			return last // which says more
		case !temporary(err):
			return err
		}
		last = err
		if pause(ctx, wait); ctx.Err() != nil {
			return err
		}
	}
}

// settle waits for the end of a transaction whose connection was lost, and reads the row of the
// lease.
func (s *Store) settle(ctx context.Context) error {
	if !s.lease.unsettle {
		return nil
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1::text, true)", milliseconds(lockTime)); err != nil {
			return err
		}
		var epoch uint64
		err := tx.QueryRow(ctx, s.sql(`SELECT epoch, commits FROM otago.leases WHERE namespace = $1::text FOR UPDATE`), s.config.Namespace).
			Scan(&epoch, &s.lease.commits)
		switch {
		case errors.Is(err, pgx.ErrNoRows), err == nil && epoch != s.lease.epoch && !s.unfenced:
			return ErrLost
		case err == nil:
			s.lease.unsettle = false
		}
		return err
	})
}

// tookPlace says whether the last transaction, whose answer was lost, took place: then it has
// raised the number of commits. An error says that this is not known.
func (s *Store) tookPlace(ctx context.Context, group []*commit) (bool, error) {
	before := s.lease.commits
	for wait := retryPause; ; wait = min(2*wait, longPause) {
		err := s.settle(ctx)
		if err == nil && s.lease.commits == before {
			return false, nil
		}
		if err == nil {
			var seq uint64
			if seq, err = s.lastSeq(ctx); err == nil {
				s.number(group, seq)
				return true, nil
			}
		}
		if errors.Is(err, ErrLost) {
			s.lose()
			return false, err
		}
		if pause(ctx, wait); ctx.Err() != nil {
			return false, err
		}
	}
}

func (s *Store) lastSeq(ctx context.Context) (seq uint64, err error) {
	err = s.pool.QueryRow(ctx, s.sql(`SELECT seq FROM otago.namespaces WHERE name = $1::text`), s.config.Namespace).Scan(&seq)
	return seq, err
}

// number sets the number that each commit returns. The journal's last line has the number seq.
func (s *Store) number(group []*commit, seq uint64) {
	most := 0
	for _, c := range group {
		most = max(most, c.lines)
	}
	for _, c := range group {
		if c.err == nil {
			c.seq = seq - uint64(most-c.lines)
		}
	}
}

// transact makes one transaction. It reports whether the COMMIT was sent: an error then does not
// say whether it took place, unless it is an answer of the database.
func (s *Store) transact(ctx context.Context, group []*commit) (sent bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	open := true // the pool closes a connection that comes back within a transaction
	defer func() {
		if open && !conn.Conn().IsClosed() {
			_, _ = conn.Exec(ctx, "ROLLBACK")
		}
	}()
	w, n := newWork(), &needs{}
	for _, c := range group {
		c.err, c.seq, c.lines = nil, 0, 0
		n.add(c)
	}
	var first pgx.Batch
	first.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	var epoch uint64
	first.Queue(s.sql(`SELECT l.epoch, n.seq, set_config('idle_in_transaction_session_timeout', $2::text, true),
			set_config('lock_timeout', $3::text, true), set_config('statement_timeout', $4::text, true)
		FROM otago.leases AS l, otago.namespaces AS n WHERE l.namespace = $1::text AND n.name = $1::text`),
		s.config.Namespace, milliseconds(idleTime()), milliseconds(lockTime), milliseconds(statementTime)).
		QueryRow(func(row pgx.Row) error { return row.Scan(&epoch, &w.seq, nil, nil, nil) })
	s.load(&first, n, w)
	if err := conn.SendBatch(ctx, slim(&first, conn.Conn())).Close(); err != nil {
		return false, err
	}
	if epoch != s.lease.epoch && !s.unfenced {
		return false, ErrLost
	}
	for _, c := range group {
		if c.lines, c.err = w.apply(c); c.err != nil {
			c.lines = len(w.events)
		}
	}
	var second pgx.Batch
	s.flush(&second, w)
	var journal pgx.Batch
	s.flushJournal(&journal, w)
	wrote := len(second.QueuedQueries)+len(journal.QueuedQueries) > 0
	if wrote {
		s.raise(&second)
		second.QueuedQueries = append(second.QueuedQueries, journal.QueuedQueries...)
	}
	seq := w.seq
	if len(w.events) > 0 {
		second.Queue(s.sql(`SELECT seq FROM otago.namespaces WHERE name = $1::text`), s.config.Namespace).
			QueryRow(func(row pgx.Row) error { return row.Scan(&seq) })
	}
	second.Queue("COMMIT")
	if err := conn.SendBatch(ctx, slim(&second, conn.Conn())).Close(); err != nil {
		return wrote, err
	}
	open = false
	if wrote {
		s.lease.commits++
	}
	s.number(group, seq)
	return true, nil
}

// raise queues the statement that raises the number of commits if the row is as this store left it.
// If another store has it, or an earlier transaction of this one has ended late, the epoch becomes
// null, which the database refuses.
func (s *Store) raise(batch *pgx.Batch) {
	if s.unfenced {
		return
	}
	batch.Queue(s.sql(`UPDATE otago.leases SET commits = commits + 1,
		epoch = CASE WHEN epoch = $2::bigint AND commits = $3::bigint THEN epoch END WHERE namespace = $1::text`),
		s.config.Namespace, s.lease.epoch, s.lease.commits)
}

const lockTimeout = "55P03"

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// full reports whether the disk is full.
func full(err *pgconn.PgError) bool { return err.Code == "53100" }

// isClosed reports whether a connection was closed by the other end.
func isClosed(err error) bool {
	_, network := errors.AsType[*net.OpError](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
