package leshan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/lwm2m"
)

// The pace of a bridge.
const (
	// workers is how many posts are under way at once, each of another endpoint.
	workers = 8
	// postTime is how long a post may take. With its task queue down, Django takes 19 s, and then
	// answers that it failed although it stored the value.
	postTime = time.Minute
	// dialTime is how long a connection may take.
	dialTime = 10 * time.Second
	// minPause and maxPause bound the pause after a connection that could not be made.
	minPause, maxPause = time.Second, 30 * time.Second
	// stopTime is how long a post under way may take when the bridge stops.
	stopTime = 5 * time.Second
	// maxReading is how many devices are read at once after their Register.
	maxReading = 64
)

// DefaultFollow are the paths that flownexus's Leshan observes on each device that has them: a
// temperature, a humidity, State and Result of the firmware update, and the object 10300.
func DefaultFollow() []lwm2m.Path {
	return []lwm2m.Path{
		lwm2m.NewPath(3303, 0, 5700), lwm2m.NewPath(3304, 0, 5700), statePath, resultPath, lwm2m.NewPath(10300),
	}
}

// Config is the configuration of a [Bridge]. Sink and State must be set; the zero value of every
// other field works.
type Config struct {
	// Sink is the base URL of Django, such as http://127.0.0.1:8000. The bridge posts to
	// /leshan_api/resource/single and /leshan_api/resource/composite below it.
	Sink string
	// State is the name of the file that keeps what was posted and what waits. The bridge
	// makes the file and its folder. No two bridges may use the same file.
	State string
	// Follow are the paths that the bridge observes on each device that has them, and whose values
	// it takes from Sends: at most 64. Default: DefaultFollow.
	Follow []lwm2m.Path
	// Types are the resources that Django knows; the bridge posts no others. Default: DefaultTypes.
	Types Types
	// Literal504 makes the bridge answer a write or an Execute with 504 once the time that Django
	// gives (timeout=) has passed, as Leshan does. The write goes on, and an equal one joins it.
	// Default: the request stays open until the device answers, for ten minutes at most.
	Literal504 bool
	// AnyAddress allows a Sink outside of loopback and private networks. Default: refused.
	AnyAddress bool
	// Hosts are names under which Django reaches the REST API, besides IP addresses and names
	// without a dot. Default: none.
	Hosts []string
	// Busy returns the id of an update that the program itself drives on the device, "" if there is
	// none. The bridge then refuses, with 409, requests of Django that change object 5, and tells
	// Django neither State nor Result. It may be called from several goroutines, and must not block
	// for long. Default: there is none.
	Busy func(endpoint string) string
	// Logger receives the log of the bridge. Default: nothing is logged.
	Logger *slog.Logger
}

// Bridge connects a server with flownexus's Django. It is an [http.Handler] for the REST API that
// Django expects of Leshan, below /api/clients; Run does the rest.
type Bridge struct {
	config Config
	server *lwm2m.Server
	sink   *url.URL
	log    *slog.Logger
	dial   func(ctx context.Context, network, address string) (net.Conn, error)

	mu      sync.Mutex
	journal *journal
	devices map[string]*device
	queued  int      // bytes in all queues
	ready   []string // endpoints whose next post may begin
	wake    chan struct{}
	reads   []string // endpoints whose reads wait for their turn
	reading int      // reads under way
	broken  bool     // the state file cannot be written
	writes  map[string]*write
	odd     map[string]bool // endpoints that Django would change, to log each once

	places chan struct{} // for requests of the REST API
}

// New returns a bridge for a server, which should keep registrations over restarts
// (ServerConfig.Registrations). It reads the state file, and logs which posts an earlier process
// began without learning the answer. The error says what is wrong with config, or with the file.
func New(server *lwm2m.Server, config Config) (*Bridge, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Follow == nil {
		config.Follow = DefaultFollow()
	}
	if config.Types.types == nil {
		config.Types = DefaultTypes()
	}
	if config.Busy == nil {
		config.Busy = func(string) string { return "" }
	}
	sink, err := url.Parse(config.Sink)
	switch {
	case err != nil:
		return nil, fmt.Errorf("leshan: Config.Sink: %w", err)
	case sink.Scheme != "http" && sink.Scheme != "https" || sink.Host == "" || sink.RawQuery != "" || sink.User != nil:
		return nil, fmt.Errorf("leshan: Config.Sink: %q is not a base URL such as http://127.0.0.1:8000", config.Sink)
	case config.State == "":
		return nil, errors.New("leshan: Config.State must be set")
	case len(config.Follow) > 64:
		return nil, errors.New("leshan: Config.Follow has more than 64 paths")
	case slices.ContainsFunc(config.Follow, lwm2m.Path.IsRoot):
		return nil, errors.New("leshan: Config.Follow: / is no path to observe")
	}
	b := &Bridge{
		config: config, server: server, sink: sink, log: config.Logger,
		wake:   make(chan struct{}, 1),
		writes: map[string]*write{},
		odd:    map[string]bool{},
		places: make(chan struct{}, maxRequests),
	}
	b.dial = (&net.Dialer{Timeout: dialTime, ControlContext: b.checkAddress}).DialContext
	var damaged int
	b.journal, b.devices, damaged, err = openJournal(config.State)
	if err != nil {
		return nil, err
	}
	if damaged > 0 {
		b.log.Error("the state file was damaged; what the damaged lines held is lost", "file", config.State, "lines", damaged)
	}
	for endpoint, d := range b.devices {
		for _, p := range d.Queue {
			d.bytes += len(p.Body)
		}
		b.queued += d.bytes
		if p := d.Begun; p != nil {
			b.log.Warn("what became of a post is unknown; it is not repeated", "endpoint", endpoint, "path", p.Key,
				"reason", "an earlier process ended before the answer came")
			d.Begun = nil
			b.record(endpoint, d)
		}
		if d.Writing { // only what the device reports can say whether it took effect
			d.Writing, d.Written = false, 0
		}
		b.schedule(endpoint, d)
	}
	return b, nil
}

