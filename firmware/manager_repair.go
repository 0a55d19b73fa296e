package firmware

import (
	"context"
	"errors"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// RemoveDamaged removes an update whose record cannot be read, with its journal, so that its endpoint is free for another
// one. What the device does with the update is not known then, and nothing more is done about it. The error is
// store.ErrNotDamaged for an update that can be read, which [Manager.Cancel] ends; store.ErrNotFound or the store's.
func (m *Manager) RemoveDamaged(ctx context.Context, id string) error {
	switch _, err := m.db.Update(ctx, id); {
	case err == nil:
		return store.ErrNotDamaged
	case errors.Is(err, store.ErrDamaged):
		// What still drives it, from memory, cannot store its next step and ends.
		if _, err := m.order(ctx, id, fsm.Observation{Kind: fsm.ObserveCancel}); err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
	case !errors.Is(err, store.ErrNotFound): // even then something may refer to it
		return err
	}
	if _, err := m.db.Commit(ctx, store.RemoveDamaged{Kind: store.KindUpdate, Key: id}); err != nil {
		return err
	}
	if d := m.runOf(id); d != nil { // it is about to end
		m.release(d)
	}
	m.revoke(id)
	m.waiters.wake(id)
	m.log.Warn("a damaged update was removed", "update", id)
	return nil
}
