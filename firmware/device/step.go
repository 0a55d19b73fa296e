package device

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// boot loads the machine and tells it that the device has started, once. Under ops.
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
		return fmt.Errorf("device: ask the installer: %w", err)
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

// packageKept says whether what the machine remembers of a package is there.
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

// load returns the stored machine, with the method that the program has now.
func (d *Device) load(ctx context.Context) (fsm.Object, error) {
	record, err := d.installer.LoadState(ctx)
	if err != nil {
		return fsm.Object{}, fmt.Errorf("device: load the device's state: %w", err)
	}
	object := fsm.NewObject(0, d.config.method())
	if record != nil {
		if err := json.Unmarshal(record, &object); err != nil {
			return fsm.Object{}, fmt.Errorf("device: the device's state is damaged: %w", err)
		}
	}
	object.Method = d.config.method()
	return object, nil
}

// step gives the machine an event and does what it asks for, in its order. An error means that the event has not happened; the
// machine may show why. Under ops.
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

// follow does what remains of a step. Under ops.
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
		d.log.Warn("package not removed", "error", err) // the next one replaces it
	}
}

// commit makes the machine's next value durable, then current.
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
	record, err := json.Marshal(object)
	if err != nil {
		return err
	}
	// A request that was given up must not leave half of a step behind.
	if err := d.installer.SaveState(context.WithoutCancel(ctx), record); err != nil {
		return fmt.Errorf("device: save the device's state: %w", err)
	}
	return nil
}

// notify tells observers the Result before the State: whoever acts on the State finds the Result that belongs to it.
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

// abort ends what works in the background and waits for it, and forgets what was to begin. Under ops.
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

// kick makes run look at what there is to do.
func (d *Device) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
