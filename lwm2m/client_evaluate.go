package lwm2m

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"
)

// timing says from when on a watch may be evaluated, and when it must be.
type timing struct {
	earliest time.Time // no notification (pmin) or evaluation (epmin) before this time
	latest   time.Time // a notification is due even without a change (pmax); zero for never
	evaluate time.Time // an evaluation is due even without a reported change (epmax); zero for never
}

func (n *notifier) schedule(w *watch) (t timing) {
	a := n.attributes(w)
	pmin, _ := a.duration(AttributePMin)
	epmin, _ := a.duration(AttributeEPMin)
	t.earliest = later(w.sentAt.Add(pmin), w.seenAt.Add(epmin))
	if pmax, ok := a.duration(AttributePMax); ok && pmax > 0 && pmax >= pmin {
		t.latest = w.sentAt.Add(pmax)
	}
	if epmax, ok := a.duration(AttributeEPMax); ok && epmax > 0 {
		// Levels may have attributes that contradict each other: the minimum periods count.
		t.evaluate = later(w.seenAt.Add(epmax), t.earliest)
	}
	return t
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// attributes returns the attributes that apply to a watch: its own, then those of its paths. A
// composite takes them from the path with the lowest pmin.
func (n *notifier) attributes(w *watch) Attributes {
	a := w.own
	if len(w.paths) == 1 {
		return a.inherit(n.client.effective(w.paths[0]))
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
	return a.inherit(soonest)
}

// confirmEvery is how often a notification must be confirmable (RFC 7641, section 4.5), with a
// margin.
const confirmEvery = 23 * time.Hour

// The values of a watch may be unavailable for a moment: too many calls of the object run, or the
// object says so. Then the notifier evaluates the watch again after evaluateRetry and longer
// pauses, and ends the observation only when evaluateLimit has passed.
const (
	evaluateRetry = time.Second
	evaluateLimit = callLimit
)

// evaluate reads the values of a watch, and sends a notification if the attributes require one or
// must is set. It returns false if the values are unavailable and w.retryAt says when to try again.
func (n *notifier) evaluate(ctx context.Context, w *watch, must bool) bool {
	entries, err := call(ctx, n.client.calls, scopeOf(w.base), "Read", func() ([]Entry, error) { return n.client.values(ctx, w) }, nil)
	if ctx.Err() != nil {
		return true
	}
	now := time.Now()
	a := n.attributes(w)
	if errors.Is(err, ErrUnavailable) && !errors.Is(err, errHangs) && w.postpone(now) {
		return false
	}
	w.busySince, w.pauses = time.Time{}, 0
	if err != nil {
		w.observer.Notify(errorResponse(err), true)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.remove(w)
		return true
	}
	due := must || required(a, w, entries)
	w.seen, w.seenAt = entries, now
	if !due {
		return true
	}
	resp, err := n.client.encode(w.format, w.base, entries)
	if err != nil {
		// The format of the first answer no longer fits, for example text when the value is gone.
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
	return true
}

// postpone sets the time of another evaluation, and reports false if the values have been
// unavailable for too long.
func (w *watch) postpone(now time.Time) bool {
	if w.busySince.IsZero() {
		w.busySince = now
	}
	if now.Sub(w.busySince) >= evaluateLimit {
		return false
	}
	w.retryAt = now.Add(w.pauses.Next(evaluateRetry, 30*evaluateRetry))
	return true
}

// required reports whether the attributes require a notification of entries. For a single value gt,
// lt, st and edge decide; without them any change requires one.
func required(a Attributes, w *watch, entries []Entry) bool {
	criteria := false
	if len(w.paths) == 1 && w.paths[0].Len() >= 3 && len(entries) == 1 && len(w.seen) == 1 && len(w.sent) == 1 {
		now, was, sent := entries[0].Value, w.seen[0].Value, w.sent[0].Value
		if edge, ok := a.Get(AttributeEdge); ok && now.Type() == TypeBoolean {
			b, _ := now.Bool()
			before, _ := was.Bool()
			return b != before && b == (edge == 1)
		}
		x, okX := now.Float64()
		y, okY := was.Float64()
		z, okZ := sent.Float64()
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
