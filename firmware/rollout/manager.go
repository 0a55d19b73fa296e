package rollout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/internal/ulid"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// A Manager runs rollouts. It is safe for concurrent use. One Manager of a store runs at a time.
type Manager struct {
	srv     *lwm2m.Server
	updates *firmware.Manager
	db      Store
	config  Config
	log     *slog.Logger

	mu      sync.Mutex
	runners map[string]*runner            // by rollout
	active  map[string]map[string]*runner // by endpoint and rollout: those whose member there is active
	heard   map[string]struct{}           // endpoints that were heard since the last look
	running bool
	ctx     context.Context // of Run
	group   sync.WaitGroup  // the runners
	locks   work.Locks      // by rollout, for orders while Run does not run; and by key of a Create
	zones   map[string]*time.Location
}

// NewManager returns a manager of rollouts. Nothing happens until [Manager.Run] runs.
func NewManager(srv *lwm2m.Server, updates *firmware.Manager, db Store, config Config) (*Manager, error) {
	if srv == nil || updates == nil || db == nil {
		return nil, errors.New("rollout: NewManager needs a server, a manager of updates and a store")
	}
	return &Manager{
		srv: srv, updates: updates, db: db, config: config,
		log:     cmp.Or(config.Logger, slog.New(slog.DiscardHandler)),
		runners: map[string]*runner{}, active: map[string]map[string]*runner{}, heard: map[string]struct{}{},
	}, nil
}

// Run runs the rollouts until ctx ends, and returns nil then. It needs a firmware.Manager that
// runs.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	if m.running {
		m.mu.Unlock()
		return errors.New("rollout: Run runs already")
	}
	m.running, m.ctx = true, ctx
	m.mu.Unlock()
	defer func() {
		cancel()
		m.group.Wait()
		m.mu.Lock()
		m.running, m.ctx = false, nil
		m.mu.Unlock()
	}()
	span, err := m.updates.Span(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	stop := m.srv.Watch(m.hear)
	defer stop()
	for r, err := range m.db.RolloutList(ctx, store.RolloutQuery{Active: true}) {
		switch {
		case errors.Is(err, store.ErrDamaged):
			m.log.Error("a rollout is damaged, and does not run", "rollout", r.ID, "error", err)
		case err != nil:
			return ended(ctx, err)
		default:
			m.launch(r)
		}
	}
	var follow sync.WaitGroup
	defer follow.Wait()
	follow.Go(func() { m.passHeard(ctx) })
	for after := span.Last; ; {
		err := m.follow(ctx, &after)
		if ctx.Err() != nil {
			return nil
		}
		m.log.Error("following the updates failed", "error", err)
		if errors.Is(err, firmware.ErrPosition) {
			if span, err := m.updates.Span(ctx); err == nil {
				after = span.Last
			}
		}
		m.lookAtAll()
		work.Sleep(ctx, time.Second)
	}
}

func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// follow makes runners look at members whose updates changed.
func (m *Manager) follow(ctx context.Context, after *uint64) error {
	for batch, err := range m.updates.EventBatches(ctx, *after) {
		if err != nil {
			return err
		}
		looks := map[*runner][]string{}
		m.mu.Lock()
		for i := range batch {
			for _, r := range m.active[batch[i].Endpoint] {
				looks[r] = append(looks[r], batch[i].Endpoint)
			}
		}
		m.mu.Unlock()
		for r, endpoints := range looks {
			r.look(endpoints...)
		}
		*after = batch[len(batch)-1].Seq
	}
	return nil
}

func (m *Manager) lookAtAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.runners {
		r.recover()
	}
}

// hear collects the endpoints of devices that were heard.
func (m *Manager) hear(e lwm2m.RegistrationEvent) {
	switch e.Kind {
	case lwm2m.EventRegistered, lwm2m.EventUpdated, lwm2m.EventAwake, lwm2m.EventDeregistered, lwm2m.EventExpired:
		m.mu.Lock()
		if len(m.runners) > 0 {
			m.heard[e.Registration.Endpoint] = struct{}{}
		}
		m.mu.Unlock()
	}
}

