package firmware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Update is the record of one update: one image for one endpoint, from request to outcome.
type Update = store.Update

// ManagerConfig is the configuration of a [Manager]. With its zero value packages are pushed to devices.
type ManagerConfig struct {
	// Delivery serves packages to devices that pull them. It is mounted by the program. Default: none, so that this server
	// only pushes.
	Delivery *Delivery
	// PackageURI returns where the package of an update is on a server that is not this one, such as an object store, for one
	// protocol; "" says that it is not there by that protocol, and then Delivery serves it, if it does. PackageURI is called
	// for each protocol that Delivery does not serve, to learn which ones there are, and again for each URI that is written to
	// a device, so that a URI can be signed and end by itself: not within Limits.Transferring, by default 2 h.
	//
	// A URI is absolute, of the scheme that p names, with at most 255 bytes of ASCII, without user info or fragment; for a
	// profile with PathOnly it is a path. Logs and journals show its host only. What the device shows is then all that is
	// known of its progress; see also [Manager.Served].
	//
	// PackageURI has 10 s, by when ctx ends, and is called from up to 128 goroutines. If it fails, panics, or does not return in
	// time, the journal says so, and it is asked again with growing pauses; for a URI that cannot be written another protocol
	// is tried. Default: none.
	PackageURI func(ctx context.Context, u Update, p fsm.Protocol) (string, error)
	// Owns reports whether an endpoint is this manager's, for programs with several managers on one lwm2m.Server. Of other
	// endpoints the manager refuses requests, drives no update, shows, reads and deletes nothing. Each endpoint belongs to one
	// manager at most, and to the same one for as long as it has an active update. Owns is called often, from several
	// goroutines, and must not block; where it panics the endpoint is not the manager's. Default: all endpoints are.
	Owns func(endpoint string) bool

	// Profiles are the profiles that a [Request] may name, beside the built-in ones of [Profiles], which they may replace.
	Profiles map[string]fsm.Profile

	// Limits, Deadline and Attempts bound each update where its request says nothing. Defaults: those of package fsm.
	Limits   fsm.Limits
	Deadline time.Duration
	Attempts int

	// Parallel bounds the requests to devices that are under way at once and are being answered, and likewise the pushes,
	// which last longer and are counted apart, and the reads of an Inventory. A quarter of them is for devices that left the
	// last request unanswered. Default: 1024.
	Parallel int
	// Silent bounds the requests and pushes that a device has left unanswered and that are sent again: they hold up none of
	// those above. When there are more, the one that has been silent for longest is given up, as if its time were over.
	// Default: 16,384.
	Silent int
	// Inventory reads State, Result and firmware version of each device that registers, also when no update is active, so
	// that [Manager.Device] knows them. Default: only devices with an active update are read.
	Inventory bool

	// Logger receives what an operator of the server should know. Tokens are never logged. Default: nothing is.
	Logger *slog.Logger
	// Hooks are called at what is worth counting. Default: none.
	Hooks Hooks
}

// A Manager drives updates. Its methods may be called from several goroutines, also while Run is not running: what they
// change is then driven by the next Run.
type Manager struct {
	cfg      ManagerConfig
	srv      *lwm2m.Server
	db       store.Store
	images   *Repository
	delivery *Delivery     // nil for none
	uriCalls chan struct{} // holds one for each call of PackageURI
	log      *slog.Logger
	feed     *feed
	tail     *tail

	clock  *clock
	places *places
	unread unread
	steps  work.Pool // what blocks: steps of updates, look-ups in the store
	hooks  *hookRunner

	waiters waiters

	mu         sync.Mutex
	taken      bool                         // a Run has begun and not returned
	running    bool                         // and its context, as far as is known, has not ended
	runs       map[string]*run              // active updates, by id
	byEndpoint map[string]*run              // the same, by endpoint
	cancels    map[string]*action           // the farewells under way, by endpoint
	starting   map[string]bool              // ids that Start is about to store and adopt
	pulling    map[netip.Addr]map[*run]bool // those whose devices may download, by the device's address
	work       sync.WaitGroup
	ctx        context.Context // of Run, for what outlives a call
	stopped    chan struct{}   // closed once a Run has ended and none has begun again
}

// maxSteps is how many functions run at once that block: the steps of a hundred thousand updates that are
// loaded at once, or that cannot be stored, wait in line and cost no goroutine each. A store puts into one
// commit what it can.
const maxSteps = 512

// NewManager returns a manager of updates to devices of srv, with its records in db and images from images, the Repository
// of the same store. It starts nothing: see [Manager.Run]. One manager drives the updates of a store; a second one by mistake
// does no harm, but both are slow. Updates that have ended stay in the store: nothing here removes them.
//
// The manager handles no path of srv; it only watches registrations, handshakes that fail, and requests that change objects
// 5 and 33629 of its devices. So several managers, each with a store of its own, can share a server: see [ManagerConfig.Owns].
//
// The error says which field of cfg cannot work, and why.
func NewManager(srv *lwm2m.Server, db store.Store, images *Repository, cfg ManagerConfig) (*Manager, error) {
	if err := cfg.check(images); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 1024
	}
	if cfg.Silent == 0 {
		cfg.Silent = 16_384
	}
	m := &Manager{
		cfg: cfg, srv: srv, db: db, images: images, delivery: cfg.Delivery, log: cfg.Logger,
		uriCalls:   make(chan struct{}, maxPackageURICalls),
		feed:       newFeed(),
		tail:       newTail(cfg.Logger),
		clock:      newClock(),
		places:     newPlaces(cfg.Parallel, cfg.Silent),
		runs:       make(map[string]*run),
		byEndpoint: make(map[string]*run),
		cancels:    make(map[string]*action),
		starting:   make(map[string]bool),
		pulling:    make(map[netip.Addr]map[*run]bool),
		hooks:      newHookRunner(cfg.Logger),
		stopped:    make(chan struct{}),
	}
	m.steps = work.Pool{Limit: maxSteps, Start: func(worker func()) bool {
		return m.spawn(func(context.Context) { worker() })
	}}
	srv.Before(m.before)
	return m, nil
}

