package device

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// How long the device waits for code that is not its own.
const (
	installerLimit = 2 * time.Minute            // for a call of an Installer; erasing flash takes time
	hookLimit      = 10 * time.Second           // for Defer and Credentials, while a server waits
	abandonAfter   = 30 * time.Second           // for a call to notice that its context has ended
	jobAfter       = abandonAfter + time.Second // for the job that made the call: longer, so that the call is known to hang first
)

var (
	errHung     = errors.New("device: call has not returned in time")
	errPanicked = errors.New("device: call panicked")
)

// lock is a mutex that is held while others' code runs. It is a channel, so that virtual time passes for those who wait for it.
type lock chan struct{}

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// returned is what a call came to.
type returned[T any] struct {
	value T
	err   error
}

// call calls f in a goroutine of its own, which is left behind if f does not return. A panic is an error, and so is the end
// of the goroutine by runtime.Goexit.
func call[T any](log *slog.Logger, name string, f func() (T, error)) <-chan returned[T] {
	done := make(chan returned[T], 1)
	go func() {
		r := returned[T]{err: fmt.Errorf("%w: %s ended its goroutine", errPanicked, name)}
		defer func() {
			done <- r
		}()
		defer recovered(log, name, &r.err)
		r.value, r.err = f()
	}()
	return done
}

// recovered is deferred, and makes a panic the error.
func recovered(log *slog.Logger, name string, err *error) {
	if v := recover(); v != nil {
		log.Error("call panicked", "call", name, "panic", v, "stack", string(debug.Stack()))
		*err = fmt.Errorf("%w: %s: %v", errPanicked, name, v)
	}
}

// turn lets one call at a time into code that must not be entered twice, or that may never return: a call that does not
// return keeps its turn, so that at most one goroutine hangs in each.
type turn struct {
	log  *slog.Logger
	held chan struct{} // holds a token while a call is under way
	last atomic.Uint64 // numbers the calls
	hung atomic.Uint64 // the last call that had not returned in time, 0 if there was none
}

func newTurn(log *slog.Logger) *turn { return &turn{log: log, held: make(chan struct{}, 1)} }

// inTurn calls f when it is its turn. All of that may take as long as limit.
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

// take waits for the turn and returns the number of the call. A call that has used its time up is not waited for again.
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

// begin calls f, whose turn it is, and ends the turn when it returns.
func begin[T any](t *turn, name string, f func() (T, error)) <-chan returned[T] {
	return call(t.log, name, func() (T, error) {
		defer func() { <-t.held }()
		return f()
	})
}
