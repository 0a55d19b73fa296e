package fsm_test

import (
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestRestartsInARow restarts the server again and again while the device is away: the journal tells it once, and once more
// when something else was told in between.
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
	h.until(picture{fsm.Downloaded, 0, oldVersion, ""})
	restart(false)
	if lines != 2 {
		t.Fatalf("%d lines in all", lines)
	}
}
