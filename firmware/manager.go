package firmware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"sync"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Update is the record of one update: one image for one endpoint, from request to outcome.
type Update = store.Update

// A Manager takes updates from request to outcome. Its methods are safe for concurrent use. They
// also work while Run is not running; the next Run acts on what they changed.
type Manager struct {
	config   ManagerConfig
	srv      *lwm2m.Server
	db       store.Store
	images   *Repository
	delivery *Delivery     // nil for none
	uriCalls chan struct{} // holds one for each call of PackageURI
	log      *slog.Logger
	tail     *tail
	watchers watchers

	clock *clock
	saver *saver
	tries tries

	retention *retention
	keepCalls chan struct{} // holds one for each call of Keep

	places *places
	unsent unsent
	unread unread
	steps  work.Pool // for work that blocks: steps of updates, look-ups in the store
	hooks  *hookRunner

	waiters waiters

	missing   missing
	asksStore chan struct{} // holds one while Status waits for the store

	mu         sync.Mutex
	taken      bool                         // a Run has begun and not returned
	running    bool                         // and its context, as far as is known, has not ended
	runs       map[string]*run              // active updates, by id
	byEndpoint map[string]*run              // the same, by endpoint
	cancels    map[string]*action           // last actions of ended updates, by endpoint
	starting   map[string]bool              // ids that Start is about to store and adopt; true: another call has made a step
	pulling    map[netip.Addr]map[*run]bool // runs whose devices may download, by the device's address
	work       sync.WaitGroup               // for what workers does
	workers    work.Workers[task]
	ctx        context.Context // of Run, for what outlives a call
	stopped    chan struct{}   // closed once a Run has ended and none has begun again
}

// maxSteps limits the functions that block at the same time. When a hundred thousand updates are
// loaded, or cannot be stored, their steps queue instead of taking a goroutine each, and the store
// puts several into one commit.
const maxSteps = 512

// NewManager returns a manager of updates to devices of srv. It keeps its records in db and takes
// images from images, the Repository of the same store. It starts nothing; see [Manager.Run]. One
// manager runs the updates of a store. Running a second one by mistake does no harm, but slows both
// down. Updates that have ended stay in the store as [ManagerConfig.Retain] says.
//
// The manager handles no path of srv. It watches registrations, failed handshakes, and requests
// that change objects 5 and 33629 of its devices. So several managers, each with a store of its
// own, can share a server; see [ManagerConfig.Owns].
//
// The error names the argument or the field of config that cannot work, and says why.
func NewManager(srv *lwm2m.Server, db store.Store, images *Repository, config ManagerConfig) (*Manager, error) {
	switch {
	case srv == nil:
		return nil, errors.New("firmware: NewManager: srv is nil")
	case db == nil:
		return nil, errors.New("firmware: NewManager: db is nil")
	case images == nil:
		return nil, errors.New("firmware: NewManager: images is nil")
	}
	if err := config.check(images); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Parallel == 0 {
		config.Parallel = 1024
	}
	if config.Retain.PerEndpoint == 0 {
		config.Retain.PerEndpoint = defaultPerEndpoint
	}
	if config.Retain.Age == 0 {
		config.Retain.Age = defaultRetainAge
	}
	if config.Silent == 0 {
		config.Silent = 16_384
	}
	m := &Manager{
		config: config, srv: srv, db: db, images: images, delivery: config.Delivery, log: config.Logger,
		uriCalls:   make(chan struct{}, maxPackageURICalls),
		keepCalls:  make(chan struct{}, maxKeepCalls),
		asksStore:  make(chan struct{}, 1),
		clock:      newClock(),
		places:     newPlaces(config.Parallel, config.Silent),
		runs:       make(map[string]*run),
		byEndpoint: make(map[string]*run),
		cancels:    make(map[string]*action),
		starting:   make(map[string]bool),
		pulling:    make(map[netip.Addr]map[*run]bool),
		hooks:      newHookRunner(config.Logger),
		stopped:    make(chan struct{}),
	}
	m.saver = &saver{m: m, next: math.MaxInt64}
	m.tail = newTail(db, config.Logger, m.event)
	m.retention = newRetention(m)
	if config.Keep != nil {
		images.askBefore(m.mayDelete)
	}
	var begin func(context.Context)                                        // made once
	m.steps = work.Pool{Limit: maxSteps, Start: func(worker func()) bool { // called one at a time, with one worker
		if begin == nil {
			begin = func(context.Context) { worker() }
		}
		return m.spawn(begin)
	}}
	m.workers.Do = func(t task) {
		defer m.work.Done()
		t.f(t.ctx)
	}
	srv.Before(m.before)
	return m, nil
}

// owns reports whether an endpoint belongs to this manager.
func (m *Manager) owns(endpoint string) (owned bool) {
	if m.config.Owns == nil {
		return true
	}
	m.call("Owns", func() { owned = m.config.Owns(endpoint) })
	return owned
}

// Images returns the manager's repository.
func (m *Manager) Images() *Repository { return m.images }

// ErrRunning is returned by [Manager.Run] while another Run of the same manager runs.
var ErrRunning = errors.New("firmware: manager runs already")

