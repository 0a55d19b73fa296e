package device

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// jobKind is a kind of work in the background.
type jobKind uint8

const (
	jobNone jobKind = iota
	jobDownload
	jobVerify
	jobInstall
)

// job is work in the background. Its end is an event for the machine, which knows by the transfer's number whether it still
// is of interest.
type job struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the work has let go of the installer; event is set by then
	event  fsm.Input
}

// run works until ctx ends, or until another version is to be started.
func (d *Device) run(ctx context.Context, client notifier) error {
	ctx, lease := withLease(ctx)
	defer lease.over.Store(true)
	defer context.AfterFunc(ctx, func() { time.AfterFunc(quitAfter, func() { lease.over.Store(true) }) })()
	d.mu.Lock()
	d.client, d.lease, d.test = client, lease, nil
	d.mu.Unlock()
	d.ops.Lock()
	err := d.boot(ctx)
	trial := d.trial
	d.ops.Unlock()
	defer d.stop()
	if err != nil {
		return err
	}
	if !trial {
		return d.loop(ctx, nil)
	}
	end := make(chan error, 1)
	trialCtx, cancel := context.WithCancel(ctx)
	var proving sync.WaitGroup
	proving.Go(func() { end <- d.prove(trialCtx, client) })
	defer d.awaitTest()
	defer proving.Wait()
	defer cancel()
	return d.loop(ctx, end)
}

// awaitTest waits for a SelfTest that has been told to end, for a while.
func (d *Device) awaitTest() {
	d.mu.Lock()
	test := d.test
	d.mu.Unlock()
	if test == nil {
		return
	}
	timer := time.NewTimer(abandonAfter)
	defer timer.Stop()
	select {
	case <-test:
	case <-timer.C:
		d.log.Error("the self test is left behind")
	}
}

const lookAtClock = time.Minute

// loop begins jobs and hears of their ends. trial is how the trial of the running version ends, nil if there is none.
func (d *Device) loop(ctx context.Context, trial <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		done, wake, err := d.work(ctx)
		if err != nil {
			return err
		}
		timer.Stop()
		var due <-chan time.Time
		if !wake.IsZero() {
			// Now and then it is looked at the clock again: a device may start without the right time.
			timer.Reset(min(time.Until(wake), lookAtClock))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-done:
		case err := <-trial:
			trial = nil
			if err := d.tried(ctx, err); err != nil {
				return err
			}
		case <-due:
			if time.Now().Before(wake) {
				continue
			}
			d.ops.Lock()
			_, err := d.step(ctx, fsm.Input{Kind: fsm.InputTimer})
			d.ops.Unlock()
			if err != nil { // the disk is full or broken: later, then
				d.pause(ctx)
			}
		}
	}
}

// pause waits a little before something that failed without a reason to hope is tried again.
func (d *Device) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(d.config.MinBackoff):
	}
}

// work takes what a job has ended with, begins the next one, and returns what to wait for.
func (d *Device) work(ctx context.Context) (done <-chan struct{}, wake time.Time, err error) {
	d.ops.Lock()
	defer d.ops.Unlock()
	d.saveLate(ctx)
	if d.job != nil {
		select {
		case <-d.job.done:
			ev := d.job.event
			if ev.Kind != "" {
				if _, err := d.step(ctx, ev); err != nil {
					// Not saved: the job stays, its end is told again.
					d.later(d.config.MinBackoff)
					return nil, time.Time{}, nil
				}
			}
			d.job = nil
		default:
			return d.job.done, d.snapshot().Wake(), nil
		}
	}
	if d.reboot {
		return nil, time.Time{}, &RestartError{}
	}
	if d.pending != jobNone {
		d.job = d.begin(ctx, d.pending)
		d.pending = jobNone
		return d.job.done, d.snapshot().Wake(), nil
	}
	return nil, d.snapshot().Wake(), nil
}

// begin starts a job. Under ops.
func (d *Device) begin(ctx context.Context, kind jobKind) *job {
	ctx, lease := withLease(ctx)
	ctx, cancel := context.WithCancel(ctx)
	j := &job{cancel: cancel, done: make(chan struct{})}
	object := d.snapshot()
	working := call(d.log, kind.String(), func() (fsm.Input, error) {
		switch kind {
		case jobDownload:
			return d.download(ctx, object), nil
		case jobVerify:
			return d.verify(ctx, object), nil
		default:
			return d.install(ctx), nil
		}
	})
	go func() {
		defer close(j.done)
		defer cancel()
		r, ok := awaited(ctx, jobAfter, working)
		switch {
		case !ok:
			lease.over.Store(true)
			d.log.Error("work in the background is left behind", "work", kind) // its transfer is over, whatever it does
		case r.err != nil:
			j.event = kind.failure(object)
		default:
			j.event = r.value
		}
		if ctx.Err() != nil {
			j.event = fsm.Input{} // given up, or the program ends: the next start goes on
		}
	}()
	return j
}

