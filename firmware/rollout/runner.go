package rollout

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

const (
	batchSize = 256 // members whose steps one commit has
	parallel  = 64  // actions of one rollout at a time
)

// A runner runs one rollout. One goroutine steps its machine; actions run in others, and their ends
// are inputs again. It keeps the record of the rollout, and of its members only when they are due.
type runner struct {
	m       *Manager
	id      string
	record  Rollout // of the goroutine that runs
	timers  timers  // when members need a tick
	granted map[string]struct{}
	busy    map[string]struct{} // endpoints with an action under way
	unsure  map[string]struct{} // those whose last action may not have taken place
	again   map[string]struct{} // those that are to be looked at when it ends
	zones   map[string]*time.Location

	walk     string // cursor of the members that wait, in their order
	atEnd    bool   // the walk has come to its end
	left     bool   // a member that was passed over may be admitted in this stage
	rewind   bool   // a member that could be reached was passed over, because there was no place
	walked   time.Time
	checking bool // members are read at the end of a soak
	asking   bool // the program is asked about its health
	retries  work.Backoff

	mu      sync.Mutex
	looks   map[string]struct{}
	results []result
	orders  []*order
	all     bool // look at all active members
	wake    chan struct{}
	pool    work.Pool
	actions sync.WaitGroup
}

// A result is the end of an action.
type result struct {
	endpoint string // "" if it concerns the rollout
	input    fsm.Input
	action   fsm.ActionKind // that has ended; "" for a read
	failed   bool           // and is to be done again
	of       *bool          // what is over with it, of the rollout
}

// An order waits for its commit.
type order struct {
	endpoints []string
	input     fsm.Input
	record    Rollout
	err       error
	done      chan struct{}
}

func newRunner(m *Manager, record Rollout) *runner {
	return &runner{
		m: m, id: record.ID, record: record,
		granted: map[string]struct{}{}, busy: map[string]struct{}{}, again: map[string]struct{}{}, unsure: map[string]struct{}{},
		zones: map[string]*time.Location{}, looks: map[string]struct{}{}, wake: make(chan struct{}, 1),
		pool: work.Pool{Limit: parallel}, all: true,
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
		r.looks[endpoint] = struct{}{}
	}
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

func (r *runner) ended(x result) {
	r.mu.Lock()
	r.results = append(r.results, x)
	r.mu.Unlock()
	r.signal()
}

// order hands an order to the goroutine of the runner, and waits for its commit.
func (r *runner) order(ctx context.Context, endpoints []string, in fsm.Input) (Rollout, error) {
	o := &order{endpoints: endpoints, input: in, done: make(chan struct{})}
	r.mu.Lock()
	r.orders = append(r.orders, o)
	r.mu.Unlock()
	r.signal()
	select {
	case <-o.done:
		return o.record, o.err
	case <-ctx.Done():
		return Rollout{}, ctx.Err()
	}
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
		default:
			r.m.log.Error("a rollout cannot go on for now", "rollout", r.id, "error", err)
			if !work.Sleep(ctx, r.retries.Next(100*time.Millisecond, 10*time.Second)) {
				return
			}
			if record, err := r.m.db.Rollout(ctx, r.id); err == nil {
				r.record = record
			}
			r.recover()
		}
		r.wait(ctx)
	}
}

