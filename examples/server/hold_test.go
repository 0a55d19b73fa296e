package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
)

// TestHeldUpdate checks that a device gets its package, but executes it only when both holders have
// released the update.
func TestHeldUpdate(t *testing.T) {
	s := startServer(t, "-data", t.TempDir(), "-store", "memory:")
	startDevice(t, "dev", s.coap(), device.Config{})
	_, image := call[struct{ ID, SHA256 string }](s, http.MethodPost, "/images?name=demo&version=1.1.0", "application/octet-stream",
		bytes.NewReader(demo.Image("1.1.0", 100_000)))
	u := s.start(`{"endpoint":"dev","image":%q,"hold":{"holder":"night shift","reason":"the line is running"}}`, image.ID)
	order := func(what, holder string) {
		t.Helper()
		status, u := call[update](s, http.MethodPost, "/updates/"+u.ID+"/"+what, "application/json",
			strings.NewReader(`{"holder":"`+holder+`"}`))
		require.Equal(t, http.StatusOK, status, u.Detail)
	}
	order("hold", "canary")
	waits := func(u update) bool { return u.WaitingFor.Whose == "operator" }
	u = s.await(u.ID, waits)
	require.Equal(t, []string{"transferred", "downloaded"}, []string{u.Phase, u.State})
	require.Contains(t, u.WaitingFor.Reason, "night shift, canary")
	_, device := call[struct {
		Firmware struct {
			Holds string `json:"holds_package"`
		}
	}](s, http.MethodGet, "/devices/dev", "", nil)
	require.Equal(t, image.SHA256, device.Firmware.Holds)

	order("release", "night shift")
	u = s.await(u.ID, waits)
	require.NotContains(t, u.WaitingFor.Reason, "night shift", "who releases frees only what is his own")
	require.Contains(t, u.WaitingFor.Reason, "canary")
	order("release", "canary")
	u = s.await(u.ID, ended)
	require.Equal(t, "succeeded", u.Outcome, "%+v", u)
}
