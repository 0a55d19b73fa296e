package firmware

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// ErrEnded is returned by [Manager.Cancel], [Manager.Hold], [Manager.Release] and [Manager.Served]
// if the update already has its outcome.
var ErrEnded = errors.New("firmware: update has ended")

// Cancel ends an update at once and durably, and cancels it on the device where that is possible.
// It returns the update as it ended; [Update.MayStill] says what can still happen on the device. If
// the update already had its outcome, the error is ErrEnded; otherwise it is store.ErrNotFound or
// that of the store.
func (m *Manager) Cancel(ctx context.Context, id string) (Update, error) {
	u, err := m.order(ctx, id, fsm.Observation{Kind: fsm.ObserveCancel})
	if err == nil && u.Machine.Outcome != fsm.OutcomeCancelled {
		return u, ErrEnded
	}
	return u, err
}

// Hold keeps an update from executing until h.Holder releases it, or until h.Until; the zero time
// means no limit. It replaces an earlier hold of the same holder. The update may transfer its
// package, and then waits in phase transferred. Time on hold does not count against any limit or
// deadline. After Hold has returned nil, no Execute is sent, except one that was already sent; the
// journal then says so.
//
// h.Since is ignored. The error is a *RequestError, ErrEnded, store.ErrNotFound or that of the
// store.
func (m *Manager) Hold(ctx context.Context, id string, h Hold) (Update, error) {
	h.Since = time.Time{} // the machine sets it
	if err := m.checkHold(h); err != nil {
		return Update{}, err
	}
	u, err := m.order(ctx, id, fsm.Observation{Kind: fsm.ObserveHold, Hold: h})
	if err != nil {
		return u, err
	}
	for _, held := range u.Machine.Holds {
		if held.Holder == h.Holder && held.Until.Equal(h.Until) {
			return u, nil
		}
	}
	switch {
	case !u.Active():
		return u, ErrEnded
	case len(u.Machine.Holds) >= fsm.MaxHolds:
		return u, &RequestError{Field: "hold", Problem: "is one too many"}
	}
	return u, &RequestError{Field: "until", Problem: "has passed"} // meanwhile
}

// Release ends the hold of holder, and no other. It is no error if holder has no hold. The update
// executes once no hold is left. The error is ErrEnded, store.ErrNotFound or that of the store.
func (m *Manager) Release(ctx context.Context, id, holder string) (Update, error) {
	return m.order(ctx, id, fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: holder}})
}

// Served reports that the device of an update has fetched the whole package from a server of the
// program, after the update wrote its Package URI. If a client cannot be reset and held another
// package before, that is the only proof that it holds the right one; other updates need no call.
// Served returns nil when the report is durable, also for an update whose package is pushed. The
// manager then reads the device, and Get and Events show what follows. The error is ErrEnded,
// store.ErrNotFound or that of the store.
func (m *Manager) Served(ctx context.Context, id string) error {
	_, err := m.order(ctx, id, fsm.Observation{Kind: fsm.ObservePackageFetched})
	return err
}

// holdProblem says what is wrong with a hold, for a RequestError.
func holdProblem(err error) string {
	return "is not valid: " + strings.TrimPrefix(err.Error(), "fsm: ")
}

func (m *Manager) checkHold(h fsm.Hold) error {
	if err := h.Check(); err != nil {
		return &RequestError{Field: "hold", Problem: holdProblem(err)}
	}
	if !h.Until.IsZero() && !h.Until.After(m.clock.now()) {
		return &RequestError{Field: "until", Problem: "has passed"}
	}
	return nil
}

// order durably applies an operator's request to an update, and returns the updated record. If the
// update runs, its run makes the step; otherwise order does. The error is ErrEnded if the update
// had ended before.
func (m *Manager) order(ctx context.Context, id string, o fsm.Observation) (Update, error) {
	for ctx.Err() == nil {
		if d := m.runOf(id); d != nil {
			answer := make(chan reply, 1)
			if d.deliver(item{Observation: o, reply: answer}) {
				select {
				case r, ok := <-answer:
					switch {
					case ok && r.err != nil:
						return d.current(), r.err
					case ok:
						return ended(r.update, o)
					}
				case <-ctx.Done():
					return d.current(), ctx.Err()
				}
			}
		}
		u, err := m.db.Update(ctx, id)
		if err != nil {
			return Update{}, err
		}
		if !u.Active() {
			return u, ErrEnded
		}
		if m.runOf(id) != nil {
			continue // a Run has begun meanwhile
		}
		u, err = m.stepHere(ctx, u, o)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		return u, err
	}
	return Update{}, ctx.Err()
}

// ended returns ErrEnded if an order came too late. A Cancel has itself ended the update.
func ended(u Update, o fsm.Observation) (Update, error) {
	if u.Active() || o.Kind == fsm.ObserveCancel {
		return u, nil
	}
	return u, ErrEnded
}

// stepHere makes a step of an update that does not run. The error is store.ErrConflict if another
// process made one meanwhile.
func (m *Manager) stepHere(ctx context.Context, u Update, o fsm.Observation) (Update, error) {
	m.clock.catchUp(ctx, m.db)
	m.clock.raise(u.Machine.Now())
	o.At = m.clock.now()
	actions := u.Machine.Apply(o)
	u.Changed = u.Machine.Now()
	changes := []store.Change{store.ReplaceUpdate{Update: u}}
	if lines := appendJournal(nil, &u, actions.Journal); len(lines) > 0 {
		changes = append(changes, store.AppendEvents{Events: lines})
	}
	if _, err := m.commit(ctx, changes...); err != nil {
		return Update{}, err
	}
	u.Revision++
	starting := m.steppedHere(u.ID)
	if u.Active() {
		if d := m.runOf(u.ID); d != nil {
			d.observe(o) // a Run has begun meanwhile, with the old record
		}
		return u, nil
	}
	m.revoke(u.ID)
	if d := m.runOf(u.ID); d != nil {
		d.observe(o)
	} else if !starting {
		m.hasEnded(ctx, &u)
	}
	return u, nil
}
