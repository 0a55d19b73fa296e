package firmware

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/store"
)

// A clock is a manager's time. It begins with that of the wall, and then goes on at the pace of time, so that updates
// neither stand still nor run out when somebody sets the wall clock. It is never behind what was stored: where the wall is,
// it is raised.
type clock struct {
	start time.Time // with its monotonic reading
	ahead atomic.Int64
	once  sync.Mutex
	read  bool // the last time that was stored is known
}

func newClock() *clock { return &clock{start: time.Now()} }

func (c *clock) now() time.Time {
	return c.start.Add(time.Duration(c.ahead.Load()) + time.Since(c.start)).Round(0).UTC()
}

// raise makes the time at least t.
func (c *clock) raise(t time.Time) {
	for {
		ahead := c.ahead.Load()
		behind := t.Sub(c.now())
		if behind <= 0 || c.ahead.CompareAndSwap(ahead, ahead+int64(behind)) {
			return
		}
	}
}

// catchUp raises the time, once, to that of the journal's last line. Without an answer of the store the wall's counts.
func (c *clock) catchUp(ctx context.Context, db store.Store) {
	c.once.Lock()
	defer c.once.Unlock()
	if c.read {
		return
	}
	last, err := db.Commit(ctx)
	if err != nil {
		return
	}
	c.read = true
	for line, err := range db.Events(ctx, store.EventQuery{After: max(last, 1) - 1}) {
		if err == nil {
			c.raise(line.Time)
		}
	}
}
