package firmware

import (
	"context"
	"fmt"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Do makes a request to a device as lwm2m.Server.Do does, for an operator or for another part of
// the program, and keeps it away from an update: while the endpoint has an active update, Do
// refuses each request that changes its Firmware Update object, 5 or 33629. It checks this before
// it queues the request, and again before it sends it, since an update may start while the request
// waits for a sleeping device. Requests that read the object, or that concern other objects, go out
// between those of the update.
//
// Between two updates the object is free: the program may execute 5/0/2, for example. A later
// update reads the device first, and takes over only a package that is proven to be its own.
//
// Do sets [lwm2m.Request].Owner. The error is a *store.UpdateError that matches store.ErrActive,
// with the id of the update; store.ErrNotFound if the endpoint never registered, or belongs to
// another manager ([ManagerConfig.Owns]); that of the server; or that of the store.
func (m *Manager) Do(ctx context.Context, r lwm2m.Request) (lwm2m.Answer, error) {
	fail := func(err error) (lwm2m.Answer, error) { return lwm2m.Answer{Err: err}, err }
	if !m.owns(r.Endpoint) {
		return fail(store.ErrNotFound)
	}
	if _, known := m.srv.Registration(r.Endpoint); !known {
		return fail(store.ErrNotFound)
	}
	if changes(r.Operation) && touchesFirmware(r) {
		if err := m.checkFree(ctx, r.Endpoint); err != nil {
			return fail(err)
		}
	}
	r.Owner = byHand{}
	return m.srv.Do(ctx, r)
}

// Model returns the model of an object in the version that a device has: see lwm2m.Server.Model. It
// knows no models for an endpoint that belongs to another manager.
func (m *Manager) Model(endpoint string, object uint16) (*lwm2m.ObjectModel, bool) {
	if !m.owns(endpoint) {
		return nil, false
	}
	return m.srv.Model(endpoint, object)
}

// byHand is the owner of the requests of [Manager.Do].
type byHand struct{}

// changes reports whether an operation changes something on a device.
func changes(o lwm2m.Operation) bool {
	switch o {
	case lwm2m.OpRead, lwm2m.OpReadComposite, lwm2m.OpDiscover, lwm2m.OpObserve, lwm2m.OpObserveComposite:
		return false
	default:
		return true
	}
}

// checkFree returns a *store.UpdateError if the endpoint has an active update. It asks the store,
// since an update may have no run yet, and a run may outlive the end of its update by a moment.
func (m *Manager) checkFree(ctx context.Context, endpoint string) error {
	for u, err := range m.db.Updates(ctx, store.UpdateQuery{Endpoint: endpoint, Active: true, Limit: 1}) {
		if err != nil {
			return fmt.Errorf("firmware: looking for an active update: %w", err)
		}
		return &store.UpdateError{Err: store.ErrActive, ID: u.ID}
	}
	return nil
}

// beforeByHand is called before a request of Do that changes a Firmware Update object is sent. An
// update that starts after its check reads the device after this request, and sees that the device
// holds no package known to this server.
func (m *Manager) beforeByHand(ctx context.Context, endpoint string) error {
	if err := m.checkFree(ctx, endpoint); err != nil {
		return err
	}
	if err := m.forget(ctx, endpoint, nil); err != nil {
		return err
	}
	return m.checkFree(ctx, endpoint)
}
