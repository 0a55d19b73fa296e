package device

import (
	"context"
	"fmt"

	"github.com/otago-iot/otago/firmware/fsm"
)

// BootTarget is the program that is due.
type BootTarget struct {
	// Slot is its slot and Image the path of its file. Both are "" for the program that the device
	// was made with.
	Slot, Image string
	// Version is the version of the program.
	Version string
	// Trial says that the version is not confirmed. If its program cannot be started, call
	// [Slots.Rollback] and then Boot again.
	Trial bool
	// Starts is how often a version on trial has been started, this time included, and MaxStarts
	// how often that is allowed. Both are 0 without a trial.
	Starts, MaxStarts int
}

// Boot returns the program to start, for a boot loader or a supervisor: call it once for each
// start. It counts the starts of a version on trial, and rolls back one that has used up its
// starts, because each of them ended in a crash for example. A program without a boot loader calls
// [Slots.Exec] instead. The error says that the count could not be saved.
func (s *Slots) Boot() (BootTarget, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Trial != slotFactory && s.state.Starts >= s.config.MaxStarts {
		if err := s.giveUp(); err != nil {
			return BootTarget{}, err
		}
	}
	boot := BootTarget{Slot: s.state.Confirmed}
	if s.state.Trial != slotFactory {
		if err := s.change(func(next *slotState) { next.Starts++ }); err != nil {
			return BootTarget{}, err
		}
		boot = BootTarget{Slot: s.state.Trial, Trial: true, Starts: s.state.Starts, MaxStarts: s.config.MaxStarts}
	}
	if boot.Slot != slotFactory {
		boot.Image = s.imagePath(boot.Slot)
	}
	boot.Version = s.version(boot.Slot)
	s.running = boot.Slot
	return boot, nil
}

// giveUp ends a trial without success. The image stays in the slot until the next package, because
// it may be running. The caller holds mu.
func (s *Slots) giveUp() error {
	return s.change(func(next *slotState) {
		delete(next.Slots, next.Trial)
		next.Trial, next.Starts, next.Outcome = slotFactory, 0, fsm.InstallFailed
	})
}

// Apply implements [Installer]. restart is always true.
func (s *Slots) Apply(ctx context.Context) (restart bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.state.free()
	if s.state.Trial == slot {
		return true, nil
	}
	if _, verified := s.state.Slots[slot]; !verified {
		return false, &ResultError{Result: fsm.ResultIntegrityFailed, Err: fmt.Errorf("slot %s holds no verified package", slot)}
	}
	return true, s.change(func(next *slotState) { next.Trial, next.Starts = slot, 0 })
}

// Confirm implements [Installer].
func (s *Slots) Confirm(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state.Trial == slotFactory && s.running == s.state.Confirmed:
		return nil
	case s.state.Trial == slotFactory || s.running != s.state.Trial:
		return fmt.Errorf("device: slot %q is not on trial", s.running)
	}
	return s.change(func(next *slotState) {
		next.Confirmed, next.Trial, next.Starts, next.Outcome = next.Trial, slotFactory, 0, fsm.InstallSucceeded
	})
}

// Rollback implements [Installer]. It does nothing without a trial.
func (s *Slots) Rollback(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Trial == slotFactory {
		return nil
	}
	return s.giveUp()
}
