package device

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/work"
)

// How long the device waits for code of the program.
const (
	installerLimit = 2 * time.Minute  // for a call of the Installer; erasing flash takes time
	hookLimit      = 10 * time.Second // for Defer and Credentials, while a server waits
	abandonAfter   = 30 * time.Second // for a call to return after its context has ended
	// jobAfter is abandonAfter for a job. It is longer, so that the call that hangs is found first.
	jobAfter = abandonAfter + time.Second
)

var errHung = errors.New("device: call has not returned in time")

// lock is a mutex that may be held while code of the program runs. It is a channel because synctest
// lets virtual time pass for goroutines that wait for a channel.
type lock chan struct{}

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// returned is the result of a call.
type returned[T any] struct {
	value T
	err   error
}

// call calls f in a goroutine of its own, which is left behind if f does not return. A panic
// becomes an error, and so does the end of the goroutine by runtime.Goexit.
func call[T any](log *slog.Logger, name string, f func() (T, error)) <-chan returned[T] {
	done := make(chan returned[T], 1)
	go func() {
		r := returned[T]{err: fmt.Errorf("%w: %s ended its goroutine", work.ErrPanicked, name)}
		defer func() { done <- r }()
		r.value, r.err = work.Guard(log, name, f)
	}()
	return done
}

// turn admits one call at a time to code that must not be entered twice, or that may never return.
// A call that does not return keeps the turn, so that at most one goroutine hangs in each.
type turn struct {
	log  *slog.Logger
	held chan struct{} // holds a token during a call
	last atomic.Uint64 // the number of the last call
	hung atomic.Uint64 // the number of the last call that had not returned in time, 0 if none
}

func newTurn(log *slog.Logger) *turn { return &turn{log: log, held: make(chan struct{}, 1)} }

// inTurn waits for the turn and calls f. Both together may take up to limit.
func inTurn[T any](t *turn, name string, limit time.Duration, f func() (T, error)) (T, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var none T
	number, err := t.take(name, timer.C)
	if err != nil {
		return none, err
	}
	select {
	case r := <-begin(t, name, f):
		return r.value, r.err
	case <-timer.C:
		t.hung.Store(number)
		return none, fmt.Errorf("%w: %s, %s", errHung, name, limit)
	}
}

// take waits for the turn and returns the number of the call. It does not wait for a call that has
// already exceeded its limit.
func (t *turn) take(name string, late <-chan time.Time) (uint64, error) {
	select {
	case t.held <- struct{}{}:
		return t.last.Add(1), nil
	default:
	}
	if t.hung.Load() == t.last.Load() {
		return 0, fmt.Errorf("%w: the one before %s", errHung, name)
	}
	select {
	case t.held <- struct{}{}:
		return t.last.Add(1), nil
	case <-late:
		return 0, fmt.Errorf("%w: the one before %s", errHung, name)
	}
}

// begin calls f, which has the turn, and ends the turn when f returns.
func begin[T any](t *turn, name string, f func() (T, error)) <-chan returned[T] {
	return call(t.log, name, func() (T, error) {
		defer func() { <-t.held }()
		return f()
	})
}
