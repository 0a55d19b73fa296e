package fsm_test

import (
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestRestartsInARow restarts the server several times while the device is away: the journal
// reports it once, and once more if another line was written in between.
func TestRestartsInARow(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion})
	lines := 0
	restart := func(online bool) {
		h.now = h.now.Add(time.Second)
		h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: online})
		for _, e := range h.actions.Journal {
			if e.Event == "resumed" {
				lines++
			}
		}
	}
	for range 50 {
		restart(false)
	}
	if lines != 1 {
		t.Fatalf("%d lines for restarts in a row", lines)
	}
	restart(true)
	h.until(picture{fsm.Downloaded, 0, oldVersion, false})
	restart(false)
	if lines != 2 {
		t.Fatalf("%d lines in all", lines)
	}
}

// TestRegistersAgainAndAgain: a device forgot its download and registers again each time before it
// has settled. It gets the download again nevertheless.
func TestRegistersAgainAndAgain(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion})
	h.done(fsm.CodeChanged, fsm.Reading{})
	for range 10 {
		h.now = h.now.Add(40 * time.Second)
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		for kind := h.update.Doing().Kind; kind == fsm.ActionRead || kind == fsm.ActionObserve; kind = h.update.Doing().Kind {
			h.done(fsm.CodeContent, picture{fsm.Idle, 0, oldVersion, false}.reading())
		}
		if h.update.Attempt > 1 {
			return
		}
	}
	t.Fatalf("attempt %d: %s, %s", h.update.Attempt, h.update.Phase, h.update.Wait.Reason)
}
