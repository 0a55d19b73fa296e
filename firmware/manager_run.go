package firmware

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// A run takes one active update to its outcome. It feeds observations into the state machine one at
// a time. It stores a step that a crash must not lose before it acts; the saver stores the others.
// Between observations a run takes about 3 KiB and a timer.
type run struct {
	m      *Manager
	id     string
	target string // endpoint
	task   func() // work, for Manager.steps

	mu          sync.Mutex
	inbox       inbox
	busy        bool // work is queued or runs, or the saver stores the run
	stopped     bool
	u           Update        // with soft steps, which are not stored
	soft        bool          // u has such steps that are worth storing
	lines       []store.Event // the journal lines of these steps
	timer       *time.Timer
	served      time.Duration // when progress was last reported, by the manager's clock; 0 for never
	action      *runAction    // in progress; nil for none
	doubt       bool          // the device left the last request unanswered and has been silent since
	observation *lwm2m.Observation
	trial       trial  // of the last read that found out something
	touches     uint32 // counts requests of others that change the object
	seen        uint32 // value of touches when the last read began

	facts  *facts     // nil until they are needed
	saving saving     // guarded by saver.mu
	from   netip.Addr // address of the device that got a Package URI; guarded by Manager.mu

	conflicts *conflicts // nil for none; only work uses it
}

// newRun returns the run of an update. ctx is that of Manager.Run.
func newRun(ctx context.Context, m *Manager, u *Update) *run {
	m.clock.raise(u.Machine.Now())
	r := &run{m: m, id: u.ID, target: u.Endpoint, u: *u}
	r.task = func() { r.work(ctx) }
	return r
}

// observe passes an observation to the machine. It does not block.
func (r *run) observe(o fsm.Observation) { r.deliver(item{Observation: o}) }

// deliver passes an observation to the machine. It reports false if the run has stopped.
func (r *run) deliver(l item) bool {
	if l.At.IsZero() {
		l.At = r.m.clock.now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	switch l.Kind {
	case fsm.ObserveRegistered, fsm.ObserveUpdated, fsm.ObserveAwake, fsm.ObserveHint:
		r.doubt = false
	}
	r.inbox.add(l)
	if !r.busy {
		r.busy = r.m.steps.Run(r.task)
	}
	return true
}

// work makes steps until the inbox is empty.
func (r *run) work(ctx context.Context) {
	for {
		r.mu.Lock()
		if len(r.inbox) == 0 || r.stopped || ctx.Err() != nil {
			r.busy = false
			r.mu.Unlock()
			return
		}
		l := r.inbox.next()
		r.mu.Unlock()
		if l.save {
			r.saveNow(ctx, &l)
			continue
		}
		r.complete(ctx, &l)
		r.step(ctx, &l)
	}
}

// continueFrom acts on a step that is stored, and then works.
func (r *run) continueFrom(ctx context.Context, stored *fsm.Actions) {
	rec := r.copy()
	r.keep(&rec, nil, false)
	if stored.Do.Kind != fsm.ActionNone {
		r.begin(ctx, &rec, stored.Do, packageURI{})
	}
	r.work(ctx)
}

// step passes one observation to the machine, stores the result if it must, and acts on it. An
// update is large, so the functions of a step get a pointer to it, and none keeps that.
func (r *run) step(ctx context.Context, l *item) {
	began := time.Now()
	rec := r.copy()
	before := beforeStep(&rec.Machine)
	actions := rec.Machine.Apply(l.Observation)
	rec.Changed = rec.Machine.Now()
	if actions.Abandon {
		r.giveUpAction() // before the end can be read
	}

	var uri packageURI
	if actions.Do.Kind == fsm.ActionWriteURI {
		if uri = r.m.newURI(ctx, &rec, actions.Do); time.Since(began) > lateStep {
			r.lookAgain(*l) // the step was not made
			return
		}
	}
	hold := false // the device holds the package from now on, which must not be forgotten
	if l.Kind == fsm.ObserveDone {
		var err error
		if hold, err = r.learn(ctx, &rec, &l.Observation, &actions); err != nil {
			l.answer(nil, nil)
			return
		}
	}
	r.mu.Lock()
	lines, soft := appendJournal(r.lines, &rec, withURI(actions.Journal, uri)), r.soft
	r.mu.Unlock()
	if actions.Persist || hold || len(lines) > maxUnsaved {
		if !r.commit(ctx, &rec, l, lines, actions.Ended || hold) {
			return
		}
		lines, soft = nil, false
	} else {
		soft = soft || len(actions.Journal) > 0 || rec.Machine.Phase != before.phase
	}
	r.keep(&rec, lines, soft)
	l.answer(&rec, nil)
	r.m.phaseEnded(ctx, &before, &rec)

	switch {
	case rec.Machine.Active() && time.Since(began) > lateStep:
		r.lookAgain()
	case actions.Ended:
		r.ended(ctx, &rec, actions.Do)
	case actions.Do.Kind != fsm.ActionNone:
		r.begin(ctx, &rec, actions.Do, uri)
	}
	if l.Kind == fsm.ObserveProgress {
		r.m.tail.news.progress(progressEvent(&rec))
	}
}

// copy returns the run's update, which shares its slices.
func (r *run) copy() Update {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.u
}

// keep makes rec the run's update. lines are journal lines that are not stored; soft says that rec
// has steps worth storing.
func (r *run) keep(rec *Update, lines []store.Event, soft bool) {
	r.mu.Lock()
	r.u, r.lines, r.soft = *rec, lines, soft
	r.schedule(rec.Machine.Wake())
	news := r.facts != nil && r.facts.news
	r.mu.Unlock()
	if !soft {
		r.m.saver.remove(r)
	}
	if soft || news && rec.Active() {
		r.m.saver.add(r, len(lines) > 0)
	}
}

// lookAgain resumes the update as after a restart. Then it handles the items, whose steps were not
// made, and what was observed meanwhile.
func (r *run) lookAgain(items ...item) {
	o := r.m.resumed(r.target)
	o.At = r.m.clock.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		for i := range items {
			items[i].answer(nil, nil)
		}
		return
	}
	r.inbox.first(append([]item{{Observation: o}}, items...)...)
	if !r.busy {
		r.busy = r.m.steps.Run(r.task)
	}
}

