//go:build unix

package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/otago-iot/otago/store"
)

// OpenUnfenced opens one of several stores that write a namespace at once, without a lease: what
// the rows and their locks alone must keep right.
func OpenUnfenced(ctx context.Context, pool *pgxpool.Pool, config Config) (*Store, error) {
	s, err := open(ctx, pool, config)
	if err != nil {
		return nil, err
	}
	s.unfenced = true
	s.release()
	return s, nil
}

// Unfence switches the fence of a store off.
func Unfence(s *Store) { s.unfenced = true }

// SetLeaseTime sets the time of leases, for tests that wait for the end of one.
func SetLeaseTime(d time.Duration) { leaseTime = d }

// Abandon makes a store as that of a process which has died: it does not renew its lease.
func Abandon(s *Store) {
	s.lease.stop()
	<-s.lease.ended
}

// UpdatesQuery returns the SQL of a page of updates, and its arguments.
func UpdatesQuery(s *Store, q store.UpdateQuery, n int) (string, []any) {
	return s.updatesQuery(&q, nil, n)
}
