package device

import (
	"context"
	"fmt"

	"github.com/otago-iot/otago/firmware/fsm"
)

// BootTarget is what is to be started.
type BootTarget struct {
	// Slot is the slot, "" for the version that the device was made with, and Image the file in it, "" likewise.
	Slot, Image string
	// Version is its version.
	Version string
	// Trial says that it is not confirmed: start the version before if it does not work. It has been started Starts times, this
	// time included, of MaxStarts.
	Trial             bool
	Starts, MaxStarts int
}

// Boot decides what is to be started, as a boot loader does, and counts the start of a version on trial before it happens.
// One that has used its starts up, as when each of them ended in a crash, is given up. Call it once for each start.
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

// giveUp ends a trial without success. What is in the slot stays until the next package: it may be running. Under mu.
func (s *Slots) giveUp() error {
	return s.change(func(next *slotState) {
		delete(next.Slots, next.Trial)
		next.Trial, next.Starts, next.Outcome = slotFactory, 0, fsm.InstallFailed
	})
}

// Apply implements [Installer]: the next Boot starts the verified package. restart is always true.
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

// Rollback implements [Installer]. Without a trial it does nothing.
func (s *Slots) Rollback(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Trial == slotFactory {
		return nil
	}
	return s.giveUp()
}
