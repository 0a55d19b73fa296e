package lwm2m

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/work"
)

// Server is the LwM2M server: it keeps the registrations of devices and sends them requests. Its
// methods may be called from several goroutines.
//
// [Server.Go] makes a request without waiting; [Server.Do], Read, Write and the other methods that
// take a context wait for its answer.
//
// Requests to one device are sent one at a time in the order of the calls. A request to a device in
// queue mode that sleeps waits until the device is heard or ctx ends; with NoWait in its [Request]
// it fails with [ErrAsleep]. An answer with an error code is a [*ResponseError]. A request that was
// not answered is [ErrTimeout], and also [ErrDeliveryUnknown] if it matters whether the device has
// carried it out. A request to an endpoint that is not registered is [ErrNotRegistered]. If the
// device registers again during a request, the server repeats a request that only reads at the
// device's new address; one that writes ends with [ErrDeliveryUnknown].
type Server struct {
	config ServerConfig
	log    *slog.Logger
	coap   *coap.Endpoint
	epoch  time.Time // of the server's own clock

	wallStart atomic.Int64 // the time of day at epoch, in Unix nanoseconds; see wall

	loading    sync.Mutex // held while registrations are loaded
	loaded     atomic.Bool
	asking     asking       // of Credentials
	awakeCalls atomic.Int32 // of AwakeTimeOf that the server no longer waits for
	keys       work.Locks   // by endpoint: one Register, Update or flush at a time
	flushing   sync.Mutex   // held while soft state is stored
	handlers   handlers

	mu       sync.Mutex
	table    table
	claims   map[coap.Peer]struct{} // contested addresses that are being verified
	dirty    map[string]struct{}    // endpoints whose record is newer than the stored one
	waiting  int                    // calls that wait in queues of devices
	running  int                    // calls whose turn it is
	serving  int                    // running calls of ServePacket and the like
	unwatch  func()                 // stops watching Credentials; nil if they are not watched
	timer    *time.Timer            // fires when the first device of the table is due; nil until used
	timerAt  time.Duration          // when it fires
	flusher  *time.Timer            // nil when nothing is dirty
	watchers map[*watcher]struct{}
	events   dispatcher
	follow   followLine
	before   []*hook // replaced, not changed

	handshakes handshakes
	beginning  *Call     // that begin puts into a queue; guarded by mu
	starts     work.Pool // makes and stops messages
	callbacks  work.Pool // calls functions of the program
	workers    work.Workers[func()]
	hooks      hookCalls
	tally      tally
	trouble    trouble
	refusals   refusals
	traces     traces
}

// NewServer returns a server. It starts nothing: see [Server.ListenAndServe]. The error names the
// field of the configuration that is wrong.
func NewServer(config ServerConfig) (*Server, error) {
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("lwm2m: ServerConfig.%w", err)
	}
	s := &Server{
		config:   config.withDefaults(),
		epoch:    time.Now(),
		table:    newTable(),
		claims:   make(map[coap.Peer]struct{}),
		dirty:    make(map[string]struct{}),
		watchers: make(map[*watcher]struct{}),
		asking:   asking{ended: make(chan struct{}, 1)},
		starts:   work.Pool{Limit: maxStarters},
		workers:  work.Workers[func()]{Do: func(f func()) { f() }},
	}
	s.callbacks = work.Pool{Limit: maxCallbacks, Start: func(worker func()) bool {
		s.workers.Go(worker)
		return true
	}}
	s.handshakes.calls.Limit, s.hooks.calls.Limit = 1, 1
	s.wallStart.Store(s.epoch.UnixNano())
	s.log, s.asking.limit = s.config.Logger, s.config.MaxLookups
	s.coap = coap.New(coap.Config{
		Handler:  coap.HandlerFunc(s.serveCOAP),
		OnClosed: s.associationClosed,
		MaxBody:  s.config.MaxMessage,
		Logger:   s.config.Logger,

		HandshakeFailed: s.handshakeFailed,
		SocketBuffer:    s.config.SocketBuffer,
		Gate:            s.config.Gate,
		Hooks:           s.coapHooks(),
		Bounds:          s.config.bounds(),
	})
	return s, nil
}

// Registration returns what is known of an endpoint, also after its registration ended; ok is false
// for one that was never registered.
func (s *Server) Registration(endpoint string) (r Registration, ok bool) {
	s.ensureLoaded()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint.Get(endpoint)
	if d == nil {
		return Registration{}, false
	}
	return d.registration(), true
}

