package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware"
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
	runners map[string]*runner          // by rollout
	active  map[string]map[*runner]spot // by endpoint: rollouts whose member there is active
	heard   map[string]struct{}         // endpoints that were heard since the last look
	news    chan struct{}               // holds one if there are such
	filling map[string]struct{}         // rollouts whose targets a Create names
	running bool
	ctx     context.Context // of Run
	group   sync.WaitGroup  // the runners
	locks   work.Locks      // by rollout, for orders while Run does not run; and by key of a Create
	zones   map[string]*time.Location

	allowCalls, healthCalls calls
}

// NewManager returns a manager of rollouts. Nothing happens until [Manager.Run] runs.
func NewManager(srv *lwm2m.Server, updates *firmware.Manager, db Store, config Config) (*Manager, error) {
	if srv == nil || updates == nil || db == nil {
		return nil, errors.New("rollout: NewManager needs a server, a manager of updates and a store")
	}
	return &Manager{
		srv: srv, updates: updates, db: db, config: config,
		log:     cmp.Or(config.Logger, slog.New(slog.DiscardHandler)),
		runners: map[string]*runner{}, active: map[string]map[*runner]spot{}, heard: map[string]struct{}{}, news: make(chan struct{}, 1),
		filling: map[string]struct{}{},
	}, nil
}

// stores are those that have a Manager which runs. Two would undo each other's work, though a store
// keeps the one from overwriting what the other has written.
var stores sync.Map

// Run runs the rollouts until ctx ends, and returns nil then. It needs a firmware.Manager that
// runs. The error matches firmware.ErrRunning if a Manager of the same store runs already.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if reflect.TypeOf(m.db).Comparable() {
		if _, running := stores.LoadOrStore(m.db, m); running {
			return fmt.Errorf("rollout: another Manager runs the rollouts of this store: %w", firmware.ErrRunning)
		}
		defer stores.Delete(m.db)
	}
	m.mu.Lock()
	if m.running {
		m.mu.Unlock()
		return fmt.Errorf("rollout: %w", firmware.ErrRunning)
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
	lines := m.updates.Lines(ctx)
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
	follow.Go(func() { m.sweep(ctx) })
	for commit, err := range lines {
		if err != nil {
			m.log.Warn("members are looked at again", "why", err)
			m.lookAtAll()
			continue
		}
		m.learn(commit)
	}
	return nil
}

func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// learn makes runners look at members whose updates changed.
func (m *Manager) learn(lines []store.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range lines {
		for r, spot := range m.active[lines[i].Endpoint] {
			if spot.concerns(&lines[i]) {
				r.learn(&lines[i])
			}
		}
	}
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
		select {
		case m.news <- struct{}{}:
		default:
		}
	}
}

// passHeard offers the devices that were heard to the rollouts, those of a second in one query.
func (m *Manager) passHeard(ctx context.Context) {
	for {
		select {
		case <-m.news:
		case <-ctx.Done():
			return
		}
		if !work.Sleep(ctx, time.Second) {
			return
		}
		m.mu.Lock()
		list := make([]string, 0, len(m.heard))
		for endpoint := range m.heard {
			if !m.underWay(endpoint) {
				list = append(list, endpoint)
			}
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

// underWay reports whether a device has an update of the only rollout, which goes on as it should:
// that the device was heard changes nothing then. The caller holds the lock.
func (m *Manager) underWay(endpoint string) bool {
	if len(m.runners) > 1 {
		return false // the device may wait in another one
	}
	for _, s := range m.active[endpoint] {
		if !s.gone {
			return true
		}
	}
	return false
}

// launch starts the runner of a rollout, if Run runs. One that was started since the record was
// read reads it again: it would wait for what has happened already.
func (m *Manager) launch(record Rollout) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runners[record.ID]; r != nil {
		r.renew()
		return
	}
	if !m.running || m.ctx.Err() != nil || !record.Machine.Active() {
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
		close(r.gone)
		for endpoint, of := range m.active {
			if delete(of, r); len(of) == 0 {
				delete(m.active, endpoint)
			}
		}
	})
}

// setActive notes where a member of a rollout stands, as far as events of its update matter.
func (m *Manager) setActive(r *runner, member *Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.active[member.Endpoint]
	switch {
	case member.Machine.State == fsm.MemberActive || member.Machine.Busy != "":
		if of == nil {
			of = map[*runner]spot{}
			m.active[member.Endpoint] = of
		}
		of[r] = spotOf(&member.Machine)
	case of != nil:
		if delete(of, r); len(of) == 0 {
			delete(m.active, member.Endpoint)
		}
	}
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
