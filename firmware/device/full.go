package device

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// notSaved handles a step that could not be saved because of cause, usually a disk that the package
// has filled. An input that would continue a transfer ends it instead, with the Result of cause. An
// input that ends a transfer takes effect, and first frees the space of the package. The device
// shows the outcome even if it cannot save that either: a crash then repeats a transfer, whereas a
// device that stays in Downloading makes the server wait until its limit. The outcome is saved as
// soon as that is possible.
//
// A nil error means that the step took effect. A request that is not durable is never answered with
// success. The caller holds ops.
func (d *Device) notSaved(ctx context.Context, ev fsm.Input, cause error) (fsm.Effects, error) {
	was := d.snapshot()
	end, ok := endOf(was, ev, resultOf(cause, fsm.ResultNoStorage))
	if !ok {
		return fsm.Effects{}, cause
	}
	next, fx := was.Step(end)
	if fx.Abort {
		d.abort()
	}
	if fx.DeleteImage {
		d.discard(ctx)
	}
	saved := d.settle(ctx, next)
	d.log.Warn("firmware update", "event", end.Kind, "state", next.State, "result", next.Result, "saved", saved)
	d.follow(fx)
	switch ev.Kind {
	case fsm.InputWriteURI, fsm.InputPackageBegin, fsm.InputPackageEnd:
		return fsm.Effects{}, cause
	case fsm.InputReset, fsm.InputCancel:
		if !saved {
			return fsm.Effects{}, cause
		}
	}
	return fx, nil
}

// endOf returns the input that takes the place of ev when ev cannot be saved. ok is false if ev can
// wait, or can be refused without a change.
func endOf(was fsm.Object, ev fsm.Input, result fsm.Result) (end fsm.Input, ok bool) {
	end = ev
	switch ev.Kind {
	case fsm.InputWriteURI, fsm.InputPackageBegin:
		end.Fault = result
	case fsm.InputPackageEnd:
		end = fsm.Input{Kind: fsm.InputPackageAbort, Transfer: ev.Transfer, Fault: result}
	case fsm.InputDownloadComplete:
		end = fsm.Input{Kind: fsm.InputDownloadFailed, Transfer: ev.Transfer, Fault: result}
	case fsm.InputVerified:
		end = fsm.Input{Kind: fsm.InputVerifyFailed, Transfer: ev.Transfer, Fault: result}
	case fsm.InputBoot:
		if was.State == fsm.Downloading {
			end.Fault = result
		}
	case fsm.InputPackageAbort, fsm.InputDownloadFailed, fsm.InputVerifyFailed, fsm.InputInstallFailed, fsm.InputReset, fsm.InputCancel:
	default:
		return fsm.Input{}, false
	}
	end.At = ev.At
	return end, true
}

// settle makes next current, and reports whether it is also durable.
func (d *Device) settle(ctx context.Context, next fsm.Object) (saved bool) {
	d.commits.Lock()
	defer d.commits.Unlock()
	err := d.save(ctx, next)
	if err != nil {
		d.log.Error("state not saved", "error", err)
	}
	d.mu.Lock()
	d.object = next
	d.mu.Unlock()
	d.unsaved = err != nil
	return err == nil
}

// saveLate saves the current value if it is not durable, or schedules another try. The caller holds
// ops.
func (d *Device) saveLate(ctx context.Context) {
	d.commits.Lock()
	defer d.commits.Unlock()
	if !d.unsaved {
		return
	}
	if err := d.save(ctx, d.snapshot()); err != nil {
		d.later(d.config.MaxBackoff)
		return
	}
	d.unsaved = false
	d.log.Info("state saved late")
}

// later wakes up run after the given time. The caller holds ops.
func (d *Device) later(after time.Duration) {
	if d.again != nil {
		d.again.Stop()
	}
	d.again = time.AfterFunc(after, d.kick)
}
