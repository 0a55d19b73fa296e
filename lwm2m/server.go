package lwm2m

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// ServerConfig is the configuration of a [Server]. The zero value serves devices without credentials, on loopback only.
type ServerConfig struct {
	// Credentials are the devices' keys. Default: none, so that DTLS and TLS need certificates.
	Credentials Credentials
	// Certificate is what the server shows on DTLS and TLS. Default: none; then only pre-shared keys are offered.
	Certificate *tls.Certificate
	// ClientCAs are the roots of the devices' certificates. Default: none; then no certificate of a device is accepted.
	ClientCAs *x509.CertPool
	// NoSec allows transports without security on addresses other than loopback. Default: refused.
	NoSec bool

	// Registrations keeps registrations over restarts. Default: they are kept in memory and lost.
	Registrations RegistrationStore
	// Models are the object models. Default: the built-in ones.
	Models *Models
	// Authorize is asked before a Register is accepted, with what would be registered and its proven identity. An error
	// refuses the device: with 4.03, or with the code of the [ResponseError] or category that it is. Default: all are accepted.
	Authorize func(context.Context, Registration) error
	// Logger receives what the server has to say. Keys are never logged. Default: nothing is.
	Logger *slog.Logger

	// MinLifetime and MaxLifetime bound what devices ask for; a lifetime outside is refused with 4.00.
	// Defaults: 1 s and 10 years.
	MinLifetime, MaxLifetime time.Duration
	// AwakeTime is how long a device in queue mode is taken to listen after it was heard.
	// Default: 93 s, MAX_TRANSMIT_WAIT of RFC 7252.
	AwakeTime time.Duration
	// FlushInterval is how long renewed lifetimes are collected before they are stored. Default: 20 s; at most 30 s.
	FlushInterval time.Duration
	// MaxRegistrations bounds the number of endpoints known; further ones are answered 5.03. Default: 4 million.
	MaxRegistrations int
	// MaxMessage bounds a body that is collected in memory, from a device or for it. Default: 64 KiB.
	MaxMessage int
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.MinLifetime = max(cmp.Or(c.MinLifetime, time.Second), time.Second)
	c.MaxLifetime = cmp.Or(c.MaxLifetime, 10*365*24*time.Hour)
	c.AwakeTime = cmp.Or(c.AwakeTime, 93*time.Second)
	c.FlushInterval = min(cmp.Or(c.FlushInterval, 20*time.Second), 30*time.Second)
	c.MaxRegistrations = cmp.Or(c.MaxRegistrations, 4_000_000)
	c.MaxMessage = cmp.Or(c.MaxMessage, 64<<10)
	return c
}

// Server is the LwM2M server: it keeps the registrations of devices and sends them requests. Its methods may be called from
// several goroutines.
//
// Requests to one device are sent one at a time in the order of the calls. A request to a device in queue mode that sleeps
// waits until the device is heard or ctx ends; with [NoWait] it fails with [ErrAsleep] instead. An answer with an error
// code is a [*ResponseError]. A request that was not answered is [ErrTimeout], and also [ErrDeliveryUnknown] if carrying it
// out twice would matter. A request to an endpoint that is not registered is [ErrNotRegistered]. When the device registers
// anew in the middle, what only reads is sent to where it is now; what writes ends with [ErrDeliveryUnknown].
type Server struct {
	config ServerConfig
	log    *slog.Logger
	coap   *coap.Endpoint
	epoch  time.Time // of the server's own clock

	loading  sync.Mutex // held while registrations are loaded
	loaded   atomic.Bool
	keys     keyLocks   // one Register, Update or flush of an endpoint at a time
	flushing sync.Mutex // held while soft state is stored
	handlers handlers

	mu       sync.Mutex
	table    table
	dirty    map[string]struct{} // endpoints whose record is newer than the stored one
	serving  int                 // calls of ServePacket and its like that run
	timer    *time.Timer         // fires when the first device of the table is due; nil until used
	timerAt  time.Duration       // when it fires
	flusher  *time.Timer         // nil when nothing is dirty
	watchers map[*watcher]struct{}
	events   dispatcher
}

// NewServer returns a server. It starts nothing: see [Server.ListenAndServe].
func NewServer(config ServerConfig) *Server {
	s := &Server{
		config:   config.withDefaults(),
		epoch:    time.Now(),
		table:    newTable(),
		dirty:    make(map[string]struct{}),
		watchers: make(map[*watcher]struct{}),
	}
	s.log = s.config.Logger
	s.coap = coap.New(coap.Config{
		Handler:  coap.HandlerFunc(s.serveCOAP),
		OnClosed: s.associationClosed,
		MaxBody:  s.config.MaxMessage,
		Logger:   s.config.Logger,
	})
	return s
}

// now is the time on the server's own clock, which nobody sets.
func (s *Server) now() time.Duration { return time.Since(s.epoch) }

// Registration returns what is known of an endpoint, also after its registration ended; ok is false for one that was never
// registered.
func (s *Server) Registration(endpoint string) (r Registration, ok bool) {
	s.ensureLoaded()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint[endpoint]
	if d == nil {
		return Registration{}, false
	}
	return d.registration(), true
}