// passHeard offers the devices that were heard to the rollouts, those of a second in one query.
func (m *Manager) passHeard(ctx context.Context) {
	for work.Sleep(ctx, time.Second) {
		m.mu.Lock()
		if len(m.heard) == 0 {
			m.mu.Unlock()
			continue
		}
		list := make([]string, 0, len(m.heard))
		for endpoint := range m.heard {
			list = append(list, endpoint)
		}
		clear(m.heard)
		m.mu.Unlock()
		slices.Sort(list)
		looks := map[string][]string{}
		for member, err := range m.db.MembersOf(ctx, list) {
			if err != nil {
				m.log.Error("finding the members that were heard failed", "error", err)
				break
			}
			if s := member.Machine.State; s == fsm.MemberWaiting || s == fsm.MemberActive || member.Machine.Missing {
				looks[member.Rollout] = append(looks[member.Rollout], member.Endpoint)
			}
		}
		m.mu.Lock()
		for id, endpoints := range looks {
			if r := m.runners[id]; r != nil {
				r.look(endpoints...)
			}
		}
		m.mu.Unlock()
	}
}

// launch starts the runner of a rollout, if Run runs.
func (m *Manager) launch(record Rollout) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running || m.ctx.Err() != nil || m.runners[record.ID] != nil || !record.Machine.Active() {
		return
	}
	r := newRunner(m, record)
	m.runners[record.ID] = r
	ctx := m.ctx
	m.group.Go(func() {
		r.run(ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.runners, record.ID)
		for endpoint, of := range m.active {
			if delete(of, record.ID); len(of) == 0 {
				delete(m.active, endpoint)
			}
		}
	})
}

// setActive notes whether a member of a rollout is active.
func (m *Manager) setActive(r *runner, endpoint string, active bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.active[endpoint]
	switch {
	case active && of == nil:
		m.active[endpoint] = map[string]*runner{r.id: r}
	case active:
		of[r.id] = r
	case of != nil:
		if delete(of, r.id); len(of) == 0 {
			delete(m.active, endpoint)
		}
	}
}

