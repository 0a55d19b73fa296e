package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ufsm "github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

const (
	batchSize = 256  // members whose steps one commit has
	parallel  = 64   // actions of one rollout at a time
	maxCached = 4096 // active members whose records a runner keeps

	gather = 20 * time.Millisecond // what comes together shares a turn, and its commits
)

// A runner runs one rollout. One goroutine steps its machine; actions run in others, and their ends
// are inputs again. It keeps the record of the rollout, and something of each active member; of one
// that waits it keeps nothing.
type runner struct {
	m    *Manager
	id   string
	dry  bool // it only steps for an order, and carries no action out
	gone chan struct{}

	// What follows is of the goroutine that runs.
	record   Rollout
	asked    *stored                   // once it is needed; edits do not change what counts of it
	image    *store.Image              // once it has been read
	members  map[string]*Member        // some active members, as they are stored
	timers   timers                    // when members need a tick
	granted  map[string]*time.Location // members that may execute and have not, with their zones
	ready    map[string]*time.Location // members that may not, and would like to
	parked   map[string]*time.Location // members that were away, and wait for room in the stage
	busy     map[string]struct{}       // endpoints with an action under way
	again    map[string]struct{}       // those that are to be looked at when it ends
	unsure   map[string]struct{}       // those whose last action may not have taken place
	probing  map[string]struct{}       // members that wait, and whose devices are read
	walk     walk
	windows  map[*time.Location]*window
	edge     time.Time // when a window opens or closes that concerns a member
	checking bool      // members are read at the end of a soak
	asking   bool      // the program is asked about its health
	broken   bool      // a member cannot be read
	retries  work.Backoff

	spareAt    map[string]int // of a batch that is over
	spareParts []part
	// Likewise of a turn that is over, for the next but one.
	spareLooks   map[string]hint
	spareResults []result

	mu      sync.Mutex
	closed  bool            // it takes no orders any more
	looks   map[string]hint // members to look at
	results []result
	orders  []*order
	all     bool // look at all active members
	stale   bool // another one may have changed the rollout
	wake    chan struct{}
	pool    work.Pool // holds, releases, cancels
	starts  work.Pool
	actions sync.WaitGroup

	// turning is held while an update is made, and by a commit that changes the state or the plan
	// of the rollout: an update that is made after a trip is made on hold.
	turning sync.RWMutex
	turns   int // how many such commits there were
}

// A hint is what the last line of a journal says of the update of a member that is to be looked at.
// If it says neither that the device installs nor how the update ended, the update is read.
type hint struct {
	update   string // "" if the member is to be looked at for another reason
	installs bool
	end      fsm.Ending
}

// A result is the end of an action.
type result struct {
	endpoint string // "" if it concerns the rollout
	input    fsm.Input
	action   fsm.ActionKind // that has ended; "" for a read
	failed   bool           // and is to be done again
	probe    bool           // a read before the admission, see probe
	of       *bool          // what is over with it, of the rollout
	held     bool           // the update of a member that is granted was made on hold
}

// An order waits for its commit.
type order struct {
	ctx    context.Context
	actor  string
	do     func(context.Context, *batch) error
	record Rollout
	err    error
	done   chan struct{}
}

// errGone is the error of an order that its runner has not carried out.
var errGone = errors.New("rollout: the runner has ended")

func newRunner(m *Manager, record Rollout) *runner {
	set := func() map[string]struct{} { return map[string]struct{}{} }
	return &runner{
		m: m, id: record.ID, record: record, gone: make(chan struct{}),
		members: map[string]*Member{}, granted: map[string]*time.Location{}, ready: map[string]*time.Location{}, parked: map[string]*time.Location{},
		busy: set(), again: set(), unsure: set(), probing: set(), windows: map[*time.Location]*window{},
		looks: map[string]hint{}, spareLooks: map[string]hint{}, wake: make(chan struct{}, 1), pool: work.Pool{Limit: parallel}, starts: work.Pool{Limit: parallel}, all: true,
	}
}

