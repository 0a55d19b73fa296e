package httpapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// maxNotices is how many notifications wait for a client that does not read: the newest.
const maxNotices = 16

// watches are the observations of devices that event streams show. Streams of the same paths of a
// device share one: many clients keep one observation for each path, and would end the first when
// they get a second.
type watches struct {
	mu sync.Mutex // guards what is in the watches and viewers, too
	by map[string]*watch
}

// A watch is an observation.
type watch struct {
	key     string
	viewers map[*viewer]struct{}
	last    *notice
	cancel  context.CancelFunc // ends the request

	begun       chan struct{} // closed when the device has answered, and the next two are set
	observation *lwm2m.Observation
	err         error
}

// A viewer is an event stream that shows a watch.
type viewer struct {
	watches *watches
	watch   *watch
	pending []notice
	news    chan struct{} // of capacity 1; has a value when pending has grown
}

// A notice is the values of a notification, or the present ones.
type notice struct {
	time    time.Time // when they came
	entries []lwm2m.Entry
}

// join returns a viewer of the observation that a request makes, or that an earlier one of the same
// paths has made, whatever format it asked for. do makes the request. The caller calls leave at the
// end.
func (w *watches) join(ctx context.Context, do func(context.Context, lwm2m.Request) (lwm2m.Answer, error), r lwm2m.Request) *viewer {
	key := fmt.Sprintf("%q %d %v %v", r.Endpoint, r.Operation, r.Path, r.Paths)
	w.mu.Lock()
	defer w.mu.Unlock()
	one := w.by[key]
	if one == nil || one.over() {
		one = &watch{key: key, viewers: make(map[*viewer]struct{}), begun: make(chan struct{})}
		if w.by == nil {
			w.by = make(map[string]*watch)
		}
		w.by[key] = one
		ctx, one.cancel = context.WithCancel(context.WithoutCancel(ctx)) // the request is that of all viewers
		r.Values = func(entries []lwm2m.Entry) { w.notify(one, entries) }
		go w.run(ctx, one, do, r)
	}
	v := &viewer{watches: w, watch: one, news: make(chan struct{}, 1)}
	one.viewers[v] = struct{}{}
	if one.last != nil {
		v.push(*one.last)
	}
	return v
}

// over reports whether the observation has ended, or could not be made.
func (one *watch) over() bool {
	select {
	case <-one.begun:
	default:
		return false
	}
	if one.err != nil {
		return true
	}
	select {
	case <-one.observation.Done():
		return true
	default:
		return false
	}
}

// run makes the observation, and forgets it when it has ended.
func (w *watches) run(ctx context.Context, one *watch, do func(context.Context, lwm2m.Request) (lwm2m.Answer, error), r lwm2m.Request) {
	defer one.cancel()
	answer, err := do(ctx, r)
	w.mu.Lock()
	one.observation, one.err = answer.Observation, err
	if one.observation == nil && err == nil {
		one.err = errors.New("httpapi: an observation without an observation")
	}
	alone := len(one.viewers) == 0
	close(one.begun)
	w.mu.Unlock()
	switch {
	case one.observation == nil:
	case alone || one.err != nil:
		one.observation.Drop(nil)
	default:
		<-one.observation.Done()
	}
	w.forget(one)
}

func (w *watches) forget(one *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by[one.key] == one {
		delete(w.by, one.key)
	}
}

// notify passes values on to the viewers. It does not wait for them.
func (w *watches) notify(one *watch, entries []lwm2m.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one.last = &notice{time.Now(), entries}
	for v := range one.viewers {
		v.push(*one.last)
	}
}

// push adds a notice in place of the oldest, if there is no room. watches.mu is held.
func (v *viewer) push(n notice) {
	if len(v.pending) == maxNotices {
		v.pending = slices.Delete(v.pending, 0, 1)
	}
	v.pending = append(v.pending, n)
	select {
	case v.news <- struct{}{}:
	default:
	}
}

// next returns the oldest notice that waits.
func (v *viewer) next() (n notice, ok bool) {
	v.watches.mu.Lock()
	defer v.watches.mu.Unlock()
	if len(v.pending) == 0 {
		return n, false
	}
	n = v.pending[0]
	v.pending = v.pending[1:]
	return n, true
}

// begun waits until the device has answered, for a time. The error is a problem.
func (v *viewer) begun(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errWaited)
	defer cancel()
	var err error
	select {
	case <-v.watch.begun:
		err = v.watch.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		err = deviceProblem(err, timeout)
	}
	return err
}

// leave ends the observation if there is no other viewer.
func (v *viewer) leave() {
	w, one := v.watches, v.watch
	w.mu.Lock()
	delete(one.viewers, v)
	last := len(one.viewers) == 0
	if last && w.by[one.key] == one {
		delete(w.by, one.key)
	}
	w.mu.Unlock()
	if !last {
		return
	}
	one.cancel()
	select {
	case <-one.begun:
		if one.observation != nil {
			one.observation.Drop(nil)
		}
	default: // run drops it
	}
}
