package firmware

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/work"
)

// Hooks are functions for metrics and traces. Each may be nil.
//
// The hooks of one update are called one after the other, in the order of this type's fields:
// Started or Resumed, then ActionStart and ActionEnd in turn, then Ended; after that only those of
// the last action of an update that was ended from here, [ActionCancel]. They run in goroutines of
// their own, at most 32 at a time. A hook that blocks delays the later hooks of its update, and
// with 31 others that block those of all updates; it delays no update and no request. A hook that
// panics is logged, and has returned as far as the order is concerned.
//
// Up to 256 calls of one update and 16,384 of all may wait. What comes then is left out, and
// logged: an ActionStart together with its ActionEnd. [Manager.Run] waits up to 5 seconds for the
// hooks that wait when its context ends.
//
// The context of a hook carries the values of the context of Run, of Started those of the context
// of Start, and of Ended those of the context of Cancel if Run does not run; it is never cancelled.
// An [Update] shares its slices and maps with the manager: a hook must not change them.
type Hooks struct {
	// Started is called when [Manager.Start] has created an update. Updates that were active before
	// Run began are Resumed instead, once in each Run.
	Started func(ctx context.Context, u Update)
	Resumed func(ctx context.Context, u Update)
	// ActionStart is called when an action with a device begins: it may still wait for its turn, or
	// for a sleeping device. The context that it returns is passed to ActionEnd; nil stands for the
	// one that it was given. kind is
	//
	//	[ActionRead]: reads of State, Result, version and others
	//	[ActionObserve]: Observe of State and Result
	//	[ActionReset]: the write that brings the device back to State Idle
	//	[ActionWriteURI]: the write of a Package URI
	//	[ActionPush]: the write of the whole package
	//	[ActionExecute]: the Execute that installs it
	//	[ActionCancel]: the Execute that cancels, and a last read, after Ended
	ActionStart func(ctx context.Context, u Update, kind ActionKind) context.Context
	// ActionEnd is called exactly once for each ActionStart, also when the latter panicked, and
	// when Run ends. Only a process that is killed leaves it out. u is the update as it was when
	// the action began. err is nil if the device answered with success; a *lwm2m.ResponseError if
	// it answered with an error; [ErrGivenUp] if the action was not waited for; lwm2m.ErrTimeout
	// and others if there was no answer.
	ActionEnd func(ctx context.Context, u Update, kind ActionKind, err error)
	// Ended is called when an update has its outcome, in the process that ended it.
	Ended func(ctx context.Context, u Update)
	// StoreFailed is called when the store refused a commit, which is then tried again. It has no
	// place in the order of the others.
	StoreFailed func(ctx context.Context, err error)
}

// ErrGivenUp is the error of an action that was ended before the device answered: the device
// registered again, the update was cancelled or timed out, or [Manager.Run] ended.
var ErrGivenUp = errors.New("firmware: action was given up")

const (
	maxHookWorkers = 32
	maxHookCalls   = 16_384 // that wait, of all updates
	maxHookLine    = 256    // that wait, of one update
	hookWait       = 5 * time.Second
)

// A hookRunner calls hooks, in order for each update.
type hookRunner struct {
	log     *slog.Logger
	workers work.Pool

	mu      sync.Mutex
	lines   map[string]*hookLine // by update; those with calls that wait or run
	calls   int                  // that wait or run
	left    int                  // calls that were left out since all had returned
	settled chan struct{}        // closed when no calls are left; nil if nothing waits for that
}

// A hookLine holds the calls of one update that wait, oldest first.
type hookLine struct{ calls []func() }

func newHookRunner(log *slog.Logger) *hookRunner {
	return &hookRunner{
		log: log, lines: make(map[string]*hookLine),
		workers: work.Pool{Limit: maxHookWorkers},
	}
}

// call calls a hook of an update after those that were called before. It does not block. It reports
// false if the call is left out because too many wait; one that must not be left out never is.
func (h *hookRunner) call(update, hook string, must bool, fn func()) bool {
	h.mu.Lock()
	line := h.lines[update]
	if !must && (h.calls >= maxHookCalls || line != nil && len(line.calls) >= maxHookLine) {
		h.left++
		first := h.left == 1
		h.mu.Unlock()
		if first {
			h.log.Warn("hooks do not return in time; calls are left out", "function", hook, "update", update)
		}
		return false
	}
	h.calls++
	begun := line != nil
	if !begun {
		line = &hookLine{}
		h.lines[update] = line
	}
	line.calls = append(line.calls, func() {
		defer func() {
			if p := recover(); p != nil {
				h.log.Error("hook panicked", "function", hook, "update", update, "panic", p)
			}
		}()
		fn()
	})
	h.mu.Unlock()
	if !begun {
		h.workers.Run(func() { h.run(update, line) })
	}
	return true
}

// run makes the calls of a line until none waits.
func (h *hookRunner) run(update string, line *hookLine) {
	for {
		h.mu.Lock()
		if len(line.calls) == 0 {
			delete(h.lines, update)
			h.mu.Unlock()
			return
		}
		fn := line.calls[0]
		line.calls[0] = nil
		line.calls = line.calls[1:]
		h.mu.Unlock()
		h.callOne(fn)
	}
}

// callOne makes one call, in a goroutine that it may end as runtime.Goexit does.
func (h *hookRunner) callOne(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls--; h.calls > 0 {
		return
	}
	if h.left > 0 {
		h.log.Warn("hooks return again", "left_out", h.left)
		h.left = 0
	}
	if h.settled != nil {
		close(h.settled)
		h.settled = nil
	}
}

// settle waits until all calls have returned, for a limited time.
func (h *hookRunner) settle() {
	h.mu.Lock()
	if h.calls == 0 {
		h.mu.Unlock()
		return
	}
	if h.settled == nil {
		h.settled = make(chan struct{})
	}
	settled := h.settled
	h.mu.Unlock()
	select {
	case <-settled:
	case <-time.After(hookWait):
		h.log.Warn("hooks have not returned; they are left behind")
	}
}

// hook calls a hook that gets an update; fn may be nil.
func (m *Manager) hook(ctx context.Context, name string, fn func(context.Context, Update), u Update) {
	if fn != nil {
		m.hooks.call(u.ID, name, false, func() { fn(context.WithoutCancel(ctx), u) })
	}
}

// actionHooks calls ActionStart, and returns a function that calls ActionEnd: it is called once.
func (m *Manager) actionHooks(ctx context.Context, u Update, kind fsm.ActionKind) (end func(error)) {
	start, ended := m.cfg.Hooks.ActionStart, m.cfg.Hooks.ActionEnd
	if start == nil && ended == nil {
		return func(error) {}
	}
	ctx = context.WithoutCancel(ctx)
	kept := ctx // what ActionStart returned; written and read in the order of the calls
	taken := m.hooks.call(u.ID, "ActionStart", false, func() {
		if start == nil {
			return
		}
		if own := start(ctx, u, kind); own != nil {
			kept = own
		}
	})
	return func(err error) {
		if taken && ended != nil {
			m.hooks.call(u.ID, "ActionEnd", true, func() { ended(kept, u, kind, err) })
		}
	}
}
