package firmware

import (
	"context"
	"errors"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// DeleteUpdate removes an update that has ended, with its journal. [Manager.Events] does not yield its
// lines any more, and its Request.Key may be used again.
//
// The error is a *store.UpdateError that matches store.ErrActive if the update is active: [Manager.Cancel] ends it; a
// *store.DamagedError if its record cannot be read: [Manager.RemoveDamaged] removes it;
// store.ErrNotFound; or the store's.
func (m *Manager) DeleteUpdate(ctx context.Context, id string) error {
	if _, err := m.db.Commit(ctx, store.DeleteUpdate{ID: id}); err != nil {
		return err
	}
	m.tail.forget(id)
	m.waiters.wake(id)
	m.log.Info("update deleted", "update", id)
	return nil
}

// DeleteDevice forgets all that is known of an endpoint: its registration, what was read of its firmware, and that it has used
// credentials, without which it is otherwise never accepted again. Its updates stay. A device that is still there registers
// anew.
//
// The error is a *store.UpdateError with store.ErrActive, and with the id of the update in the way, if the endpoint has an active update;
// store.ErrNotFound if nothing is known of it; or the store's.
func (m *Manager) DeleteDevice(ctx context.Context, endpoint string) error {
	if !m.owns(endpoint) {
		return store.ErrNotFound
	}
	// The store refuses it as well, when it deletes; here nothing has happened yet.
	for u, err := range m.db.Updates(ctx, store.UpdateQuery{Endpoint: endpoint, Active: true, Limit: 1}) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
		return &store.UpdateError{Err: store.ErrActive, ID: u.ID}
	}
	m.stopCancel(endpoint)
	known := true
	if err := m.srv.DeleteDevice(ctx, endpoint); errors.Is(err, lwm2m.ErrNotFound) {
		known = false
	} else if err != nil {
		return err
	}
	// Now the record is gone, unless the server does not know the device, or keeps its registrations elsewhere. One that has
	// registered meanwhile stays.
	if _, again := m.srv.Registration(endpoint); !again {
		_, err := m.db.Commit(ctx, store.DeleteDevice{Endpoint: endpoint})
		if err != nil && (!known || !errors.Is(err, store.ErrNotFound)) {
			return err
		}
	}
	m.log.Info("device deleted", "endpoint", endpoint)
	return nil
}
