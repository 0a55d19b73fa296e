package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// callLimit is how long code of the program may take before the client goes on without it: more than a device with a slow
	// flash needs for anything.
	callLimit = 5 * time.Minute
	// joinLimit is how long Run waits at its end for code of the program that has not returned.
	joinLimit = time.Minute
	// maxCalls bounds the calls that are under way in one object, and the responses whose functions (AfterResponse) are.
	maxCalls = 8
)

var (
	errPanicked = errors.New("lwm2m: a function of the program panicked")
	errRunEnded = fmt.Errorf("%w: the client has ended", ErrUnavailable)
)

// scope is what calls are counted by: an object's identifier, or one of those below.
type scope int32

const (
	scopeComposite scope = -1 - iota // requests of several objects
	scopeAfter                       // see crowded
	scopeSink                        // see crowded
	scopeClient                      // what the client itself asks, one thing after the other
)

// limit is how many calls there may be, those that have used their time up among them.
func (s scope) limit() int {
	switch {
	case s >= 0, s == scopeComposite:
		return maxCalls
	case s == scopeClient:
		return 1
	default:
		return math.MaxInt // bounded elsewhere
	}
}

// calls are the calls of a client into code of the program: each in a goroutine of its own, which is left behind if it does
// not return, and none once Run has returned.
type calls struct {
	log *slog.Logger

	mu    sync.Mutex
	over  bool
	count map[scope]int
	none  chan struct{} // closed when nothing is under way after the end
}

func newCalls(log *slog.Logger) *calls {
	return &calls{log: log, count: make(map[scope]int), none: make(chan struct{})}
}

// enter counts a call, or says why there can be none.
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

// crowded reports whether so many calls have not returned that nothing is to begin that leads to more of them.
func (c *calls) crowded(s scope) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[s] >= maxCalls
}

// close lets no further call begin, and waits for those that are under way, until late.
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
		c.log.Error("functions of the program are left behind, they have not returned", slog.Duration("after", joinLimit))
	}
}

// guarded calls f. A panic, and the end of the goroutine by runtime.Goexit, are errors.
func guarded[T any](log *slog.Logger, name string, f func() (T, error)) (value T, err error) {
	returned := false
	defer func() {
		if !returned {
			v := recover()
			log.Error("a function of the program panicked", slog.String("function", name), slog.Any("panic", v),
				slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("%w: %s: %v", errPanicked, name, v)
		}
	}()
	value, err = f()
	returned = true
	return value, err
}

// guard is guarded for what returns nothing.
func guard(log *slog.Logger, name string, f func()) {
	_, _ = guarded(log, name, func() (struct{}, error) { f(); return struct{}{}, nil })
}

// call calls f in a goroutine of its own and waits for it until it has used its time up, or ctx ends. late, if it is not nil,
// is called with the value of a call that nobody waits for any more.
func call[T any](ctx context.Context, c *calls, s scope, name string, f func() (T, error), late func(T)) (T, error) {
	var none T
	if err := c.enter(s); err != nil {
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result) // without room: who sends knows whether it was taken
	left := make(chan struct{})
	go func() {
		r := result{err: errPanicked}
		defer func() {
			select {
			case done <- r: // who waits leaves, as it may call again at once
			case <-left:
				defer c.leave(s)
				if late != nil && r.err == nil {
					guard(c.log, name, func() { late(r.value) })
				}
			}
		}()
		r.value, r.err = guarded(c.log, name, f)
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
		return none, fmt.Errorf("%w: %s takes too long", ErrUnavailable, name)
	}
}
