package browsertest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRollout follows a rollout that trips, by the page alone: each order says what it would do,
// and its line of the journal is there without a reload.
func TestRollout(t *testing.T) {
	w := newWorld(t, "")
	image := w.image("1.1.0")
	bad := fails
	for i := range 2 {
		w.device(fmt.Sprintf("bad-%d", i), bad)
	}
	w.fleet(4, installs)
	w.device("slow", slow)
	w.read(7)
	b := w.open("#/rollouts")
	b.see("No rollout is active.")
	id := w.rollout(image, `"name":"spring","targets":{"select":{}},"stages":[{"size":2,"only":{"endpoints":["bad-0","bad-1"]}},
		{"size":"100%","manual":true}],"notes":"ask <b>Sam</b>"`)
	b.see("spring") // it has come by itself
	b.click("spring")
	b.see("It waits for its start, with 7 devices.")
	b.see("Start: 2 may start, 5 wait for the next stages")
	b.fill("Reason (optional)", "as planned")
	b.click("Start: ")
	b.see("by kim: as planned")
	b.see("of the first stage failed. If nothing changes, it ends in 29 d")
	b.see("5 for resume")
	b.see("integrity failed")
	w.until(id, func(r aRollout) bool { return r.Members["active"] == 0 })
	b.see("2 devices failed, timed out or rolled back.")
	b.look("rollout-tripped")

	// A refusal is at its field; the others stay as they were.
	b.click("Change its limits")
	b.fill("Devices at a time", "0")
	b.fill("Reason for the change", "slower")
	b.click("Change: ")
	b.see("concurrency is not valid: 0 is not")
	require.Equal(t, "true", eval[string](b, field("Devices at a time")+".getAttribute('aria-invalid')"))
	b.look("rollout-refused")
	b.fill("Devices at a time", "7")
	b.click("Change: ")
	b.see("concurrency from 100 to 7: slower")
	require.Equal(t, 7, w.until(id, func(aRollout) bool { return true }).Concurrency)

	b.click("Resume: ")
	b.see("None of the devices that the stage names was updated, and none is left.")
	b.click("Open the next stage: stage 2 of 2 opens, up to 7 devices in all")
	b.see("1 transferring")
	b.see("succeeded 4")
	b.click("Succeeded")
	b.gone("bad-0 failed")
	b.see("dev-002")
	b.click("Waiting")
	b.see("No device.")
	b.click("All")
	b.look("rollout-running")

	b.click("Pause: ")
	b.see("It was paused by kim.")
	b.click("Resume: ")
	b.see("running")
	b.fill("Add a device by its name", "late")
	b.click("Add: ")
	b.see("added late")
	b.click("Retry: 2 that failed or timed out try again")
	b.see("retried 2 devices")

	// A stop asks once, with its effect; Escape leaves all as it is, one key does it.
	b.click("Stop and cancel: ")
	b.see("Stop this rollout?")
	b.accessible("the question")
	b.shot("rollout-stop")
	b.key("Escape")
	b.gone("Stop this rollout?")
	require.NotEqual(t, "ended", w.until(id, func(aRollout) bool { return true }).State)
	b.click("Stop and cancel: ")
	b.see("it cannot be undone.")
	b.key("Enter")
	b.see("ended It was stopped by kim")
	b.see("Delete: its 8 members and its journal go")
	b.look("rollout-ended")
	b.click("Delete: ")
	b.key("Enter")
	b.see("No rollout has been made yet.")
	b.see("curl")
	b.look("rollouts-none")
}

