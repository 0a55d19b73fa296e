package browsertest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/lwm2m"
)

// TestFleet follows an update from the fleet to its end, live.
func TestFleet(t *testing.T) {
	w := newWorld(t, "")
	b := w.open("")
	b.see("No device has registered yet.")
	b.look("fleet-none")
	w.image("1.1.0")
	held := installs
	held.PullTime = 0
	w.device("dev-000", held)
	b.see("None of 1 device is updating.")
	w.fleet(3, slow)
	w.device("sleeper", slow, func(c *lwm2m.ClientConfig) { c.Queue = true })
	w.read(5)
	b.see("5, 100 %")
	b.look("fleet")

	b.click("dev-000")
	b.see("Runs 1.0.0. It is registered, and was last seen")
	b.fill("Labels", "site=oslo, room=4")
	b.click("Set its labels")
	b.see("room=4 site=oslo")
	b.look("device")
	b.click("hold before it installs")
	b.click("Bring 1.1.0 to the device")
	b.see("You are to act")
	b.look("update-held")
	b.click("Release the hold of operator")
	b.see("succeeded")
	b.look("update")
	b.click("dev-000")
	b.see("Runs 1.1.0.")

	// The selector, which the address keeps.
	b.click("Fleet")
	b.see("None of 5 devices is updating.")
	b.fill("Label", "site=oslo")
	b.click("Search devices")
	b.gone("dev-001")
	b.see("dev-000")
	require.Contains(t, eval[string](b, "location.hash"), "label=site%3Doslo")
	b.do(reload)
	b.see("dev-000")
	b.gone("dev-001")

	// An update that cannot end, and its cancel.
	b = w.open("#/devices/dev-001")
	b.click("Bring 1.1.0 to the device")
	b.see("Cancel: ")
	b.click("Cancel: ")
	b.see("Cancel this update?")
	b.key("Enter")
	b.see("cancelled")
	b.click("Updates")
	b.see("0 of 2 updates are active")
	b.click("–cancelled")
	b.see("dev-001")
	b.gone("dev-000")
	b.look("updates")
}

// TestMarkup: what devices and people write is text, whatever it says.
func TestMarkup(t *testing.T) {
	w := newWorld(t, "")
	evil := `<img src=x onerror="alert(1)">`
	image := w.image("<b>9</b>")
	script := fails
	script.Version = "<script>1</script>"
	script.Device.Manufacturer, script.Device.Model = "</style><svg onload=alert(1)>", "\u202egnp.exe"
	w.device(evil, script)
	w.device("javascript:alert(1)", fails)
	w.device("a/b?c#d&e=%2F", fails)
	w.read(3)
	id := w.rollout(image, `"name":"<i>x</i>","targets":{"select":{}},"notes":"<script>alert(1)</script>","downgrade":true,"stages":[{"size":"100%"}],"start":true`)
	w.until(id, func(r aRollout) bool { return r.State == "paused" && r.Members["active"] == 0 })
	for _, at := range []struct{ hash, text string }{
		{"#/fleet", evil}, {"#/fleet", "U+202Egnp.exe"}, {"#/devices/" + eval[string](w.open(""), fmt.Sprintf("encodeURIComponent(%q)", evil)), "<script>1</script>"},
		{"#/rollouts", "<i>x</i>"}, {"#/rollouts/" + id, evil}, {"#/rollouts/" + id, "<script>alert(1)</script>"}, {"#/rollouts/new?image=" + image, evil},
		{"#/images", "<b>9</b>"}, {"#/updates", "a/b?c#d&e=%2F"},
	} {
		b := w.open(at.hash)
		b.see(at.text)
		require.Zero(t, eval[int](b, "document.querySelectorAll('main img, main script, main svg, main style, main b > b, [href^=javascript]').length"), at.hash)
	}
	b := w.open("#/fleet")
	b.click("a/b?c#d&e=%2F")
	b.see("Device a/b?c#d&e=%2F")
	b.see("Runs 1.0.0")
}