// schedule sets the timer to at. r.mu is held.
func (r *run) schedule(at time.Time) {
	switch wait := at.Sub(r.m.clock.now()); {
	case at.IsZero() || r.stopped:
		if r.timer != nil {
			r.timer.Stop()
		}
	case r.timer == nil:
		r.timer = time.AfterFunc(wait, func() { r.observe(fsm.Observation{Kind: fsm.ObserveTimer}) })
	default:
		r.timer.Reset(wait)
	}
}

// ended removes the run, reports the end, and starts the last action with the device. A program
// that hears of the end may start the next update, so the run goes first.
func (r *run) ended(ctx context.Context, rec *Update, last fsm.Action) {
	r.m.revoke(r.id)
	r.m.release(r)
	r.stop()
	r.m.saver.remove(r)
	r.m.hasEnded(ctx, rec)
	if o := r.swapObservation(nil); last.Kind == fsm.ActionCancel {
		r.m.cancelOnDevice(ctx, rec, last, o)
	} else {
		drop(o)
	}
	if r.lacksFacts() {
		r.m.readSoon(r.target)
	}
}

// hasEnded reports the end of an update to callers of Wait, the log and the hooks. If the update is
// still active, its record is missing or damaged.
func (m *Manager) hasEnded(ctx context.Context, u *Update) {
	m.waiters.wake(u.ID)
	if u.Active() {
		return
	}
	if machine := &u.Machine; m.log.Enabled(ctx, slog.LevelInfo) {
		m.log.Info("update ended", "endpoint", u.Endpoint, "update", u.ID, "image", u.Image, "version", machine.Plan.Target,
			"outcome", machine.Outcome, "reason", machine.Reason, "result", machine.Result,
			"took", machine.Ended.Sub(machine.Created).Round(time.Millisecond))
	}
	m.hook(ctx, "Ended", m.config.Hooks.Ended, u)
	m.retention.ended(u.Endpoint)
}

// stop ends the run; an update that has not ended continues in the next Run.
func (r *run) stop() {
	r.giveUpAction()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	r.stopped = true
	r.inbox.refuse()
	if r.timer != nil {
		r.timer.Stop()
	}
}

// giveUpAction ends the action in progress, if there is one. After it returns, the action sends
// nothing more.
func (r *run) giveUpAction() {
	r.mu.Lock()
	e := r.action
	r.action = nil
	r.mu.Unlock()
	if e != nil {
		e.giveUp()
	}
}

// current returns the update with soft steps.
func (r *run) current() Update {
	r.mu.Lock()
	defer r.mu.Unlock()
	return clone(&r.u)
}

// received returns the progress of the run's update.
func (r *run) received() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Progress{Bytes: r.u.Machine.Bytes, Total: r.u.Machine.Plan.Size}
}

// newer returns the run's update, or the stored one if the run does not yet know that it is stored:
// a caller that has read the journal line of a step must not see the update before that step.
func (r *run) newer(stored Update) Update {
	if u := r.current(); u.Revision >= stored.Revision {
		return u
	}
	return stored
}

// clone returns a copy that shares no mutable memory with of.
func clone(of *Update) Update {
	u := *of
	u.Tokens = slices.Clone(u.Tokens)
	u.Machine.Holds = slices.Clone(u.Machine.Holds)
	u.Labels = maps.Clone(u.Labels)
	return u
}

// swapObservation sets the observation of the device, nil for none, and returns the one before.
func (r *run) swapObservation(o *lwm2m.Observation) *lwm2m.Observation {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.observation
	r.observation = o
	return old
}
