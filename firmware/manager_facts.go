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

// facts are what a run knows of a device's firmware. They are stored with the end of the update, or
// by the saver.
type facts struct {
	free   chan struct{} // holds one value while they are not locked
	read   bool          // stored and known have been read
	device bool          // the store has the facts of the device, too
	stored store.Firmware
	known  store.Firmware // with what is not stored yet
	news   bool           // known differs from stored; guarded by run.mu too
}

// changes returns the changes that store what is new. The caller holds the lock.
func (f *facts) changes(endpoint string) (changes []store.Change) {
	if !f.read {
		return nil
	}
	if f.known.Holds != f.stored.Holds {
		changes = append(changes, store.PutHolds{Endpoint: endpoint, Holds: f.known.Holds})
	}
	if !sameFacts(f.known, f.stored) {
		changes = append(changes, store.PutFirmware{Endpoint: endpoint, Firmware: f.known})
	}
	return changes
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
	f.read, f.stored, f.known = true, device.Firmware, device.Firmware
	f.device = !device.Facts.Read.IsZero()
	return nil
}

// composite returns how the next read of the device uses Read-Composite. An update finds out only
// if it is not the first one of the device, which has enough unknowns.
func (r *run) composite(ctx context.Context, u *Update) composite {
	reg, ok := r.m.srv.Registration(r.target)
	if !ok || !mayAnswerComposite(reg) {
		return compositeNo
	}
	f, err := r.lockFacts(ctx)
	if err != nil {
		return compositeNo
	}
	defer f.unlock()
	switch known := &f.known; {
	case r.load(ctx, f) != nil:
		return compositeNo
	case known.Composite == nil && (known.Read.IsZero() || known.Read.After(u.Created)):
		return compositeNo
	default:
		return compositeOf(known)
	}
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

// learn records what a step has found out about the device, and reports whether the device holds
// the package from now on. The only error is that of ctx.
//
// If the step begins a request that changes the object, a new claim is not recorded: before would
// take it back at once.
func (r *run) learn(ctx context.Context, rec *Update, o *fsm.Observation, actions *fsm.Actions) (holds bool, err error) {
	f, err := r.lockFacts(ctx)
	if err != nil {
		return false, err
	}
	defer f.unlock()
	if r.load(ctx, f) != nil {
		return false, nil
	}
	next, ok := firmwareFacts(o.Reading, f.known)
	if !ok {
		return false, nil
	}
	r.mu.Lock()
	if r.trial.done {
		next.Composite = r.trial.answers
	}
	r.mu.Unlock()
	next.Holds = stillHolds(f.known, next, o.Reading)
	digest := rec.Machine.Plan.Digest
	if actions.Holds && digest != "" && !r.touched() && !changesDevice(actions.Do) {
		holds = next.Holds != digest
		next.Holds = digest
	}
	if next.Read = o.At; sameFacts(next, f.known) {
		next.Read = f.known.Read
	}
	f.known = next
	r.noteNews(f)
	return holds, nil
}

// changesDevice reports whether an action changes the Firmware Update object.
func changesDevice(a fsm.Action) bool {
	switch a.Kind {
	case fsm.ActionNone, fsm.ActionRead, fsm.ActionObserve:
		return false
	default:
		return true
	}
}

// noteNews updates facts.news. The caller holds the lock of the facts.
func (r *run) noteNews(f *facts) {
	news := f.read && (f.known.Holds != f.stored.Holds || !sameFacts(f.known, f.stored))
	r.mu.Lock()
	defer r.mu.Unlock()
	f.news = news
}

// commitFacts is store, plus what is new of the facts if with is set.
func (r *run) commitFacts(ctx context.Context, changes []store.Change, with bool) (tries int, err error) {
	if !with || r.facts == nil {
		return r.store(ctx, changes)
	}
	// The facts stay locked until the commit has ended, so that it cannot follow and undo a request
	// of another caller that clears them.
	f, err := r.lockFacts(ctx)
	if err != nil {
		return 0, err
	}
	defer f.unlock()
	tries, err = r.store(ctx, append(changes, f.changes(r.target)...))
	r.factsStored(f, err == nil)
	return tries, err
}

// factsStored records that a commit of the facts has succeeded or failed. The caller holds the lock
// of the facts.
func (r *run) factsStored(f *facts, ok bool) {
	if ok {
		f.stored = f.known
	} else {
		f.read = false // a try may be stored nevertheless, or another process knows more
	}
	r.noteNews(f)
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
	endpoint := r.Endpoint
	if _, ok := r.Owner.(byHand); ok {
		return func(ctx context.Context) error { return m.beforeByHand(ctx, endpoint) }
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
	case d.holdsNothing():
		return nil
	}
	return func(ctx context.Context) error {
		if d == nil {
			return m.forget(ctx, endpoint, nil)
		}
		f, err := d.lockFacts(ctx)
		if err != nil {
			return err
		}
		defer f.unlock()
		if err := d.load(ctx, f); err != nil {
			return fmt.Errorf("%w: %w", errNotSent, err)
		}
		defer d.noteNews(f)
		f.known.Holds = ""
		return m.forget(ctx, endpoint, &f.stored)
	}
}

// lacksFacts reports whether an inventory has to read the device once its update has ended: it
// registered, or was heard of, during the update, when no inventory reads it.
func (r *run) lacksFacts() bool {
	r.mu.Lock()
	f := r.facts
	r.mu.Unlock()
	if f == nil || !r.m.config.Inventory {
		return false
	}
	select {
	case <-f.free:
	default:
		return false
	}
	defer f.unlock()
	return f.read && !f.device
}

// holdsNothing reports whether the facts are known, and say that the device holds no package.
func (r *run) holdsNothing() bool {
	r.mu.Lock()
	f := r.facts
	r.mu.Unlock()
	if f == nil {
		return false
	}
	select {
	case <-f.free:
	default:
		return false
	}
	defer f.unlock()
	return f.read && f.known.Holds == "" && f.stored.Holds == ""
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
