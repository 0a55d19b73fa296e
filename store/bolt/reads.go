package bolt

import (
	"sync"
	"time"

	"github.com/otago-iot/otago/store/internal/kv"
)

const (
	// maxReads limits the read transactions that wait for their next read.
	maxReads = 64
	// readsStay limits how long they wait during a write.
	readsStay = 2 * time.Millisecond
)

// reads keeps read transactions with their cursors from one read to the next: to begin one costs
// more than most reads do. Each serves one read at a time. All end when a write begins, as it may
// reuse what they see, and when it ends, as they do not show it. Those between end soon, because
// the write waits for them if the file has to be mapped again, which happens each time that its
// size has doubled.
type reads struct {
	mu     sync.Mutex
	writes int // that have begun and not ended
	round  int // counts the beginnings and ends of writes
	idle   []*tx
	soon   *time.Timer // ends the idle ones during a write; nil while there are none
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
	if r.round != round || len(r.idle) >= maxReads {
		return false
	}
	r.idle = append(r.idle, t)
	if r.writes > 0 && r.soon == nil {
		r.soon = time.AfterFunc(readsStay, r.end)
	}
	return true
}

// end ends the idle transactions of a write.
func (r *reads) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.soon = nil; r.writes > 0 {
		r.endAll()
	}
}

// begin says that a write begins, and done that it has ended.
func (r *reads) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endAll()
	r.writes++
}

func (r *reads) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes--
	r.endAll()
	if r.soon != nil && r.soon.Stop() {
		r.soon = nil
	}
}

// endAll ends all idle transactions, and those in use at their next give. r.mu is held.
//
// During a write each needs a goroutine. If the write is about to map the file again, it waits for
// all of them, a reader that begins waits for it with bbolt's lock of meta pages, and a transaction
// that ends waits for that lock, after it has left the map: the first would keep the others from
// doing so.
func (r *reads) endAll() {
	r.round++
	for _, t := range r.idle {
		if r.writes > 0 {
			go func() { _ = t.btx.Rollback() }()
		} else {
			_ = t.btx.Rollback()
		}
	}
	clear(r.idle)
	r.idle = r.idle[:0]
}
