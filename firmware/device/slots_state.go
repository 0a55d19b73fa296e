package device

import (
	"fmt"

	"github.com/otago-iot/otago/firmware/fsm"
)

const (
	stateFile  = "slots.json"
	deviceFile = "device.json"
	spareFile  = "spare"
)

// slotFormat is the version of slots.json.
const slotFormat = 1

// slotState is what slots.json holds.
type slotState struct {
	Format int `json:"format"`
	// Confirmed is the slot that is started when there is no trial.
	Confirmed string `json:"confirmed"`
	// Trial is the slot that is started instead until it is confirmed or given up, "" if there is none; Starts counts.
	Trial  string `json:"trial,omitzero"`
	Starts int    `json:"starts,omitzero"`
	// Outcome is what became of the last trial: unknown, succeeded or failed.
	Outcome fsm.Install `json:"outcome,omitzero"`
	// Slots says what is in a slot, once it is complete and verified.
	Slots map[string]slotInfo `json:"slots,omitzero"`
}

type slotInfo struct {
	Name    string `json:"name,omitzero"`
	Version string `json:"version"`
	Size    int64  `json:"size"` // of the package
	Digest  string `json:"digest"`
}

func (s slotState) check() error {
	switch {
	case s.Format != 0 && s.Format != slotFormat:
		return fmt.Errorf("device: slots of format %d, want %d", s.Format, slotFormat)
	case !knownSlot(s.Confirmed), !knownSlot(s.Trial), s.Trial != slotFactory && s.Trial == s.Confirmed:
		return fmt.Errorf("device: slots are damaged: confirmed %q, trial %q", s.Confirmed, s.Trial)
	}
	return nil
}

// free is the slot that packages go to: never the confirmed one.
func (s slotState) free() string {
	if s.Confirmed == slotA {
		return slotB
	}
	return slotA
}

// clone returns a copy to be changed.
func (s slotState) clone() slotState {
	slots := make(map[string]slotInfo, len(s.Slots))
	for slot, info := range s.Slots {
		slots[slot] = info
	}
	s.Slots, s.Format = slots, slotFormat
	return s
}

// change makes a new state durable, then current. If that fails either may be what a restart finds. Under mu.
func (s *Slots) change(f func(*slotState)) error {
	next := s.state.clone()
	f(&next)
	err := s.disk.replaceStateJSON(s.path(stateFile), next)
	if s.doubt = err != nil; s.doubt {
		return fmt.Errorf("device: save slots: %w", err)
	}
	s.state = next
	return nil
}
