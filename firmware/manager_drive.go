package firmware

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// A drive takes one active update to its outcome: it feeds the state machine with what was observed, one observation after
// the other, makes each step durable, and only then acts. Between observations it is about 3 KiB and a timer.
type drive struct {
	m      *Manager
	id     string
	target string // endpoint

	mu           sync.Mutex
	inbox        inbox
	busy         bool // in line for work, or in it
	stopped      bool
	u            Update // with soft changes that the store does not have
	timer        *time.Timer
	served       time.Time          // of the last progress that was let through
	abandon      context.CancelFunc // ends the action under way; nil if there is none
	observations []*lwm2m.Observation

	clock clock

	// What follows belongs to the goroutine that works.
	known     store.Firmware // as last put
	conflicts conflicts

	done chan struct{} // closed when nothing more comes from here: see stop
}

func newDrive(m *Manager, u Update) *drive {
	return &drive{m: m, id: u.ID, target: u.Endpoint, u: u, clock: newClock(u.Machine.Memory.Now), done: make(chan struct{})}
}

// observe hands an observation to the machine. It does not block.
func (d *drive) observe(o fsm.Observation) {
	if o.At.IsZero() {
		o.At = d.clock.now()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	d.inbox.add(o)
	if !d.busy {
		d.busy = d.m.crew.enlist(d)
	}
}

// work steps until the inbox is empty.
func (d *drive) work(ctx context.Context) {
	for {
		d.mu.Lock()
		if len(d.inbox) == 0 || d.stopped || ctx.Err() != nil {
			d.busy = false
			d.mu.Unlock()
			return
		}
		o := d.inbox.next()
		u := d.u
		d.mu.Unlock()
		d.step(ctx, u, o)
	}
}

// step lets the machine take one observation, makes durable what must be, and acts.
func (d *drive) step(ctx context.Context, u Update, o fsm.Observation) {
	began := time.Now()
	next, actions := u.Machine.Step(o)
	rec := u
	rec.Machine = next
	rec.Changed = o.At.UTC()

	var uri packageURI
	if actions.Do.Kind == fsm.ActionWriteURI {
		if uri = d.m.newURI(ctx, &rec, actions.Do); time.Since(began) > lateStep {
			d.lookAgain() // nothing has come of this step yet
			return
		}
	}
	changes, facts := d.changes(ctx, rec, o, actions)
	if len(changes) > 0 {
		stored, ok := d.commit(ctx, rec, changes)
		if !ok {
			return
		}
		rec = stored
	}
	d.known = facts

	d.mu.Lock()
	d.u = rec
	if actions.Abandon && d.abandon != nil {
		d.abandon()
		d.abandon = nil
	}
	d.schedule(next.Wake())
	d.mu.Unlock()

	switch {
	case next.Active() && time.Since(began) > lateStep:
		d.lookAgain()
	case actions.Ended:
		d.ended(rec, actions.Do)
	case actions.Do.Kind != fsm.ActionNone:
		d.begin(actions.Do, uri)
	}
	if o.Kind == fsm.ObserveProgress {
		d.m.feed.soft(progressEvent(rec))
	}
}

// lateStep is how long the store may take for a step that is still acted on. After that the device is looked at anew, as
// after a restart: what the step was decided on is old, and the time was not the device's.
const lateStep = 30 * time.Second

// lookAgain takes up the update anew, before it takes in what was observed meanwhile.
func (d *drive) lookAgain() {
	o := d.m.resumed(d.target)
	o.At = d.clock.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inbox.first(o)
}

// changes are the records that a step makes durable, and what is then known of the device.
func (d *drive) changes(ctx context.Context, rec Update, o fsm.Observation, actions fsm.Actions) ([]store.Change, store.Firmware) {
	var changes []store.Change
	if actions.Persist || len(actions.Journal) > 0 || actions.Do.Kind == fsm.ActionWriteURI {
		changes = append(changes, store.ReplaceUpdate{Update: rec})
	}
	if len(actions.Journal) > 0 {
		changes = append(changes, store.AppendEvents{Events: journal(rec, actions.Journal)})
	}
	known := d.known
	if known.Read.IsZero() && o.Kind == fsm.ObserveDone {
		// A reading may tell only part of what was known before this drive.
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		device, err := d.m.db.Device(ctx, rec.Endpoint)
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged) {
			return changes, known
		}
		known = device.Firmware
	}
	facts, ok := firmwareFacts(o.Reading, known)
	if !ok {
		return changes, d.known
	}
	if facts.Read = o.At; sameFacts(facts, known) {
		return changes, known
	}
	return append(changes, store.PutFirmware{Endpoint: rec.Endpoint, Firmware: facts}), facts
}

// schedule sets the timer to at. d.mu is held.
func (d *drive) schedule(at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	if at.IsZero() || d.stopped {
		return
	}
	d.timer = time.AfterFunc(at.Sub(d.clock.now()), func() { d.observe(fsm.Observation{Kind: fsm.ObserveTimer}) })
}

// ended takes leave of the device and forgets the drive.
func (d *drive) ended(rec Update, last fsm.Action) {
	observations := d.swapObservations(nil)
	d.m.spawn(func(ctx context.Context) { d.leave(ctx, rec, last, observations) })
	if f := d.m.cfg.Hooks.Ended; f != nil && !rec.Active() {
		f(rec)
	}
	d.finish()
}

// finish stops the drive for good.
func (d *drive) finish() {
	d.m.images.revoke(d.id)
	d.m.release(d)
	d.stop()
}

// stop ends the drive here; an update that has not ended goes on with the next Run.
func (d *drive) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	d.stopped = true
	close(d.done)
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