func (r *runner) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// look makes the runner look at members.
func (r *runner) look(endpoints ...string) {
	r.mu.Lock()
	for _, endpoint := range endpoints {
		r.looks[endpoint] = hint{}
	}
	r.mu.Unlock()
	r.signal()
}

// learn makes the runner look at a member because of a line of its update's journal.
func (r *runner) learn(e *store.Event) {
	known := hint{update: e.Update}
	switch {
	case e.Outcome == ufsm.OutcomeNone && placeOf(e.Phase) == fsm.PlaceInstalling:
		known.installs = true
	case e.Outcome == ufsm.OutcomeSucceeded:
		known.end = fsm.EndingSucceeded
	case e.Outcome == ufsm.OutcomeRolledBack:
		known.end = fsm.EndingRolledBack
	}
	r.mu.Lock()
	if before, twice := r.looks[e.Endpoint]; twice && (before.update != known.update || before.end != fsm.EndingNone && before.end != known.end) {
		known = hint{} // it was to be looked at for another reason
	}
	r.looks[e.Endpoint] = known
	r.mu.Unlock()
	r.signal()
}

// recover makes the runner look at all active members.
func (r *runner) recover() {
	r.mu.Lock()
	r.all = true
	r.mu.Unlock()
	r.signal()
}

// renew makes the runner read its rollout again.
func (r *runner) renew() {
	r.mu.Lock()
	r.stale = true
	r.mu.Unlock()
	r.signal()
}

func (r *runner) ended(x result) {
	r.mu.Lock()
	r.results = append(r.results, x)
	r.mu.Unlock()
	r.signal()
}

// take hands an order to the goroutine of the runner. It reports whether the runner takes it.
func (r *runner) take(o *order) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.orders = append(r.orders, o)
	r.signal()
	return true
}

// run runs the rollout until it ends, or ctx does.
func (r *runner) run(ctx context.Context) {
	defer r.actions.Wait()
	defer r.refuse()
	for ctx.Err() == nil {
		err := r.turn(ctx)
		switch {
		case err == nil:
			r.retries = 0
			if !r.record.Machine.Active() && r.idle() {
				return
			}
		case ctx.Err() != nil:
			return
		case !r.repair(ctx, err):
			return
		}
		r.wait(ctx)
	}
}

// repair begins again with what is stored, after an error. It returns false if the rollout is gone.
func (r *runner) repair(ctx context.Context, err error) bool {
	for {
		if !errors.Is(err, store.ErrConflict) {
			r.m.log.Error("a rollout cannot go on for now", "rollout", r.id, "error", err)
		}
		if !work.Sleep(ctx, r.retries.Next(100*time.Millisecond, 10*time.Second)) {
			return false
		}
		var record Rollout
		if record, err = r.m.db.Rollout(ctx, r.id); err == nil {
			r.turning.Lock()
			r.record = record
			r.turns++
			r.turning.Unlock()
			break
		}
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
			r.m.log.Error("a rollout cannot be read any more, and does not run", "rollout", r.id, "error", err)
			return false
		}
	}
	clear(r.members)
	r.walk.restart()
	r.recover()
	return true
}

// refuse returns the orders that come too late.
func (r *runner) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, o := range r.orders {
		o.err = errGone
		close(o.done)
	}
	r.orders = nil
}

func (r *runner) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.orders) == 0 && len(r.results) == 0 && len(r.busy) == 0
}

// wait waits until something is to do.
func (r *runner) wait(ctx context.Context) {
	pause := time.Minute // for what was missed
	soonest := func(t time.Time) {
		if !t.IsZero() {
			pause = min(pause, time.Until(t))
		}
	}
	soonest(r.record.Machine.Wake())
	soonest(r.edge)
	soonest(r.walk.next())
	soonest(r.timers.next())
	timer := time.NewTimer(max(pause, 0))
	defer timer.Stop()
	select {
	case <-r.wake:
		work.Sleep(ctx, gather)
	case <-timer.C:
	case <-ctx.Done():
	}
}

