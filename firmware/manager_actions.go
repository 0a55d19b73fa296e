package firmware

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// begin starts an action with the device. Its end becomes an observation, unless giveUp comes
// first.
func (r *run) begin(ctx context.Context, u Update, act fsm.Action, uri packageURI) {
	done := fsm.Observation{Kind: fsm.ObserveDone, Action: act.ID}
	e := &action{m: r.m, endpoint: r.target, update: r.id, lane: laneRequest}
	e.notice = func(kind fsm.ObservationKind) { r.observe(fsm.Observation{Kind: kind, Action: act.ID}) }
	e.finish = func(err error) {
		r.mu.Lock()
		if r.action == e {
			r.action = nil
		}
		r.doubt = unanswered(err)
		if e.tried != nil {
			r.tried = e.tried
		}
		r.mu.Unlock()
		verdict(&done, err)
		if errors.Is(err, lwm2m.ErrAsleep) {
			r.observe(fsm.Observation{Kind: fsm.ObserveAsleep})
		}
		r.observe(done)
	}
	switch act.Kind {
	case fsm.ActionRead:
		e.composite = r.composite(ctx, u)
		e.run = func(e *action) { r.read(e, u, act.Resources, &done.Reading) }
	case fsm.ActionObserve:
		e.run = func(e *action) { r.observeDevice(e, &done.Reading) }
	case fsm.ActionReset:
		e.run = func(e *action) { e.simple(resetRequest(act.Reset)) }
	case fsm.ActionWriteURI:
		e.run = func(e *action) {
			if uri.err != nil {
				e.end(uri.err)
				return
			}
			e.simple(writeRequest(pathPackageURI, lwm2m.String(uri.text)))
		}
		r.m.notePull(r)
	case fsm.ActionPush:
		e.lane = laneTransfer
		e.run = func(e *action) { r.push(e, u) }
	case fsm.ActionExecute:
		e.run = func(e *action) { e.simple(lwm2m.Request{Operation: lwm2m.OpExecute, Path: pathUpdate}) }
	}
	if act.Kind != fsm.ActionRead && act.Kind != fsm.ActionObserve {
		r.m.stopCancel(r.target)
	}
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return
	}
	r.action, e.doubt = e, r.doubt
	e.closed = r.m.actionHooks(ctx, u, act.Kind)
	r.mu.Unlock()
	here := uri.here
	if act.Kind == fsm.ActionPush {
		here = math.MaxInt64
	}
	if here > 0 && r.m.images.blobs != nil {
		r.beginWithImage(e, u, act.Kind, here)
		return
	}
	e.begin()
}

// beginWithImage begins an action once the first here bytes of the image are on this machine. Until
// then the server's time runs, not the device's. The package stays open: for a push until its end,
// for a pull until the update has ended.
func (r *run) beginWithImage(e *action, u Update, kind fsm.ActionKind, here int64) {
	e.waits()
	r.m.images.openWhen(context.Background(), u.Image, here, func(pkg *Package, err error) {
		if err != nil {
			e.end(blamed(err))
			return
		}
		e.atEnd(func() { _ = pkg.Close() })
		if kind == fsm.ActionWriteURI {
			r.m.delivery.keepOpen(r.id)
		}
		e.begin()
	})
}

// blamed marks an error in opening an image: as errImage if the image is at fault, as errNotSent if
// the error may pass.
func blamed(err error) error {
	if lost(err) {
		return blame{errImage, err}
	}
	return blame{errNotSent, err}
}

// verdict describes the end of a request for the machine: the answer of the device, no answer, or a
// fault of this server.
func verdict(o *fsm.Observation, err error) {
	o.Code, o.Detail = fsm.CodeChanged, ""
	if err == nil {
		return
	}
	o.Code, o.Detail = fsm.CodeNone, err.Error()
	if answer, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		o.Code, o.Detail, o.Limit = fsm.Code(answer.Code), answer.Diagnostic, max(answer.Limit, 0)
		return
	}
	switch {
	case errors.Is(err, errImage):
		o.Fault = fsm.FaultImage
	case errors.Is(err, errNotServed):
		o.Fault = fsm.FaultURI
	case errors.Is(err, errNotSent):
		o.Fault = fsm.FaultNotSent
	}
}

// unanswered reports whether a request has ended because the device did not answer.
func unanswered(err error) bool {
	return errors.Is(err, lwm2m.ErrTimeout) || errors.Is(err, errCrowded)
}

// simple makes the only request of an action.
func (e *action) simple(r lwm2m.Request) {
	e.request(r, func(a lwm2m.Answer) { e.end(a.Err) })
}

func writeRequest(path lwm2m.Path, v lwm2m.Value) lwm2m.Request {
	return lwm2m.Request{Operation: lwm2m.OpWrite, Path: path, Entries: []lwm2m.Entry{{Path: path, Value: v}}}
}

