package firmware

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// facts holds what a run knows of the stored facts about a device's firmware.
type facts struct {
	free  chan struct{} // holds one value while they are not locked
	read  bool          // known has been read
	known store.Firmware
}

// lockFacts locks the facts against other writers, and returns them. The only error is that of ctx.
// Most updates only wait for their devices, so lockFacts creates the facts at first use.
func (r *run) lockFacts(ctx context.Context) (*facts, error) {
	r.mu.Lock()
	if r.facts == nil {
		r.facts = &facts{free: make(chan struct{}, 1)}
		r.facts.free <- struct{}{}
	}
	f := r.facts
	r.mu.Unlock()
	select {
	case <-f.free:
		return f, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (f *facts) unlock() { f.free <- struct{}{} }

// load reads the facts from the store, once. The caller holds their lock.
func (r *run) load(ctx context.Context, f *facts) error {
	if f.read {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	device, err := r.m.db.Device(ctx, r.target)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged) {
		return err
	}
	f.read, f.known = true, device.Firmware
	return nil
}

// holds reports whether the facts say that the device holds the package with this digest.
func (r *run) holds(ctx context.Context, digest string) bool {
	f, err := r.lockFacts(ctx)
	if err != nil {
		return false
	}
	defer f.unlock()
	return r.load(ctx, f) == nil && digest != "" && f.known.Holds == digest
}

// learned returns the changes that store what a step has found out about the device, and the facts
// after them. The caller holds the lock of the facts.
func (r *run) learned(ctx context.Context, f *facts, rec Update, o fsm.Observation, actions fsm.Actions) ([]store.Change, store.Firmware) {
	if r.load(ctx, f) != nil {
		return nil, store.Firmware{}
	}
	known := f.known
	next, ok := firmwareFacts(o.Reading, known)
	if !ok {
		return nil, known
	}
	var changes []store.Change
	next.Holds = stillHolds(known, next, o.Reading)
	if actions.Holds && rec.Machine.Plan.Digest != "" && !r.touched() {
		next.Holds = rec.Machine.Plan.Digest
	}
	if next.Holds != known.Holds {
		changes = append(changes, store.PutHolds{Endpoint: r.target, Holds: next.Holds})
	}
	if next.Read = o.At; sameFacts(next, known) {
		next.Read = known.Read
	} else {
		changes = append(changes, store.PutFirmware{Endpoint: r.target, Firmware: next})
	}
	return changes, next
}

// stillHolds returns what a reading leaves of the fact that the device holds a package: nothing if
// it shows a State other than Downloaded, or another version.
func stillHolds(known, next store.Firmware, r fsm.Reading) string {
	if r.State.Code != fsm.CodeNone && r.State != fsm.Known(fsm.Downloaded) || next.Version != known.Version {
		return ""
	}
	return known.Holds
}

// touched reports whether another request has changed the object since the last read began.
func (r *run) touched() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.touches != r.seen
}

var (
	// errNotSent means that this server did not send a request, for a reason of its own.
	errNotSent = errors.New("firmware: request was not sent")
	// errTouched stops an Execute because another request has changed what it relies on.
	errTouched = fmt.Errorf("%w: another request has changed the Firmware Update object", errNotSent)
)

// before is called before any request, by any caller, that changes something on a device. If the
// request touches a Firmware Update object, before durably clears the fact that the device holds a
// package.
func (m *Manager) before(r lwm2m.Request) func(context.Context) error {
	if !touchesFirmware(r) || !m.owns(r.Endpoint) {
		return nil
	}
	d := m.runOfEndpoint(r.Endpoint)
	// Another manager of the same store may, by mistake, act for the same update.
	e, ok := r.Owner.(*action)
	own := ok && d != nil && e.update == d.id
	switch {
	case d == nil:
	case !own:
		d.mu.Lock()
		d.touches++
		d.mu.Unlock()
		d.observe(fsm.Observation{Kind: fsm.ObserveObjectChanged, Detail: r.Operation.String() + " of " + r.Path.String()})
	case r.Operation == lwm2m.OpExecute && r.Path == pathUpdate && d.touched():
		return func(context.Context) error { return errTouched }
	}
	return func(ctx context.Context) error {
		if d == nil {
			return m.forget(ctx, r.Endpoint, nil)
		}
		f, err := d.lockFacts(ctx)
		if err != nil {
			return err
		}
		defer f.unlock()
		if err := d.load(ctx, f); err != nil {
			return fmt.Errorf("%w: %w", errNotSent, err)
		}
		return m.forget(ctx, r.Endpoint, &f.known)
	}
}

// forget stores that a device holds no package known to this server, if the store says that it
// holds one.
func (m *Manager) forget(ctx context.Context, endpoint string, known *store.Firmware) error {
	if known == nil {
		device, err := m.db.Device(ctx, endpoint)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errNotSent, err)
		}
		known = &device.Firmware
	}
	if known.Holds == "" {
		return nil
	}
	if _, err := m.db.Commit(ctx, store.PutHolds{Endpoint: endpoint}); err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	known.Holds = ""
	return nil
}

// The objects that update firmware: 5 for the whole, and 33629 for components.
const (
	objectFirmware = 5
	objectAdvanced = 33629
)

// touchesFirmware reports whether a request changes a Firmware Update object.
func touchesFirmware(r lwm2m.Request) bool {
	touches := func(p lwm2m.Path) bool {
		return p.Len() > 0 && (p.Object() == objectFirmware || p.Object() == objectAdvanced)
	}
	return touches(r.Path) || slices.ContainsFunc(r.Entries, func(e lwm2m.Entry) bool { return touches(e.Path) })
}
