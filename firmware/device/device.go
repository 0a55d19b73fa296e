package device

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Config is the configuration of a [Device]. The zero value is a device that takes packages by push and by pull from any
// host.
type Config struct {
	// ObjectVersion is the highest version of Object 5 to offer. With LwM2M 1.0 it is 1.0 at most, with 1.1 it is 1.1, whatever
	// the client and the server agree on. Default: 1.1.
	ObjectVersion fsm.ObjectVersion
	// Delivery restricts the device to push or to pull (resource 5/0/9). Default: both.
	Delivery fsm.Delivery
	// Protocols are the protocols that packages can be pulled by (resource 5/0/8). Default: coap, http, https and
	// coap+tcp, and coaps and coaps+tcp if there are Credentials.
	Protocols []fsm.Protocol
	// Hosts are the hosts that packages are pulled from, each "name" or "name:port". Other hosts are refused with Result 7.
	// Default: any host.
	Hosts []string
	// FixedHost, if not "", is what the Package URI is appended to, which then must be a path only, such as
	// "https://fw.example.com": a device whose host is fixed in its firmware. Default: the URI is absolute.
	FixedHost string
	// MaxRedirects is how many HTTP redirects are followed, each to a host that is allowed, never from https to http.
	// Default: 0, a redirect is Result 7.
	MaxRedirects int

	// TLS is the configuration for https. Default: the system's roots.
	TLS *tls.Config
	// Transport carries HTTP requests instead of one made from TLS. It must not decompress. One that panics, or that does not
	// return 30 s after its request's context has ended, has failed; so have functions of TLS. Default: none.
	Transport http.RoundTripper
	// Credentials returns the keys for a download by coaps or coaps+tcp from a host, "name:port". The device never offers
	// those of its registration by itself; [ServerCredentials] does so to the one host that has them anyway. A call that panics,
	// or takes longer than 10 s, makes the download end with Result 4. Default: none.
	Credentials func(host string) lwm2m.FetchConfig

	// Attempts is how often a download is tried without getting further before it ends with Result 4. Default: 5.
	Attempts int
	// MinBackoff and MaxBackoff bound the pause between tries; it doubles in between. Defaults: 1 s and 1 min.
	MinBackoff, MaxBackoff time.Duration
	// Idle is how long to wait for the next bytes of a download by HTTP before the try counts as failed. The time that the
	// Installer takes for them does not count. Default: 30 s.
	Idle time.Duration
	// MaxSize is the most bytes that a package may have; a bigger one is Result 2, and the Write of it is answered with 5.00, as
	// whatever cannot be stored. Default: no limit but the installer's.
	MaxSize int64
	// SyncEvery is how many bytes of a download are made durable at a time; a crash loses at most so many. Default: 256 KiB.
	SyncEvery int64

	// ConfirmWithin is how long a version on trial may take to register and pass SelfTest before it is rolled back.
	// Default: 60 s.
	ConfirmWithin time.Duration
	// SelfTest is asked, after a version on trial has registered, whether it is good. One that panics says that it is not; so
	// does one that has not returned when ConfirmWithin is over, whatever it returns later; it is then given 30 s more to end
	// before the device does. Default: it is.
	SelfTest func(context.Context) error
	// Defer is asked at Execute whether to put the update off; it counts only if the server allows it (5/0/13). One that
	// panics, or takes longer than 10 s, puts it off. Default: never.
	Defer func() bool
	// Logger receives what the device has to say. Package URIs are shown without their last part, which may be a secret.
	// Default: nothing is.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.MinBackoff, time.Second)
	def(&c.MaxBackoff, time.Minute)
	def(&c.Idle, 30*time.Second)
	def(&c.ConfirmWithin, time.Minute)
	if c.ObjectVersion == 0 {
		c.ObjectVersion = fsm.Object11
	}
	if c.Attempts <= 0 {
		c.Attempts = 5
	}
	if c.SyncEvery <= 0 {
		c.SyncEvery = 256 << 10
	}
	if c.Protocols == nil {
		c.Protocols = []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP, fsm.ProtocolHTTPS, fsm.ProtocolCoAPTCP}
		if c.Credentials != nil {
			c.Protocols = append(c.Protocols, fsm.ProtocolCoAPS, fsm.ProtocolCoAPSTCP)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) method() fsm.DeliveryMethod {
	switch c.Delivery {
	case fsm.DeliveryPush:
		return fsm.PushOnly
	case fsm.DeliveryPull:
		return fsm.PullOnly
	default:
		return fsm.PushAndPull
	}
}

// Device is the device's side of an update: Object 5 for a [lwm2m.Client], over an [Installer]. It persists before it answers,
// and after a crash at any point it goes on where it was. It is a shell around [StateMachine], which decides.
//
// A device whose state cannot be saved ends the transfer that is under way, or refuses the next one, with Result 2, and
// shows that even if it cannot be saved either.
type Device struct {
	config    Config
	installer *guard
	log       *slog.Logger
	defers    *turn // Defer
	keys      *turn // Credentials

	// ops serializes what changes the machine together with its effects: requests, ends of jobs, timers. It is taken before
	// commits and mu, and never by a job, so that its holder can wait for one to end.
	ops lock
	// job is what works in the background, the last one if none does. Under ops.
	job *job
	// pending is the job to begin next. Under ops.
	pending jobKind
	// push is the package that is being written. Under ops.
	push *packageSink

	// again has run look at what failed, after a while. Under ops.
	again *time.Timer

	// commits serializes what changes the machine's durable copy. It is taken before mu.
	commits lock
	unsaved bool // object is not durable; under commits

	// mu guards the machine's value. It is never held during a call of what may block.
	mu      sync.Mutex
	object  fsm.Object
	version fsm.ObjectVersion // to offer
	client  notifier          // set by run
	lease   *lease            // of the run, nil while there is none
	test    <-chan struct{}   // closed when SelfTest has returned, nil if it was not called

	booted atomic.Bool   // changed under ops
	trial  bool          // the running version is on trial; under ops
	reboot bool          // the machine wants a reboot; under ops
	wake   chan struct{} // there is something for run to look at
}

// notifier is what a device needs of [lwm2m.Client].
type notifier interface {
	Notify(paths ...lwm2m.Path)
	WaitRegistered(ctx context.Context) error
}

// NewDevice returns a device. It starts nothing, and reads nothing before its object is used.
func New(installer Installer, config Config) *Device {
	config = config.withDefaults()
	log := config.Logger
	return &Device{
		config: config, installer: newGuard(installer, log), log: log, defers: newTurn(log), keys: newTurn(log),
		ops: make(lock, 1), commits: make(lock, 1),
		version: config.ObjectVersion, wake: make(chan struct{}, 1),
	}
}

// Object returns Object 5, Firmware Update, for the Objects of a [lwm2m.ClientConfig]. The client runs it: its Run ends with
// an error that is [ErrRestart] when another version is to be started.
func (d *Device) Object() lwm2m.Object { return (*deviceObject)(d) }

// State returns the machine as it is now.
func (d *Device) State(ctx context.Context) (StateMachine, error) {
	if d.booted.Load() { // whatever the installer is doing
		return d.snapshot(), nil
	}
	d.ops.Lock()
	defer d.ops.Unlock()
	if err := d.boot(ctx); err != nil {
		return StateMachine{}, err
	}
	return d.snapshot(), nil
}

// Accept is the consent of the device's user to an update that was deferred. Without one it changes nothing.
func (d *Device) Accept(ctx context.Context) error {
	d.ops.Lock()
	defer d.ops.Unlock()
	if err := d.boot(ctx); err != nil {
		return err
	}
	_, err := d.step(ctx, fsm.Input{Kind: fsm.InputAccept})
	return err
}

func (d *Device) snapshot() fsm.Object {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.object
}
