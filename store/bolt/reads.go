package bolt

import (
	"sync"

	"github.com/otago-iot/otago/store/internal/kv"
)

// maxReads limits the read transactions that wait for their next read.
const maxReads = 64

// reads keeps read transactions with their cursors from one read to the next, until something is
// written: to begin one costs more than most reads do. Each serves one read at a time. None is kept
// during a write, which waits for all of them when the file has to grow.
type reads struct {
	mu     sync.Mutex
	writes int // that have begun and not ended
	round  int // counts the writes
	idle   []*tx
}

// read calls fn with a read transaction that shows what all writes that have ended wrote.
func (b *backend) read(fn func(kv.Reader) error) error {
	t, round := b.reads.take()
	if t == nil {
		btx, err := b.db.Begin(false)
		if err != nil {
			return err
		}
		t = b.tx(btx)
	}
	kept := false
	defer func() { // also if fn panics
		if !kept {
			_ = t.btx.Rollback()
		}
	}()
	err := fn(t)
	// The owner of a file that is not ours may write to it at any time, and wait for this one.
	kept = b.reopen != nil && b.reads.give(t, round)
	return err
}

// take returns a transaction that is idle, or nil, and the round of a new one.
func (r *reads) take() (*tx, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.idle) - 1
	if last < 0 {
		return nil, r.round
	}
	t := r.idle[last]
	r.idle[last] = nil
	r.idle = r.idle[:last]
	return t, r.round
}

// give keeps a transaction that was begun in a round. It returns false if it must end.
func (r *reads) give(t *tx, round int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writes > 0 || r.round != round || len(r.idle) >= maxReads {
		return false
	}
	r.idle = append(r.idle, t)
	return true
}

// stop ends the transactions that are idle, and keeps none until resume.
func (r *reads) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes++
	r.round++
	for _, t := range r.idle {
		_ = t.btx.Rollback()
	}
	clear(r.idle)
	r.idle = r.idle[:0]
}

func (r *reads) resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes--
	r.round++ // a transaction that was begun meanwhile may not show the write
}
