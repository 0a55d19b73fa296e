package rollout

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

const (
	healthTime = 30 * time.Second // for Config.Health
	allowTime  = 10 * time.Second // for Config.Allow
)

// allow asks the program whether an order may be carried out.
func (m *Manager) allow(ctx context.Context, actor string, action Action, r Rollout) error {
	if m.config.Allow == nil {
		return nil
	}
	_, err := bounded(ctx, m, "Config.Allow", &m.allowCalls, allowTime, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.config.Allow(ctx, actor, action, r)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// calls counts the calls of a function of the program, with those that were given up and have not
// returned.
type calls struct{ n atomic.Int32 }

// maxCalls bounds the calls of a function of the program at a time.
const maxCalls = 128

// bounded calls a function of the program, which may panic, or not return. The error then says so.
func bounded[T any](ctx context.Context, m *Manager, name string, c *calls, limit time.Duration, f func(context.Context) (T, error)) (value T, err error) {
	if c.n.Add(1) > maxCalls {
		c.n.Add(-1)
		return value, fmt.Errorf("rollout: %s does not return: %d calls of it hang", name, maxCalls)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		a := answer{err: work.ErrPanicked}
		defer func() {
			c.n.Add(-1)
			done <- a
		}()
		a.value, a.err = work.Guard(m.log, name, func() (T, error) { return f(ctx) })
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return value, fmt.Errorf("rollout: %s has not returned in time: %w", name, ctx.Err())
	}
}

// askHealth asks the program whether the next stage may open.
func (r *runner) askHealth(ctx context.Context) {
	machine := &r.record.Machine
	if machine.StageState != fsm.StageHealth || r.asking || time.Now().Before(machine.Until) {
		return
	}
	r.asking = true
	record := r.record
	r.actions.Go(func() {
		in := fsm.Input{Kind: fsm.InputHealth, OK: true}
		if r.m.config.Health != nil {
			in.OK, in.Text = r.health(ctx, record)
		}
		r.ended(result{of: &r.asking, input: in})
	})
}

// health calls the program's function.
func (r *runner) health(ctx context.Context, record Rollout) (ok bool, reason string) {
	type answer struct {
		ok     bool
		reason string
	}
	a, err := bounded(ctx, r.m, "Config.Health", &r.m.healthCalls, healthTime, func(ctx context.Context) (answer, error) {
		ok, reason, err := r.m.config.Health(ctx, record, record.Machine.Stage+2)
		return answer{ok, reason}, err
	})
	if err != nil {
		a.reason = "the health of the fleet is not known: " + err.Error()
	}
	return a.ok && err == nil, clip(a.reason, store.MaxDetail)
}
