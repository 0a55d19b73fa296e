package lwm2m

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// notifier keeps the observations of a link and decides when they are told what. One goroutine serves them all.
type notifier struct {
	client *Client
	wake   chan struct{} // holds a token when something is to be looked at

	mu      sync.Mutex
	watches []*watch
}

// A watch is one observation by the server.
type watch struct {
	paths    []Path
	base     Path // of payloads: the path, the root for a composite
	format   ContentFormat
	own      Attributes // given with the observation (LwM2M 1.2)
	observer *coap.Observer

	changed  bool      // something at its paths may have changed since the last evaluation
	sent     []Entry   // what the server was told last
	seen     []Entry   // what was evaluated last
	sentAt   time.Time // when the server was told
	seenAt   time.Time // when it was evaluated
	lastConf time.Time // when it was told confirmably
}

func newNotifier(c *Client) *notifier { return &notifier{client: c, wake: make(chan struct{}, 1)} }

// rethink has the notifier look at its watches.
func (n *notifier) rethink() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// clear forgets all watches.
func (n *notifier) clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.watches {
		if w.observer != nil {
			w.observer.Forget()
		}
	}
	n.watches = nil
}

// changed marks the watches that paths concern.
func (n *notifier) changed(paths []Path) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.watches {
		for _, p := range paths {
			if slices.ContainsFunc(w.paths, func(q Path) bool { return p.Contains(q) || q.Contains(p) }) {
				w.changed = true
			}
		}
	}
	n.rethink()
}

// observe answers Observe and Observe-Composite. The watch is in place before the values are read, so that no change falls
// between.
func (op *operation) observe(ctx context.Context, paths []Path) (*coap.Response, error) {
	n := op.link.notifier
	w := &watch{paths: paths, base: op.path}
	if op.r.Code == coap.GET && len(op.r.Queries()) > 0 {
		own, err := ParseAttributes(op.r.Queries()...)
		if err != nil || own.Check() != nil {
			return nil, ErrBadRequest
		}
		w.own = own
	}
	n.mu.Lock()
	n.watches = append(n.watches, w)
	n.mu.Unlock()
	resp, entries, err := op.firstValues(ctx, w)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		w.observer = op.r.Accept()
	}
	if w.observer == nil || err != nil {
		n.remove(w)
		return resp, err // a plain answer when there are too many observations
	}
	now := time.Now()
	w.sent, w.seen, w.sentAt, w.seenAt, w.lastConf = entries, entries, now, now, now
	n.rethink()
	return resp, nil
}

func (op *operation) firstValues(ctx context.Context, w *watch) (*coap.Response, []Entry, error) {
	entries, err := op.client.values(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	resp, err := op.content(w.base, entries)
	if err != nil {
		return nil, nil, err
	}
	f, _ := resp.ContentFormat.Get()
	w.format = ContentFormat(f)
	return resp, entries, nil
}

// values returns what a watch is told.
func (c *Client) values(ctx context.Context, w *watch) ([]Entry, error) {
	if w.base.IsRoot() {
		return c.readAll(ctx, w.paths), nil
	}
	return c.read(ctx, w.base)
}

// remove drops a watch. n.mu is held.
func (n *notifier) remove(w *watch) {
	n.watches = slices.DeleteFunc(n.watches, func(x *watch) bool { return x == w })
}

// run tells observers what changed until ctx ends.
func (n *notifier) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n.mu.Lock()
		watches := slices.Clone(n.watches)
		n.mu.Unlock()
		next := time.Hour
		for _, w := range watches {
			next = min(next, n.look(ctx, w))
		}
		timer.Reset(max(next, 0))
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-timer.C:
		}
	}
}

// look tells an observer if it is time to, and returns after how long to look again.
func (n *notifier) look(ctx context.Context, w *watch) time.Duration {
	n.mu.Lock()
	ready, changed := w.observer != nil, w.changed
	n.mu.Unlock()
	if !ready {
		return time.Hour
	}
	select {
	case <-w.observer.Done():
		n.mu.Lock()
		defer n.mu.Unlock()
		n.remove(w)
		return time.Hour
	default:
	}
	s := n.schedule(w)
	now := time.Now()
	overdue := !s.latest.IsZero() && !now.Before(s.latest)
	reeval := !s.evaluate.IsZero() && !now.Before(s.evaluate)
	early := changed && now.Before(s.earliest)
	if (changed || reeval) && !early || overdue {
		n.mu.Lock()
		w.changed = false
		n.mu.Unlock()
		n.evaluate(ctx, w, overdue)
		s = n.schedule(w)
		early = false
	}
	next := time.Hour
	if early {
		next = s.earliest.Sub(now)
	}
	for _, t := range []time.Time{s.latest, s.evaluate} {
		if !t.IsZero() {
			next = min(next, t.Sub(now))
		}
	}
	return next
}

