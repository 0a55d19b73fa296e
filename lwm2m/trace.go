package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// TraceConfig bounds a [Trace]. The zero value works. A trace ends at the first of its limits.
type TraceConfig struct {
	// Duration is how long the trace takes. Default: one minute; at most 10.
	Duration time.Duration
	// Messages bounds the entries of the trace. Default: 500; at most 5000.
	Messages int
	// Bytes bounds its memory. Default: 1 MiB; at most 8 MiB.
	Bytes int
}

// The bounds of traces.
const (
	maxTraces        = 4 // at the same time
	maxTraceTime     = 10 * time.Minute
	maxTraceMessages = 5000
	maxTraceBytes    = 8 << 20

	tracePeers   = 16   // addresses and associations of one device
	traceAsked   = 64   // requests whose answers may come
	tracePayload = 4096 // bytes of a payload that are kept
	traceCost    = 300  // bytes of an entry beside what it has of the message
)

// The errors of [Server.Trace].
var (
	// ErrTraced: the endpoint has a trace already.
	ErrTraced = errors.New("lwm2m: the endpoint is being traced already")
	// ErrTooManyTraces: as many endpoints are traced as may be at once.
	ErrTooManyTraces = errors.New("lwm2m: as many endpoints are traced as may be")
)

// Why a [Trace] has ended.
const (
	TraceEndTime     = "time"     // of its Duration
	TraceEndMessages = "messages" // it has as many as it may have
	TraceEndBytes    = "bytes"    // likewise
	TraceEndStopped  = "stopped"  // by Stop
	TraceEndServer   = "server"   // the server serves no socket any more
)

// A Trace keeps the CoAP messages of one device, in both directions, as long as it runs. It shows
// no secrets: see [TraceEntry]. Its methods may be called from several goroutines.
type Trace struct {
	Endpoint string
	Began    time.Time
	Until    time.Time // when it ends at the latest

	server *Server
	config TraceConfig
	models *Models
	timer  *time.Timer
	done   chan struct{}

	// What follows is guarded by traces.mu. Elements of list do not change.
	peers  map[coap.Peer]netip.AddrPort // with the address of the last message that came
	asked  []askedPath                  // the oldest first
	list   []tracedMessage
	bytes  int
	news   chan struct{} // closed when list has grown; nil if nothing waits
	ended  time.Time
	reason string
}

// traces are the traces of a server that run.
type traces struct {
	mu   sync.Mutex // taken with locks of the server or the endpoint held, never the reverse
	list []*Trace
}

// An askedPath is the path of a request whose answer may come.
type askedPath struct {
	token string
	in    bool // the request came in
	path  tracedPath
}

// Trace begins to keep the messages of an endpoint, which need not be registered: a Register of
// that name begins with it. The server traces at most four endpoints at once; without a trace a
// message costs one atomic load. The error is [ErrTraced], [ErrTooManyTraces], or names the field
// of the configuration that is wrong.
func (s *Server) Trace(endpoint string, config TraceConfig) (*Trace, error) {
	switch {
	case config.Duration < 0 || config.Duration > maxTraceTime:
		return nil, fmt.Errorf("lwm2m: TraceConfig.Duration: %s is not between 0 and %s", config.Duration, maxTraceTime)
	case config.Messages < 0 || config.Messages > maxTraceMessages:
		return nil, fmt.Errorf("lwm2m: TraceConfig.Messages: %d is not between 0 and %d", config.Messages, maxTraceMessages)
	case config.Bytes < 0 || config.Bytes > maxTraceBytes:
		return nil, fmt.Errorf("lwm2m: TraceConfig.Bytes: %d is not between 0 and %d", config.Bytes, maxTraceBytes)
	}
	if config.Duration == 0 {
		config.Duration = time.Minute
	}
	if config.Messages == 0 {
		config.Messages = 500
	}
	if config.Bytes == 0 {
		config.Bytes = 1 << 20
	}
	r, _ := s.Registration(endpoint)
	now := time.Now()
	t := &Trace{
		Endpoint: endpoint, Began: now, Until: now.Add(config.Duration), server: s, config: config, models: s.config.Models.For(r),
		done: make(chan struct{}), peers: make(map[coap.Peer]netip.AddrPort),
	}
	if err := s.enterTrace(t); err != nil {
		return nil, err
	}
	s.log.Info("a trace begins", slog.String("endpoint", endpoint), slog.Duration("for", config.Duration))
	return t, nil
}