// TestRollouts shows a list that changes: new rollouts are announced, and nothing moves by itself.
func TestRollouts(t *testing.T) {
	w := newWorld(t, "")
	image := w.image("1.1.0")
	w.fleet(6, installs)
	names := []string{"first", "second"}
	for _, name := range names {
		w.rollout(image, `"name":"`+name+`","targets":{"select":{}}`)
	}
	b := w.open("#/rollouts")
	b.see("2 rollouts are active.")
	b.see("second")
	third := w.rollout(image, `"name":"third","targets":{"endpoints":["dev-000","dev-001"]},"stages":[{"size":"100%"}],"start":true`)
	b.see("1 new rollout: show")
	require.NotContains(t, b.text(), "third")
	b.click("1 new rollout")
	b.see("third")
	w.until(third, func(r aRollout) bool { return r.State == "ended" })
	b.gone("third") // active ones only
	b.click("All")
	b.see("every device has ended: 2 succeeded")
	b.look("rollouts")

	// From row to row by keys.
	b.key("j")
	require.Equal(t, "third", b.focused())
	b.key("j")
	require.Equal(t, "second", b.focused())
	b.key("k")
	b.key("Enter")
	b.see("Rollouts / third")
	b.do(back)
	b.see("every device has ended: 2 succeeded")
}

// TestNewRollout makes a rollout of what its dry run has shown.
func TestNewRollout(t *testing.T) {
	w := newWorld(t, "")
	b := w.open("#/rollouts/new")
	b.see("There is no image to roll out yet.")
	w.image("1.1.0")
	w.image("0.9.0")
	w.fleet(12, installs)
	current := installs
	current.Version = "1.1.0"
	w.device("current", current)
	w.read(13)
	b.do(reload)
	b.see("Choose an image")
	b.choose("Image", "0.9.0")
	b.see("No device would get this image; 13 are skipped.")
	b.see("13 with a version that is higher or cannot be compared")
	b.choose("Image", "1.1.0")
	b.see("12 devices would get this image; 1 is skipped.")
	b.see("1 with this version already current")
	b.see("Those of the server: 1 (watched for 10m), then 1% (watched for 10m), then 10% (watched for 10m), then all.")
	b.look("rollout-new")

	b.fill("Labels", "site=oslo")
	b.see("No device would get this image.")
	b.fill("Labels", "")
	b.fill("Version below", "new")
	b.see("As it stands this cannot be created")
	require.Equal(t, "true", eval[string](b, field("Version below")+".getAttribute('aria-invalid')"))
	b.fill("Version below", "2.0")
	b.see("12 devices would get this image")
	b.click("Change the stages")
	b.fill("Stage 1: devices in all", "0")
	b.see("must be a number of devices")
	b.look("rollout-new-refused")
	b.fill("Stage 1: devices in all", "3")
	b.fill("Watched for", "1s")
	b.click("Remove")
	b.see("Create and start: 1 device may begin")
	b.click("Limits and window")
	b.fill("From", "22:00")
	b.see("must be a time of day")
	b.fill("To", "21:59")
	b.fill("Zone", "Europe/Oslo")
	b.see("22:00 to 21:59, Europe/Oslo")
	b.fill("From", "")
	b.fill("To", "")
	b.fill("Zone", "")
	b.see("Window always")
	b.click("Each update")
	b.fill("Deadline of a device", "12h")
	b.fill("Name (optional)", "autumn")
	b.see("12 devices would get this image")
	b.look("rollout-new-open")
	b.until("!document.querySelector('button[data-start]').disabled")
	b.click("Create and start")
	b.see("Rollouts / autumn")
	b.see("deadline 12h")
}

// TestWindowClosed: the page says until when a rollout waits for its window.
func TestWindowClosed(t *testing.T) {
	w := newWorld(t, "")
	image := w.image("1.1.0")
	w.fleet(3, installs)
	now := time.Now().UTC()
	window := fmt.Sprintf(`{"from":%q,"to":%q,"zone":"UTC"}`, now.Add(2*time.Hour).Format("15:04"), now.Add(4*time.Hour).Format("15:04"))
	id := w.rollout(image, `"name":"by night","targets":{"select":{}},"stages":[{"size":"100%"}],"window":`+window+`,"start":true`)
	w.until(id, func(r aRollout) bool { return strings.Contains(r.Reason, "the window is closed") })
	b := w.open("#/rollouts/" + id)
	b.see("the window is closed. That holds until")
	b.see("in 1 h")
	b.look("rollout-window")
	b.see("Pause: 3 that do not install yet wait before they install")
	b.click("01") // an update of it
	b.see("Waits for its turn in the rollout by night.")
	b.see("The rollout is running: ")
	b.see("That ends in 1 h")
}
