package lwm2m

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// ServerConfig is the configuration of a [Server]. The zero value serves devices without credentials, on loopback only.
type ServerConfig struct {
	// Credentials are the devices' keys. Default: none, so that DTLS and TLS need certificates, each of which may register its
	// own names.
	Credentials Credentials
	// Certificate is what the server shows on DTLS and TLS. Default: none; then only pre-shared keys are offered.
	Certificate *tls.Certificate
	// ClientCAs are the roots of the devices' certificates. Default: none; then no certificate of a device is accepted.
	ClientCAs *x509.CertPool
	// NoSec allows transports without security on addresses other than loopback. Default: refused.
	NoSec bool

	// ProveAddress has whoever downloads by coap over UDP prove first that it is at its address (Echo, RFC 9175), so that
	// nobody can have a download sent to an address that is not his. Fetch knows how; many devices do not, and take the
	// challenge for a refusal. Default: downloads begin at once, which suits paths that are secret.
	ProveAddress bool

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
	// MaxSilence ends the registration of a device that wants no lifetime (lt=0) when it was not heard for as long.
	// Default: 30 days.
	MaxSilence time.Duration
	// AwakeTime is how long a device in queue mode is taken to listen after it was heard.
	// Default: 93 s, MAX_TRANSMIT_WAIT of RFC 7252.
	AwakeTime time.Duration
	// FlushInterval is how long renewed lifetimes are collected before they are stored. Default: 20 s; at most 30 s.
	FlushInterval time.Duration
	// MaxRegistrations bounds the number of endpoints known; further ones are answered 5.03. With Credentials or ClientCAs a
	// quarter of it is for endpoints that have used credentials, as who has none can take any number of names; so it is with
	// MaxRegistrationBytes. Default: 4 million.
	MaxRegistrations int
	// MaxRegistrationBytes bounds what all endpoints together say of themselves: names, lists of objects (the same one counts
	// once, with 128 bytes more), identities and so on. What would be beyond is answered 5.03. Default: 1 GiB.
	MaxRegistrationBytes int64
	// MaxLinks bounds the list of objects of one Register or Update, in bytes, up to 64 KiB; a longer one is answered 4.13.
	// Default: 4 KiB.
	MaxLinks int
	// MaxMessage bounds a body that is collected in memory, from a device or for it. Default: 64 KiB.
	MaxMessage int
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.MinLifetime = max(cmp.Or(c.MinLifetime, time.Second), time.Second)
	c.MaxLifetime = cmp.Or(c.MaxLifetime, 10*365*24*time.Hour)
	c.MaxSilence = cmp.Or(c.MaxSilence, 30*24*time.Hour)
	c.AwakeTime = cmp.Or(c.AwakeTime, 93*time.Second)
	c.FlushInterval = min(cmp.Or(c.FlushInterval, 20*time.Second), 30*time.Second)
	c.MaxRegistrations = cmp.Or(c.MaxRegistrations, 4_000_000)
	c.MaxRegistrationBytes = cmp.Or(c.MaxRegistrationBytes, 1<<30)
	c.MaxLinks = min(cmp.Or(c.MaxLinks, 4<<10), 64<<10)
	c.MaxMessage = cmp.Or(c.MaxMessage, 64<<10)
	return c
}