// Registered reports whether the endpoint has a registration that is valid now. It uses the
// server's own clock, which does not follow steps of the system's clock.
func (s *Server) Registered(endpoint string) bool {
	s.ensureLoaded()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint.Get(endpoint)
	return d != nil && s.holds(d, s.now())
}

// Reachable reports whether the endpoint is registered, as Registered says, and there is a way to
// it as far as the server knows: its association or connection has not ended, and no other device
// was heard from its address since. A device in queue mode counts as reachable while it sleeps.
func (s *Server) Reachable(endpoint string) bool {
	s.ensureLoaded()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint.Get(endpoint)
	return d != nil && d.reachable && s.holds(d, s.now())
}

// Presence says whether a device can be asked now.
type Presence string

// The values of Presence. They exclude each other.
const (
	Away      Presence = "" // not registered, as Registered says
	Listening Presence = "listening"
	Asleep    Presence = "asleep" // in queue mode, and does not listen now
	Silent    Presence = "silent" // left the last request unanswered, or is not Reachable
)

// Presence returns whether the endpoint can be asked now.
func (s *Server) Presence(endpoint string) Presence {
	s.ensureLoaded()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint.Get(endpoint)
	if d == nil {
		return Away
	}
	return s.presence(d, s.now())
}

// presence is Presence of a device. s.mu is held.
func (s *Server) presence(d *device, now time.Duration) Presence {
	switch {
	case !s.holds(d, now):
		return Away
	case !d.reachable || !d.queue() && !d.awake:
		return Silent
	case !d.awake:
		return Asleep
	}
	return Listening
}

// Registrations returns the registrations of all endpoints, also ended ones, in no order. It may
// miss registrations that begin or end meanwhile.
func (s *Server) Registrations() iter.Seq[Registration] {
	return func(yield func(Registration) bool) {
		s.ensureLoaded()
		s.mu.Lock()
		all := make([]*device, 0, s.table.byEndpoint.Len())
		for d := range s.table.byEndpoint.All() {
			all = append(all, d)
		}
		s.mu.Unlock()
		for _, d := range all {
			s.mu.Lock()
			r := d.registration()
			s.mu.Unlock()
			if !yield(r) {
				return
			}
		}
	}
}

// Count returns how many endpoints are registered, among those that selects reports, or with nil
// among all: how many of each [Presence] but Away there are. Count looks at every registration in
// memory.
func (s *Server) Count(selects func(endpoint string) bool) (listening, asleep, silent int) {
	s.ensureLoaded()
	s.mu.Lock()
	all := make([]*device, 0, s.table.byEndpoint.Len())
	for d := range s.table.byEndpoint.All() {
		all = append(all, d)
	}
	s.mu.Unlock()
	if selects != nil {
		all = slices.DeleteFunc(all, func(d *device) bool { return !selects(d.endpoint) })
	}
	const some = 1000 // for which other callers wait
	for part := range slices.Chunk(all, some) {
		s.mu.Lock()
		for now, i := s.now(), 0; i < len(part); i++ {
			switch s.presence(part[i], now) {
			case Silent:
				silent++
			case Asleep:
				asleep++
			case Listening:
				listening++
			}
		}
		s.mu.Unlock()
	}
	return listening, asleep, silent
}

// enter counts a socket that the server begins to serve; the first one starts the timers. It fails
// if the registrations cannot be loaded.
func (s *Server) enter(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.serving++
	first := s.serving == 1
	s.arm()
	if first {
		s.follow.next = s.now() + followPause
	}
	s.mu.Unlock()
	if first {
		s.workers.Keep(true)
		s.followRestored()
		stop := s.watchCredentials()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unwatch = stop
	}
	return nil
}

// leave undoes enter. For the last socket it ends all calls and stores all changes.
func (s *Server) leave() {
	s.mu.Lock()
	s.serving--
	last := s.serving == 0
	unwatch := s.unwatch
	if last {
		s.unwatch = nil
		if s.timer != nil {
			s.timer.Stop()
			s.timerAt = -1
		}
		for d := range s.table.byEndpoint.All() {
			s.failRequests(d, ErrClosed)
			s.endObservations(d, ErrClosed)
			d.trim()
		}
	}
	s.mu.Unlock()
	if last {
		s.traces.end(TraceEndServer)
		s.guard("CredentialsWatcher.Watch", unwatch)
		s.flushNow()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.workers.Keep(s.serving > 0) // ServePacket may have been called again
	}
}

// errInterrupted interrupts a request whose device has moved.
var errInterrupted = fmt.Errorf("%w where it was: it registered again", ErrUnreachable)
