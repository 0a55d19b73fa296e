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

// A runAction is an action of a run. Its end becomes an observation, unless giveUp comes first.
type runAction struct {
	action
	run  *run
	what fsm.Action
	uri  packageURI
	seen fsm.Reading
}

// begin starts an action with the device.
func (r *run) begin(ctx context.Context, u *Update, what fsm.Action, uri packageURI) {
	a := &runAction{
		action: action{m: r.m, endpoint: r.target, update: r.id, lane: laneRequest}, run: r, what: what, uri: uri,
	}
	a.plan = a
	here := uri.here
	switch what.Kind {
	case fsm.ActionRead:
		a.composite = r.composite(ctx, u)
		if what.Resources.Has(fsm.ReadDevice) {
			reg, ok := r.m.srv.Registration(r.target)
			device, _ := r.m.db.Device(ctx, r.target) // without it the device is read
			a.device = factsOf(&device, reg, ok)
		}
	case fsm.ActionWriteURI:
		r.m.notePull(r)
	case fsm.ActionPush:
		a.lane, here = laneTransfer, math.MaxInt64
	}
	if what.Kind != fsm.ActionRead && what.Kind != fsm.ActionObserve {
		r.m.stopCancel(r.target)
	}
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return
	}
	r.action, a.doubt = a, r.doubt
	a.hooks = r.m.actionHooks(ctx, u, what.Kind)
	r.mu.Unlock()
	if here > 0 && r.m.images.blobs != nil {
		a.beginWithImage(u.Image, here)
		return
	}
	a.begin()
}

// start implements plan.
func (a *runAction) start() {
	switch a.what.Kind {
	case fsm.ActionRead:
		a.run.mu.Lock()
		a.run.seen = a.run.touches
		a.run.mu.Unlock()
		a.read(a.what.Resources, &a.seen, a.end)
	case fsm.ActionObserve:
		a.observe()
	case fsm.ActionReset:
		a.simple(resetRequest(a.what.Reset))
	case fsm.ActionWriteURI:
		if a.uri.err != nil {
			a.end(a.uri.err)
			return
		}
		a.simple(writeRequest(pathPackageURI, lwm2m.String(a.uri.text)))
	case fsm.ActionPush:
		a.push()
	case fsm.ActionExecute:
		a.simple(lwm2m.Request{Operation: lwm2m.OpExecute, Path: pathUpdate})
	}
}

// notice implements plan.
func (a *runAction) notice(kind fsm.ObservationKind) {
	a.run.observe(fsm.Observation{Kind: kind, Action: a.what.ID})
}

// finish implements plan. Of a read, the step adds what this server knows of the device.
func (a *runAction) finish(err error) {
	r := a.run
	r.mu.Lock()
	if r.action == a {
		r.action = nil
	}
	r.doubt = unanswered(err)
	if a.trial.done {
		r.trial = a.trial
	}
	r.mu.Unlock()
	if a.device != nil && !a.device.read.Read.IsZero() {
		r.m.keepInventory(inventoryRead{endpoint: a.endpoint, facts: a.device.read})
	}
	if errors.Is(err, lwm2m.ErrAsleep) {
		r.observe(fsm.Observation{Kind: fsm.ObserveAsleep})
	}
	l := item{Observation: fsm.Observation{Kind: fsm.ObserveDone, Action: a.what.ID, Reading: a.seen}, read: a.what.Resources}
	verdict(&l.Observation, err)
	if l.read.Has(fsm.ReadProtocols) && (r.m.config.PackageURI != nil || r.m.delivery != nil && r.m.delivery.config.BaseURLs != nil) {
		// A function of the program may block, and an operator's order must not wait for it.
		late := l
		r.m.enlist(func(ctx context.Context) {
			r.complete(ctx, &late)
			r.deliver(late)
		})
		return
	}
	r.deliver(l)
}

// complete adds to what a read has found what this server knows of the device. It asks the store.
func (r *run) complete(ctx context.Context, l *item) {
	if l.read == 0 {
		return
	}
	u := r.copy()
	l.Reading.Holds = r.holds(ctx, u.Machine.Plan.Digest)
	if l.read.Has(fsm.ReadProtocols) {
		l.Reading.Offers = r.m.protocols(ctx, &u)
	}
	l.read, l.At = 0, r.m.clock.now()
}

// beginWithImage begins an action once the first here bytes of the image are on this machine. Until
// then the server's time runs, not the device's. The package stays open: for a push until its end,
// for a pull until the update has ended.
func (a *runAction) beginWithImage(image string, here int64) {
	a.waits()
	a.m.images.openWhen(context.Background(), image, here, func(pkg *Package, err error) {
		if err != nil {
			a.end(blamed(err))
			return
		}
		a.atEnd(func() { _ = pkg.Close() })
		if a.what.Kind == fsm.ActionWriteURI {
			a.m.delivery.keepOpen(a.update)
		}
		a.begin()
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

// observe observes the State, which is read into the observation that ends the action. It ends an
// earlier observation first: a device that keeps one observation per path would end the new one
// when the old one is cancelled later. What notifications say is not believed; it only helps the
// machine to choose when to read.
func (a *runAction) observe() {
	r := a.run
	drop(r.swapObservation(nil))
	var first sync.Once // calls for the value that the answer has too
	values := func(entries []lwm2m.Entry) {
		present := false
		first.Do(func() { present = true })
		if !present {
			r.observe(hint(entries))
		}
	}
	a.request(lwm2m.Request{Operation: lwm2m.OpObserve, Path: pathState, Values: values}, func(answer lwm2m.Answer) {
		if answer.Err != nil {
			a.end(answer.Err)
			return
		}
		fill(&a.seen, answer.Entries, fsm.ReadState)
		r.mu.Lock()
		current := r.action == a && !r.stopped
		if current {
			r.observation = answer.Observation
		}
		r.mu.Unlock()
		if !current {
			drop(answer.Observation) // given up meanwhile; the observation of the next action must stay
		}
		a.end(nil)
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
func (a *runAction) push() {
	u := a.run.copy()
	pkg, err := a.m.images.Open(context.Background(), u.Image)
	if err != nil {
		a.end(blamed(err))
		return
	}
	body := &watchedImage{Package: pkg}
	profile := u.Machine.Plan.Profile
	a.request(lwm2m.Request{
		Operation: lwm2m.OpWriteStream, Path: pathPackage, Body: body, Size: pkg.Size(), Exclusive: true,
		BlockSize: profile.BlockSize, SkipTaken: profile.SkipTaken,
		Progress: func(done, _ int64) { a.run.progress(done) },
	}, func(answer lwm2m.Answer) { a.end(body.explain(answer.Err)) })
	a.atEnd(func() { _ = pkg.Close() })
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
