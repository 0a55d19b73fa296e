package firmware

import (
	"context"
	"net/netip"
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
	served       time.Duration // when progress was last let through, by the manager's clock; 0 for never
	errand       *errand       // the action under way; nil if there is none
	doubt        bool          // the device has left the last request unanswered, and was not heard since
	observations []*lwm2m.Observation
	touches      uint32 // counts the requests of others that change the object
	seen         uint32 // touches when the last read began

	facts *facts     // nil until they are needed
	from  netip.Addr // of the device that was given a Package URI; guarded by Manager.mu

	conflicts *conflicts // nil if there was none; belongs to the goroutine that works
}

func newDrive(m *Manager, u Update) *drive {
	m.clock.raise(u.Machine.Now())
	return &drive{m: m, id: u.ID, target: u.Endpoint, u: u}
}

// observe hands an observation to the machine. It does not block.
func (d *drive) observe(o fsm.Observation) { d.deliver(letter{Observation: o}) }

// deliver hands an observation to the machine, and reports whether it did: a drive that has stopped takes none.
func (d *drive) deliver(l letter) bool {
	if l.At.IsZero() {
		l.At = d.m.clock.now()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return false
	}
	switch l.Kind {
	case fsm.ObserveRegistered, fsm.ObserveUpdated, fsm.ObserveAwake, fsm.ObserveHint:
		d.doubt = false
	}
	d.inbox.add(l)
	if !d.busy {
		d.busy = d.m.enlist(d.work)
	}
	return true
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
		l := d.inbox.next()
		u := d.u
		d.mu.Unlock()
		d.step(ctx, u, l)
	}
}

// step lets the machine take one observation, makes durable what must be, and acts.
func (d *drive) step(ctx context.Context, u Update, l letter) {
	began := time.Now()
	next, actions := u.Machine.Step(l.Observation)
	rec := u
	rec.Machine = next
	rec.Changed = next.Now()
	if actions.Abandon {
		d.giveUpErrand() // before anyone can read that it is given up
	}

	var uri packageURI
	if actions.Do.Kind == fsm.ActionWriteURI {
		if uri = d.m.newURI(ctx, &rec, actions.Do); time.Since(began) > lateStep {
			d.lookAgain(l) // nothing has come of this step yet
			return
		}
	}
	stored, ok := d.persist(ctx, rec, l, actions, uri)
	if !ok {
		return
	}
	rec = stored

	d.mu.Lock()
	d.u = rec
	d.schedule(next.Wake())
	d.mu.Unlock()
	l.answer(&rec, nil)

	switch {
	case next.Active() && time.Since(began) > lateStep:
		d.lookAgain()
	case actions.Ended:
		d.ended(ctx, rec, actions.Do)
	case actions.Do.Kind != fsm.ActionNone:
		d.begin(ctx, rec, actions.Do, uri)
	}
	if l.Kind == fsm.ObserveProgress {
		d.m.feed.soft(progressEvent(rec))
	}
}

// persist makes durable what a step must not lose. It reports false if the step must not be acted on; then the observation
// is taken care of.
func (d *drive) persist(ctx context.Context, rec Update, l letter, actions fsm.Actions, uri packageURI) (Update, bool) {
	var changes []store.Change
	if actions.Persist || len(actions.Journal) > 0 || actions.Do.Kind == fsm.ActionWriteURI {
		changes = append(changes, store.ReplaceUpdate{Update: rec})
	}
	if lines := journal(rec, withURI(actions.Journal, uri)); len(lines) > 0 {
		changes = append(changes, store.AppendEvents{Events: lines})
	}
	var tries int
	var err error
	if l.Kind == fsm.ObserveDone {
		tries, err = d.storeLearned(ctx, rec, l.Observation, actions, changes)
	} else {
		tries, err = d.store(ctx, changes)
	}
	if len(changes) == 0 && err == nil {
		return rec, true
	}
	return d.committed(ctx, rec, l, tries, err)
}

