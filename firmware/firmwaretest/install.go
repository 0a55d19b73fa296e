package firmwaretest

import (
	"context"

	"github.com/otago-iot/otago/firmware/fsm"
)

// download carries out a Package URI.
func (d *Device) download(ctx context.Context, uri string) {
	if !d.script.Habits.HidesDownloading {
		d.show(ctx, fsm.Downloading, fsm.ResultDefault)
	}
	result, ok := d.pull(ctx, uri)
	if ok {
		d.judged(ctx, result)
	}
}

// pull fetches a package. ok is false if the device gave that up.
func (d *Device) pull(ctx context.Context, uri string) (result fsm.Result, ok bool) {
	if d.script.Pull != nil {
		result = d.script.Pull(ctx, uri)
	} else {
		_ = pause(ctx, d.script.PullTime)
	}
	return result, ctx.Err() == nil
}

func (d *Device) judged(ctx context.Context, result fsm.Result) {
	if result == fsm.ResultDefault {
		d.show(ctx, fsm.Downloaded, result)
	} else {
		d.show(ctx, fsm.Idle, result)
	}
}

// install carries out an Execute.
func (d *Device) install(ctx context.Context) {
	in := d.installation()
	d.show(ctx, fsm.Updating, fsm.ResultDefault)
	if pause(ctx, in.Time) != nil {
		return
	}
	result := in.Result
	if result == fsm.ResultDefault {
		result = fsm.ResultUpdateFailed
		if in.Version != "" {
			result = fsm.ResultSuccess
		}
	}
	state := fsm.Idle
	if in.Kept && result != fsm.ResultSuccess {
		state = fsm.Downloaded
	}
	d.become(in.Version)
	if in.NoReboot {
		d.show(ctx, state, result)
		return
	}
	d.mu.Lock()
	switch {
	case in.Forgets:
		d.state, d.result = fsm.Idle, fsm.ResultDefault
	case in.Late > 0:
		d.state, d.result = fsm.Idle, fsm.ResultDefault
		d.late = func(ctx context.Context) {
			if pause(ctx, in.Late) == nil {
				d.show(ctx, state, result)
			}
		}
	default:
		d.state, d.result = state, result
	}
	if in.RollsBack > 0 {
		d.late = func(ctx context.Context) { d.rollBack(ctx, in) }
	}
	d.mu.Unlock()
	if in.Silent {
		d.Restart(-1)
		return
	}
	d.Restart(in.BootTime)
}

// become sets the running version; "" keeps it.
func (d *Device) become(version string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.old = d.version
	if version != "" {
		d.version = version
		d.lost = d.script.Habits.LosesObject
	}
	d.foreign = nil
}

// rollBack gives the new version up after some time.
func (d *Device) rollBack(ctx context.Context, in Install) {
	if pause(ctx, in.RollsBack) != nil {
		return
	}
	d.mu.Lock()
	d.version, d.state, d.result, d.lost = d.old, fsm.Idle, fsm.ResultUpdateFailed, false
	d.mu.Unlock()
	d.Restart(in.BootTime)
}
