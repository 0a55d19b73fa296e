package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Report says how a store is.
type Report struct {
	Kind   string // such as "bolt"
	Format int    // number of the format of its data; 0 if it has none
	Bytes  int64  // of its data; 0 if that is not known

	// LastCommit is when a commit last succeeded; zero if none has since the store was opened.
	LastCommit time.Time
	// FailingSince is when the first of the latest commits failed, all of which have failed since;
	// zero if the last one succeeded. Err is the error of the last one. A refusal, such as
	// ErrConflict, is no failure.
	FailingSince time.Time
	Err          error

	Lease *Lease // nil for a store that several servers cannot share
}

// A Lease is a store's right to write for some time.
type Lease struct {
	Node  string    // name of this process for the others
	Held  bool      // the right is valid now
	Lost  bool      // another server has taken over; it never becomes valid again
	Until time.Time // when it ends, unless it is renewed; zero if it has ended
}

// A Reporter is a [Store] that says how it is. Those of this module are Reporters.
type Reporter interface {
	// Report returns at once, or soon after ctx has ended. It fails in no way: what is not known is
	// zero.
	Report(ctx context.Context) Report
}

// Commits notes how commits end, for the Report of a back end. The zero value is ready. It is safe
// for concurrent use.
type Commits struct {
	mu      sync.Mutex
	last    time.Time
	failing time.Time
	err     error
}

// refusals are errors by which a store that works answers.
var refusals = []error{
	ErrNotFound, ErrExists, ErrConflict, ErrActive, ErrDuplicate, ErrVersionTaken, ErrInUse, ErrInvalid, ErrClosed, ErrDamaged,
	ErrNotDamaged, context.Canceled, context.DeadlineExceeded,
}

// Ended notes the result of a commit.
func (c *Commits) Ended(err error) {
	for _, refusal := range refusals {
		if err != nil && errors.Is(err, refusal) {
			return
		}
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.err = err; {
	case err == nil:
		c.last, c.failing = now, time.Time{}
	case c.failing.IsZero():
		c.failing = now
	}
}

// Report returns a report with LastCommit, FailingSince and Err.
func (c *Commits) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Report{LastCommit: c.last, FailingSince: c.failing, Err: c.err}
}
