package telemetry

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/store"
)

// The attributes, beside those of the semantic conventions for RPC.
const (
	keyPhase     = attribute.Key("otago.update.phase")
	keyOutcome   = attribute.Key("otago.update.outcome")
	keyResult    = attribute.Key("otago.update.result")
	keyReason    = attribute.Key("otago.update.reason")
	keyImage     = attribute.Key("otago.image.name")
	keyVersion   = attribute.Key("otago.image.version")
	keyDelivery  = attribute.Key("otago.delivery")
	keyProtocol  = attribute.Key("otago.protocol")
	keyTransport = attribute.Key("otago.transport")
	keyEvent     = attribute.Key("otago.registration.event")
	keyDrop      = attribute.Key("otago.drop.kind")
	keyDevice    = attribute.Key("otago.device.state")
	keyQueue     = attribute.Key("otago.request.state")
	keyRollout   = attribute.Key("otago.rollout.id")
	keyMember    = attribute.Key("otago.rollout.member.state")
	keyState     = attribute.Key("otago.rollout.state")
	keyCause     = attribute.Key("otago.rollout.reason")
	keySystem    = attribute.Key("rpc.system.name")
	keyMethod    = attribute.Key("rpc.method")
	keyCode      = attribute.Key("rpc.response.status_code")
	keyError     = attribute.Key("error.type")
	other        = "other"
	system       = "coap"
)

// The boundaries of histograms, in seconds. Those of requests are those of the conventions, and go
// on to the longest push: devices answer slower than services.
var (
	requestBounds = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300, 900, 3600}
	phaseBounds   = []float64{0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400, 604_800}
	commitBounds  = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}
)

// instruments are the metrics.
type instruments struct {
	started, bytes, retransmissions, registrations, refused, handshakes, drops, retries metric.Int64Counter

	phase, update, call, wait, commit metric.Float64Histogram

	// Read when metrics are collected.
	ended                                       metric.Int64ObservableCounter
	active, queue, devices, rollouts, allMember metric.Int64ObservableUpDownCounter
	callback                                    metric.Registration

	sets sets
}

// make makes the instruments.
func (i *instruments) make(t *Telemetry, meter metric.Meter) error {
	var failed error
	counter := func(name, unit, text string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		failed = cmp.Or(failed, err)
		return c
	}
	histogram := func(name, text string, bounds []float64) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
		failed = cmp.Or(failed, err)
		return h
	}
	number := func(name, unit, text string) metric.Int64ObservableUpDownCounter {
		g, err := meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		failed = cmp.Or(failed, err)
		return g
	}
	i.started = counter("otago.updates.started", "{update}", "Updates that were created.")
	i.bytes = counter("otago.transfer.bytes", "By", "Bytes of packages that went to devices, counted at the end of each transfer.")
	i.retransmissions = counter("otago.coap.retransmissions", "{message}", "Messages that were sent again, since no acknowledgement came.")
	i.registrations = counter("otago.registrations", "{event}", "Events of registrations.")
	i.refused = counter("otago.registrations.refused", "{request}", "Registers, Updates, De-registers and Sends that the server refused.")
	i.handshakes = counter("otago.handshakes", "{handshake}", "Handshakes of DTLS and TLS that ended.")
	i.drops = counter("otago.drops", "{item}", "Items for which the server had no room.")
	i.retries = counter("otago.store.retries", "{commit}", "Commits of updates that failed and were tried again.")
	i.phase = histogram("otago.update.phase.duration", "Time of an update in a phase.", phaseBounds)
	i.update = histogram("otago.update.duration", "Time from the creation to the end of an update.", phaseBounds)
	i.call = histogram("rpc.client.call.duration", "Time from the first message of a request to a device to its end.", requestBounds)
	i.wait = histogram("otago.request.wait.duration", "Time that a request waited for its turn or for a sleeping device.", phaseBounds)
	i.commit = histogram("otago.store.commit.duration", "Time of a commit of the store.", commitBounds)
	i.active = number("otago.updates.active", "{update}", "Updates that run.")
	i.queue = number("otago.requests", "{request}", "Requests to devices that wait or are under way.")
	i.devices = number("otago.devices.registered", "{device}", "Registered devices.")
	i.rollouts = number("otago.rollouts.active", "{rollout}", "Rollouts that have not ended.")
	i.allMember = number("otago.rollout.members", "{device}", "Members of the rollouts that have not ended.")
	var err error
	i.ended, err = meter.Int64ObservableCounter("otago.updates.ended", metric.WithUnit("{update}"), metric.WithDescription("Updates that ended."))
	if failed = cmp.Or(failed, err); failed != nil {
		return failed
	}
	i.callback, err = meter.RegisterCallback(t.collect, i.ended, i.active, i.queue, i.devices, i.rollouts, i.allMember)
	return err
}

// sets keeps sets of attributes, so that a measurement makes none. Only bounded values are keys.
type sets struct {
	mu  sync.Mutex
	all map[set]metric.MeasurementOption
}

// A set is what distinguishes one set of attributes.
type set struct {
	keys   *[4]attribute.Key
	values [4]string
}

// of returns the set of attributes with these values, of which "" is left out.
func (s *sets) of(keys *[4]attribute.Key, values [4]string) metric.MeasurementOption {
	at := set{keys, values}
	s.mu.Lock()
	defer s.mu.Unlock()
	if option, ok := s.all[at]; ok {
		return option
	}
	var list []attribute.KeyValue
	for i, key := range keys {
		if values[i] != "" {
			list = append(list, key.String(values[i]))
		}
	}
	option := metric.WithAttributeSet(attribute.NewSet(list...))
	if s.all == nil {
		s.all = map[set]metric.MeasurementOption{}
	}
	s.all[at] = option
	return option
}

