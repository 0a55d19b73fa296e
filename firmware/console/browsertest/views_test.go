package browsertest

import "testing"

// TestFleet shows the fleet.
func TestFleet(t *testing.T) {
	w := newWorld(t, "")
	w.fleet(3, installs)
	b := w.open("#/fleet")
	b.see("of 3 devices")
	b.look("fleet")
}
