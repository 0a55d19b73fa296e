// Package group lets callers that commit at the same time share a transaction.
//
// A transaction costs half a dozen pages or a round trip, and an fsync or two, however many commits
// it has. So each caller adds its commit to a [Queue] and waits. A goroutine takes all commits that
// wait, in the order in which they came, has them written together, and goes on until none waits.
package group

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/otago-iot/otago/store"
)

// maxGroup limits how many commits share a transaction.
const maxGroup = 1024

// While groups have more than one commit, each waits for company: until gatherMany have come, or
// none has come for gatherPause, or gatherPauses of these are over. A caller alone does not wait.
const (
	gatherMany   = 64
	gatherPause  = time.Millisecond
	gatherPauses = 4
	gatherFrom   = 1.25 // commits in a group, on average over a dozen groups
)

// A Commit is the part of a commit by which a [Queue] knows it. Other types embed it. The zero
// value is ready; it is ready again when Do has returned nil.
type Commit struct {
	done chan struct{} // of capacity 1; has a value when the commit has ended
	err  error         // of a panic
}

func (c *Commit) commit() *Commit { return c }

// A Queue has the commits that wait for a transaction. It is safe for concurrent use.
type Queue[C interface{ commit() *Commit }] struct {
	Door
	write func(group []C)

	mu      sync.Mutex // guards waiting and drained
	waiting []C
	drained bool          // a goroutine drains the queue
	many    chan struct{} // of capacity 1; has a value when the queue has grown to gatherMany
	average float64       // size of the latest groups; only of drain
}

// New returns a queue of commits for write. One goroutine at a time calls write, with 1 to 1,024
// commits. What becomes of each of them, write notes in the commit.
func New[C interface{ commit() *Commit }](write func(group []C)) *Queue[C] {
	return &Queue[C]{write: write, many: make(chan struct{}, 1)}
}

// Do adds a commit to the queue, and returns nil when it was written: c has its result. If ctx ends
// before, Do returns its error at once. The commit is then written all the same, so that its caller
// must not use it any more. That holds for an error of write, too, which has panicked: it is not
// known whether the commits of that group took place. A closed queue returns store.ErrClosed.
func (q *Queue[C]) Do(ctx context.Context, c C) error {
	if err := q.Enter(ctx); err != nil {
		return err
	}
	own := c.commit()
	if own.done == nil {
		own.done = make(chan struct{}, 1)
	}
	if q.add(c) {
		go q.drain() // which leaves instead of this call
	} else {
		defer q.Leave()
	}
	select {
	case <-own.done:
		return own.err
	case <-ctx.Done():
		return ctx.Err() // drain still has the commit
	}
}

// add appends a commit, and reports whether no goroutine drains the queue yet.
func (q *Queue[C]) add(c C) (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, c)
	if len(q.waiting) == gatherMany {
		select {
		case q.many <- struct{}{}:
		default:
		}
	}
	start, q.drained = !q.drained, true
	return start
}

// drain writes the queue, group by group, until it is empty.
func (q *Queue[C]) drain() {
	pause := time.NewTimer(gatherPause)
	defer pause.Stop()
	for first := true; ; first = false {
		if !first && q.average >= gatherFrom {
			q.gather(pause)
		}
		q.mu.Lock()
		n := min(len(q.waiting), maxGroup)
		group := q.waiting[:n:n]
		q.waiting = q.waiting[n:]
		if n == 0 {
			q.waiting, q.drained = nil, false
			q.mu.Unlock()
			q.Leave()
			return
		}
		q.mu.Unlock()
		q.end(group)
		q.average += (float64(n) - q.average) / 12
	}
}

// gather waits while commits come, within bounds.
func (q *Queue[C]) gather(pause *time.Timer) {
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
		pause.Reset(gatherPause)
		select {
		case <-q.many:
			return
		case <-pause.C:
		}
	}
}

var errEnded = errors.New("store: commit: its goroutine ended")

// end writes a group, and ends its commits whatever write does.
func (q *Queue[C]) end(group []C) {
	err := errEnded
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("store: commit: panic: %v\n%s", v, debug.Stack())
		} else if err != nil { // by runtime.Goexit: another goroutine must go on
			go q.drain()
		}
		for _, c := range group {
			own := c.commit()
			own.err = err
			own.done <- struct{}{}
		}
	}()
	q.write(group)
	err = nil
}

// A Door lets calls in until it is closed. The zero Door is open.
type Door struct {
	inside sync.RWMutex // read-locked while a call runs
	closed bool
}

// Enter lets a call in, which ends with Leave. It returns the error of ctx if that has ended, and
// store.ErrClosed if the door is closed.
func (d *Door) Enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.inside.RLock()
	if d.closed {
		d.inside.RUnlock()
		return store.ErrClosed
	}
	return nil
}

// Leave ends a call, on any goroutine.
func (d *Door) Leave() { d.inside.RUnlock() }

// Close lets no more calls in, and calls release when the last one has left. When it is called
// again, it does nothing and returns nil.
func (d *Door) Close(release func() error) error {
	d.inside.Lock()
	defer d.inside.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return release()
}
