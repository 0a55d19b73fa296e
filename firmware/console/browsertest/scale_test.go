package browsertest

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// TestManyDevices shows lists of 10,000 devices and updates, or of as many as OTAGO_DEVICES says:
// the log has how long each view takes, and how much memory the page has.
func TestManyDevices(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("OTAGO_DEVICES"))
	if n == 0 {
		n = 10_000
	}
	w := newWorld(t, "")
	image := w.image("1.1.0")
	w.seed(n, image)
	var made struct{ ID string }
	w.post("/rollouts", `{"image":"`+image+`","name":"large","targets":{"select":{"version":"1.0.0"}}}`, &made)
	w.until(made.ID, func(r aRollout) bool {
		return r.Reason == fmt.Sprintf("it waits for its start, with %d devices", n-n/10)
	})

	b := w.open("#/images")
	b.see("sensor 1.1.0")
	// took goes to a view and returns how long it takes until a text is there that only it has.
	took := func(hash, there string) time.Duration {
		ms := eval[float64](b, fmt.Sprintf(`new Promise((done) => {
			const from = performance.now()
			const look = () => { if (document.querySelector('main').innerText.includes(%q)) done(performance.now() - from); else requestAnimationFrame(look) }
			location.hash = %q
			look()
		})`, there, hash))
		d := time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond)
		t.Logf("%-32s %v", hash, d)
		return d
	}
	var worst time.Duration
	for range 2 {
		for _, at := range []struct{ hash, there string }{
			{"#/fleet", "device-000049"}, {"#/updates", fmt.Sprintf("device-%06d", n-1)}, {"#/rollouts", "large"}, {"#/rollouts/" + made.ID, "What was asked for"},
			{"#/devices/device-000042", "Runs 1.0.0"}, {"#/fleet?version=0.9.0", "Show all devices"}, {"#/rollouts/new?image=" + image, "would get this image"}, {"#/images", "sensor 1.1.0"},
		} {
			worst = max(worst, took(at.hash, at.there))
		}
	}
	require.Less(t, worst, limit)

	// A person who pages through the list keeps no page but the last.
	b.click("Fleet")
	b.see("device-000049")
	for range 5 {
		first := eval[string](b, "document.querySelector('main tbody a').textContent")
		b.click("Next 50")
		b.until(fmt.Sprintf("document.querySelector('main tbody a') && document.querySelector('main tbody a').textContent !== %q", first))
	}
	require.LessOrEqual(t, eval[int](b, "document.querySelectorAll('tbody tr').length"), 50)
	used := eval[float64](b, "performance.memory.usedJSHeapSize")
	t.Logf("memory of the page's JavaScript: %.1f MB, %d elements", used/1e6, eval[int](b, "document.querySelectorAll('*').length"))
	require.Less(t, used, 100e6)
}

// seed stores n devices, a tenth of which run 0.9.0, each with an update that has ended.
func (w *world) seed(n int, image string) {
	w.t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for first := 0; first < n; first += 500 {
		var changes []store.Change
		for i := first; i < min(n, first+500); i++ {
			endpoint, version := fmt.Sprintf("device-%06d", i), "1.0.0"
			if i%10 == 9 {
				version = "0.9.0"
			}
			u := store.Update{
				ID: fmt.Sprintf("01J%023d", i), Endpoint: endpoint, Image: image, Created: now, Changed: now,
				Machine: fsm.NewUpdate(fsm.Plan{Target: "1.1.0"}, now),
			}
			u.Machine.Phase, u.Machine.Outcome, u.Machine.Reason, u.Machine.Ended = fsm.PhaseEnded, fsm.OutcomeFailed, fsm.ReasonAttempts, now
			u.Machine.Result = fsm.ResultConnectionLost
			changes = append(changes,
				store.PutRegistration{Endpoint: endpoint, Registration: store.RegistrationRecord{
					ID: fmt.Sprintf("%08x", i), Address: "10.9.0.1:5683", Transport: "coap", Version: "1.1", Lifetime: time.Hour,
					Registered: now, Updated: now, LastSeen: now, Ended: now,
				}},
				store.PutFirmware{Endpoint: endpoint, Firmware: store.Firmware{Version: version, Read: now}},
				store.PutFacts{Endpoint: endpoint, Facts: store.Facts{Manufacturer: "Acme", Model: fmt.Sprintf("S%d", i%7), Read: now}},
				store.CreateUpdate{Update: u})
		}
		_, err := w.db.Commit(w.t.Context(), changes...)
		require.NoError(w.t, err)
	}
}
