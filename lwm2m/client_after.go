package lwm2m

import (
	"context"
	"log/slog"
	"sync"

	"github.com/otago-iot/otago/internal/work"
)

// afterResponse holds the functions to run once a response was sent.
type afterResponse struct {
	calls *calls

	mu  sync.Mutex
	fns []func()
	ran bool
}

type afterKey struct{}

// AfterResponse calls fn in its own goroutine once the response to the request of ctx was sent;
// after a separate response, once it was acknowledged or given up. An [Object] calls AfterResponse
// within Write, Execute, Create or Delete with the ctx that it was given. fn is not called once
// [Client.Run] has returned; a panic of fn is logged. With any other ctx fn is called at once, also
// in its own goroutine, and a panic goes to the log of [slog.Default].
func AfterResponse(ctx context.Context, fn func()) {
	a, ok := ctx.Value(afterKey{}).(*afterResponse)
	switch {
	case !ok:
		go work.GuardFunc(slog.Default(), "AfterResponse", fn)
	case !a.add(fn):
		a.calls.after(fn)
	}
}

func (a *afterResponse) add(fn func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ran {
		a.fns = append(a.fns, fn)
	}
	return !a.ran
}

func (a *afterResponse) any() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.fns) == 0 {
		a.ran = true // run is not called
	}
	return !a.ran
}

func (a *afterResponse) run() {
	a.mu.Lock()
	fns := a.fns
	a.fns, a.ran = nil, true
	a.mu.Unlock()
	a.calls.after(fns...)
}

// after calls fns in one goroutine, in order.
func (c *calls) after(fns ...func()) {
	if c.enter(scopeAfter) != nil {
		return // Run has returned
	}
	go func() {
		defer c.leave(scopeAfter)
		for _, fn := range fns {
			work.GuardFunc(c.log, "AfterResponse", fn)
		}
	}()
}
