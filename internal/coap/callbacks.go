package coap

import (
	"errors"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// origin is the socket or listener of an association. When the endpoint no longer serves it, none
// of the user's functions is called for it.
type origin struct {
	n    int // callbacks that run, or will run
	shut bool
	open atomic.Int64 // its associations
}

// gate lets callbacks begin, and waits until they end. Functions of the user are called between
// enter and leave.
type gate struct {
	mu    sync.Mutex
	all   origin
	ended chan struct{} // closed, and replaced, when an origin has no callbacks; nil when no close waits
}

// enter reports whether a callback may begin; if so, the caller must call leave. o is nil for the
// endpoint itself.
func (g *gate) enter(o *origin) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all.shut || o != nil && o.shut {
		return false
	}
	g.all.n++
	if o != nil {
		o.n++
	}
	return true
}

func (g *gate) leave(o *origin) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all.n--
	if o != nil {
		o.n--
	}
	if g.ended != nil && (g.all.n == 0 || o != nil && o.n == 0) {
		close(g.ended)
		g.ended = nil
	}
}

// open reports whether callbacks may begin.
func (g *gate) open(o *origin) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.all.shut && (o == nil || !o.shut)
}

// close waits until no callback of o runs, at most for limit, and then refuses new ones. It returns
// how many have not ended.
func (g *gate) close(o *origin, limit time.Duration) int {
	timer := time.NewTimer(max(limit, 0))
	defer timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for o.n > 0 && !o.shut {
		if g.ended == nil {
			g.ended = make(chan struct{})
		}
		ended := g.ended
		g.mu.Unlock()
		late := false
		select {
		case <-ended:
		case <-timer.C:
			late = true
		}
		g.mu.Lock()
		if late {
			break
		}
	}
	o.shut = true
	return o.n
}

// join is gate.close, and logs callbacks that do not return.
func (e *Endpoint) join(o *origin, limit time.Duration) {
	if n := e.gate.close(o, limit); n > 0 {
		e.log.Error("coap: callbacks do not return", "count", n)
	}
}

var errPanicked = errors.New("coap: callback panicked")

// caught is deferred by callbacks after gate.enter. It logs a panic, sets err if not nil, and calls
// leave.
func (e *Endpoint) caught(o *origin, what string, err *error) {
	if v := recover(); v != nil {
		e.log.Error("coap: "+what+" panicked", "panic", v, "stack", string(debug.Stack()))
		if err != nil {
			*err = errPanicked
		}
	}
	e.gate.leave(o)
}

// callback calls a function of the user, or returns ErrClosed if the gate is shut.
func (e *Endpoint) callback(o *origin, what string, f func()) (err error) {
	if !e.gate.enter(o) {
		return ErrClosed
	}
	defer e.caught(o, what, &err)
	f()
	return nil
}

// spawn calls f, which calls functions of the user, in a goroutine. Closing the endpoint waits for
// f.
func (e *Endpoint) spawn(o *origin, what string, f func()) {
	if e.gate.enter(o) {
		go func() {
			defer e.caught(o, what, nil)
			f()
		}()
	}
}

// writeAll writes p to the user's writer. A short write is an error.
func writeAll(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	return err
}