// Run posts to Django until ctx ends. Then it waits a few seconds for the answers to the posts that
// are under way, closes the state file and returns nil. Requests of Django that wait for a device
// end at once, with 504. It may be called once.
func (b *Bridge) Run(ctx context.Context) error {
	stopWatch := b.server.Watch(b.event)
	defer stopWatch()
	stopFollow := b.server.Follow(slices.Concat(b.config.Follow, []lwm2m.Path{{}}), nil, b.values) // the root stands for all Sends
	defer stopFollow()
	b.reconcile()

	group, working := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			for b.work(working) {
			}
			return nil
		})
	}
	group.Go(func() error {
		for work.Sleep(working, 5*time.Second) {
			b.repair()
		}
		return nil
	})
	<-ctx.Done()
	b.endWrites()
	_ = group.Wait() // none returns an error
	stopWatch()
	stopFollow()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.journal.close()
}

// device returns the memory of a device, and makes it if it is new. The caller holds mu.
func (b *Bridge) device(endpoint string) *device {
	d := b.devices[endpoint]
	if d == nil {
		d = &device{}
		b.devices[endpoint] = d
	}
	return d
}

// record stores a device in the state file. The caller holds mu.
func (b *Bridge) record(endpoint string, d *device) {
	text := encodeLine(endpoint, d)
	err := b.journal.append(text)
	if err == nil {
		d.recorded = len(text)
		if b.journal.size > compactSize && b.journal.size > 4*b.live() {
			err = b.compact()
		}
	}
	if err != nil {
		b.fail(err)
	}
}

// live returns the size in bytes that the state file has at least. The caller holds mu.
func (b *Bridge) live() int64 {
	var size int64
	for _, d := range b.devices {
		size += int64(d.recorded)
	}
	return size
}

// compact rewrites the state file, without devices that the server has forgotten. The caller holds
// mu.
func (b *Bridge) compact() error {
	for endpoint, d := range b.devices {
		if _, known := b.server.Registration(endpoint); !known && len(d.Queue) == 0 && d.Begun == nil && !d.scheduled {
			delete(b.devices, endpoint)
		}
	}
	return b.journal.compact(b.devices)
}

// fail notes that the state file cannot be written. The caller holds mu.
func (b *Bridge) fail(err error) {
	if !b.broken {
		b.log.Error("the state file cannot be written; posts wait until it can", "file", b.config.State, "error", err)
	}
	b.broken = true
}

// repair writes the state file as a whole if it could not be written before.
func (b *Bridge) repair() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.broken {
		return
	}
	if err := b.compact(); err != nil {
		return
	}
	b.broken = false
	b.log.Info("the state file can be written again", "file", b.config.State)
	b.signal()
}

// tell queues posts of a device, in their order, and stores the device. The caller holds mu.
func (b *Bridge) tell(endpoint string, d *device, posts ...post) {
	for _, p := range posts {
		before := d.bytes
		dropped := d.enqueue(p, maxQueued-b.queued)
		b.queued += d.bytes - before
		if dropped > 0 && d.dropped == 0 {
			b.log.Warn("values for Django are dropped: too many wait", "endpoint", endpoint, "path", p.Key)
		}
		d.dropped += dropped
	}
	b.record(endpoint, d)
	b.schedule(endpoint, d)
}

// schedule makes a device ready for a worker if it has a post. The caller holds mu, or is New.
func (b *Bridge) schedule(endpoint string, d *device) {
	if d.scheduled || len(d.Queue) == 0 {
		return
	}
	d.scheduled = true
	b.ready = append(b.ready, endpoint)
	b.signal()
}

// signal wakes a worker.
func (b *Bridge) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