// Server is the LwM2M server: it keeps the registrations of devices and sends them requests. Its methods may be called from
// several goroutines.
//
// [Server.Go] makes a request without waiting; Read, Write and the other methods that take a context wait for its answer.
//
// Requests to one device are sent one at a time in the order of the calls. A request to a device in queue mode that sleeps
// waits until the device is heard or ctx ends; with NoWait in [Server.Do] it fails with [ErrAsleep] instead. An answer with an error
// code is a [*ResponseError]. A request that was not answered is [ErrTimeout], and also [ErrDeliveryUnknown] if carrying it
// out twice would matter. A request to an endpoint that is not registered is [ErrNotRegistered]. When the device registers
// anew in the middle, what only reads is sent to where it is now; what writes ends with [ErrDeliveryUnknown].
type Server struct {
	config ServerConfig
	log    *slog.Logger
	coap   *coap.Endpoint
	epoch  time.Time // of the server's own clock

	wallStart atomic.Int64 // the time of day at epoch, in Unix nanoseconds; see wall

	loading  sync.Mutex // held while registrations are loaded
	loaded   atomic.Bool
	asking   asking     // of Credentials
	keys     keyLocks   // one Register, Update or flush of an endpoint at a time
	flushing sync.Mutex // held while soft state is stored
	handlers handlers

	mu       sync.Mutex
	table    table
	claims   map[coap.Peer]struct{} // addresses of which it is being found out who is there
	dirty    map[string]struct{}    // endpoints whose record is newer than the stored one
	serving  int                    // calls of ServePacket and its like that run
	unwatch  func()                 // ends watching Credentials; nil unless that is done
	timer    *time.Timer            // fires when the first device of the table is due; nil until used
	timerAt  time.Duration          // when it fires
	flusher  *time.Timer            // nil when nothing is dirty
	watchers map[*watcher]struct{}
	events   dispatcher
	before   []*hook // replaced, not changed

	handshakes handshakes
	starts     crew // makes and stops messages
	tellers    crew // calls functions of the program
}

// NewServer returns a server. It starts nothing: see [Server.ListenAndServe].
func NewServer(config ServerConfig) *Server {
	s := &Server{
		config:   config.withDefaults(),
		epoch:    time.Now(),
		table:    newTable(),
		claims:   make(map[coap.Peer]struct{}),
		dirty:    make(map[string]struct{}),
		watchers: make(map[*watcher]struct{}),
		asking:   asking{ended: make(chan struct{}, 1)},
		starts:   crew{limit: maxStarters},
		tellers:  crew{limit: maxTellers},
	}
	s.handshakes.crew.limit = 1
	s.wallStart.Store(s.epoch.UnixNano())
	s.log = s.config.Logger
	s.coap = coap.New(coap.Config{
		Handler:  coap.HandlerFunc(s.serveCOAP),
		OnClosed: s.associationClosed,
		MaxBody:  s.config.MaxMessage,
		Logger:   s.config.Logger,

		HandshakeFailed: s.handshakeFailed,
	})
	return s
}

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

// Registered reports whether the endpoint has a registration that holds now, by the clock of the server, which no step of the
// system's changes.
func (s *Server) Registered(endpoint string) bool {
	s.ensureLoaded()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint[endpoint]
	return d != nil && s.holds(d, s.now())
}

// Reachable reports whether the endpoint is registered, as Registered says, and there is a way to it as far as the server
// knows: its association or connection has not ended, and no other device was heard from its address since. A device in queue
// mode that sleeps is reachable, at its time.
func (s *Server) Reachable(endpoint string) bool {
	s.ensureLoaded()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byEndpoint[endpoint]
	return d != nil && d.reachable && s.holds(d, s.now())
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

// enter counts a socket that begins to be served; with the first the clockwork starts. It fails if the registrations cannot
// be loaded.
func (s *Server) enter(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.serving++
	first := s.serving == 1
	s.arm()
	s.mu.Unlock()
	if first {
		stop := s.watchCredentials()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unwatch = stop
	}
	return nil
}

// leave undoes enter; after the last all is at rest and stored.
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
		for _, d := range s.table.byEndpoint {
			s.failRequests(d, ErrClosed)
			s.endObservations(d, ErrClosed)
			d.trim()
		}
	}
	s.mu.Unlock()
	if last {
		s.guard("CredentialsWatcher.Watch", unwatch)
		s.flushNow()
	}
}

// errInterrupted is why a request ended whose device is somewhere else now.
var errInterrupted = fmt.Errorf("%w where it was: it registered anew", ErrUnreachable)