// String returns what the work is, for logs.
func (k jobKind) String() string {
	return [...]string{jobNone: "nothing", jobDownload: "download", jobVerify: "verification", jobInstall: "installation"}[k]
}

// failure is the end of a job that panicked.
func (k jobKind) failure(object fsm.Object) fsm.Input {
	kinds := [...]fsm.InputKind{jobDownload: fsm.InputDownloadFailed, jobVerify: fsm.InputVerifyFailed, jobInstall: fsm.InputInstallFailed}
	return fsm.Input{Kind: kinds[k], Transfer: object.Transfer}
}

func (d *Device) verify(ctx context.Context, object fsm.Object) fsm.Input {
	info, err := d.installer.Verify(ctx)
	if err != nil {
		d.log.Warn("package refused", "error", err)
		return fsm.Input{Kind: fsm.InputVerifyFailed, Transfer: object.Transfer, Fault: resultOf(err, fsm.ResultIntegrityFailed)}
	}
	return fsm.Input{
		Kind: fsm.InputVerified, Transfer: object.Transfer,
		Size: info.Size, Digest: info.Digest, PkgName: info.Name, PkgVersion: info.Version,
	}
}

func (d *Device) install(ctx context.Context) fsm.Input {
	restart, err := d.installer.Apply(ctx)
	switch {
	case errors.Is(err, ErrDeferred):
		return fsm.Input{Kind: fsm.InputInstallDeferred}
	case err != nil:
		d.log.Warn("package not installed", "error", err)
		// Whoever cannot say what is wrong with the package keeps it: it may go better when tried again.
		result := resultOf(err, fsm.ResultUpdateFailed)
		return fsm.Input{Kind: fsm.InputInstallFailed, Fault: result, PackageKept: result == fsm.ResultUpdateFailed}
	case restart:
		return fsm.Input{Kind: fsm.InputInstallApplied}
	default:
		return fsm.Input{Kind: fsm.InputInstallSucceeded}
	}
}

// prove waits for the proof that the running version is good: it registers, and passes its own test. The test is not trusted
// to end.
func (d *Device) prove(ctx context.Context, client notifier) error {
	limited, cancel := context.WithTimeout(ctx, d.config.ConfirmWithin)
	defer cancel()
	if err := client.WaitRegistered(limited); err != nil {
		return fmt.Errorf("not registered within %s", d.config.ConfirmWithin)
	}
	if d.config.SelfTest == nil {
		return nil
	}
	returned := make(chan struct{})
	d.mu.Lock()
	d.test = returned
	d.mu.Unlock()
	test := call(d.log, "SelfTest", func() (nothing, error) {
		defer close(returned)
		return nothing{}, d.config.SelfTest(limited)
	})
	select {
	case r := <-test:
		if r.err != nil {
			return fmt.Errorf("self test: %w", r.err)
		}
	case <-limited.Done():
	}
	if limited.Err() != nil {
		return fmt.Errorf("self test not passed within %s", d.config.ConfirmWithin)
	}
	return nil
}

// tried ends the trial of the running version: it stays, or the one before is to be started.
func (d *Device) tried(ctx context.Context, failure error) error {
	if ctx.Err() != nil {
		return nil // the program ends: no verdict
	}
	d.ops.Lock()
	defer d.ops.Unlock()
	if failure != nil {
		d.log.Error("new version is given up", "error", failure)
		if err := d.installer.Rollback(ctx); err != nil {
			return fmt.Errorf("device: roll back: %w", err)
		}
		return &RestartError{RolledBack: true, Reason: failure.Error()}
	}
	if err := d.installer.Confirm(ctx); err != nil {
		return fmt.Errorf("device: confirm: %w", err)
	}
	d.trial = false
	// If this is not saved the next start hears from the installer that it was confirmed.
	_, err := d.step(ctx, fsm.Input{Kind: fsm.InputInstallSucceeded})
	return err
}

// stop ends the job under way and a push, so that whoever starts next finds the installer free.
func (d *Device) stop() {
	d.ops.Lock()
	defer d.ops.Unlock()
	d.abort()
	if d.again != nil {
		d.again.Stop()
	}
	d.job = nil
	d.booted.Store(false) // a later run goes on as after a start
	d.mu.Lock()
	d.client, d.lease = nil, nil
	d.mu.Unlock()
}
