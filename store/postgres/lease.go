package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/otago-iot/otago/store"
)

// LeaseTime is how long a store holds its namespace without renewing the lease.
const LeaseTime = 10 * time.Second

// leaseTime is LeaseTime, except in tests.
var leaseTime = LeaseTime

func renewPause() time.Duration   { return leaseTime / 5 }
func standbyPause() time.Duration { return leaseTime / 10 }

// leaseMargin is how much earlier than in the database the lease ends in the process: clocks run at
// slightly different rates.
func leaseMargin() time.Duration { return leaseTime / 20 }

// ErrLost: another store has the namespace now. The store can write nothing any more; its program
// ends, or goes on as a standby.
var ErrLost = errors.New("postgres: another server has taken over the namespace")

// A HeldError says that another store has the namespace.
type HeldError struct {
	Namespace string
	Node      string        // of the other store
	For       time.Duration // until the lease ends, if it is not renewed
}

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("postgres: namespace %q is held by %s, for %s if that does not renew it", e.Namespace, e.Node, e.For.Round(time.Second/10))
}

// A lease is what the process knows of its row in the table of leases.
type lease struct {
	epoch uint64
	until atomic.Int64 // when it ends, in nanoseconds after start; negative once it is lost
	stop  context.CancelFunc
	ended chan struct{} // is closed when the renewing has ended

	lost     chan struct{} // is closed when another store has taken over
	loseOnce sync.Once

	// What follows is only of the goroutine that writes commits.
	commits  uint64 // transactions of the namespace, as the row has it
	unsettle bool   // the last transaction may have raised it, or may do so yet
}

// start is where the process's clock begins, which no one sets.
var start = time.Now()

// acquire takes the lease, or returns a *HeldError.
func (s *Store) acquire(ctx context.Context) error {
	before := time.Now()
	var free bool
	held := &HeldError{Namespace: s.config.Namespace}
	err := s.pool.QueryRow(ctx, s.sql(`SELECT node, extract(epoch FROM expires - clock_timestamp())::float8, expires < clock_timestamp()
		FROM otago.leases WHERE namespace = $1::text`), s.config.Namespace).Scan(&held.Node, (*seconds)(&held.For), &free)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return err
	case !free:
		return held
	}
	err = s.take(ctx)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == lockTimeout {
		// A connection of the one before holds the row. Its lease is over, and so is its right to.
		_, err = s.pool.Exec(ctx, s.sql(`SELECT pg_terminate_backend(pid) FROM pg_locks
			WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
				AND transactionid = (SELECT xmax FROM otago.leases WHERE namespace = $1::text)`), s.config.Namespace)
		if err == nil {
			err = s.take(ctx)
		}
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return held // another one was faster
	}
	if err != nil {
		return err
	}
	renewing, stop := context.WithCancel(context.Background())
	s.lease.stop, s.lease.ended, s.lease.lost = stop, make(chan struct{}), make(chan struct{})
	s.lease.until.Store(int64(before.Add(leaseTime - leaseMargin()).Sub(start)))
	go s.renew(renewing)
	return nil
}

// take writes this store into the row of the lease, if it is free.
func (s *Store) take(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '1s'"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql(`INSERT INTO otago.namespaces (name) VALUES ($1::text) ON CONFLICT DO NOTHING`), s.config.Namespace); err != nil {
			return err
		}
		return tx.QueryRow(ctx, s.sql(`INSERT INTO otago.leases AS l (namespace, epoch, node, expires)
			VALUES ($1::text, 1, $2::text, clock_timestamp() + $3::interval)
			ON CONFLICT (namespace) DO UPDATE SET epoch = l.epoch + 1, node = excluded.node, expires = excluded.expires
				WHERE l.expires < clock_timestamp()
			RETURNING epoch, commits`), s.config.Namespace, s.config.Node, leaseTime).Scan(&s.lease.epoch, &s.lease.commits)
	})
}

// renew renews the lease until ctx ends or another store has it.
func (s *Store) renew(ctx context.Context) {
	defer close(s.lease.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.lease.lost:
			return
		case <-time.After(renewPause()):
		}
		before := time.Now()
		within, cancel := context.WithTimeout(ctx, renewPause())
		tag, err := s.pool.Exec(within, s.sql(`UPDATE otago.leases SET expires = clock_timestamp() + $3::interval
			WHERE namespace = $1::text AND epoch = $2::bigint`), s.config.Namespace, s.lease.epoch, leaseTime)
		cancel()
		switch {
		case err != nil: // the next time
		case tag.RowsAffected() == 0:
			s.lose()
		default:
			s.extend(before.Add(leaseTime - leaseMargin()))
		}
	}
}

// extend moves the end of the lease, unless it is lost.
func (s *Store) extend(end time.Time) {
	if old := s.lease.until.Load(); old >= 0 {
		s.lease.until.CompareAndSwap(old, int64(end.Sub(start)))
	}
}

// lose notes that another store has the namespace.
func (s *Store) lose() {
	s.lease.until.Store(-1)
	s.lease.loseOnce.Do(func() { close(s.lease.lost) })
}

// releaseTime bounds how long Close tries to give the lease back.
const releaseTime = LeaseTime / 5

// release gives the lease back.
func (s *Store) release() {
	s.lease.stop()
	<-s.lease.ended
	s.lease.until.Store(-1)
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	// If this fails, the lease ends by itself.
	_, _ = s.pool.Exec(ctx, s.sql(`UPDATE otago.leases SET expires = clock_timestamp() WHERE namespace = $1::text AND epoch = $2::bigint`),
		s.config.Namespace, s.lease.epoch)
}

// Holds reports whether the lease is valid, by the clock of this process: no other store can have
// the namespace. A server sends nothing to devices and callers while it is not. It becomes true
// again if the database was away and no other store has taken over. It costs a few nanoseconds.
func (s *Store) Holds() bool { return int64(time.Since(start)) < s.lease.until.Load() }

// Lost returns a channel that is closed when another store has taken over. From then on each Commit
// fails with [ErrLost].
func (s *Store) Lost() <-chan struct{} { return s.lease.lost }

// Report implements store.Reporter. Format is the version of the tables.
func (s *Store) Report(context.Context) store.Report {
	r := s.ends.Report()
	r.Kind, r.Format = "postgres", latest
	if s.config.ReadOnly {
		return r
	}
	r.Lease = &store.Lease{Node: s.config.Node, Held: s.Holds()}
	if until := s.lease.until.Load(); until >= 0 {
		r.Lease.Until = start.Add(time.Duration(until))
	}
	select {
	case <-s.lease.lost:
		r.Lease.Lost = true
	default:
	}
	return r
}

// seconds reads a number of seconds from a column.
type seconds time.Duration

// Scan implements sql.Scanner.
func (d *seconds) Scan(v any) error {
	n, ok := v.(float64)
	if !ok {
		return fmt.Errorf("postgres: %T is no number of seconds", v)
	}
	*d = seconds(n * float64(time.Second))
	return nil
}
