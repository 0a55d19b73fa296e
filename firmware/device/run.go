package device

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/work"
)

// jobKind is a kind of work in the background.
type jobKind uint8

const (
	jobNone jobKind = iota
	jobDownload
	jobVerify
	jobInstall
)

// job is work in the background. Its end is an input of the machine, which ignores it if another
// transfer has begun.
type job struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when event is set and the work no longer uses the installer
	event  fsm.Input
}

// run works until ctx ends, or until another version must start.
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

// awaitTest waits, up to abandonAfter, for a SelfTest whose context has ended.
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
		d.log.Error("self test is left behind")
	}
}

const lookAtClock = time.Minute

// loop starts jobs and handles their ends. trial delivers how the trial of the running version
// ends; it is nil if there is no trial.
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
			// A device may start with a wrong clock, so check it again before the time is due.
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
			if err != nil { // the disk is full or broken: retry later
				work.Sleep(ctx, d.config.MinBackoff)
			}
		}
	}
}

// work handles the end of a job, starts the next one, and returns what to wait for.
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
					// It was not saved: keep the job, and handle its end again later.
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

// begin starts a job. The caller holds ops.
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
			// Its transfer has ended, whatever it still does.
			d.log.Error("work in the background is left behind", "work", kind)
		case r.err != nil:
			j.event = kind.failure(object)
		default:
			j.event = r.value
		}
		if ctx.Err() != nil {
			j.event = fsm.Input{} // it was aborted, or the program ends: the next start resumes
		}
	}()
	return j
}

// String returns the name of the job for logs.
func (k jobKind) String() string {
	return [...]string{jobNone: "nothing", jobDownload: "download", jobVerify: "verification", jobInstall: "installation"}[k]
}

// failure returns the input for a job that panicked.
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
		// An installer that does not blame the package keeps it, because a retry may succeed.
		result := resultOf(err, fsm.ResultUpdateFailed)
		return fsm.Input{Kind: fsm.InputInstallFailed, Fault: result, PackageKept: result == fsm.ResultUpdateFailed}
	case restart:
		return fsm.Input{Kind: fsm.InputInstallApplied}
	default:
		return fsm.Input{Kind: fsm.InputInstallSucceeded}
	}
}

// prove waits for the proof that the running version works: it registers and passes SelfTest, which
// may not return.
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

// tried ends the trial of the running version: it is confirmed or rolled back.
func (d *Device) tried(ctx context.Context, failure error) error {
	if ctx.Err() != nil {
		return nil // the program ends before there is a verdict
	}
	d.ops.Lock()
	defer d.ops.Unlock()
	if failure != nil {
		d.log.Error("new version is rolled back", "error", failure)
		if err := d.installer.Rollback(ctx); err != nil {
			return fmt.Errorf("device: roll back: %w", err)
		}
		return &RestartError{RolledBack: true, Reason: failure.Error()}
	}
	if err := d.installer.Confirm(ctx); err != nil {
		return fmt.Errorf("device: confirm: %w", err)
	}
	d.trial = false
	// If this cannot be saved, the installer reports the confirmation at the next start.
	_, err := d.step(ctx, fsm.Input{Kind: fsm.InputInstallSucceeded})
	return err
}

// stop ends the job and the push in progress, so that the next run finds the installer unused.
func (d *Device) stop() {
	d.ops.Lock()
	defer d.ops.Unlock()
	d.abort()
	if d.again != nil {
		d.again.Stop()
	}
	d.job = nil
	d.booted.Store(false) // a later run begins as after a start of the program
	d.mu.Lock()
	d.client, d.lease = nil, nil
	d.mu.Unlock()
}
