package device

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// boot loads the machine and steps it with the start of the program, once. The caller holds ops.
func (d *Device) boot(ctx context.Context) error {
	if d.booted.Load() {
		return nil
	}
	object, err := d.load(ctx)
	if err != nil {
		return err
	}
	status, err := d.installer.Status(ctx)
	if err != nil {
		return fmt.Errorf("device: status of the installer: %w", err)
	}
	d.mu.Lock()
	object.Version = d.version
	d.object = object
	d.mu.Unlock()
	fx, err := d.step(ctx, fsm.Input{Kind: fsm.InputBoot, At: time.Now(), Install: status.Install, PackageKept: packageKept(object, status)})
	if err != nil {
		return err
	}
	d.trial = status.Install == fsm.InstallPending && d.snapshot().State == fsm.Updating
	d.booted.Store(true)
	d.log.Debug("device started", "was", object.State, "is", d.snapshot().State, "staged", status.Staged, "resumes", fx.StartDownload)
	return nil
}

// packageKept reports whether the package is stored that the machine remembers.
func packageKept(o fsm.Object, s InstallerStatus) bool {
	switch {
	case o.State != fsm.Downloading:
		return s.Verified
	case o.Complete:
		return s.Staged > 0 && s.Staged == o.Size
	default:
		return s.Staged >= o.Offset
	}
}

// load returns the stored machine, with the delivery method of the present configuration.
func (d *Device) load(ctx context.Context) (fsm.Object, error) {
	record, err := d.installer.LoadState(ctx)
	if err != nil {
		return fsm.Object{}, fmt.Errorf("device: load the state: %w", err)
	}
	state := deviceState{Format: stateFormat, Object: fsm.NewObject(0, d.config.method())}
	if record != nil {
		err = json.Unmarshal(record, &state)
	}
	switch {
	case state.Format != stateFormat: // also if the rest has another form
		return fsm.Object{}, fmt.Errorf("device: the stored state has format %d, and this program reads format %d: start the program that wrote it",
			state.Format, stateFormat)
	case err != nil:
		return fsm.Object{}, fmt.Errorf("device: the stored state is damaged: %w", err)
	}
	state.Method = d.config.method()
	return state.Object, nil
}

// stateFormat is the version of deviceState. It changes only if an older program would
// misunderstand the record.
const stateFormat = 1

// deviceState is the record that the installer keeps. One without a number has format 1.
type deviceState struct {
	Format int `json:"format"`
	fsm.Object
}

// step steps the machine and carries out the effects in their order. An error means that the input
// has had no effect, except that the machine may show why. The caller holds ops.
func (d *Device) step(ctx context.Context, ev fsm.Input) (fsm.Effects, error) {
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	old, next, fx, err := d.commit(ctx, ev)
	if err != nil {
		return d.notSaved(ctx, ev, err)
	}
	if next.State != old.State || next.Result != old.Result {
		d.log.Info("firmware update", "event", ev.Kind, "state", next.State, "result", next.Result, "version", next.PkgVersion)
	}
	if fx.Abort {
		d.abort()
	}
	if fx.DeleteImage {
		d.discard(ctx)
	}
	d.follow(fx)
	return fx, nil
}

// follow carries out the last effects of a step. The caller holds ops.
func (d *Device) follow(fx fsm.Effects) {
	d.notify(fx)
	switch {
	case fx.StartDownload:
		d.pending = jobDownload
	case fx.Verify:
		d.pending = jobVerify
	case fx.Install:
		d.pending = jobInstall
	}
	d.reboot = d.reboot || fx.Reboot
	d.kick()
}

func (d *Device) discard(ctx context.Context) {
	if err := d.installer.Discard(ctx); err != nil {
		d.log.Warn("package not removed", "error", err) // the next package replaces it
	}
}

// commit computes the next value of the machine, makes it durable, and then current.
func (d *Device) commit(ctx context.Context, ev fsm.Input) (old, next fsm.Object, fx fsm.Effects, err error) {
	d.commits.Lock()
	defer d.commits.Unlock()
	old = d.snapshot()
	next, fx = old.Step(ev)
	if !fx.Persist {
		return old, next, fx, nil
	}
	if err := d.save(ctx, next); err != nil {
		d.log.Error("state not saved", "event", ev.Kind, "error", err)
		return old, old, fsm.Effects{}, err
	}
	d.unsaved = false
	d.mu.Lock()
	d.object = next
	d.mu.Unlock()
	return old, next, fx, nil
}

func (d *Device) save(ctx context.Context, object fsm.Object) error {
	record, err := json.Marshal(deviceState{stateFormat, object})
	if err != nil {
		return err
	}
	// The end of a request must not interrupt a step.
	if err := d.installer.SaveState(context.WithoutCancel(ctx), record); err != nil {
		return fmt.Errorf("device: save the state: %w", err)
	}
	return nil
}

// notify reports the Result before the State, because servers read the Result when the State
// changes.
func (d *Device) notify(fx fsm.Effects) {
	d.mu.Lock()
	client := d.client
	d.mu.Unlock()
	if client == nil {
		return
	}
	if fx.NotifyResult {
		client.Notify(pathResult)
	}
	if fx.NotifyState {
		client.Notify(pathState)
	}
}

// abort ends the job and the push in progress, waits for the job, and drops the pending one. The
// caller holds ops.
func (d *Device) abort() {
	d.pending = jobNone
	if d.push != nil {
		d.push.drop()
	}
	if d.job != nil {
		d.job.cancel()
		<-d.job.done
	}
}

// kick wakes up run.
func (d *Device) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
