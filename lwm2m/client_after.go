package lwm2m

import (
	"context"
	"log/slog"
	"sync"
)

// afterResponse holds what is to happen once a response was sent.
type afterResponse struct {
	calls *calls

	mu  sync.Mutex
	fns []func()
	ran bool
}

type afterKey struct{}

// AfterResponse arranges that fn is called, in its own goroutine, once the response to the request that ctx belongs to
// has been sent (and acknowledged, or given up, if it was a separate one). An [Object] calls it within Write or Execute with
// the ctx it was given. It is not called once [Client.Run] has returned, and one that panics is logged. With another ctx fn is
// called at once, in its own goroutine too; a panic of it goes to the log of [slog.Default].
func AfterResponse(ctx context.Context, fn func()) {
	a, ok := ctx.Value(afterKey{}).(*afterResponse)
	switch {
	case !ok:
		go guard(slog.Default(), "AfterResponse", fn)
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
		a.ran = true // nobody will call run
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

// after calls fns in a goroutine of their own, one after the other.
func (c *calls) after(fns ...func()) {
	if c.enter(scopeAfter) != nil {
		return // Run has returned
	}
	go func() {
		defer c.leave(scopeAfter)
		for _, fn := range fns {
			guard(c.log, "AfterResponse", fn)
		}
	}()
}
