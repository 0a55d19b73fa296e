package device

import (
	"context"
	"fmt"
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Write applies all entries or none: it first steps a copy of the machine with each of them. A
// Replace of the instance resets the settings that it does not name. It does not touch Package and
// Package URI, whose write would start a transfer.
func (o *deviceObject) Write(ctx context.Context, path lwm2m.Path, entries []lwm2m.Entry, replace bool) error {
	d := o.device()
	ctx = d.request(ctx)
	d.ops.Lock()
	defer d.ops.Unlock()
	if err := d.boot(ctx); err != nil {
		return err
	}
	events := make([]fsm.Input, len(entries))
	trial := d.snapshot()
	for i, e := range entries {
		if e.Path.Instance() != 0 {
			return lwm2m.ErrNotFound
		}
		ev, err := d.writeEvent(e)
		if err != nil {
			return err
		}
		events[i] = ev
		var fx fsm.Effects
		trial, fx = trial.Step(ev)
		// A single entry is refused by the machine itself, which may show a Result.
		if err := codeError(fx.Code, e.Path); err != nil && len(entries) > 1 {
			return err
		}
	}
	if replace && path.Len() == 2 {
		for _, ev := range defaults(trial.Version) {
			if !slices.ContainsFunc(events, func(e fsm.Input) bool { return e.Kind == ev.Kind }) {
				events = append(events, ev)
			}
		}
	}
	for i, ev := range events {
		if ev.Kind == fsm.InputPackageBegin {
			value, _ := entries[i].Value.Bytes()
			if err := d.writePackage(ctx, value); err != nil {
				return err
			}
			continue
		}
		fx, err := d.step(ctx, ev)
		if err != nil {
			return err
		}
		if i < len(entries) {
			path = entries[i].Path
		}
		if err := codeError(fx.Code, path); err != nil {
			return err
		}
	}
	return nil
}

// defaults returns the inputs that reset the optional resources which a server can write.
func defaults(v fsm.ObjectVersion) (events []fsm.Input) {
	if v >= fsm.Object11 {
		events = append(events, fsm.Input{Kind: fsm.InputWriteSeverity, Value: fsm.SeverityMandatory}, fsm.Input{Kind: fsm.InputWriteMaxDefer})
	}
	if v >= fsm.Object12 {
		events = append(events, fsm.Input{Kind: fsm.InputWriteAutoUpgrade})
	}
	return events
}

// writeEvent returns the input that the write of an entry is.
func (d *Device) writeEvent(e lwm2m.Entry) (fsm.Input, error) {
	number := func(kind fsm.InputKind) (fsm.Input, error) {
		n, ok := e.Value.Int64()
		if !ok {
			return fsm.Input{}, lwm2m.ErrBadRequest
		}
		return fsm.Input{Kind: kind, Value: n}, nil
	}
	switch e.Path.Resource() {
	case resPackage:
		value, ok := e.Value.Bytes()
		if !ok {
			return fsm.Input{}, lwm2m.ErrBadRequest
		}
		if isReset(value) {
			return fsm.Input{Kind: fsm.InputReset}, nil
		}
		return fsm.Input{Kind: fsm.InputPackageBegin, Size: int64(len(value))}, nil
	case resURI:
		uri, ok := e.Value.Text()
		if !ok {
			return fsm.Input{}, lwm2m.ErrBadRequest
		}
		if uri == "" {
			return fsm.Input{Kind: fsm.InputReset}, nil
		}
		ev := fsm.Input{Kind: fsm.InputWriteURI, URI: uri}
		if _, err := d.config.source(uri); err != nil {
			d.log.Warn("package URI refused", "error", err)
			ev.Fault = resultOf(err, fsm.ResultInvalidURI)
		}
		return ev, nil
	case resSeverity:
		return number(fsm.InputWriteSeverity)
	case resMaxDefer:
		return number(fsm.InputWriteMaxDefer)
	case resAutoUpgrade:
		b, ok := e.Value.Bool()
		if !ok {
			return fsm.Input{}, lwm2m.ErrBadRequest
		}
		ev := fsm.Input{Kind: fsm.InputWriteAutoUpgrade}
		if b {
			ev.Value = 1
		}
		return ev, nil
	case resUpdate, resState, resResult, resName, resVersion, resProtocols, resMethod, resCancel, resChanged:
		return fsm.Input{}, lwm2m.ErrMethodNotAllowed
	default:
		return fsm.Input{}, fmt.Errorf("%w: resource %d", lwm2m.ErrNotFound, e.Path.Resource())
	}
}

// isReset reports whether the value of a package is a reset: a single NUL according to
// OMA-TS-LightweightM2M E.6, or nothing, as some servers send it.
func isReset(value []byte) bool { return len(value) == 0 || len(value) == 1 && value[0] == 0 }

// writePackage takes a package that came in one message.
func (d *Device) writePackage(ctx context.Context, value []byte) error {
	sink := &packageSink{device: d, ctx: context.WithoutCancel(ctx), size: int64(len(value))}
	if err := sink.write(value); err != nil {
		sink.abort(err)
		return err
	}
	return sink.commit()
}
