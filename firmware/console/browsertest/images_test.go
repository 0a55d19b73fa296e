package browsertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// TestImages uploads an image with the page, and deletes it if the server lets it.
func TestImages(t *testing.T) {
	w := newWorld(t, "")
	w.device("slow", slow)
	w.read(1)
	b := w.open("#/images")
	b.see("No image yet.")
	b.see("curl")
	b.look("images-none")

	path := filepath.Join(t.TempDir(), "firmware.bin")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("firmware", 1<<18)), 0o600))
	b.do(chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{path}))
	b.fill("Version", "1.0.0")
	b.fill("Name", "sensor")
	eval[chromedp.Void](b, `(() => { window.seen = []; new MutationObserver(() => {
		const bar = document.querySelector('main progress'); if (bar) window.seen.push(bar.value / bar.max)
	}).observe(document.querySelector('main'), { subtree: true, childList: true, attributes: true }) })()`)
	b.click("Upload")
	b.see("Stored sensor 1.0.0, 2 MiB. SHA-256: ")
	b.until("window.seen.length > 0 && window.seen.at(-1) === 1")
	b.see("1 image; none is on its way to a device.")
	b.see("1 device") // runs this version
	b.look("images")

	// The same name and version with other bytes.
	require.NoError(t, os.WriteFile(path, []byte("other"), 0o600))
	b.do(chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{path}))
	b.click("Upload")
	b.see("an image of this name and version but with other bytes")
	b.fill("Version", strings.Repeat("9", 255))
	b.click("Upload")
	b.see("Stored sensor " + strings.Repeat("9", 255))
	b.look("images-long")

	// One that an update needs stays, and the page says why.
	image := w.image("1.1.0")
	w.post("/updates", `{"endpoint":"slow","image":"`+image+`"}`, nil)
	b.do(reload)
	b.see("1 on its way to devices")
	b.clickAt(`document.querySelectorAll('[aria-label="Delete sensor 1.1.0"]')`, "Delete")
	b.see("an active update needs the image")
	b.look("images-refused")
	b.clickAt(`document.querySelectorAll('[aria-label="Delete sensor 1.0.0"]')`, "Delete")
	b.see("Delete sensor 1.0.0?")
	b.key("Enter")
	b.gone("sensor 1.0.0")
	var page struct{ Items []struct{ Version string } }
	w.get("/images", &page)
	require.Len(t, page.Items, 2)
}