// Run runs updates until ctx ends, and begins with those that were active when the last Run ended,
// however it ended. It returns nil after ctx has ended and all work in progress has stopped. It
// returns an error only if the store cannot be read.
func (m *Manager) Run(ctx context.Context) error {
	if err := m.begin(ctx); err != nil {
		return err
	}
	m.clock.catchUp(ctx, m.db)
	unwatch, deaf := m.srv.Watch(m.watch), m.srv.OnHandshakeFailed(m.HandshakeFailed)
	defer m.end(func() {
		unwatch()
		deaf()
	})
	for u, err := range m.db.Updates(ctx, store.UpdateQuery{Active: true, Oldest: true}) {
		if errors.Is(err, store.ErrDamaged) {
			m.log.Error("active update cannot be read; it is left as it is", "update", u.ID, "error", err)
			continue
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("firmware: loading active updates: %w", err)
		}
		if !m.owns(u.Endpoint) {
			m.log.Error("active update is left as it is: its endpoint does not belong to this manager",
				"update", u.ID, "endpoint", u.Endpoint)
			continue
		}
		m.resume(ctx, u)
	}
	if m.delivery != nil {
		m.delivery.setReady()
	}
	if m.config.Inventory {
		m.catchUp(ctx)
	}
	m.spawn(m.retention.run)
	<-ctx.Done()
	return nil
}

func (m *Manager) begin(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken {
		return ErrRunning
	}
	m.taken, m.running, m.ctx = true, true, ctx
	m.workers.Keep(true)
	select {
	case <-m.stopped:
		m.stopped = make(chan struct{})
	default:
	}
	return nil
}

// end stops all runs. Requests in progress end with ctx.
func (m *Manager) end(stopWatching func()) {
	stopWatching()
	m.mu.Lock()
	m.running = false
	runs, cancels := m.runs, m.cancels
	m.runs, m.byEndpoint, m.cancels = make(map[string]*run), make(map[string]*run), make(map[string]*action)
	clear(m.pulling)
	m.mu.Unlock()
	for _, d := range runs {
		d.stop()
	}
	for _, e := range cancels {
		e.giveUp()
	}
	m.forgetUnread()
	m.work.Wait()
	m.workers.Keep(false)
	m.saveLast(runs)
	m.hooks.settle()
	m.mu.Lock()
	m.taken = false
	close(m.stopped)
	m.mu.Unlock()
}

// resume runs an update that was active before this Run. The manager missed what its device did in
// between, so it reads the device. It knows only of a new registration, from the observation.
func (m *Manager) resume(ctx context.Context, u Update) {
	m.mu.Lock()
	_, starting := m.starting[u.ID]
	m.mu.Unlock()
	if !starting {
		m.adopt(&u, m.resumed(u.Endpoint), nil, func() { m.hook(ctx, "Resumed", m.config.Hooks.Resumed, &u) })
	}
}

// adopt begins to run an update with a first observation, and calls begins before it acts. If the
// step of that observation is stored already, stored is what it asks for. adopt does nothing if Run
// does not run, if the update runs already, or if it has ended, for example because it was
// cancelled while it started. It reports false if another call has made a step of an update that
// starts: u is old then.
func (m *Manager) adopt(u *Update, first fsm.Observation, stored *fsm.Actions, begins func()) bool {
	m.mu.Lock()
	if m.starting[u.ID] {
		m.starting[u.ID] = false
		m.mu.Unlock()
		return false
	}
	delete(m.starting, u.ID)
	if !m.running || m.runs[u.ID] != nil || !u.Active() {
		m.mu.Unlock()
		return true
	}
	begins()
	m.allowAgain(u) // before the run can end and revoke them
	d := newRun(m.ctx, m, u)
	// The first observation says how much time has passed, so later ones come after it.
	first.At = m.clock.now()
	task := d.task
	if stored == nil {
		d.inbox.add(item{Observation: first})
	} else {
		ctx := m.ctx
		task = func() { d.continueFrom(ctx, stored) }
	}
	d.busy = true
	m.runs[u.ID], m.byEndpoint[u.Endpoint] = d, d
	m.mu.Unlock()
	if !m.steps.Run(task) {
		d.mu.Lock()
		d.busy = false
		d.mu.Unlock()
	}
	return true
}

// release removes a run whose update has ended.
func (m *Manager) release(d *run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runs[d.id] == d {
		delete(m.runs, d.id)
	}
	if m.byEndpoint[d.target] == d {
		delete(m.byEndpoint, d.target)
	}
	m.forgetPull(d)
}

func (m *Manager) runOf(id string) *run {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runs[id]
}

func (m *Manager) runOfEndpoint(endpoint string) *run {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byEndpoint[endpoint]
}

// A task is a function that spawn runs.
type task struct {
	ctx context.Context
	f   func(context.Context)
}

// spawn runs fn in a goroutine that Run waits for. It reports false after Run has ended, and does
// not run fn.
func (m *Manager) spawn(fn func(ctx context.Context)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running {
		return false
	}
	ctx := m.ctx
	m.work.Add(1)
	m.workers.Go(task{ctx, fn})
	return true
}

// enlist has a worker call f with the context of Run. It reports false after Run has ended.
func (m *Manager) enlist(f func(ctx context.Context)) bool {
	m.mu.Lock()
	ctx := m.ctx
	m.mu.Unlock()
	return m.steps.Run(func() { f(ctx) })
}

// resumed returns the first observation of an update that Run resumes: it may not know the newest
// registration.
func (m *Manager) resumed(endpoint string) fsm.Observation {
	r, ok := m.srv.Registration(endpoint)
	o := observation(fsm.ObserveResumed, r)
	o.Online, o.Registered = ok && m.srv.Registered(endpoint), r.Registered
	return o
}

// call calls a function of the configuration, and logs its panic.
func (m *Manager) call(name string, fn func()) { work.GuardFunc(m.log, name, fn) }
