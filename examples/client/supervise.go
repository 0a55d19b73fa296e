package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/otago-iot/otago/firmware/device"
)

const (
	grace       = 10 * time.Second // for a version to roll itself back after -confirm-within, and for a process to stop
	crashPause  = time.Second      // after a process has crashed
	maxCrashes  = 10               // crashes in a row of a confirmed version before the supervisor gives up; a kill does not count
	killed      = -1               // the exit status of a process that a signal ended
	stableAfter = time.Minute      // a process that ran this long resets the count
	lockTimeout = 10 * time.Second // for the device of a killed supervisor to end
)

var errNotStarted = errors.New("cannot be started")

// supervise runs the device's process in a loop, from the slot that Slots.Boot returns, and watches
// it while the slot is on trial.
func (o *options) supervise(ctx context.Context, args []string) error {
	factory, err := os.Executable()
	if err != nil {
		return err
	}
	crashes := 0
	for ctx.Err() == nil {
		boot, err := o.next(ctx)
		if err != nil {
			return err
		}
		started := time.Now()
		status, err := o.runDevice(ctx, boot, cmp.Or(boot.Image, factory), args)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errNotStarted) && !boot.Trial:
			return fmt.Errorf("version %s: %w", boot.Version, err)
		case errors.Is(err, errNotStarted):
			o.log.Error("new version cannot be started", "version", boot.Version, "error", err)
			if err := o.rollback(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			o.log.Error("new version is given up", "version", boot.Version, "error", err)
			if err := o.rollback(ctx); err != nil {
				return err
			}
			continue
		case status == statusRestart:
			crashes = 0
			continue
		case status == 0:
			return nil
		}
		o.log.Warn("device's process ended", "version", boot.Version, "status", status, "trial", boot.Trial)
		if crashes++; status == killed || time.Since(started) > stableAfter {
			crashes = 1
		}
		if crashes >= maxCrashes && !boot.Trial {
			return fmt.Errorf("version %s ended %d times in a row, status %d", boot.Version, crashes, status)
		}
		select {
		case <-ctx.Done():
		case <-time.After(crashPause):
		}
	}
	return nil
}

// withSlots calls f with the slots open. It waits for the lock, because the device of a killed
// supervisor ends a little later.
func (o *options) withSlots(ctx context.Context, f func(*device.Slots) error) error {
	limit := time.Now().Add(lockTimeout)
	for {
		slots, err := device.OpenSlots(o.stateFolder(o.endpoint), o.slotConfig(""))
		if err == nil {
			return errors.Join(f(slots), slots.Close())
		}
		if !errors.Is(err, device.ErrLocked) || time.Now().After(limit) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// next returns the slot and image to start.
func (o *options) next(ctx context.Context) (boot device.BootTarget, err error) {
	err = o.withSlots(ctx, func(s *device.Slots) error {
		boot, err = s.Boot()
		return err
	})
	return boot, err
}

func (o *options) rollback(ctx context.Context) error {
	return o.withSlots(ctx, func(s *device.Slots) error { return s.Rollback(ctx) })
}

// runDevice runs the device's process once and returns its exit status. The error is errNotStarted
// if the process cannot be started. Another error says that the process was killed because it
// neither confirmed nor rolled back its version in time.
func (o *options) runDevice(ctx context.Context, boot device.BootTarget, image string, args []string) (int, error) {
	slot := cmp.Or(boot.Slot, factorySlot)
	if boot.Trial {
		slot += trialSuffix
	}
	cmd := exec.Command(image, args...)
	cmd.Env = append(os.Environ(), slotVariable+"="+slot)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	o.log.Info("starts", "version", boot.Version, "slot", boot.Slot, "trial", boot.Trial, "start", boot.Starts)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w: %w", errNotStarted, err)
	}
	confirmed := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		listen(stdout, confirmed)
	}()
	ended := make(chan error, 1)
	go func() {
		<-read
		ended <- cmd.Wait()
	}()

	var late <-chan time.Time
	if boot.Trial {
		late = time.After(o.confirmWithin + grace)
	}
	for {
		select {
		case err := <-ended:
			return exitCode(cmd, err)
		case <-confirmed:
			confirmed, late = nil, nil
		case <-late:
			_ = cmd.Process.Kill()
			<-ended
			return 0, fmt.Errorf("not confirmed within %s", o.confirmWithin+grace)
		case <-ctx.Done():
			_, _ = io.WriteString(stdin, stopLine+"\n")
			select {
			case <-ended:
			case <-time.After(grace):
				_ = cmd.Process.Kill()
				<-ended
			}
			return 0, nil
		}
	}
}

// listen reads the device's standard output, and closes confirmed when confirmedLine comes.
func listen(r io.Reader, confirmed chan<- struct{}) {
	lines := bufio.NewScanner(r)
	for once := false; lines.Scan(); {
		if lines.Text() == confirmedLine && !once {
			once = true
			close(confirmed)
		}
	}
	_, _ = io.Copy(io.Discard, r) // after a line that is too long, the process must not block on a full pipe
}

func exitCode(cmd *exec.Cmd, err error) (int, error) {
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}