// queue is how many requests there are, as the hook has said last.
type queue struct{ waiting, underWay atomic.Int64 }

// An ending is how an update ended.
type ending struct {
	image           image
	outcome, result string
	reason          string
}

// An image is what metrics say of an image.
type image struct{ name, version string }

// endedCounter counts updates that ended. The images of which updates ended last have counts of
// their own. The counts of one that gives way go to those of other images, so that no count falls.
type endedCounter struct {
	limit  int
	mu     sync.Mutex
	counts map[ending]int64
	recent []image // the last one that was counted at the end
	names  map[string]image
}

// known returns what is known of an image by its id.
func (c *endedCounter) known(id string) (image, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.names[id]
	return i, ok
}

// add counts an update to the image with this id.
func (c *endedCounter) add(id string, e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts, c.names = map[ending]int64{}, map[string]image{}
	}
	c.names[id] = e.image
	for i, known := range c.recent {
		if known == e.image {
			c.recent = append(c.recent[:i], c.recent[i+1:]...)
			break
		}
	}
	c.recent = append(c.recent, e.image)
	if len(c.recent) > c.limit {
		c.mergeOldest()
	}
	c.counts[e]++
}

// mergeOldest adds the counts of the image that was counted longest ago to those of others.
func (c *endedCounter) mergeOldest() {
	oldest := c.recent[0]
	c.recent = append(c.recent[:0], c.recent[1:]...)
	for e, n := range c.counts {
		if e.image == oldest {
			delete(c.counts, e)
			e.image = image{other, other}
			c.counts[e] += n
		}
	}
	for id, i := range c.names {
		if i == oldest {
			delete(c.names, id)
		}
	}
}

// observe reports the counts.
func (c *endedCounter) observe(o metric.Observer, counter metric.Int64Observable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e, n := range c.counts {
		o.ObserveInt64(counter, n, metric.WithAttributes(keyOutcome.String(e.outcome), keyResult.String(e.result),
			keyReason.String(e.reason), keyImage.String(e.image.name), keyVersion.String(e.image.version)))
	}
}

// collect reports what is read when metrics are collected.
func (t *Telemetry) collect(ctx context.Context, o metric.Observer) error {
	if t.isClosed() {
		return nil
	}
	i := &t.metrics
	t.ended.observe(o, i.ended)
	o.ObserveInt64(i.queue, t.queue.waiting.Load(), metric.WithAttributes(keyQueue.String("waiting")))
	o.ObserveInt64(i.queue, t.queue.underWay.Load(), metric.WithAttributes(keyQueue.String("under_way")))
	devices, phases := map[string]int{}, map[firmware.Phase]int{}
	rollouts := &rolloutCounts{limit: t.config.MaxRollouts, states: map[[2]string]int64{}, members: map[[2]string]int64{}}
	var failed error
	for _, s := range t.observed() {
		if s.server != nil {
			listening, asleep, silent := s.server.Count(nil)
			devices["listening"] += listening
			devices["asleep"] += asleep
			devices["silent"] += silent
		}
		if s.updates != nil {
			for phase, n := range s.updates.Phases() {
				phases[phase] += n
			}
		}
		if s.rollouts != nil {
			failed = cmp.Or(failed, rollouts.add(ctx, s.rollouts))
		}
	}
	for state, n := range devices {
		o.ObserveInt64(i.devices, int64(n), metric.WithAttributes(keyDevice.String(state)))
	}
	for _, phase := range phasesOfActive {
		o.ObserveInt64(i.active, int64(phases[phase]), metric.WithAttributes(keyPhase.String(string(phase))))
	}
	for at, n := range rollouts.states {
		o.ObserveInt64(i.rollouts, n, metric.WithAttributes(keyState.String(at[0]), keyCause.String(at[1])))
	}
	for at, n := range rollouts.members {
		o.ObserveInt64(i.allMember, n, metric.WithAttributes(keyRollout.String(at[0]), keyMember.String(at[1])))
	}
	return failed
}

// phasesOfActive are the phases of updates that run.
var phasesOfActive = []firmware.Phase{
	firmware.PhaseWaiting, firmware.PhasePreparing, firmware.PhaseTransferring, firmware.PhaseTransferred, firmware.PhaseExecuting,
	firmware.PhaseRestarting, firmware.PhaseVerifying,
}

// rolloutCounts counts rollouts and members.
type rolloutCounts struct {
	limit, n int
	states   map[[2]string]int64 // by state and reason
	members  map[[2]string]int64 // by rollout and state
}

// maxRollouts bounds how many rollouts one collection reads.
const maxRollouts = 1000

// add counts the rollouts of a manager that have not ended, newest first.
func (c *rolloutCounts) add(ctx context.Context, m *rollout.Manager) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for r, err := range m.List(ctx, store.RolloutQuery{Active: true, Limit: maxRollouts}) {
		if r.Machine.State == "" { // it is damaged, or the store has failed
			if err != nil && ctx.Err() != nil {
				return err
			}
			continue
		}
		c.states[[2]string{string(r.Machine.State), string(r.Machine.Reason)}]++
		id := r.ID
		if c.n++; c.n > c.limit {
			id = other
		}
		n := &r.Machine.Total
		for state, count := range map[string]int{
			"waiting": n.Waiting, "active": n.Active, "succeeded": n.Succeeded, "failed": n.Failed, "rolled_back": n.RolledBack, "skipped": n.Skipped,
		} {
			c.members[[2]string{id, state}] += int64(count)
		}
	}
	return nil
}