// storeLearned is store, with what the step has taught of the device.
func (d *drive) storeLearned(
	ctx context.Context, rec Update, o fsm.Observation, actions fsm.Actions, changes []store.Change,
) (tries int, err error) {
	// Locked until the commit has ended, so that none of it comes after a request of somebody else that takes it back.
	f, err := d.lockFacts(ctx)
	if err != nil {
		return 0, err
	}
	defer f.unlock()
	learned, next := d.learned(ctx, f, rec, o, actions)
	tries, err = d.store(ctx, append(changes, learned...))
	switch {
	case err != nil:
		f.read = false // an earlier try may have taken place, or another process knows more
	case len(learned) > 0:
		f.known = next
	}
	return tries, err
}

// store makes changes durable, for as long as it takes, and returns how often it tried.
func (d *drive) store(ctx context.Context, changes []store.Change) (tries int, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	err = d.m.insist(ctx, d.id, func(ctx context.Context) error {
		tries++
		_, err := d.m.db.Commit(ctx, changes...)
		return err
	})
	return tries, err
}

// lateStep is how long the store may take for a step that is still acted on. After that the device is looked at anew, as
// after a restart: what the step was decided on is old, and the time was not the device's.
const lateStep = 30 * time.Second

// lookAgain takes up the update as after a restart, before it takes in what was observed meanwhile: first letters, which
// came to nothing.
func (d *drive) lookAgain(letters ...letter) {
	o := d.m.resumed(d.target)
	o.At = d.m.clock.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		for _, l := range letters {
			l.answer(nil, nil)
		}
		return
	}
	d.inbox.first(append([]letter{{Observation: o}}, letters...)...)
	if !d.busy {
		d.busy = d.m.enlist(d.work)
	}
}

// schedule sets the timer to at. d.mu is held.
func (d *drive) schedule(at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	if at.IsZero() || d.stopped {
		return
	}
	d.timer = time.AfterFunc(at.Sub(d.m.clock.now()), func() { d.observe(fsm.Observation{Kind: fsm.ObserveTimer}) })
}

// ended takes leave of the device and forgets the drive.
func (d *drive) ended(ctx context.Context, rec Update, last fsm.Action) {
	d.m.hasEnded(ctx, rec)
	observations := d.swapObservations(nil)
	if last.Kind == fsm.ActionCancel {
		d.m.part(ctx, rec, last, observations)
	} else {
		for _, o := range observations {
			o.Drop(nil)
		}
	}
	d.m.revoke(d.id)
	d.m.release(d)
	d.stop()
}

// hasEnded wakes, calls and logs what waits for the end of an update. One that is still active has
// vanished from the store.
func (m *Manager) hasEnded(ctx context.Context, u Update) {
	m.waiters.wake(u.ID)
	if u.Active() {
		return
	}
	machine := u.Machine
	m.log.Info("update ended", "endpoint", u.Endpoint, "update", u.ID, "image", u.Image, "version", machine.Plan.Target,
		"outcome", machine.Outcome, "reason", machine.Reason, "result", machine.Result,
		"took", machine.Ended.Sub(machine.Created).Round(time.Millisecond))
	m.hook(ctx, "Ended", m.cfg.Hooks.Ended, u)
}

// stop ends the drive here; an update that has not ended goes on with the next Run.
func (d *drive) stop() {
	d.giveUpErrand()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	d.stopped = true
	d.inbox.refuse()
	if d.timer != nil {
		d.timer.Stop()
	}
}

// giveUpErrand ends the action under way, if there is one. When it returns, nothing of it is sent any more.
func (d *drive) giveUpErrand() {
	d.mu.Lock()
	e := d.errand
	d.errand = nil
	d.mu.Unlock()
	if e != nil {
		e.giveUp()
	}
}

// current returns the update with soft changes.
func (d *drive) current() Update {
	d.mu.Lock()
	defer d.mu.Unlock()
	return clone(d.u)
}

// newer returns the current update, or the stored one if the drive is about to take in that it is stored: who has read the
// line of a step in the journal must not see what was before it.
func (d *drive) newer(stored Update) Update {
	if u := d.current(); u.Revision >= stored.Revision {
		return u
	}
	return stored
}

// clone returns a copy that shares nothing with u that is ever written to.
func clone(u Update) Update {
	u.Tokens = slices.Clone(u.Tokens)
	u.Machine.Holds = slices.Clone(u.Machine.Holds)
	return u
}

func (d *drive) swapObservations(list []*lwm2m.Observation) []*lwm2m.Observation {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.observations
	d.observations = list
	return old
}