// resetRequest returns the request that brings a device back to State Idle.
func resetRequest(form fsm.ResetForm) lwm2m.Request {
	if form == fsm.ResetNUL {
		r := writeRequest(pathPackage, lwm2m.Opaque([]byte{0}))
		r.Format = new(lwm2m.FormatOpaque)
		return r
	}
	return writeRequest(pathPackageURI, lwm2m.String(""))
}

// read reads the resources that the state machine asks for, and adds what this server knows of the
// device.
func (d *run) read(e *action, u Update, want fsm.Resources, r *fsm.Reading) {
	d.mu.Lock()
	d.seen = d.touches
	d.mu.Unlock()
	e.read(want, r, func(err error) {
		// The rest asks the store.
		d.m.enlist(func(ctx context.Context) {
			r.Holds = d.holds(ctx, u.Machine.Plan.Digest)
			if want.Has(fsm.ReadProtocols) {
				r.Offers = d.m.protocols(ctx, u)
			}
			e.end(err)
		})
	})
}

// observeDevice observes the State, and reads it into reading. It ends an earlier observation
// first: a device that keeps one observation per path would end the new one when the old one is
// cancelled later. What notifications say is not believed; it only helps the machine to choose when
// to read.
func (r *run) observeDevice(e *action, reading *fsm.Reading) {
	drop(r.swapObservation(nil))
	var first sync.Once // calls for the value that the answer has too
	values := func(entries []lwm2m.Entry) {
		present := false
		first.Do(func() { present = true })
		if !present {
			r.observe(hint(entries))
		}
	}
	e.request(lwm2m.Request{Operation: lwm2m.OpObserve, Path: pathState, Values: values}, func(a lwm2m.Answer) {
		if a.Err != nil {
			e.end(a.Err)
			return
		}
		fill(reading, a.Entries, fsm.ReadState)
		r.mu.Lock()
		current := r.action == e && !r.stopped
		if current {
			r.observation = a.Observation
		}
		r.mu.Unlock()
		if !current {
			drop(a.Observation) // given up meanwhile; the observation of the next action must stay
		}
		e.end(nil)
	})
}

// drop ends an observation, on the device too; nil is none.
func drop(o *lwm2m.Observation) {
	if o != nil {
		o.Drop(nil)
	}
}

// hint says that a device has sent entries of its own accord.
func hint(entries []lwm2m.Entry) fsm.Observation {
	o := fsm.Observation{Kind: fsm.ObserveHint}
	fill(&o.Reading, entries, fsm.ReadState)
	return o
}

// errImage means that an image is damaged or missing.
var errImage = errors.New("firmware: image cannot be read")

// push writes the package itself into the device.
func (r *run) push(e *action, u Update) {
	pkg, err := r.m.images.Open(context.Background(), u.Image)
	if err != nil {
		e.end(blamed(err))
		return
	}
	body := &watchedImage{Package: pkg}
	profile := u.Machine.Plan.Profile
	e.request(lwm2m.Request{
		Operation: lwm2m.OpWriteStream, Path: pathPackage, Body: body, Size: pkg.Size(), Exclusive: true,
		BlockSize: profile.BlockSize, SkipTaken: profile.SkipTaken,
		Progress: func(done, _ int64) { r.progress(done) },
	}, func(a lwm2m.Answer) { e.end(body.explain(a.Err)) })
	e.atEnd(func() { _ = pkg.Close() })
}

// A watchedImage is a package that remembers its own read errors, which are not the device's fault.
type watchedImage struct {
	*Package
	mu  sync.Mutex
	err error
}

// ReadAt implements io.ReaderAt.
func (w *watchedImage) ReadAt(b []byte, off int64) (int, error) {
	n, err := w.Package.ReadAt(b, off)
	if n < len(b) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = fmt.Errorf("%w: %d of %d bytes at %d: %w", errImage, n, len(b), off, err)
		return n, w.err
	}
	return n, err
}

// explain returns the image's read error if that ended the push, and err otherwise.
func (w *watchedImage) explain(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.err != nil {
		return w.err
	}
	return err
}

// progressEvery is the shortest time between two reports of progress of one update.
const progressEvery = 250 * time.Millisecond

// progress records how many bytes of the package the device has. It is called for each block.
func (r *run) progress(done int64) {
	now := time.Since(r.m.clock.start) + 1
	r.mu.Lock()
	// The last byte is reported at once, and once.
	size := r.u.Machine.Plan.Size
	soon := r.served != 0 && now-r.served < progressEvery && (done < size || r.u.Machine.Bytes >= size)
	if !soon {
		r.served = now
	}
	r.mu.Unlock()
	if !soon {
		r.observe(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: done})
	}
}