// turn does all that is to do now.
func (r *runner) turn(ctx context.Context) error {
	r.mu.Lock()
	if r.stale {
		r.stale = false
		r.mu.Unlock()
		return store.ErrConflict
	}
	looks, results, orders, all := r.looks, r.results, r.orders, r.all
	r.looks, r.results, r.orders, r.all = r.spareLooks, r.spareResults, nil, false
	r.mu.Unlock()
	defer func() { r.spareLooks, r.spareResults = emptied(looks), results[:0] }()
	// What a turn that fails has not done is found again by looking at all active members, but not
	// that an action has ended.
	for _, x := range results {
		if x.endpoint != "" && x.action != fsm.ActionNone {
			delete(r.busy, x.endpoint)
		}
		if x.probe {
			delete(r.probing, x.endpoint)
			r.walk.invitable() // for those that found no room
		}
		if x.of != nil {
			*x.of = false
		}
	}
	if err := r.takeOrders(ctx, orders); err != nil {
		return err
	}
	if all {
		if err := r.lookAtActive(ctx, looks); err != nil {
			return err
		}
	}
	r.timers.due(time.Now(), looks)
	if err := r.takeResults(ctx, results); err != nil {
		return err
	}
	if err := r.lookAt(ctx, looks); err != nil {
		return err
	}
	b := r.begin()
	b.rollout(fsm.Input{Kind: fsm.InputTick})
	if err := b.commit(ctx); err != nil {
		return err
	}
	if err := r.progress(ctx); err != nil || !r.broken {
		return err
	}
	return cmp.Or(r.mend(ctx), r.progress(ctx))
}

// emptied returns a map without entries, the same one unless it is large.
func emptied[K comparable, V any](m map[K]V) map[K]V {
	if len(m) > maxCached {
		return map[K]V{}
	}
	clear(m)
	return m
}

// takeOrders carries out the orders of operators. An order that fails for its own reason leaves the
// rollout as it is; after an error of the store the runner begins again with what is stored.
func (r *runner) takeOrders(ctx context.Context, orders []*order) (failed error) {
	for _, o := range orders {
		switch {
		case failed != nil:
			o.err = failed
		case o.ctx.Err() != nil:
			o.err = o.ctx.Err()
		default:
			o.err = r.carryOut(ctx, o.actor, o.do)
			if o.err != nil && !errors.Is(o.err, ErrState) && !errors.Is(o.err, ErrInvalid) && !errors.Is(o.err, store.ErrNotFound) {
				failed = o.err
			}
		}
		o.record = r.record
		close(o.done)
	}
	return failed
}

// carryOut carries an order out, in one commit.
func (r *runner) carryOut(ctx context.Context, actor string, do func(context.Context, *batch) error) error {
	b := r.begin()
	b.actor = actor
	if err := do(ctx, b); err != nil {
		return err
	}
	if !b.changed && !b.same {
		return fmt.Errorf("%w: it is %s", ErrState, r.record.Machine.State)
	}
	var concerned []string
	for i := range b.parts {
		if b.parts[i].put {
			concerned = append(concerned, b.parts[i].m.Endpoint)
		}
	}
	if err := b.commit(ctx); err != nil {
		return err
	}
	r.look(concerned...)
	return nil
}

// takeResults steps the members whose actions have ended.
func (r *runner) takeResults(ctx context.Context, results []result) error {
	b := r.begin()
	for _, x := range results {
		if x.endpoint == "" {
			b.rollout(x.input)
			continue
		}
		switch {
		case x.probe && x.input.Kind == "":
			if err := b.silent(ctx, x.endpoint); err != nil {
				return err
			}
		case x.input.Kind != "":
			if err := b.member(ctx, x.endpoint, x.input); err != nil {
				return err
			}
		}
		if _, again := r.again[x.endpoint]; again && !x.failed {
			delete(r.again, x.endpoint)
			r.look(x.endpoint)
		}
		if x.held {
			r.unsure[x.endpoint] = struct{}{}
			r.look(x.endpoint)
		}
		if x.failed {
			r.unsure[x.endpoint] = struct{}{}
			r.timers.set(x.endpoint, time.Now().Add(actionPause))
		}
		if err := b.full(ctx); err != nil {
			return err
		}
	}
	return b.commit(ctx)
}

