package device

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// notSaved is a step whose outcome could not be made durable, for cause: mostly because the disk is full, and mostly full of
// the package. What would go on with a transfer ends it instead, with the Result of cause; what ends something first makes
// room. The outcome of that is shown even if it cannot be saved either: a crash then costs a repetition, while a device that
// stays in Downloading without a word costs the server all its patience. It is saved as soon as that works.
//
// Without an error the step has been made. A request that is not durable is never answered with success. Under ops.
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

// endOf returns how ev ends when it cannot be saved. ok is false for what can wait, or be refused without a trace.
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

// settle makes next current, durable or not, and reports which.
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

// saveLate saves what is shown and could not be saved, or has it tried again later. Under ops.
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

// later has run look again after a while. Under ops.
func (d *Device) later(after time.Duration) {
	if d.again != nil {
		d.again.Stop()
	}
	d.again = time.AfterFunc(after, d.kick)
}
