package lwm2m

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/work"
)

const (
	// callLimit is how long a call of the program's code may take before the client gives up on it:
	// longer than any work on slow flash memory takes.
	callLimit = 5 * time.Minute
	// joinLimit is how long Run waits at its end for calls that have not returned.
	joinLimit = time.Minute
	// maxCalls bounds the running calls of one object, and the responses whose AfterResponse
	// functions run.
	maxCalls = 8
)

var (
	errRunEnded = fmt.Errorf("%w: the client has ended", ErrUnavailable)
	errHangs    = fmt.Errorf("%w: a function of the program takes too long", ErrUnavailable)
)

// scope groups calls to count them: the identifier of an object, or one of the constants.
type scope int32

const (
	scopeComposite scope = -1 - iota // requests of several objects
	scopeAfter                       // see crowded
	scopeSink                        // see crowded
	scopeClient                      // calls by the client itself, one at a time
)

// limit is the maximum number of running calls, including those that the client has given up on.
func (s scope) limit() int {
	switch {
	case s >= 0, s == scopeComposite:
		return maxCalls
	case s == scopeClient:
		return 1
	default:
		return math.MaxInt // bounded by crowded
	}
}

// calls tracks a client's calls of the program's code. Each call has its own goroutine; if it does
// not return, the client stops waiting for it. No call begins once Run has returned.
type calls struct {
	log *slog.Logger

	mu    sync.Mutex
	over  bool
	count map[scope]int
	none  chan struct{} // closed after the end, once all calls have returned
}

func newCalls(log *slog.Logger) *calls {
	return &calls{log: log, count: make(map[scope]int), none: make(chan struct{})}
}

// enter counts a call, or returns why it must not begin.
func (c *calls) enter(s scope) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over:
		return errRunEnded
	case c.count[s] >= s.limit():
		return fmt.Errorf("%w: too many calls have not returned", ErrUnavailable)
	}
	c.count[s]++
	return nil
}

func (c *calls) leave(s scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[s]--; c.count[s] == 0 {
		delete(c.count, s)
	}
	if c.over && len(c.count) == 0 {
		close(c.none)
	}
}

// crowded reports whether maxCalls calls have not returned. Then the client starts nothing that
// would lead to another one.
func (c *calls) crowded(s scope) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[s] >= maxCalls
}

// close refuses further calls, and waits for those under way until late is closed.
func (c *calls) close(late <-chan struct{}) {
	c.mu.Lock()
	c.over = true
	if len(c.count) == 0 {
		close(c.none)
	}
	c.mu.Unlock()
	select {
	case <-c.none:
	case <-late:
		c.log.Error("functions of the program have not returned and are left behind", slog.Duration("after", joinLimit))
	}
}

// call calls f in its own goroutine and waits until it returns, callLimit has passed or ctx ends.
// If f returns a value after that, call passes it to late, unless late is nil.
func call[T any](ctx context.Context, c *calls, s scope, name string, f func() (T, error), late func(T)) (T, error) {
	var none T
	if err := c.enter(s); err != nil {
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result) // unbuffered: the sender knows whether the value was received
	left := make(chan struct{})
	go func() {
		r := result{err: work.ErrPanicked}
		defer func() {
			select {
			case done <- r: // the receiver calls leave, since it may call again at once
			case <-left:
				defer c.leave(s)
				if late != nil && r.err == nil {
					work.GuardFunc(c.log, name, func() { late(r.value) })
				}
			}
		}()
		r.value, r.err = work.Guard(c.log, name, f)
	}()
	timer := time.NewTimer(callLimit)
	defer timer.Stop()
	select {
	case r := <-done:
		c.leave(s)
		return r.value, r.err
	case <-ctx.Done():
		close(left)
		return none, errRunEnded
	case <-timer.C:
		close(left)
		c.log.Error("a function of the program has not returned", slog.String("function", name), slog.Duration("after", callLimit))
		return none, fmt.Errorf("%w: %s", errHangs, name)
	}
}
