package lwm2m

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/work"
)

// notifier keeps the observations of a link and decides when each gets a notification. One
// goroutine serves them all.
type notifier struct {
	client *Client
	wake   chan struct{} // holds a token when watches must be evaluated again

	mu      sync.Mutex
	watches []*watch
}

// A watch is one observation by the server.
type watch struct {
	paths    []Path
	base     Path // base path of payloads: the path, or the root for a composite
	format   ContentFormat
	own      Attributes // given with the observation (LwM2M 1.2)
	observer *coap.Observer

	changed  bool      // a value at its paths may have changed since the last evaluation
	sent     []Entry   // the values of the last notification
	seen     []Entry   // the values of the last evaluation
	sentAt   time.Time // time of the last notification
	seenAt   time.Time // time of the last evaluation
	lastConf time.Time // time of the last confirmable notification

	busySince time.Time    // when the values became unavailable, zero if they are not
	retryAt   time.Time    // no evaluation before this time
	pauses    work.Backoff // between evaluations that found them unavailable
}

func newNotifier(c *Client) *notifier { return &notifier{client: c, wake: make(chan struct{}, 1)} }

// rethink makes the notifier evaluate its watches again.
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

// changed marks the watches of paths as changed.
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

// observe answers Observe and Observe-Composite. It adds the watch before it reads the values, so
// that it misses no change in between.
func (op *operation) observe(ctx context.Context, paths []Path) (*coap.Response, error) {
	n := op.link.notifier
	w := &watch{paths: paths, base: op.path}
	if op.r.Code == coap.GET && len(op.r.Queries()) > 0 {
		own, err := parseAttributes(op.r.Queries()...)
		if err != nil || own.check() != nil {
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
		w.observer = op.accept()
	}
	if w.observer == nil || err != nil {
		n.remove(w)
		return resp, err // too many observations: the answer is that of a Read
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

// values returns the present values of a watch.
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

// run sends notifications until ctx ends.
func (n *notifier) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	var wake <-chan struct{} // nil during a pause
	for {
		n.mu.Lock()
		watches := slices.Clone(n.watches)
		n.mu.Unlock()
		next := time.Hour
		for _, w := range watches {
			next = min(next, n.look(ctx, w))
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
			wake = n.wake
		case <-wake:
			wake = nil
			pause.Reset(lookPause)
		case <-timer.C:
		}
	}
}

// look evaluates a watch if that is due, and returns the time until the next look.
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
	now := time.Now()
	if wait := w.retryAt.Sub(now); wait > 0 {
		return wait
	}
	s := n.schedule(w)
	overdue := !s.latest.IsZero() && !now.Before(s.latest)
	reeval := !s.evaluate.IsZero() && !now.Before(s.evaluate)
	early := changed && now.Before(s.earliest)
	if (changed || reeval) && !early || overdue {
		n.mu.Lock()
		w.changed = false
		n.mu.Unlock()
		if !n.evaluate(ctx, w, overdue) {
			n.mu.Lock()
			w.changed = w.changed || changed
			n.mu.Unlock()
			return w.retryAt.Sub(now)
		}
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