// TestReconnect: a page says that its server is away, and shows what has happened since it is back.
func TestReconnect(t *testing.T) {
	w := newWorld(t, "")
	w.fleet(2, installs)
	b := w.open("#/fleet")
	b.see("None of 2 devices is updating.")
	b.await("ERR_")
	back := w.away()
	b.see("Connection lost")
	b.look("lost")
	w.device("new", installs)
	back()
	b.see("None of 3 devices is updating.")
	b.gone("Connection lost")
	b.see("new")
}

// TestAwayAtFirst: a view that could not be read is there once the server is back.
func TestAwayAtFirst(t *testing.T) {
	w := newWorld(t, "")
	w.fleet(1, installs)
	b := w.open("#/images")
	b.see("No image yet.")
	b.await("ERR_")
	back := w.away()
	eval[chromedp.Void](b, "location.hash = '#/fleet'")
	b.see("This could not be read")
	back()
	b.see("None of 1 device is updating.")
	b.see("dev-000")
	b.gone("Try again")
}

// TestPrefix: the page works below a prefix.
func TestPrefix(t *testing.T) {
	w := newWorld(t, "/ops/ota")
	image := w.image("1.1.0")
	w.fleet(2, installs)
	b := w.open("#/rollouts/new?image=" + image)
	b.see("2 devices would get this image.")
	b.click("Create a draft")
	b.see("It waits for its start, with 2 devices.")
	b.click("Fleet")
	b.see("of 2 devices")
	response, err := http.Get(strings.TrimSuffix(w.url, "/ops/ota/") + "/")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusNotFound, response.StatusCode, "nothing is outside of the prefix")
}

// TestKeyboard makes and stops a rollout without a mouse.
func TestKeyboard(t *testing.T) {
	w := newWorld(t, "")
	w.image("1.1.0")
	w.fleet(3, slow)
	b := w.open("#/images")
	b.see("sensor 1.1.0")
	b.tabTo("Roll out")
	b.key("Enter")
	b.see("3 devices would get this image.")
	b.until("!document.querySelector('button[data-start]').disabled")
	b.tabTo("Create and start")
	b.key("Enter")
	b.see("Pause: ")
	b.tabTo("Pause: ")
	b.key("Enter")
	b.see("It was paused by kim.")
	b.tabTo("Stop: ")
	b.key("Enter")
	b.see("Stop this rollout?")
	require.Equal(t, "Stop", b.focused(), "the question has the focus")
	b.key("Enter")
	b.gone("Stop this rollout?")

	// The search: / from anywhere, any part of a name, Enter.
	b.key("/")
	require.Equal(t, "search-field", b.focused())
	b.typed("ev-002")
	b.see("Device dev-002")
	b.accessible("search")
	b.shot("search")
	b.key("Enter")
	b.see("Device dev-002")
	b.see("Runs 1.0.0")
	b.key("Tab")
	require.True(t, eval[bool](b, "document.activeElement !== document.body"))
}

// TestSituations: what an operator sees of a device that is dead, asleep or broken says why, and
// until when.
func TestSituations(t *testing.T) {
	w := newWorld(t, "")
	image := w.image("1.1.0")
	w.device("asleep", slow, func(c *lwm2m.ClientConfig) { c.Queue = true })
	damaged := installs
	damaged.Install = firmwaretest.Install{Result: 5, NoReboot: true}
	w.device("broken", damaged)
	w.read(2)
	w.post("/updates", `{"endpoint":"gone","image":"`+image+`"}`, nil)
	w.post("/updates", `{"endpoint":"broken","image":"`+image+`"}`, nil)
	b := w.open("#/updates?endpoint=gone")
	b.see("waits for the")
	b.click("gone")
	b.see("The device is to act")
	b.look("update-gone")
	b = w.open("#/updates?endpoint=broken")
	b.see("failed")
	b.click("broken")
	b.see("integrity failed")
	b.look("update-broken")
	b = w.open("#/devices/asleep")
	b.see("asleep")
	b.look("device-asleep")
}