// timing is when a watch may, must, and should be looked at.
type timing struct {
	earliest time.Time // before which nothing is told (pmin) or evaluated (epmin)
	latest   time.Time // at which something is told even if nothing changed (pmax); zero for never
	evaluate time.Time // at which values are evaluated even if no change was announced (epmax); zero for never
}

func (n *notifier) schedule(w *watch) (t timing) {
	a := n.attributes(w)
	pmin, _ := a.Duration(AttributePMin)
	epmin, _ := a.Duration(AttributeEPMin)
	t.earliest = later(w.sentAt.Add(pmin), w.seenAt.Add(epmin))
	if pmax, ok := a.Duration(AttributePMax); ok && pmax > 0 && pmax >= pmin {
		t.latest = w.sentAt.Add(pmax)
	}
	if epmax, ok := a.Duration(AttributeEPMax); ok && epmax > 0 {
		t.evaluate = later(w.seenAt.Add(epmax), w.sentAt.Add(pmin))
	}
	return t
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// attributes returns what holds for a watch: its own, then what is attached to its paths. For a composite pmin and pmax
// are those of the path that wants to know soonest.
func (n *notifier) attributes(w *watch) Attributes {
	a := w.own
	if len(w.paths) == 1 {
		return a.Inherit(n.client.effective(w.paths[0]))
	}
	least := math.Inf(1)
	var soonest Attributes
	for _, p := range w.paths {
		e := n.client.effective(p)
		v, ok := e.Get(AttributePMin)
		if !ok {
			v = 0
		}
		if v < least {
			least, soonest = v, e
		}
	}
	return a.Inherit(soonest)
}

// confirmEvery is how often a notification must be confirmable (RFC 7641, section 4.5), with a margin.
const confirmEvery = 23 * time.Hour

// evaluate reads the values of a watch and tells them if they are worth it, or if it must.
func (n *notifier) evaluate(ctx context.Context, w *watch, must bool) {
	entries, err := n.client.values(ctx, w)
	now := time.Now()
	a := n.attributes(w)
	if err != nil {
		w.observer.Notify(errorResponse(err), true)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.remove(w)
		return
	}
	worth := must || worthTelling(a, w, entries)
	w.seen, w.seenAt = entries, now
	if !worth {
		return
	}
	resp, err := n.client.encode(w.format, w.base, entries)
	if err != nil {
		// The format of the first answer no longer fits, such as text for what had one value and now has none.
		if resp, err = n.client.encode(FormatSenMLCBOR, w.base, entries); err != nil {
			resp = errorResponse(err)
		}
	}
	con, ok := a.Get(AttributeCon)
	confirmable := !ok || con == 1 || now.Sub(w.lastConf) > confirmEvery
	if confirmable {
		w.lastConf = now
	}
	w.sent, w.sentAt = entries, now
	w.observer.Notify(resp, confirmable)
}

// worthTelling applies gt, lt, st and edge, which are for a single value, or asks whether anything changed.
func worthTelling(a Attributes, w *watch, entries []Entry) bool {
	criteria := false
	if len(w.paths) == 1 && w.paths[0].Len() >= 3 && len(entries) == 1 && len(w.seen) == 1 && len(w.sent) == 1 {
		now, was, told := entries[0].Value, w.seen[0].Value, w.sent[0].Value
		if edge, ok := a.Get(AttributeEdge); ok && now.Type() == TypeBoolean {
			b, _ := now.Bool()
			before, _ := was.Bool()
			return b != before && b == (edge == 1)
		}
		x, okX := now.Float64()
		y, okY := was.Float64()
		z, okZ := told.Float64()
		if okX && okY && okZ {
			for _, limit := range []Attribute{AttributeGT, AttributeLT} {
				if l, ok := a.Get(limit); ok {
					criteria = true
					if crosses(limit, l, y, x) {
						return true
					}
				}
			}
			if st, ok := a.Get(AttributeST); ok {
				criteria = true
				if math.Abs(x-z) >= st {
					return true
				}
			}
		}
	}
	return !criteria && !slices.EqualFunc(entries, w.sent, func(a, b Entry) bool {
		return a.Path == b.Path && a.Value == b.Value
	})
}

// crosses reports whether going from one value to another passes a limit, in either direction.
func crosses(a Attribute, limit, from, to float64) bool {
	if a == AttributeGT {
		return (from > limit) != (to > limit)
	}
	return (from < limit) != (to < limit)
}