func (s *Server) enterTrace(t *Trace) error {
	endpoint := t.Endpoint
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traces.mu.Lock()
	defer s.traces.mu.Unlock()
	switch {
	case slices.ContainsFunc(s.traces.list, func(other *Trace) bool { return other.Endpoint == endpoint }):
		return ErrTraced
	case len(s.traces.list) >= maxTraces:
		return ErrTooManyTraces
	}
	if d := s.table.byEndpoint.Get(endpoint); d != nil && d.reachable {
		t.peers[d.peer] = netip.AddrPort{}
	}
	s.traces.list = append(s.traces.list, t)
	t.timer = time.AfterFunc(t.config.Duration, func() { t.end(TraceEndTime) })
	s.coap.Trace(tracer{s})
	return nil
}

// Stop ends the trace, if it runs. What it has can be read on.
func (t *Trace) Stop() { t.end(TraceEndStopped) }

// Done returns a channel that is closed when the trace has ended.
func (t *Trace) Done() <-chan struct{} { return t.done }

// Ended returns when and why the trace has ended, such as [TraceEndTime]; the zero time and "" if
// it runs.
func (t *Trace) Ended() (at time.Time, reason string) {
	t.server.traces.mu.Lock()
	defer t.server.traces.mu.Unlock()
	return t.ended, t.reason
}

