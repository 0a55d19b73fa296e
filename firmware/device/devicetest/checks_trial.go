package devicetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/fsm"
)

func applied(h *harness) {
	p := h.pkg("1.1.0")
	h.stage(p)
	h.verify("1.1.0", p)
	restart, err := h.Apply(h.Context())
	h.ok("Apply", err)
	if !restart {
		h.restart()
		h.runs("1.1.0", "Apply needed no restart")
		return
	}
	h.staged(int64(len(p)), true, "after Apply")
	h.install(fsm.InstallUnknown, "before the start of the new version")
	again, err := h.Apply(h.Context())
	h.ok("Apply again", err)
	if !again {
		h.Fatalf("Apply again needs no restart")
	}
	h.restart()
	h.runs("1.1.0", "after Apply")
	h.install(fsm.InstallPending, "on trial")
}

func confirmed(h *harness) {
	for _, version := range []string{"1.1.0", "1.2.0", "1.3.0"} {
		h.update(version)
		h.restart()
		h.runs(version, "after Apply")
		h.install(fsm.InstallPending, "on trial")
		h.ok("Confirm", h.Confirm(h.Context()))
		h.install(fsm.InstallSucceeded, "after Confirm")
		h.ok("Confirm again", h.Confirm(h.Context()))
		for range maxTrialStarts {
			h.restart()
			h.runs(version, "after Confirm")
			h.install(fsm.InstallSucceeded, "after Confirm and a restart")
		}
	}
	h.ok("Close", h.open(0, -1).Close())
	h.install(fsm.InstallUnknown, "with the next package")
}

func rolledBack(h *harness) {
	for _, version := range []string{"1.1.0", "1.2.0"} {
		h.update(version)
		h.restart()
		h.runs(version, "after Apply")
		h.ok("Rollback", h.Rollback(h.Context()))
		h.install(fsm.InstallFailed, "after Rollback")
		h.ok("Rollback again", h.Rollback(h.Context()))
		for range 2 {
			h.restart()
			h.runs(h.config.Version, "after Rollback")
			h.install(fsm.InstallFailed, "after Rollback and a restart")
		}
		h.ok("Close", h.open(0, -1).Close())
		h.install(fsm.InstallUnknown, "with the next package")
	}
	h.update("1.3.0")
	h.restart()
	h.ok("Confirm", h.Confirm(h.Context()))
	h.restart()
	h.runs("1.3.0", "after Confirm")
}

// maxTrialStarts is how many starts a version on trial may get.
const maxTrialStarts = 20

func neverConfirmed(h *harness) {
	h.update("1.1.0")
	h.restart()
	h.runs("1.1.0", "after Apply")
	for n := 1; h.running == "1.1.0"; n++ {
		if n > maxTrialStarts {
			h.Fatalf("a version was started %d times without Confirm", n)
		}
		h.install(fsm.InstallPending, "on trial")
		h.restart()
	}
	h.runs(h.config.Version, "after a trial without Confirm")
	h.install(fsm.InstallFailed, "after a trial without Confirm")
}

func discardOnTrial(h *harness) {
	h.update("1.1.0")
	h.restart()
	h.ok("Discard on trial", h.Discard(h.Context()))
	h.install(fsm.InstallPending, "after Discard on trial")
	h.ok("Confirm", h.Confirm(h.Context()))
	h.ok("Discard after Confirm", h.Discard(h.Context()))
	h.restart()
	h.runs("1.1.0", "after Discard")
	h.install(fsm.InstallSucceeded, "after Discard")
}

// endsWithin is how long a call may take to notice that its context has ended.
const endsWithin = 10 * time.Second

func contextsEnd(h *harness) {
	p := h.pkg("1.1.0")
	h.stage(p)
	h.ends("Verify", func(ctx context.Context) error {
		_, err := h.Verify(ctx)
		return err
	})
	h.verify("1.1.0", p)
	h.ends("Apply", func(ctx context.Context) error {
		_, err := h.Apply(ctx)
		return err
	})
	h.apply()
	h.restart()
	h.runs("1.1.0", "after Apply")
}

// ends calls what should end with its context. It may succeed, or fail because of that.
func (h *harness) ends(name string, call func(context.Context) error) {
	h.Helper()
	done := make(chan error, 1)
	go func() { done <- call(ended()) }()
	timer := time.NewTimer(endsWithin)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, context.Canceled) {
			h.Fatalf("%s with a context that has ended returned %v, not its error", name, err)
		}
	case <-timer.C:
		h.Fatalf("%s has not returned %s after its context ended", name, endsWithin)
	}
}

// crashAnywhere crashes after each call of an update. What was done by then holds, what was not has
// not happened, and another update succeeds.
func crashAnywhere(h *harness) {
	const closeStep, verifyStep, applyStep, confirmStep = 5, 6, 7, 9
	for last := 0; last <= confirmStep; last++ {
		h.crash()
		h.dir = h.TempDir()
		h.start()
		p := h.pkg("1.1.0")
		var w device.PackageWriter
		for step := range last + 1 {
			switch step {
			case 0:
				w = h.open(0, int64(len(p)))
			case 1:
				h.write(w, p[:len(p)/2])
			case 2:
				h.sync(w, len(p)/2)
			case 3:
				h.write(w, p[len(p)/2:])
			case 4:
				h.sync(w, len(p))
			case closeStep:
				h.ok("Close", w.Close())
			case verifyStep:
				h.verify("1.1.0", p)
			case applyStep:
				h.apply()
			case applyStep + 1:
				h.restart()
			case confirmStep:
				h.ok("Confirm", h.Confirm(h.Context()))
			}
		}
		h.restart()
		when := fmt.Sprintf("after a crash behind step %d", last)
		want, outcome := h.config.Version, fsm.InstallUnknown
		switch {
		case last >= confirmStep:
			want, outcome = "1.1.0", fsm.InstallSucceeded
		case last >= applyStep:
			want, outcome = "1.1.0", fsm.InstallPending
		}
		h.runs(want, when)
		h.install(outcome, when)
		if verified := h.status().Verified; last < applyStep && verified != (last >= verifyStep) {
			h.Fatalf("%s: Status reports verified %t", when, verified)
		}
		if outcome == fsm.InstallPending {
			h.ok("Confirm", h.Confirm(h.Context()))
		}
		h.update("1.2.0")
		h.restart()
		h.runs("1.2.0", when+" and another update")
	}
}
