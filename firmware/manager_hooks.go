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
// The manager calls the hooks of one update one after the other, in the order of this type's
// fields: Started or Resumed, then ActionStart and ActionEnd in turn, with PhaseEnded between them,
// then Ended. After Ended come only those of the last action of an update that the server has
// ended, [ActionCancel]. Hooks run
// in goroutines of their own, at most 32 at a time. A hook that blocks delays the later hooks of
// its update; 32 hooks that block delay those of all updates. No hook delays an update or a
// request. A panic of a hook is logged, and counts as its return.
//
// Up to 256 calls of one update and 16,384 of all may wait. Further calls are left out, and logged:
// an ActionStart together with its ActionEnd. When its context ends, [Manager.Run] waits up to 5
// seconds for the hooks that are left.
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
	// ActionEnd is called exactly once for each ActionStart, even if ActionStart panicked, and also
	// when Run ends; only if the process is killed, the call is missing. u is the update as it was
	// when the action began. err is nil if the device answered with success; a *lwm2m.ResponseError
	// if it answered with an error; [ErrGivenUp] if the manager gave the action up;
	// lwm2m.ErrTimeout and others if there was no answer.
	ActionEnd func(ctx context.Context, u Update, kind ActionKind, err error)
	// PhaseEnded is called when an update leaves a phase, or begins another attempt in the same
	// one, with u as it is then. took is the time that the update was in the phase, also over a
	// restart of the server, with the time in which the device was away and in which the update was
	// held. A pause before a retry is no part of it. bytes of the package went to the device in the
	// phase; it is 0 except in PhaseTransferring. A phase that takes no time, such as
	// PhaseTransferred without a hold, is left out.
	PhaseEnded func(ctx context.Context, u Update, phase Phase, took time.Duration, bytes int64)
	// Ended is called when an update has its outcome, in the process that ended it.
	Ended func(ctx context.Context, u Update)
	// StoreFailed is called when the store refused a commit, which the manager then tries again. It
	// is not ordered with the other hooks.
	StoreFailed func(ctx context.Context, err error)
}

// ErrGivenUp is the error of an action that the manager ended before the device answered, because
// the device registered again, the update was cancelled or timed out, or [Manager.Run] ended.
var ErrGivenUp = errors.New("firmware: action was given up")

const (
	maxHookWorkers = 32
	maxHookCalls   = 16_384 // of all updates
	maxHookLine    = 256    // of one update
	hookWait       = 5 * time.Second
)

// A hookRunner calls hooks, in order for each update.
type hookRunner struct {
	log     *slog.Logger
	workers work.Pool

	mu      sync.Mutex
	lines   map[string]*hookLine // lines with calls that wait or run, by update
	calls   int                  // that wait or run
	left    int                  // calls left out since no call was waiting
	settled chan struct{}        // closed when no calls are left; nil if nothing waits for that
}

// A hookLine holds the waiting calls of one update, oldest first.
type hookLine struct{ calls []hookCall }

type hookCall struct {
	hook string // its name
	fn   func()
}

func newHookRunner(log *slog.Logger) *hookRunner {
	return &hookRunner{
		log: log, lines: make(map[string]*hookLine),
		workers: work.Pool{Limit: maxHookWorkers},
	}
}

// call calls a hook of an update after the earlier ones. It does not block. It reports false if it
// leaves the call out because too many wait; it never leaves out a call with must.
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
	line.calls = append(line.calls, hookCall{hook, fn})
	h.mu.Unlock()
	if !begun {
		h.workers.Run(func() { h.run(update, line) })
	}
	return true
}

// run makes the calls of a line until none is left. If a hook ends the goroutine (runtime.Goexit),
// another one goes on.
func (h *hookRunner) run(update string, line *hookLine) {
	done := false
	defer func() {
		if !done {
			h.workers.Run(func() { h.run(update, line) })
		}
	}()
	for {
		h.mu.Lock()
		if len(line.calls) == 0 {
			delete(h.lines, update)
			h.mu.Unlock()
			done = true
			return
		}
		c := line.calls[0]
		line.calls[0] = hookCall{}
		line.calls = line.calls[1:]
		h.mu.Unlock()
		h.callOne(update, c)
	}
}

// callOne makes one call.
func (h *hookRunner) callOne(update string, c hookCall) {
	defer h.returned()
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("hook panicked", "function", c.hook, "update", update, "panic", p)
		}
	}()
	c.fn()
}

// returned records that a call has returned.
func (h *hookRunner) returned() {
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
func (m *Manager) hook(ctx context.Context, name string, fn func(context.Context, Update), u *Update) {
	if fn != nil {
		u := *u
		m.hooks.call(u.ID, name, false, func() { fn(context.WithoutCancel(ctx), u) })
	}
}

// phaseEnded calls PhaseEnded if a step has ended a phase: before is the machine before the step,
// and u the update after it.
func (m *Manager) phaseEnded(ctx context.Context, before *phaseBefore, u *Update) {
	after, f := &u.Machine, m.config.Hooks.PhaseEnded
	if f == nil || after.Phase == before.phase && after.Attempt == before.attempt {
		return
	}
	took, bytes := max(0, after.Now().Sub(before.since)), int64(0)
	switch {
	case before.phase != PhaseTransferring:
	case after.Attempt == before.attempt:
		bytes = after.Bytes
	default:
		bytes = before.bytes
	}
	said, phase := *u, before.phase
	m.hooks.call(u.ID, "PhaseEnded", false, func() { f(context.WithoutCancel(ctx), said, phase, took, bytes) })
}

// phaseBefore is what PhaseEnded has to know of an update before a step.
type phaseBefore struct {
	phase   Phase
	attempt int
	bytes   int64
	since   time.Time
}

func beforeStep(u *fsm.Update) phaseBefore {
	return phaseBefore{u.Phase, u.Attempt, u.Bytes, u.PhaseSince()}
}

// actionHooks are the hooks of one action. They are used again after the call of ActionEnd.
type actionHooks struct {
	m     *Manager
	ctx   context.Context // that of ActionEnd; written and read in the order of the calls
	u     Update
	kind  fsm.ActionKind
	taken bool // ActionEnd is due
}

var spareHooks = sync.Pool{New: func() any { return new(actionHooks) }}

// actionHooks calls ActionStart. The caller calls end once.
func (m *Manager) actionHooks(ctx context.Context, u *Update, kind fsm.ActionKind) *actionHooks {
	start := m.config.Hooks.ActionStart
	if start == nil && m.config.Hooks.ActionEnd == nil {
		return nil
	}
	h := spareHooks.Get().(*actionHooks)
	h.m, h.ctx, h.u, h.kind, h.taken = m, context.WithoutCancel(ctx), *u, kind, true
	if start != nil {
		h.taken = m.hooks.call(h.u.ID, "ActionStart", false, func() {
			if own := start(h.ctx, h.u, kind); own != nil {
				h.ctx = own
			}
		})
	}
	return h
}

// end calls ActionEnd. If ActionStart was called, so is ActionEnd, however many calls wait.
func (h *actionHooks) end(err error) {
	if h == nil || !h.taken || h.m.config.Hooks.ActionEnd == nil {
		return
	}
	must := h.m.config.Hooks.ActionStart != nil
	h.m.hooks.call(h.u.ID, "ActionEnd", must, func() {
		h.m.config.Hooks.ActionEnd(h.ctx, h.u, h.kind, err)
		*h = actionHooks{}
		spareHooks.Put(h)
	})
}