// Entries yields the entries with a number above after: those that the trace has, and while it runs
// those that come, until ctx ends. The loop may take any time; it delays nothing, and misses
// nothing.
func (t *Trace) Entries(ctx context.Context, after int) iter.Seq[TraceEntry] {
	return func(yield func(TraceEntry) bool) {
		for next := max(after, 0); ; {
			list, news := t.since(next)
			for i := range list {
				next++
				if ctx.Err() != nil || !yield(t.entry(next, &list[i])) {
					return
				}
			}
			switch {
			case len(list) > 0:
				continue
			case news == nil:
				return
			}
			select {
			case <-news:
			case <-t.done:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Len returns how many entries the trace has.
func (t *Trace) Len() int {
	t.server.traces.mu.Lock()
	defer t.server.traces.mu.Unlock()
	return len(t.list)
}

// since returns the messages from number next on, counted from 0, and a channel that is closed when
// there are more; nil if there will be none.
func (t *Trace) since(next int) (list []tracedMessage, news <-chan struct{}) {
	t.server.traces.mu.Lock()
	defer t.server.traces.mu.Unlock()
	list = t.list[min(next, len(t.list)):]
	if t.reason != "" {
		return list, nil
	}
	if t.news == nil {
		t.news = make(chan struct{})
	}
	return list, t.news
}

func (t *Trace) end(reason string) {
	all := &t.server.traces
	all.mu.Lock()
	defer all.mu.Unlock()
	t.endLocked(reason)
}

// endLocked is end with traces.mu held. Locks of the endpoint may be held too.
func (t *Trace) endLocked(reason string) {
	if t.reason != "" {
		return
	}
	t.reason, t.ended = reason, time.Now()
	t.timer.Stop()
	t.wake()
	close(t.done)
	all := &t.server.traces
	all.list = slices.DeleteFunc(all.list, func(other *Trace) bool { return other == t })
	if len(all.list) == 0 {
		t.server.coap.Trace(nil)
	}
}

// wake wakes those that wait for more. traces.mu is held.
func (t *Trace) wake() {
	if t.news != nil {
		close(t.news)
		t.news = nil
	}
}

// end ends all traces.
func (a *traces) end(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range slices.Clone(a.list) {
		t.endLocked(reason)
	}
}

// located notes where a device is. Server.mu is held.
func (a *traces) located(endpoint string, peer coap.Peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.list {
		if t.Endpoint == endpoint {
			t.admit(peer)
		}
	}
}

// admit begins to trace a peer. traces.mu is held.
func (t *Trace) admit(peer coap.Peer) bool {
	if _, known := t.peers[peer]; !known && len(t.peers) < tracePeers {
		t.peers[peer] = netip.AddrPort{}
	}
	_, ok := t.peers[peer]
	return ok
}

// failed notes a handshake that failed.
func (a *traces) failed(transport coap.Transport, addr netip.AddrPort, claimed string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range slices.Clone(a.list) {
		if claimed == t.Endpoint {
			t.keep(&tracedMessage{
				kind: traceHandshake, in: true, transport: Transport(transport), remote: addr, bare: true,
				note: clipped("The handshake failed: "+err.Error()+".", traceNote),
			})
		}
	}
}

// closed notes that an association or a connection has ended.
func (a *traces) closed(p coap.Peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range slices.Clone(a.list) {
		if at, ok := t.peers[p]; ok {
			t.keep(&tracedMessage{
				kind: traceClosed, transport: Transport(p.Transport), remote: at, bare: true,
				note: "The association or the connection has ended.",
			})
			delete(t.peers, p)
		}
	}
}

// tracer is the coap.Tracer of a server.
type tracer struct{ s *Server }

// Wants implements coap.Tracer. A Register that names a traced endpoint is wanted from any peer.
func (r tracer) Wants(p coap.Peer, options coap.Options) bool {
	a := &r.s.traces
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := false
	for _, t := range a.list {
		if _, ok := t.peers[p]; ok {
			wanted = true
		} else if registers(options, t.Endpoint) {
			wanted = t.admit(p) || wanted
		}
	}
	return wanted
}

// registers reports whether options are those of a Register of an endpoint.
func registers(options coap.Options, endpoint string) (named bool) {
	path := ""
	for _, o := range options {
		switch o.ID {
		case coap.URIPath:
			path += "/" + string(o.Value)
		case coap.URIQuery:
			named = named || len(o.Value) == 3+len(endpoint) && string(o.Value) == "ep="+endpoint
		}
	}
	return named && (path == "/rd" || path == "/rd/")
}

// Take implements coap.Tracer.
func (r tracer) Take(m *coap.TracedMessage) {
	a := &r.s.traces
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range slices.Clone(a.list) {
		if _, ok := t.peers[m.Peer]; ok {
			t.take(m)
		}
	}
}

// take keeps a message, and before it that the device has moved. traces.mu is held.
func (t *Trace) take(m *coap.TracedMessage) {
	if m.In {
		before := t.peers[m.Peer]
		for _, at := range t.peers { // over UDP each address is a peer
			if !before.IsValid() && at.IsValid() {
				before = at
			}
		}
		if before.IsValid() && before != m.Remote {
			t.keep(&tracedMessage{
				kind: traceMoved, in: true, transport: Transport(m.Peer.Transport), remote: m.Remote, local: m.Local, bare: true,
				note: "The device was at " + before.String() + " before.",
			})
		}
		for p, at := range t.peers {
			if at.IsValid() && p != m.Peer && p.Transport == coap.UDP {
				t.peers[p] = netip.AddrPort{} // so that a device that goes back has moved again
			}
		}
		if t.reason != "" {
			return
		}
		t.peers[m.Peer] = m.Remote
	}
	t.keep(t.copyOf(m))
}

// keep adds a message, or ends the trace. traces.mu is held.
func (t *Trace) keep(m *tracedMessage) {
	if t.reason != "" {
		return
	}
	size := traceCost + len(m.payload) + len(m.token) + len(m.note)
	for _, o := range m.options {
		size += len(o.Value) + 40
	}
	if t.bytes+size > t.config.Bytes {
		t.endLocked(TraceEndBytes)
		return
	}
	m.time = time.Now()
	t.bytes += size
	t.list = append(t.list, *m)
	t.wake()
	if len(t.list) >= t.config.Messages {
		t.endLocked(TraceEndMessages)
	}
}
