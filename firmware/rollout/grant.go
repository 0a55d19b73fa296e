package rollout

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// A window is where a Window stands by the clock of a zone.
type window struct {
	open   bool
	change time.Time // when that changes
}

// runs reports whether updates may execute, and when that changes: they may not any more a moment
// before the window ends.
func (w window) runs(now time.Time) (ok bool, change time.Time) {
	if !w.open || w.change.IsZero() {
		return w.open, w.change
	}
	if last := w.change.Add(-fsm.HoldTime); now.Before(last) {
		return true, last
	}
	return false, w.change
}

// windowOf returns where the rollout's window stands by the clock of a zone.
func (r *runner) windowOf(zone *time.Location) window {
	w := &r.record.Machine.Plan.Window
	if w.Zone == "" {
		return window{open: true}
	}
	if zone == nil {
		zone = time.UTC
	}
	now := time.Now()
	if known := r.windows[zone]; known != nil && now.Before(known.change) {
		return *known
	}
	open, change := w.At(now, zone)
	if len(r.windows) >= 1000 {
		clear(r.windows)
	}
	r.windows[zone] = &window{open, change}
	return window{open, change}
}

// edgeAt has the runner awake at a time.
func (r *runner) edgeAt(at time.Time) { r.edge = sooner(r.edge, at) }

// takeBack has the updates held that may not execute any more.
func (r *runner) takeBack(ctx context.Context) error {
	moves := r.record.Machine.State != fsm.StatePaused
	if len(r.granted) == 0 || moves && r.record.Machine.Plan.Window.Zone == "" {
		return nil
	}
	var over []string
	now := time.Now()
	for endpoint, zone := range r.granted {
		if _, busy := r.busy[endpoint]; busy {
			r.again[endpoint] = struct{}{}
			continue
		}
		if runs, change := r.windowOf(zone).runs(now); moves && runs {
			r.edgeAt(change)
			continue
		}
		over = append(over, endpoint)
	}
	b := r.begin()
	for _, endpoint := range over {
		if err := b.member(ctx, endpoint, fsm.Input{Kind: fsm.InputTick}); err != nil {
			return err
		}
	}
	return b.commit(ctx)
}

// grant lets the updates execute that are ready, as far as there are places.
func (r *runner) grant(ctx context.Context) error {
	b := r.begin()
	if err := r.grantSome(ctx, b, r.parked, 1); err != nil {
		return err
	}
	if err := r.grantSome(ctx, b, r.ready, batchSize); err != nil {
		return err
	}
	return b.commit(ctx)
}

// grantSome offers places to members, until so many were refused.
func (r *runner) grantSome(ctx context.Context, b *batch, members map[string]*time.Location, refusals int) error {
	for endpoint, zone := range members {
		machine := &b.record.Machine
		if machine.Slots.Granted+machine.Slots.Installing >= machine.Plan.Concurrency {
			return nil
		}
		if runs, change := r.windowOf(zone).runs(time.Now()); !runs {
			r.edgeAt(change)
			continue
		}
		m, err := b.find(ctx, endpoint)
		if err != nil {
			return err
		}
		if m == nil {
			delete(members, endpoint)
			continue
		}
		if out := b.stepMember(m, fsm.Input{Kind: fsm.InputGrant}); !out.Persist {
			if refusals--; refusals <= 0 {
				return nil
			}
		}
	}
	return nil
}