// check says what of a configuration cannot work.
func (c *ManagerConfig) check(images *Repository) error {
	bad := func(field, problem string, args ...any) error {
		return fmt.Errorf("firmware: ManagerConfig."+field+" "+problem, args...)
	}
	switch {
	case c.Delivery != nil && c.Delivery.images != images:
		return bad("Delivery", "serves images of another Repository")
	case c.Deadline < 0 || c.Deadline > MaxDeadline:
		return bad("Deadline", "is not between 0 and %s: %s", MaxDeadline, c.Deadline)
	case c.Attempts < 0 || c.Attempts > MaxAttempts:
		return bad("Attempts", "is not between 0 and %d: %d", MaxAttempts, c.Attempts)
	case c.Parallel < 0:
		return bad("Parallel", "is negative: %d", c.Parallel)
	case c.Silent < 0:
		return bad("Silent", "is negative: %d", c.Silent)
	}
	if err := c.Limits.Check(); err != nil {
		return bad("Limits", "cannot work: %w", err)
	}
	for name, profile := range c.Profiles {
		if err := profile.Check(); err != nil {
			return bad("Profiles", "has %.40q, which cannot work: %w", name, err)
		}
	}
	return nil
}

// owns reports whether an endpoint is this manager's.
func (m *Manager) owns(endpoint string) (owned bool) {
	if m.cfg.Owns == nil {
		return true
	}
	m.call("Owns", func() { owned = m.cfg.Owns(endpoint) })
	return owned
}

// Images returns the manager's repository.
func (m *Manager) Images() *Repository { return m.images }

// ErrRunning is returned by [Manager.Run] if it runs already.
var ErrRunning = errors.New("firmware: manager runs already")

// Run drives updates until ctx ends: first those that were active when the last Run ended, however it ended. It returns nil
// when ctx has ended and what was under way has stopped; before that only if the store cannot be read.
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
			m.log.Error("an active update cannot be read and is left as it is", "update", u.ID, "error", err)
			continue
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("firmware: loading active updates: %w", err)
		}
		if !m.owns(u.Endpoint) {
			m.log.Error("an active update is left as it is: its endpoint does not belong to this manager",
				"update", u.ID, "endpoint", u.Endpoint)
			continue
		}
		m.resume(ctx, u)
	}
	if m.delivery != nil {
		m.delivery.setReady()
	}
	if m.cfg.Inventory {
		m.catchUp(ctx)
	}
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
	select {
	case <-m.stopped:
		m.stopped = make(chan struct{})
	default:
	}
	return nil
}

// end stops what drives updates. Requests under way end with ctx.
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
	m.hooks.settle()
	m.mu.Lock()
	m.taken = false
	close(m.stopped)
	m.mu.Unlock()
}

// resume drives an update that was active before this Run. What its device did meanwhile was told to nobody, or to the server
// before the update was driven; that it has registered anew is all that cannot be found out by reading.
func (m *Manager) resume(ctx context.Context, u Update) {
	m.mu.Lock()
	starting := m.starting[u.ID]
	m.mu.Unlock()
	if !starting {
		m.adopt(u, m.resumed(u.Endpoint), func() { m.hook(ctx, "Resumed", m.cfg.Hooks.Resumed, u) })
	}
}

// adopt begins to drive an update with a first observation, and calls begins before anything of it. It does neither if Run is
// not running, the update is driven already, or it has ended, as one does that is cancelled while it is started.
func (m *Manager) adopt(u Update, first fsm.Observation, begins func()) {
	m.mu.Lock()
	delete(m.starting, u.ID)
	if !m.running || m.runs[u.ID] != nil || !u.Active() {
		m.mu.Unlock()
		return
	}
	begins()
	m.allowAgain(u) // before the run can end and revoke
	d := newRun(m, u)
	// What happens to the device from here on comes after the first observation, which says how much time has passed.
	first.At = m.clock.now()
	d.inbox.add(item{Observation: first})
	d.busy = true
	m.runs[u.ID], m.byEndpoint[u.Endpoint] = d, d
	m.mu.Unlock()
	if !m.enlist(d.work) {
		d.mu.Lock()
		d.busy = false
		d.mu.Unlock()
	}
}

// release forgets a run whose update has ended.
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

// spawn runs fn in a goroutine that Run waits for. It reports whether it did: it does not once Run has ended.
func (m *Manager) spawn(fn func(ctx context.Context)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running {
		return false
	}
	ctx := m.ctx
	m.work.Go(func() { fn(ctx) })
	return true
}

// enlist has f called, with the context of Run, and reports whether it will be: not once Run has ended.
func (m *Manager) enlist(f func(ctx context.Context)) bool {
	m.mu.Lock()
	ctx := m.ctx
	m.mu.Unlock()
	return m.steps.Run(func() { f(ctx) })
}

// resumed is the first observation of an update that is taken up: an endpoint's registration may be newer than what the
// update was told.
func (m *Manager) resumed(endpoint string) fsm.Observation {
	r, ok := m.srv.Registration(endpoint)
	o := observation(fsm.ObserveResumed, r)
	o.Online, o.Registered = ok && m.srv.Registered(endpoint), r.Registered
	return o
}

// call runs a function of the program that uses this package. A panic of it is logged, and is not ours.
func (m *Manager) call(name string, fn func()) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("a function of the configuration panicked", "function", name, "panic", p)
		}
	}()
	fn()
}