// stored is what a rollout's record keeps of its Request.
type stored struct {
	Update firmware.Request `json:"update"`
	Start  bool             `json:"start,omitempty"`
	Actor  string           `json:"actor,omitempty"`

	Key         string `json:"key,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// chunk is how many members one commit of a creation has.
const chunk = 1000

// Create makes a rollout, and takes its members from the request's Targets. If ctx ends, or the
// process dies, before it returns, the rollout stays a draft without all its members, which Run
// stops.
//
// The error is ErrInvalid, store.ErrNotFound if there is no such image, what Allow or the targets
// returned, or that of the store.
func (m *Manager) Create(ctx context.Context, q Request) (Rollout, error) {
	now := time.Now()
	plan := q.plan(now)
	if err := plan.Check(); err != nil {
		return Rollout{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	u := q.Update
	if u.Endpoint != "" || u.Image != "" || u.Key != "" || u.Hold != (firmware.Hold{}) {
		return Rollout{}, fmt.Errorf("%w: update: endpoint, image, key and hold are the rollout's own", ErrInvalid)
	}
	if q.Targets == nil {
		return Rollout{}, fmt.Errorf("%w: targets: there are none", ErrInvalid)
	}
	text, err := json.Marshal(stored{q.Update, q.Start, q.Actor, q.Key, q.Fingerprint})
	if err != nil {
		return Rollout{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	record := Rollout{
		ID: ulid.New(now), Name: q.Name, Image: q.Image, Request: string(text),
		Machine: fsm.NewRollout(plan, now), Created: now, Changed: now,
	}
	if err := m.allow(ctx, q.Actor, ActionCreate, record); err != nil {
		return Rollout{}, err
	}
	if q.Key != "" {
		unlock, err := m.locks.LockContext(ctx, "key "+q.Key)
		if err != nil {
			return Rollout{}, err
		}
		defer unlock()
		if made, err := m.made(ctx, &q, now); !errors.Is(err, store.ErrNotFound) {
			return made, err
		}
	}
	if err := m.db.CommitRollouts(ctx, store.CreateRollout{Rollout: record}); err != nil {
		return Rollout{}, err
	}
	record.Revision = 1
	if err := m.fill(ctx, &record, q); err != nil {
		return record, err
	}
	m.launch(record)
	return record, nil
}

// fill adds the targets, in chunks, and starts the rollout if the request says so.
func (m *Manager) fill(ctx context.Context, record *Rollout, q Request) error {
	only := map[string]uint16{}
	for stage, endpoints := range q.Only {
		if stage < 0 || stage >= len(record.Machine.Plan.Stages) || !record.Machine.Plan.Stages[stage].Only {
			return fmt.Errorf("%w: only: stage %d admits any device", ErrInvalid, stage)
		}
		for _, endpoint := range endpoints {
			only[endpoint] |= 1 << stage
		}
	}
	seen := map[string]struct{}{} // of this chunk; the store knows those before
	var list []Member
	flush := func(last bool) error {
		var lines []Event
		if last {
			m.step(record, nil, fsm.Input{Kind: fsm.InputFilled}, &lines)
			if q.Start {
				m.step(record, nil, fsm.Input{Kind: fsm.InputStart}, &lines)
			}
		}
		for i := range lines {
			lines[i].Actor = q.Actor
		}
		return m.commit(ctx, record, list, lines)
	}
	for endpoint, err := range q.Targets {
		if err != nil {
			return err
		}
		if _, twice := seen[endpoint]; twice {
			continue
		}
		if _, err := m.db.Member(ctx, record.ID, endpoint); err == nil {
			continue
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		seen[endpoint] = struct{}{}
		member := Member{Rollout: record.ID, Endpoint: endpoint}
		m.step(record, &member, fsm.Input{Kind: fsm.InputAdd, Only: only[endpoint]}, nil)
		if list = append(list, member); len(list) == chunk {
			if err := flush(false); err != nil {
				return err
			}
			list = list[:0]
			clear(seen)
		}
	}
	return flush(true)
}

// step applies an input to a record and a member.
func (m *Manager) step(record *Rollout, member *Member, in fsm.Input, lines *[]Event) fsm.Actions {
	var before fsm.Member
	endpoint := ""
	if member != nil {
		before, endpoint = member.Machine, member.Endpoint
	}
	in.At = time.Now()
	machine, after, out := record.Machine.Step(before, in)
	record.Machine = machine
	if member != nil {
		member.Machine = after
	}
	for _, line := range out.Journal {
		*lines = append(*lines, Event{Rollout: record.ID, Time: machine.Now, Name: line.Event, Detail: line.Detail, Endpoint: endpoint})
	}
	return out
}

// commit stores a rollout with members and lines of its journal.
func (m *Manager) commit(ctx context.Context, record *Rollout, members []Member, lines []Event) error {
	record.Changed = time.Now()
	changes := []store.RolloutChange{store.ReplaceRollout{Rollout: *record}}
	if len(members) > 0 {
		changes = append(changes, store.PutMembers{Rollout: record.ID, Members: members})
	}
	if len(lines) > 0 {
		changes = append(changes, store.AppendRolloutEvents{Rollout: record.ID, Events: lines})
	}
	if err := m.db.CommitRollouts(ctx, changes...); err != nil {
		return err
	}
	record.Revision++
	record.Lines += uint64(len(lines))
	return nil
}

func (m *Manager) allow(ctx context.Context, actor string, action Action, r Rollout) error {
	if m.config.Allow == nil {
		return nil
	}
	_, err := work.Guard(m.log, "Config.Allow", func() (struct{}, error) {
		return struct{}{}, m.config.Allow(ctx, actor, action, r)
	})
	return err
}

// Get returns a rollout, or store.ErrNotFound.
func (m *Manager) Get(ctx context.Context, id string) (Rollout, error) { return m.db.Rollout(ctx, id) }

// List yields rollouts, newest first.
func (m *Manager) List(ctx context.Context, q store.RolloutQuery) iter.Seq2[Rollout, error] {
	return m.db.RolloutList(ctx, q)
}

// Members yields the members that the query selects.
func (m *Manager) Members(ctx context.Context, q store.MemberQuery) iter.Seq2[Member, error] {
	return m.db.Members(ctx, q)
}

// Events yields the journal of a rollout.
func (m *Manager) Events(ctx context.Context, q store.RolloutEventQuery) iter.Seq2[Event, error] {
	return m.db.RolloutEvents(ctx, q)
}

// Keep says that an image, a device or an update is needed by a rollout that has not ended: it is
// for firmware.ManagerConfig.Keep.
func (m *Manager) Keep(ctx context.Context, kind store.Kind, id string) (reason string, err error) {
	endpoint := id
	switch kind {
	case store.KindImage:
		for r, err := range m.db.RolloutList(ctx, store.RolloutQuery{Active: true}) {
			if err != nil {
				return "", err
			}
			if r.Image == id {
				return "rollout " + r.ID + " needs it", nil
			}
		}
		return "", nil
	case store.KindUpdate:
		u, err := m.updates.Get(ctx, id)
		if err != nil {
			return "", err
		}
		endpoint = u.Endpoint
	case store.KindDevice:
	default:
		return "", nil
	}
	for member, err := range m.db.MembersOf(ctx, []string{endpoint}) {
		switch {
		case err != nil:
			return "", err
		case kind == store.KindDevice || member.Machine.Update == id:
			return "rollout " + member.Rollout + " needs it", nil
		}
	}
	return "", nil
}
