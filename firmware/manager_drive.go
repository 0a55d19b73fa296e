package firmware

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// A drive takes one active update to its outcome: it feeds the state machine with what was observed, one observation after
// the other, makes each step durable, and only then acts. Between observations it is a few hundred bytes and a timer.
type drive struct {
	m      *Manager
	id     string
	target string // endpoint

	mu           sync.Mutex
	inbox        []fsm.Observation
	busy         bool // a goroutine is in work
	stopped      bool
	u            Update // with soft changes that the store does not have
	timer        *time.Timer
	served       time.Time          // of the last progress that was let through
	abandon      context.CancelFunc // ends the action under way; nil if there is none
	observations []*lwm2m.Observation

	known store.Firmware // as last put; belongs to the goroutine that works

	done chan struct{} // closed when the update has ended
}

func newDrive(m *Manager, u Update) *drive {
	return &drive{m: m, id: u.ID, target: u.Endpoint, u: u, done: make(chan struct{})}
}

// maxInbox bounds the observations that wait. Hints and progress are merged before it matters.
const maxInbox = 256

// observe hands an observation to the machine. It does not block.
func (d *drive) observe(o fsm.Observation) {
	if o.At.IsZero() {
		o.At = time.Now()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	switch o.Kind {
	case fsm.ObserveHint, fsm.ObserveTimer, fsm.ObserveProgress:
		// One of these says as much as two; the later one more.
		same := func(queued fsm.Observation) bool { return queued.Kind == o.Kind }
		if i := slices.IndexFunc(d.inbox, same); i >= 0 {
			d.inbox[i] = o
			return
		}
	}
	if len(d.inbox) >= maxInbox {
		d.inbox = slices.Delete(d.inbox, 0, 1)
	}
	d.inbox = append(d.inbox, o)
	if !d.busy {
		d.busy = d.m.spawn(d.work)
	}
}

// work steps until the inbox is empty.
func (d *drive) work(ctx context.Context) {
	for {
		d.mu.Lock()
		if len(d.inbox) == 0 || d.stopped || ctx.Err() != nil {
			d.busy = false
			if len(d.inbox) == 0 {
				d.inbox = nil
			}
			d.mu.Unlock()
			return
		}
		o := d.inbox[0]
		d.inbox = slices.Delete(d.inbox, 0, 1)
		u := d.u
		d.mu.Unlock()
		d.step(ctx, u, o)
	}
}

// step lets the machine take one observation, makes durable what must be, and acts.
func (d *drive) step(ctx context.Context, u Update, o fsm.Observation) {
	next, actions := u.Machine.Step(o)
	rec := u
	rec.Machine = next
	rec.Changed = o.At.UTC()

	var uri packageURI
	if actions.Do.Kind == fsm.ActionWriteURI {
		uri = d.m.newURI(ctx, &rec, actions.Do)
	}
	changes := d.changes(ctx, rec, o, actions)
	if len(changes) > 0 {
		stored, ok := d.commit(ctx, rec, changes)
		if !ok {
			return
		}
		rec = stored
	}

	d.mu.Lock()
	d.u = rec
	if actions.Abandon && d.abandon != nil {
		d.abandon()
		d.abandon = nil
	}
	d.schedule(next.Wake())
	d.mu.Unlock()

	switch {
	case actions.Ended:
		d.ended(rec, actions.Do)
	case actions.Do.Kind != fsm.ActionNone:
		d.begin(actions.Do, uri)
	}
	if o.Kind == fsm.ObserveProgress {
		d.m.feed.soft(progressEvent(rec))
	}
}

// changes are the records that a step makes durable.
func (d *drive) changes(ctx context.Context, rec Update, o fsm.Observation, actions fsm.Actions) []store.Change {
	var changes []store.Change
	if actions.Persist || len(actions.Journal) > 0 || actions.Do.Kind == fsm.ActionWriteURI {
		changes = append(changes, store.ReplaceUpdate{Update: rec})
	}
	if len(actions.Journal) > 0 {
		changes = append(changes, store.AppendEvents{Events: journal(rec, actions.Journal)})
	}
	if facts, ok := firmwareFacts(o.Reading, d.known); ok {
		if d.known.Read.IsZero() {
			// A reading may tell only part of what was known before this drive.
			if device, err := d.m.db.Device(ctx, rec.Endpoint); err == nil {
				facts, _ = firmwareFacts(o.Reading, device.Firmware)
				d.known = device.Firmware
			}
		}
		facts.Read = o.At
		if !sameFacts(facts, d.known) {
			changes = append(changes, store.PutFirmware{Endpoint: rec.Endpoint, Firmware: facts})
		}
		d.known = facts
	}
	return changes
}

// commitTimeout bounds one try; a commit whose end is unknown is found out by reading.
const commitTimeout = 30 * time.Second

// commit makes changes durable, for as long as it takes. It returns the record as stored, and false if the step must not be
// acted on: Run has ended, or another process changed the update, in which case its record is adopted.
func (d *drive) commit(ctx context.Context, rec Update, changes []store.Change) (Update, bool) {
	pause := 100 * time.Millisecond
	for {
		if ctx.Err() != nil {
			return rec, false
		}
		// A commit that has begun is ended properly also when Run ends.
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
		_, err := d.m.db.Commit(try, changes...)
		cancel()
		if err == nil {
			if _, ok := changes[0].(store.ReplaceUpdate); ok {
				rec.Revision++
			}
			d.m.feed.durable()
			return rec, true
		}
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			return d.reload(ctx, rec)
		}
		d.m.log.Error("store refuses a step of an update; it will be tried again",
			"update", d.id, "endpoint", d.target, "error", err)
		if f := d.m.cfg.Hooks.StoreFailed; f != nil {
			f(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 30*time.Second)
	}
}

// reload takes over what the store has instead of rec. It returns true if that is rec after all: an earlier try took place
// although it failed.
func (d *drive) reload(ctx context.Context, rec Update) (Update, bool) {
	stored, err := d.m.db.Update(ctx, d.id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		d.m.log.Error("an active update has vanished from the store", "update", d.id, "endpoint", d.target)
		d.finish()
		return rec, false
	case err != nil:
		d.m.log.Error("store cannot be read", "update", d.id, "error", err)
		d.observe(d.m.resumed(d.target))
		return rec, false
	case stored.Revision == rec.Revision+1 && stored.Changed.Equal(rec.Changed.Truncate(time.Microsecond)) &&
		reflect.DeepEqual(stored.Tokens, rec.Tokens):
		rec.Revision = stored.Revision
		d.m.feed.durable()
		return rec, true
	}
	d.mu.Lock()
	d.u = stored
	if d.abandon != nil {
		d.abandon()
		d.abandon = nil
	}
	d.mu.Unlock()
	if !stored.Active() {
		d.ended(stored, fsm.Action{})
		return stored, false
	}
	d.observe(d.m.resumed(d.target))
	return stored, false
}

// schedule sets the timer to at. d.mu is held.
func (d *drive) schedule(at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	if at.IsZero() || d.stopped {
		return
	}
	d.timer = time.AfterFunc(time.Until(at), func() { d.observe(fsm.Observation{Kind: fsm.ObserveTimer}) })
}

// ended takes leave of the device and forgets the drive.
func (d *drive) ended(rec Update, last fsm.Action) {
	d.m.images.revoke(d.id)
	observations := d.swapObservations(nil)
	d.m.spawn(func(ctx context.Context) { d.leave(ctx, rec, last, observations) })
	if f := d.m.cfg.Hooks.Ended; f != nil {
		f(rec)
	}
	d.finish()
}

// finish stops the drive for good.
func (d *drive) finish() {
	d.m.release(d)
	d.stop()
	close(d.done)
}

// stop ends the drive here; the update goes on with the next Run.
func (d *drive) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	d.inbox = nil
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.abandon != nil {
		d.abandon()
		d.abandon = nil
	}
}

// current returns the update with soft changes.
func (d *drive) current() Update {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.u
	u.Tokens = slices.Clone(u.Tokens)
	return u
}
