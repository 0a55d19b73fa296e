// Package telemetry turns the hooks of a [lwm2m.Server], a [firmware.Manager] and the rollouts of a
// [rollout.Manager] into OpenTelemetry metrics and traces. It uses the API of OpenTelemetry only:
// the program chooses the SDK and the exporters.
//
//	t, err := telemetry.New(telemetry.Config{})
//	...
//	db := t.Store(store) // measures commits
//	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Hooks: t.ServerHooks()})
//	...
//	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{Hooks: t.Hooks()})
//	...
//	rollouts, err := rollout.NewManager(srv, mgr, t.Rollouts(store), rollout.Config{})
//	...
//	t.Observe(srv, mgr, rollouts) // what is read when metrics are collected, and journals
//	defer t.Close()
//
// doc/compatibility.md of the repository lists the metrics, their attributes, and the spans.
//
// # Metrics
//
// Requests to devices follow the semantic conventions for RPC, with rpc.system.name "coap". All
// other names begin with "otago.". No metric has the endpoint of a device as an attribute. Images
// and rollouts have attributes of their own up to [Config].MaxImages and MaxRollouts; beyond, the
// values are those of "other". So the number of series has a bound that no device can raise.
//
// Gauges are read from the server and the managers when metrics are collected, so that they are
// right even if hooks were left out under load. Counters and histograms come from hooks; the
// counter otago.drops says how many calls of hooks the server left out.
//
// # Traces
//
// An update is one trace: a span "update" from its creation to its end, and a span "attempt" below
// it for each transfer. The spans carry the lines of the journal as events.
//
// They are made when the update ends, from its journal. So a restart of the server in the middle
// changes nothing, an update that waits for a week holds nothing in memory, and a backend that
// decides by whole traces gets them at once. An update that runs is not in the traces: the API and
// the page show it. A crash between the end and the export loses the trace.
//
// With the generator [IDs] in the SDK, [TraceID] and the ids of these spans follow from the id of
// the update, so that a program finds the trace of an update without asking. Without it the ids are
// random, and the attribute otago.update.id finds the trace.
//
// # Costs
//
// Metrics and traces cost some 0.2 ms of processor time for each update, half of it for the trace.
// A sampler of the SDK (OTEL_TRACES_SAMPLER) saves that half: of an update that is not sampled the
// journal is not read. Hooks run beside the updates: an exporter that blocks or panics delays none.
package telemetry

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
)

// Scope names the meter and the tracer.
const Scope = "github.com/otago-iot/otago/firmware/telemetry"

// Config is the configuration of a [Telemetry]. The zero value works.
type Config struct {
	// MeterProvider and TracerProvider get the metrics and the spans. Defaults: those of package
	// otel, also if the program sets them later.
	MeterProvider  metric.MeterProvider
	TracerProvider trace.TracerProvider
	// MaxImages bounds the images whose name and version are attributes: those of which an update
	// ended last. What is counted of the others has the name and version "other". Default: 20.
	MaxImages int
	// MaxRollouts bounds the rollouts whose id is an attribute: the newest that have not ended. The
	// members of the others are counted together, with the id "other". Default: 20.
	MaxRollouts int
	// Requests adds a span to the trace of an update for each action with its device, with at most
	// 256 for an update and 65,536 for all that run. The actions of a process that ended before the
	// update are left out. It costs some 100 bytes for each action until the update ends. Default:
	// none.
	Requests bool
}

// Telemetry makes metrics and traces. It is safe for concurrent use.
type Telemetry struct {
	config  Config
	tracer  trace.Tracer
	metrics instruments
	ended   endedCounter
	queue   queue
	actions actions

	mu      sync.Mutex
	sources []source
	closed  bool
}

// A source is what one call of Observe has named.
type source struct {
	server   *lwm2m.Server
	updates  *firmware.Manager
	rollouts *rollout.Manager
}

// New returns a Telemetry. It fails if the meter refuses an instrument.
func New(config Config) (*Telemetry, error) {
	switch {
	case config.MaxImages < 0:
		return nil, errors.New("telemetry: Config.MaxImages is negative")
	case config.MaxRollouts < 0:
		return nil, errors.New("telemetry: Config.MaxRollouts is negative")
	}
	config.MaxImages = cmp.Or(config.MaxImages, 20)
	config.MaxRollouts = cmp.Or(config.MaxRollouts, 20)
	if config.MeterProvider == nil {
		config.MeterProvider = otel.GetMeterProvider()
	}
	if config.TracerProvider == nil {
		config.TracerProvider = otel.GetTracerProvider()
	}
	t := &Telemetry{config: config, tracer: config.TracerProvider.Tracer(Scope)}
	t.ended.limit = config.MaxImages
	if err := t.metrics.make(t, config.MeterProvider.Meter(Scope)); err != nil {
		return nil, err
	}
	return t, nil
}

// Observe makes the Telemetry read what is collected, such as the registered devices, and the
// journals of updates for their traces. Each of the three may be nil. A program with several
// managers calls it for each; values of the same kind are added up then.
func (t *Telemetry) Observe(server *lwm2m.Server, updates *firmware.Manager, rollouts *rollout.Manager) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sources = append(t.sources, source{server, updates, rollouts})
}

// observed returns what Observe was called with.
func (t *Telemetry) observed() []source {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	return t.sources[:len(t.sources):len(t.sources)]
}

// isClosed reports whether Close was called.
func (t *Telemetry) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// Close ends the metrics that are read when they are collected, and makes hooks do nothing. It does
// not end the providers, which belong to the program. The error is that of the meter.
func (t *Telemetry) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed, t.sources = true, nil
	t.actions.clear()
	return t.metrics.callback.Unregister()
}

// readTimeout bounds the reads of a store for one trace or one collection.
const readTimeout = 5 * time.Second

// journal returns the journal of an update, from the manager that has it.
func (t *Telemetry) journal(ctx context.Context, u *firmware.Update) (lines []firmware.Event) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for _, s := range t.observed() {
		if s.updates == nil {
			continue
		}
		for line, err := range s.updates.Journal(ctx, u.ID) {
			if err == nil && len(lines) < maxLines {
				lines = append(lines, line)
			}
		}
		if len(lines) > 0 {
			break
		}
	}
	return lines
}

// maxLines bounds the lines of a journal in a trace; a store keeps no more of one update.
const maxLines = 512

// image returns the name of an image, "" if it is not known.
func (t *Telemetry) image(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for _, s := range t.observed() {
		if s.updates == nil {
			continue
		}
		if image, err := s.updates.Images().Get(ctx, id); err == nil {
			return image.Name
		}
	}
	return ""
}
