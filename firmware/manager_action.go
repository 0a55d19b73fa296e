package firmware

import (
	"context"
	"errors"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// begin starts an action towards the device. Its end becomes an observation, unless it is abandoned first.
func (d *drive) begin(act fsm.Action, uri packageURI) {
	ctx, cancel := context.WithCancel(context.Background())
	d.mu.Lock()
	if d.stopped {
		d.mu.Unlock()
		cancel()
		return
	}
	u := d.u
	d.abandon = cancel
	d.mu.Unlock()
	d.m.spawn(func(run context.Context) {
		defer context.AfterFunc(run, cancel)()
		defer cancel()
		slots := d.slots(act.Kind)
		if !d.queue(ctx, slots, act.Kind, u.Machine.Plan.Limits.Transferring/4) {
			return
		}
		defer func() { <-slots }()
		began := time.Now()
		o := d.do(ctx, u, act, uri)
		if ctx.Err() != nil {
			return // abandoned, or Run ends: nobody listens
		}
		if f := d.m.cfg.Hooks.Action; f != nil {
			f(u, act.Kind, time.Since(began), o.Code.OK())
		}
		d.observe(o)
	})
}

// slots returns what bounds actions of a kind. Pushes take long; what is short does not wait for them.
func (d *drive) slots(kind fsm.ActionKind) chan struct{} {
	if kind == fsm.ActionPush {
		return d.m.pushes
	}
	return d.m.slots
}

// queue waits for a slot and reports whether it has one; it has none once ctx has ended. A push that waits for others of
// this server is told of now and then as one that moves: the device has no part in it, so its time does not count.
func (d *drive) queue(ctx context.Context, slots chan<- struct{}, kind fsm.ActionKind, every time.Duration) bool {
	var tick <-chan time.Time
	if kind == fsm.ActionPush {
		ticker := time.NewTicker(max(every, time.Second))
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case slots <- struct{}{}:
			return true
		case <-ctx.Done():
			return false
		case <-tick:
			d.observe(fsm.Observation{Kind: fsm.ObserveProgress})
		}
	}
}

// do carries an action out and says how it went.
func (d *drive) do(ctx context.Context, u Update, act fsm.Action, uri packageURI) fsm.Observation {
	o := fsm.Observation{Kind: fsm.ObserveDone, Action: act.ID}
	var err error
	switch act.Kind {
	case fsm.ActionRead:
		o.Reading, err = d.m.read(ctx, d.target, act.Resources)
	case fsm.ActionObserve:
		err = d.observeDevice(ctx)
	case fsm.ActionReset:
		err = d.m.reset(ctx, d.target, act.Reset)
	case fsm.ActionWriteURI:
		if err = uri.err; err == nil {
			err = d.m.srv.WriteValue(ctx, d.target, pathPackageURI, lwm2m.String(uri.text), lwm2m.NoWait())
		}
	case fsm.ActionPush:
		err = d.push(ctx, u)
	case fsm.ActionExecute:
		err = d.m.srv.Execute(ctx, d.target, pathUpdate, "", lwm2m.NoWait())
	default:
		err = lwm2m.ErrNotImplemented
	}
	o.Code, o.Detail = verdict(err)
	o.At = d.clock.now()
	if errors.Is(err, lwm2m.ErrAsleep) {
		d.observe(fsm.Observation{Kind: fsm.ObserveAsleep, At: o.At})
	}
	return o
}

// verdict turns the end of a request into what the machine wants to know of it: the device's answer, or that none came.
func verdict(err error) (fsm.Code, string) {
	if err == nil {
		return fsm.CodeChanged, ""
	}
	if answer, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		return fsm.Code(answer.Code), answer.Diagnostic
	}
	if errors.Is(err, errNotServed) {
		return fsm.CodeNotImplemented, err.Error()
	}
	return fsm.CodeNone, err.Error()
}

// observeDevice observes State and Result. What is notified is not believed, only taken as a sign that it is time to read.
func (d *drive) observeDevice(ctx context.Context) error {
	for _, old := range d.swapObservations(nil) {
		select {
		case <-old.Done():
		default:
			// A device that keeps one observation a path would end the new one.
			_ = old.Cancel(ctx)
		}
	}
	var list []*lwm2m.Observation
	for _, path := range []lwm2m.Path{pathState, pathResult} {
		present := true // the first call brings what is read anyway
		o, err := d.m.srv.Observe(ctx, d.target, path, func([]lwm2m.Entry) {
			if present {
				present = false
				return
			}
			d.observe(fsm.Observation{Kind: fsm.ObserveHint})
		}, lwm2m.NoWait())
		if err != nil {
			for _, o := range list {
				_ = o.Cancel(ctx)
			}
			return err
		}
		list = append(list, o)
	}
	d.mu.Lock()
	current := ctx.Err() == nil
	if current {
		d.observations = list
	}
	d.mu.Unlock()
	if !current {
		// Abandoned meanwhile: those of the action that follows must stay.
		for _, o := range list {
			_ = o.Cancel(ctx)
		}
	}
	return nil
}

func (d *drive) swapObservations(list []*lwm2m.Observation) []*lwm2m.Observation {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.observations
	d.observations = list
	return old
}

// reset brings a device back to State Idle.
func (m *Manager) reset(ctx context.Context, endpoint string, form fsm.ResetForm) error {
	if form == fsm.ResetNUL {
		return m.srv.WriteValue(ctx, endpoint, pathPackage, lwm2m.Opaque([]byte{0}),
			lwm2m.WithFormat(lwm2m.FormatOpaque), lwm2m.NoWait())
	}
	return m.srv.WriteValue(ctx, endpoint, pathPackageURI, lwm2m.String(""), lwm2m.NoWait())
}

// push writes the package itself into the device.
func (d *drive) push(ctx context.Context, u Update) error {
	pkg, err := d.m.images.Open(ctx, u.Image)
	if err != nil {
		return err
	}
	defer pkg.Close()
	return d.m.srv.WriteStream(ctx, d.target, pathPackage, pkg, pkg.Size(), lwm2m.WriteStreamOptions{
		Exclusive: true,
		Progress:  func(done, _ int64) { d.progress(done) },
	})
}

// progressEvery spaces the progress of one update that is shown.
const progressEvery = 250 * time.Millisecond

// progress notes that the device has done bytes of the package. It is called for every block.
func (d *drive) progress(done int64) {
	now := time.Now()
	d.mu.Lock()
	// The last byte is told at once, but not again and again.
	size := d.u.Machine.Plan.Size
	soon := now.Sub(d.served) < progressEvery && (done < size || d.u.Machine.Bytes >= size)
	if !soon {
		d.served = now
	}
	d.mu.Unlock()
	if !soon {
		d.observe(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: done})
	}
}

// leaveTimeout bounds what is still done for a device whose update has ended.
const leaveTimeout = time.Minute

// leave does a device whose update has ended the last favours: nobody waits for how they go.
func (d *drive) leave(ctx context.Context, u Update, last fsm.Action, observations []*lwm2m.Observation) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if d.queue(ctx, d.m.slots, last.Kind, 0) {
		defer func() { <-d.m.slots }()
	}
	if last.Kind == fsm.ActionCancel {
		err := d.m.srv.Execute(ctx, d.target, pathCancel, "", lwm2m.NoWait())
		if err != nil && last.Reset == fsm.ResetEmptyURI {
			err = d.m.reset(ctx, d.target, last.Reset)
		}
		d.m.log.Debug("told the device that its update has ended", "update", u.ID, "endpoint", u.Endpoint, "error", err)
	}
	for _, o := range observations {
		_ = o.Cancel(ctx)
	}
}