// refuse ends the orders that come too late.
func (r *runner) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.orders {
		o.record, o.err = r.record, fmt.Errorf("%w: it has ended, or the manager stops", ErrState)
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
	next := r.record.Machine.Wake()
	if len(r.timers) > 0 && (next.IsZero() || r.timers[0].at.Before(next)) {
		next = r.timers[0].at
	}
	pause := time.Minute // for windows, and for what was missed
	if !next.IsZero() {
		pause = min(pause, time.Until(next))
	}
	if r.rewind && r.atEnd {
		pause = min(pause, time.Until(r.walked.Add(rewindPause)))
	}
	timer := time.NewTimer(max(pause, 0))
	defer timer.Stop()
	select {
	case <-r.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// turn does all that is to do now.
func (r *runner) turn(ctx context.Context) error {
	r.mu.Lock()
	looks, results, orders, all := r.looks, r.results, r.orders, r.all
	r.looks, r.results, r.orders, r.all = map[string]struct{}{}, nil, nil, false
	r.mu.Unlock()
	if err := r.carryOut(ctx, orders); err != nil {
		return err
	}
	if all {
		if err := r.lookAtActive(ctx, looks); err != nil {
			return err
		}
	}
	for now := time.Now(); len(r.timers) > 0 && !r.timers[0].at.After(now); {
		looks[heap.Pop(&r.timers).(timer).endpoint] = struct{}{}
	}
	if err := r.takeResults(ctx, results); err != nil {
		return err
	}
	if err := r.lookAt(ctx, looks); err != nil {
		return err
	}
	if err := r.apply(ctx, nil, fsm.Input{Kind: fsm.InputTick}); err != nil && !errors.Is(err, ErrState) {
		return err
	}
	return r.progress(ctx)
}

// carryOut carries out the orders of operators.
func (r *runner) carryOut(ctx context.Context, orders []*order) (err error) {
	for _, o := range orders {
		if err == nil {
			o.err = r.apply(ctx, o.endpoints, o.input)
			if o.err != nil && !errors.Is(o.err, ErrState) {
				err = o.err
			}
		} else {
			o.err = err
		}
		o.record = r.record
		close(o.done)
	}
	if len(orders) > 0 {
		r.fromStart()
		r.recover()
	}
	return err
}

// takeResults steps the members whose actions have ended.
func (r *runner) takeResults(ctx context.Context, results []result) error {
	b := r.begin()
	for _, x := range results {
		if x.endpoint == "" {
			*x.of = false
			b.rollout(x.input)
			continue
		}
		if x.action != fsm.ActionNone {
			delete(r.busy, x.endpoint)
		}
		if x.input.Kind != "" {
			if err := b.member(ctx, x.endpoint, x.input); err != nil {
				return err
			}
		}
		if _, again := r.again[x.endpoint]; again && !x.failed {
			delete(r.again, x.endpoint)
			r.look(x.endpoint)
		}
		if x.failed {
			r.unsure[x.endpoint] = struct{}{}
			r.timers.add(time.Now().Add(actionPause), x.endpoint)
		}
		if err := b.full(ctx); err != nil {
			return err
		}
	}
	return b.commit(ctx)
}

// apply applies one input, to the rollout or to members, in one commit. The error is ErrState if it
// changes nothing.
func (r *runner) apply(ctx context.Context, endpoints []string, in fsm.Input) error {
	b := r.begin()
	if len(endpoints) == 0 {
		b.rollout(in)
	}
	for _, endpoint := range endpoints {
		if err := b.member(ctx, endpoint, in); err != nil {
			return err
		}
	}
	if !b.changed {
		return fmt.Errorf("%w: it is %s", ErrState, r.record.Machine.State)
	}
	return b.commit(ctx)
}

// A batch is steps that are stored in one commit.
type batch struct {
	r       *runner
	record  Rollout
	members map[string]*Member
	order   []string
	lines   []Event
	do      map[string]fsm.ActionKind
	changed bool
}

func (r *runner) begin() *batch {
	return &batch{r: r, record: r.record, members: map[string]*Member{}, do: map[string]fsm.ActionKind{}}
}

// rollout steps the rollout alone.
func (b *batch) rollout(in fsm.Input) fsm.Actions {
	out := b.r.m.step(&b.record, nil, in, &b.lines)
	b.changed = b.changed || out.Persist
	return out
}

// load returns a member as it is in the batch, or as it is stored; nil if there is none.
func (b *batch) load(ctx context.Context, endpoint string) (*Member, error) {
	if m := b.members[endpoint]; m != nil {
		return m, nil
	}
	m, err := b.r.m.db.Member(ctx, b.record.ID, endpoint)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &m, nil
}

// member steps a member.
func (b *batch) member(ctx context.Context, endpoint string, in fsm.Input) error {
	m, err := b.load(ctx, endpoint)
	if err != nil {
		return err
	}
	if m == nil {
		if in.Kind != fsm.InputAdd {
			return nil
		}
		m = &Member{Rollout: b.record.ID, Endpoint: endpoint}
	}
	b.stepMember(m, in)
	return nil
}

// stepMember steps a member that was loaded.
func (b *batch) stepMember(m *Member, in fsm.Input) fsm.Actions {
	in.Zone = b.r.zone(m)
	out := b.r.m.step(&b.record, m, in, &b.lines)
	if out.Persist {
		b.changed = true
		if b.members[m.Endpoint] == nil {
			b.order = append(b.order, m.Endpoint)
		}
		b.members[m.Endpoint] = m
	}
	if out.Do != fsm.ActionNone {
		b.do[m.Endpoint] = out.Do
		if b.members[m.Endpoint] == nil {
			b.members[m.Endpoint] = m
		}
	}
	return out
}

// full commits a batch that has become large, and begins another one in its place.
func (b *batch) full(ctx context.Context) error {
	if len(b.order) < batchSize {
		return nil
	}
	err := b.commit(ctx)
	*b = *b.r.begin()
	return err
}

// commit stores the batch, and then carries its actions out.
func (b *batch) commit(ctx context.Context) error {
	r := b.r
	if b.changed {
		list := make([]Member, 0, len(b.order))
		for _, endpoint := range b.order {
			list = append(list, *b.members[endpoint])
		}
		if err := r.m.commit(ctx, &b.record, list, b.lines); err != nil {
			return err
		}
		opened := b.record.Machine.Stage != r.record.Machine.Stage || b.record.Machine.State != r.record.Machine.State
		r.record = b.record
		for i := range list {
			r.note(&list[i])
		}
		if opened {
			r.fromStart()
		}
		r.report(b.lines)
	} else {
		r.record.Machine.Now = b.record.Machine.Now // time has passed, which is not worth a commit
	}
	for endpoint, do := range b.do {
		r.act(ctx, *b.members[endpoint], do)
	}
	return nil
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

// note keeps what the runner knows of a member in step with its record.
func (r *runner) note(m *Member) {
	r.m.setActive(r, m.Endpoint, m.Machine.State == fsm.MemberActive)
	if m.Machine.State == fsm.MemberActive && m.Machine.Granted && m.Machine.Place != fsm.PlaceInstalling {
		r.granted[m.Endpoint] = struct{}{}
	} else {
		delete(r.granted, m.Endpoint)
	}
	if wake := m.Machine.Wake(); !wake.IsZero() {
		r.timers.add(wake, m.Endpoint)
	}
}

// A timer says when a member needs a tick. One that is not needed any more costs a look.
type timer struct {
	at       time.Time
	endpoint string
}

// timers is a heap.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

func (t *timers) add(at time.Time, endpoint string) { heap.Push(t, timer{at, endpoint}) }
