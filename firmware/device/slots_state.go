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
	// Confirmed is the slot that starts when there is no trial.
	Confirmed string `json:"confirmed"`
	// Trial is the slot that starts instead until it is confirmed or rolled back, "" without a
	// trial. Starts is how often it has started.
	Trial  string `json:"trial,omitzero"`
	Starts int    `json:"starts,omitzero"`
	// Outcome is the outcome of the last trial: unknown, succeeded or failed.
	Outcome fsm.Install `json:"outcome,omitzero"`
	// Slots describes the verified image of each slot.
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
		return fmt.Errorf("device: the slots have format %d, and this program reads format %d: start the program that wrote them", s.Format, slotFormat)
	case !knownSlot(s.Confirmed), !knownSlot(s.Trial), s.Trial != slotFactory && s.Trial == s.Confirmed:
		return fmt.Errorf("device: the slots are damaged: confirmed %q, on trial %q", s.Confirmed, s.Trial)
	}
	return nil
}

// free returns the slot for packages, which is never the confirmed one.
func (s slotState) free() string {
	if s.Confirmed == slotA {
		return slotB
	}
	return slotA
}

// clone returns a deep copy.
func (s slotState) clone() slotState {
	slots := make(map[string]slotInfo, len(s.Slots))
	for slot, info := range s.Slots {
		slots[slot] = info
	}
	s.Slots, s.Format = slots, slotFormat
	return s
}

// change makes a new state durable, and then current. If it fails, a restart may find either. The
// caller holds mu.
func (s *Slots) change(f func(*slotState)) error {
	next := s.state.clone()
	f(&next)
	err := s.disk.replaceStateJSON(s.path(stateFile), next)
	if s.doubt = err != nil; s.doubt {
		return fmt.Errorf("device: save the state of the slots: %w", err)
	}
	s.state = next
	return nil
}
