package work

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// Backoff is the last pause between tries in a series that doubles; zero begins a series.
type Backoff time.Duration

// Next returns the next pause of the series: first, then twice the one before, at most most.
func (b *Backoff) Next(first, most time.Duration) time.Duration {
	*b = Backoff(max(first, min(2*time.Duration(*b), most)))
	return time.Duration(*b)
}

// Spread returns a random time between half of pause and pause, so that those who failed at the
// same time do not all try again at the same time.
func Spread(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2+1) }

// Sleep waits for d. It returns false at once if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// ErrPanicked is the error of a function that panicked or ended its goroutine.
var ErrPanicked = errors.New("a function of the program panicked")

// Guard calls f, and logs a panic under the name of f. The error of a panic matches [ErrPanicked].
// If f ends the goroutine (runtime.Goexit), Guard logs that, and does not return.
func Guard[T any](log *slog.Logger, name string, f func() (T, error)) (value T, err error) {
	returned := false
	defer func() {
		if !returned {
			v := recover()
			log.Error("a function of the program panicked", slog.String("function", name), slog.Any("panic", v),
				slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("%w: %s: %v", ErrPanicked, name, v)
		}
	}()
	value, err = f()
	returned = true
	return value, err
}

// GuardFunc is [Guard] for a function without results.
func GuardFunc(log *slog.Logger, name string, f func()) {
	_, _ = Guard(log, name, func() (struct{}, error) { f(); return struct{}{}, nil })
}

// Reader returns a reader of r that fails once ctx has ended. A read in progress is not
// interrupted.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