// Registrations returns the registrations of all endpoints, also ended ones, in no order. Those that come or go meanwhile
// may be missing.
func (s *Server) Registrations() iter.Seq[Registration] {
	return func(yield func(Registration) bool) {
		s.ensureLoaded()
		s.mu.Lock()
		all := make([]*device, 0, len(s.table.byEndpoint))
		for _, d := range s.table.byEndpoint {
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

// LocalAddress returns the server's address that a registered device used.
func (s *Server) LocalAddress(endpoint string) (netip.AddrPort, bool) {
	r, ok := s.Registration(endpoint)
	return r.Local, ok && r.ID != "" && r.Local.IsValid()
}

// enter counts a socket that begins to be served; with the first the clockwork starts. It fails if the registrations cannot
// be loaded.
func (s *Server) enter(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving++
	s.arm()
	return nil
}

// leave undoes enter; after the last all is at rest and stored.
func (s *Server) leave() {
	s.mu.Lock()
	s.serving--
	last := s.serving == 0
	if last {
		if s.timer != nil {
			s.timer.Stop()
		}
		for _, d := range s.table.byEndpoint {
			if a := d.activity; a != nil {
				a.queue.fail(ErrClosed)
				a.queue.interrupt(ErrClosed)
				s.endObservations(d, ErrClosed)
				d.trim()
			}
		}
	}
	s.mu.Unlock()
	if last {
		s.flushNow()
	}
}

// arm sets the timer to the time at which the first device is due. s.mu is held.
func (s *Server) arm() {
	if s.serving == 0 || len(s.table.due) == 0 {
		return
	}
	at := s.table.due[0].due
	switch {
	case s.timer == nil:
		s.timer = time.AfterFunc(at-s.now(), s.tick)
	case s.timerAt == at:
		return
	default:
		s.timer.Reset(at - s.now())
	}
	s.timerAt = at
}

// tick looks at all devices that are due.
func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timerAt = -1
	if s.serving == 0 {
		return
	}
	now := s.now()
	for len(s.table.due) > 0 && s.table.due[0].due <= now {
		d := s.table.due[0]
		s.table.unschedule(d)
		s.look(d, now)
	}
	s.arm()
}

// look does what is due at a device. s.mu is held.
func (s *Server) look(d *device, now time.Duration) {
	if !d.active() {
		return
	}
	if d.expires <= now {
		if d.activity == nil || len(d.activity.queue.running) == 0 {
			s.end(d, EventExpired)
			return
		}
		// Some clients send no Update while a transfer is going on, so it counts as one.
		d.expires = now + s.config.AwakeTime
	}
	if d.queue && d.awake && d.heard+s.config.AwakeTime <= now {
		s.fallAsleep(d)
	}
	s.schedule(d)
}

// schedule puts d into the heap for what comes next. s.mu is held.
func (s *Server) schedule(d *device) {
	due := d.expires
	if d.queue && d.awake {
		due = min(due, d.heard+s.config.AwakeTime)
	}
	s.table.schedule(d, due)
}

// fallAsleep notes that a device in queue mode listens no more. s.mu is held.
func (s *Server) fallAsleep(d *device) {
	if d.queue && d.awake {
		d.awake = false
		s.emit(Event{Kind: EventAsleep}, d)
	}
}

// hear notes that a device was heard, and lets go what waited for that. s.mu is held.
func (s *Server) hear(d *device) {
	d.settling = false
	d.heard = s.now()
	d.seen = time.Now().UnixNano()
	if !d.awake {
		d.awake = true
		if d.queue {
			s.emit(Event{Kind: EventAwake}, d)
			s.schedule(d)
			s.arm()
		}
	}
	s.grant(d)
}

// grant lets waiting requests go if the device is there to take them. s.mu is held.
func (s *Server) grant(d *device) {
	if d.activity != nil && d.active() && d.reachable && !d.settling && (d.awake || !d.queue) {
		d.activity.queue.grant()
	}
}

// end ends a registration. s.mu is held.
func (s *Server) end(d *device, kind EventKind) {
	delete(s.table.byID, d.id)
	s.table.leave(d)
	s.table.unschedule(d)
	d.id, d.awake, d.ended = "", false, time.Now().UnixNano()
	if a := d.activity; a != nil {
		a.queue.fail(ErrNotRegistered)
		a.queue.interrupt(ErrNotRegistered)
	}
	s.endObservations(d, ErrNotRegistered)
	s.emit(Event{Kind: kind}, d)
	s.touchStore(d)
	d.trim()
}

// associationClosed is told by the endpoint that a peer on DTLS, TCP or TLS is gone. The registration stays: the device
// comes back with a Register or an Update on another association.
func (s *Server) associationClosed(p coap.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.table.byPeer[p]; d != nil {
		s.table.leave(d)
		s.cutOff(d)
	}
}

// locate makes peer the way to d. s.mu is held.
func (s *Server) locate(d *device, peer coap.Peer) {
	if displaced := s.table.locate(d, peer); displaced != nil {
		s.log.Warn("two endpoints at one address", slog.Any("address", peer.Addr),
			slog.String("old", displaced.endpoint), slog.String("new", d.endpoint))
		s.cutOff(displaced)
	}
}

// cutOff ends what needs the way to a device, which is no more. s.mu is held.
func (s *Server) cutOff(d *device) {
	if d.activity != nil {
		d.activity.queue.interrupt(ErrUnreachable)
		if !d.queue {
			d.activity.queue.fail(ErrUnreachable)
		}
	}
	s.endObservations(d, ErrUnreachable)
	s.fallAsleep(d)
	d.trim()
}

// errInterrupted is why a request ended whose device is somewhere else now.
var errInterrupted = fmt.Errorf("%w where it was: it registered anew", ErrUnreachable)
