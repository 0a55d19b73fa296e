package firmware

import (
	"context"
	"errors"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// DeleteUpdate removes an update that has ended, with its journal. [Manager.Events] no longer
// yields its lines. For 24 h its Request.Key stays taken, so that a request which is repeated late
// does not start a second update.
//
// The error is a *store.UpdateError that matches store.ErrActive if the update is active
// ([Manager.Cancel] ends it); a *store.DamagedError if its record cannot be read
// ([Manager.RemoveDamaged] removes it); store.ErrNotFound; [ErrKept] if [ManagerConfig.Keep] wants
// to keep it, or the error of Keep; or that of the store.
func (m *Manager) DeleteUpdate(ctx context.Context, id string) error {
	if err := m.mayDelete(ctx, store.KindUpdate, id); err != nil {
		return err
	}
	if _, err := m.db.Commit(ctx, store.DeleteUpdate{ID: id, At: m.clock.now()}); err != nil {
		return err
	}
	m.deleted(id)
	m.log.Info("update deleted", "update", id)
	return nil
}

// DeleteDevice removes everything known of an endpoint: its registration, what was read of its
// firmware, and that it has used credentials. Until then, the server refuses a device without
// credentials that has used them before. The updates of the endpoint stay. A device that is still
// there registers again.
//
// The error is a *store.UpdateError that matches store.ErrActive, with the id of the update, if the
// endpoint has an active update; store.ErrNotFound if nothing is known of it; [ErrKept] if
// [ManagerConfig.Keep] wants to keep it, or the error of Keep; or that of the store.
func (m *Manager) DeleteDevice(ctx context.Context, endpoint string) error {
	if !m.owns(endpoint) {
		return store.ErrNotFound
	}
	// The store refuses it too, but only after the server has deleted the registration.
	for u, err := range m.db.Updates(ctx, store.UpdateQuery{Endpoint: endpoint, Active: true, Limit: 1}) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
		return &store.UpdateError{Err: store.ErrActive, ID: u.ID}
	}
	if err := m.mayDelete(ctx, store.KindDevice, endpoint); err != nil {
		return err
	}
	m.stopCancel(endpoint)
	known := true
	if err := m.srv.DeleteDevice(ctx, endpoint); errors.Is(err, lwm2m.ErrNotFound) {
		known = false
	} else if err != nil {
		return err
	}
	// The record is gone now, unless the server does not know the device or keeps its registrations
	// elsewhere. One that has registered meanwhile stays.
	if _, again := m.srv.Registration(endpoint); !again {
		_, err := m.db.Commit(ctx, store.DeleteDevice{Endpoint: endpoint})
		if err != nil && (!known || !errors.Is(err, store.ErrNotFound)) {
			return err
		}
	}
	if !known { // else the server has logged it
		m.log.Info("device deleted", "endpoint", endpoint)
	}
	return nil
}

// RemoveDamaged removes an update whose record cannot be read, with its journal, so that its
// endpoint is free for another one. What the device does with the update stays unknown. The error
// is store.ErrNotDamaged for an update that can be read, which [Manager.Cancel] and
// [Manager.DeleteUpdate] end and remove; store.ErrNotFound; [ErrKept] if [ManagerConfig.Keep] wants
// to keep it, or the error of Keep; or that of the store.
func (m *Manager) RemoveDamaged(ctx context.Context, id string) error {
	_, err := m.db.Update(ctx, id)
	switch {
	case err == nil:
		return store.ErrNotDamaged
	case !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrNotFound): // an index may still refer to it
		return err
	}
	if err := m.mayDelete(ctx, store.KindUpdate, id); err != nil {
		return err
	}
	if errors.Is(err, store.ErrDamaged) {
		// A run that still has the record in memory cannot store its next step, and ends.
		if _, err := m.order(ctx, id, fsm.Observation{Kind: fsm.ObserveCancel}); err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
	}
	if _, err := m.db.Commit(ctx, store.RemoveDamaged{Kind: store.KindUpdate, Key: id}); err != nil {
		return err
	}
	if d := m.runOf(id); d != nil { // it is about to end
		m.release(d)
	}
	m.revoke(id)
	m.deleted(id)
	m.log.Warn("damaged update removed", "update", id)
	return nil
}