// stored takes over what a batch has stored.
func (r *runner) stored(b *batch) {
	before := &r.record.Machine
	opened := b.record.Machine.Stage != before.Stage
	turned, edited := b.turns()
	if r.walk.asleep && b.record.Machine.Slots.Invited+b.record.Machine.Slots.Reserved < before.Slots.Invited+before.Slots.Reserved {
		r.walk.invitable()
	}
	r.record = b.record
	for i := range b.parts {
		p := &b.parts[i]
		if !p.put {
			continue
		}
		if _, has := r.walk.newer[p.m.Endpoint]; has {
			r.walk.newer[p.m.Endpoint] = true
		}
		r.note(p.m)
	}
	if r.dry {
		return
	}
	if edited {
		clear(r.windows)
	}
	if opened || turned || edited {
		r.walk.restart()
	}
	if turned || edited {
		r.recover()
	}
	r.report(b.lines)
}

// report writes the lines of the journal that an operator should see.
func (r *runner) report(lines []Event) {
	for _, line := range lines {
		switch line.Name {
		case fsm.EventTripped:
			r.m.log.Warn("a rollout has stopped by itself", "rollout", r.id, "reason", line.Detail)
		case fsm.EventStarted, fsm.EventPaused, fsm.EventResumed, fsm.EventOpened, fsm.EventStopping, fsm.EventEnded:
			r.m.log.Info("rollout", "rollout", r.id, "event", line.Name, "detail", line.Detail)
		}
	}
}

// note keeps what the runner knows of a member in step with its record, which it takes over.
func (r *runner) note(m *Member) {
	if r.dry {
		return
	}
	machine := &m.Machine
	active := machine.State == fsm.MemberActive
	r.m.setActive(r, m)
	delete(r.granted, m.Endpoint)
	delete(r.ready, m.Endpoint)
	delete(r.parked, m.Endpoint)
	switch {
	case !active || machine.Place == fsm.PlaceInstalling:
	case machine.Granted:
		r.granted[m.Endpoint] = r.zone(m)
	case machine.Place == fsm.PlaceReady:
		r.ready[m.Endpoint] = r.zone(m)
	case machine.Place == fsm.PlaceParked:
		r.parked[m.Endpoint] = r.zone(m)
	}
	if _, had := r.members[m.Endpoint]; active && (had || len(r.members) < maxCached) {
		r.members[m.Endpoint] = m
	} else {
		delete(r.members, m.Endpoint)
	}
	r.timers.set(m.Endpoint, machine.Wake())
}

// target returns the image.
func (r *runner) target(ctx context.Context) (*store.Image, error) {
	if r.image == nil {
		image, err := r.m.updates.Images().Get(ctx, r.record.Image)
		if err != nil {
			return nil, fmt.Errorf("rollout: image: %w", err)
		}
		r.image = &image
	}
	return r.image, nil
}

// request returns what updates ask for, and the image.
func (r *runner) request(ctx context.Context) (*stored, *store.Image, error) {
	if r.asked == nil {
		asked, err := parseStored(&r.record)
		if err != nil {
			return nil, nil, err
		}
		r.asked = &asked
	}
	image, err := r.target(ctx)
	return r.asked, image, err
}

// zone returns where a member's clock is, if the rollout has a window.
func (r *runner) zone(m *Member) *time.Location {
	if r.record.Machine.Plan.Window.Zone == "" {
		return nil
	}
	return r.m.zoneOf(&r.record.Machine.Plan.Window, m)
}
