package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/store"
)

// maxGroup limits how many commits share a transaction.
const maxGroup = 1024

// While transactions have more than one commit, each waits for company: until gatherMany commits
// have come, or none has come for gatherPause, or gatherPauses of these are over. A caller alone
// does not wait.
const (
	gatherMany   = 64
	gatherPause  = time.Millisecond
	gatherPauses = 4
	gatherFrom   = 1.25 // commits in a transaction, on average over a dozen
)

// A queue has the commits that wait for a transaction.
type queue struct {
	mu      sync.Mutex // guards waiting and drained
	waiting []*commit
	drained bool          // a goroutine drains the queue
	many    chan struct{} // of capacity 1; has a value when the queue has grown to gatherMany

	// What follows is only of the goroutine that drains.
	average  float64 // size of the latest groups
	commits  uint64  // transactions of the namespace, as the lease's row has it
	unsettle bool    // the last transaction may have raised it, or may do so yet
}

type commit struct {
	changes  []store.Change
	rollouts []store.RolloutChange
	lines    int // of the transaction when it was applied
	seq      uint64
	err      error
	done     chan struct{} // is closed when the commit has ended
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
	c := &commit{changes: make([]store.Change, len(changes)), done: make(chan struct{})}
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
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	if s.config.ReadOnly {
		s.leave()
		return 0, errReadOnly
	}
	if s.queue.add(c) {
		go s.drain() // which leaves instead of this call
	} else {
		defer s.leave()
	}
	select {
	case <-c.done:
		return c.seq, c.err
	case <-ctx.Done():
		return 0, ctx.Err() // drain still has the commit
	}
}

var errReadOnly = errors.New("postgres: the store is read only")

// add appends a commit, and reports whether no goroutine drains the queue yet.
func (q *queue) add(c *commit) (idle bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, c)
	if len(q.waiting) == gatherMany {
		select {
		case q.many <- struct{}{}:
		default:
		}
	}
	idle, q.drained = !q.drained, true
	return idle
}

// drain writes the queue, group by group, until it is empty.
func (s *Store) drain() {
	defer s.leave()
	q := &s.queue
	for first := true; ; first = false {
		if !first && q.average >= gatherFrom {
			q.gather()
		}
		q.mu.Lock()
		n := min(len(q.waiting), maxGroup)
		group := q.waiting[:n:n]
		q.waiting = q.waiting[n:]
		if n == 0 {
			q.waiting, q.drained = nil, false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		s.write(group)
		for _, c := range group {
			s.ends.Ended(c.err)
			close(c.done)
		}
		q.average += (float64(n) - q.average) / 12
	}
}

// gather waits while commits come, within bounds.
func (q *queue) gather() {
	before := -1
	for range gatherPauses {
		q.mu.Lock()
		n := len(q.waiting)
		if n < gatherMany {
			select {
			case <-q.many: // of an earlier queue
			default:
			}
		}
		q.mu.Unlock()
		if n >= gatherMany || n == before {
			return
		}
		before = n
		select {
		case <-q.many:
			return
		case <-time.After(gatherPause):
		}
	}
}
