package lwm2m

import (
	"context"
	"sync"
)

// afterResponse holds what is to happen once a response was sent.
type afterResponse struct {
	mu  sync.Mutex
	fns []func()
	ran bool
}

type afterKey struct{}

// AfterResponse arranges that fn is called, in its own goroutine, once the response to the request that ctx belongs to
// has been sent (and acknowledged, or given up, if it was a separate one). An [Object] calls it within Write or Execute with the ctx it was given. With
// another ctx fn is called at once, in its own goroutine too.
func AfterResponse(ctx context.Context, fn func()) {
	a, ok := ctx.Value(afterKey{}).(*afterResponse)
	if !ok || !a.add(fn) {
		go fn()
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
	go func() {
		for _, fn := range fns {
			fn()
		}
	}()
}
