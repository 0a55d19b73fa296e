package firmware

import (
	"context"
	"errors"
	"iter"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// DeviceInfo is what the manager knows of one endpoint: its last registration, and what was last
// read of its firmware.
type DeviceInfo struct {
	store.Device
	// Online reports whether the registration is valid and the device can be reached, as
	// lwm2m.Server.Reachable says.
	Online bool
	// Presence says whether it can be asked now, as lwm2m.Server.Presence does.
	Presence lwm2m.Presence
}

// Device returns what the store knows of an endpoint, and whether it is online. It has a
// registration only if the server keeps its registrations in the same store: see [Registrations].
// The error is store.ErrNotFound or that of the store.
func (m *Manager) Device(ctx context.Context, endpoint string) (DeviceInfo, error) {
	if !m.owns(endpoint) {
		return DeviceInfo{}, store.ErrNotFound
	}
	d, err := m.db.Device(ctx, endpoint)
	if err != nil {
		return DeviceInfo{}, err
	}
	return m.known(d), nil
}

// Devices yields the endpoints that q selects, each as [Manager.Device] returns it. With a q.Limit
// the last pair may be store.ErrShort: see [store.Store].
func (m *Manager) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[DeviceInfo, error] {
	if filter := q.Filter; m.config.Owns != nil {
		q.Filter = func(d store.Device) bool { return m.owns(d.Endpoint) && (filter == nil || filter(d)) }
	}
	return func(yield func(DeviceInfo, error) bool) {
		for d, err := range m.db.Devices(ctx, q) {
			if errors.Is(err, store.ErrDamaged) && !m.owns(d.Endpoint) {
				continue
			}
			if !yield(m.known(d), err) {
				return
			}
		}
	}
}

// Fleet says how many devices there are, and what of.
type Fleet struct {
	// DeviceCounts are those that are known, by version and by model. If managers share a store,
	// these are the devices of all of them.
	store.DeviceCounts
	// Listening, Asleep and Silent are those that are registered now, as lwm2m.Server.Count says.
	Listening, Asleep, Silent int
}

// Fleet returns how many devices the store and the server know. It reads no device. The error is
// that of the store.
func (m *Manager) Fleet(ctx context.Context) (Fleet, error) {
	counts, err := m.db.DeviceCounts(ctx)
	if err != nil {
		return Fleet{}, err
	}
	f := Fleet{DeviceCounts: counts}
	var owns func(string) bool
	if m.config.Owns != nil {
		owns = m.owns
	}
	f.Listening, f.Asleep, f.Silent = m.srv.Count(owns)
	return f, nil
}

// known adds the server's own knowledge to a record, because the store lags behind.
func (m *Manager) known(d store.Device) DeviceInfo {
	k := DeviceInfo{Device: d}
	if r, ok := m.srv.Registration(d.Endpoint); ok {
		k.Registration.Address, k.Registration.LastSeen = r.Address.String(), r.LastSeen
		k.Online = m.srv.Reachable(d.Endpoint)
		k.Presence = m.srv.Presence(d.Endpoint)
	}
	return k
}

// Trace is Trace of the lwm2m.Server, for a device that belongs to this manager; else the error is
// store.ErrNotFound.
func (m *Manager) Trace(endpoint string, config lwm2m.TraceConfig) (*lwm2m.Trace, error) {
	if !m.owns(endpoint) {
		return nil, store.ErrNotFound
	}
	return m.srv.Trace(endpoint, config)
}

// Watch is Watch of the lwm2m.Server, with the events of the devices that belong to this manager.
func (m *Manager) Watch(fn func(lwm2m.RegistrationEvent)) (stop func()) {
	return m.srv.Watch(func(e lwm2m.RegistrationEvent) {
		if m.owns(e.Registration.Endpoint) {
			fn(e)
		}
	})
}

// watch turns registration events into observations of the updates that they concern.
func (m *Manager) watch(e lwm2m.RegistrationEvent) {
	d := m.runOfEndpoint(e.Registration.Endpoint)
	if d == nil {
		changed := e.Kind == lwm2m.EventRegistered || e.Kind == lwm2m.EventUpdated && e.LinksChanged
		if m.config.Inventory && changed && m.owns(e.Registration.Endpoint) {
			m.readSoon(e.Registration.Endpoint)
		}
		return
	}
	switch e.Kind {
	case lwm2m.EventRegistered:
		d.observe(observation(fsm.ObserveRegistered, e.Registration))
	case lwm2m.EventUpdated:
		d.observe(observation(fsm.ObserveUpdated, e.Registration))
	case lwm2m.EventDeregistered, lwm2m.EventExpired:
		d.observe(fsm.Observation{Kind: fsm.ObserveAway})
	case lwm2m.EventAwake:
		d.observe(fsm.Observation{Kind: fsm.ObserveAwake})
	case lwm2m.EventAsleep:
		d.observe(fsm.Observation{Kind: fsm.ObserveAsleep})
	case lwm2m.EventSent:
		for _, entry := range e.Entries {
			if entry.Path.Object() == pathFirmware.Object() || entry.Path == pathVersion {
				d.observe(hint(e.Entries))
				return
			}
		}
	}
}

// observation returns an observation that says how a device is registered.
func observation(kind fsm.ObservationKind, r lwm2m.Registration) fsm.Observation {
	lifetime := r.Lifetime
	if lifetime == 0 { // infinite: it may sleep for any time
		lifetime = fsm.MaxLimit
	}
	return fsm.Observation{Kind: kind, Queue: r.Queue, Lifetime: lifetime}
}
