package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

func TestSimulate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.client("-endpoint", "sim", "-version", "1.0.0")
	for version, change := range map[string]func(*firmware.Request){"1.1.0": pull, "1.2.0": func(*firmware.Request) {}} {
		u := w.end(w.start("sim", w.demo(version), change), 2*time.Minute)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u))
	}
	last := w.version("sim")
	p.kill()
	w.client("-endpoint", "sim", "-version", "1.0.0")
	require.Equal(t, last, w.version("sim"), "what was installed wins")
}

func TestFleet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("-endpoint", "dev", "-count", "5")
	image := w.demo("2.0.0")
	var updates []firmware.Update
	for i := range 5 {
		updates = append(updates, w.start(fmt.Sprintf("dev-%d", i+1), image, pull))
	}
	for _, u := range updates {
		require.Equal(t, fsm.OutcomeSucceeded, w.end(u, 2*time.Minute).Machine.Outcome, w.journal(u))
	}
}

// TestOddDevices checks which devices of a fleet do not take an update, and what all say of
// themselves.
func TestOddDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("-endpoint", "dev", "-count", "4", "-fail", "1", "-rollback", "1", "-silent", "1",
		"-manufacturer", "Example", "-model", "sensor", "-hardware", "B2")
	image := w.demo("2.0.0")
	updates := map[string]firmware.Update{}
	for _, endpoint := range []string{"dev-1", "dev-2", "dev-3", "dev-4"} {
		updates[endpoint] = w.start(endpoint, image, pull)
	}
	failed, good := w.end(updates["dev-1"], 2*time.Minute), w.end(updates["dev-4"], 2*time.Minute)
	require.Equal(t, fsm.ResultIntegrityFailed, failed.Machine.Reported, w.journal(failed))
	require.Equal(t, fsm.OutcomeSucceeded, good.Machine.Outcome, w.journal(good))
	back := w.end(updates["dev-2"], 3*time.Minute)
	require.Equal(t, fsm.OutcomeRolledBack, back.Machine.Outcome, w.journal(back))
	for resource, want := range map[uint16]string{0: "Example", 1: "sensor", 18: "B2"} {
		a, err := w.manager.Do(t.Context(), lwm2m.Request{Endpoint: "dev-4", Operation: lwm2m.OpRead, Path: lwm2m.NewPath(3, 0, resource)})
		require.NoError(t, err)
		require.Len(t, a.Entries, 1)
		text, _ := a.Entries[0].Value.Text()
		require.Equal(t, want, text)
	}
	silent, err := w.manager.Get(t.Context(), updates["dev-3"].ID)
	require.NoError(t, err)
	require.True(t, silent.Active(), w.journal(silent))
	for e, err := range w.manager.Journal(t.Context(), silent.ID) {
		require.NoError(t, err)
		require.NotEqual(t, firmware.EventRead, e.Name)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args    []string
		outcome fsm.Outcome
		result  fsm.Result // reported by the device
	}{
		faultPackage:   {outcome: fsm.OutcomeFailed, result: fsm.ResultUnsupFirmware},
		faultStorage:   {outcome: fsm.OutcomeFailed, result: fsm.ResultNoStorage},
		faultIntegrity: {outcome: fsm.OutcomeFailed, result: fsm.ResultIntegrityFailed},
	}
	for fault, tc := range tests {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.client("-endpoint", "sim", "-fault", fault)
			u := w.end(w.start("sim", w.demo("1.1.0"), pull), 2*time.Minute)
			require.Equal(t, tc.outcome, u.Machine.Outcome, w.journal(u))
			require.Equal(t, tc.result, u.Machine.Reported, w.journal(u))
		})
	}
}

// TestLateFaults checks only what the device reports. The server checks these faults twice, over a
// minute or so, before it believes them.
func TestLateFaults(t *testing.T) {
	for fault, reported := range map[string]fsm.Result{faultVersion: fsm.ResultSuccess, faultInstall: fsm.ResultUpdateFailed} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.client("-endpoint", "sim", "-fault", fault)
			u := w.start("sim", w.demo("1.1.0"), pull)
			require.Eventually(t, func() bool {
				now, err := w.manager.Get(t.Context(), u.ID)
				return err == nil && now.Machine.Reported == reported
			}, 2*time.Minute, 20*time.Millisecond)
			require.Equal(t, "1.0.0", w.version("sim"))
		})
	}
}

func TestFixedHost(t *testing.T) {
	t.Parallel()
	image := []byte("otago-demo-image 3.0.0\n")
	var asked atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(true)
		w.Write(image)
	}))
	defer server.Close()
	o := &options{fixedHost: server.URL, endpoint: "x", lwm2m: "1.1"}
	require.Equal(t, server.URL, o.device(o.endpoint, nil).FixedHost)

	w := newWorld(t)
	w.client("-endpoint", "fixed", "-profile", "fixed-host", "-fixed-host", server.URL)
	require.Equal(t, "1.0.0", w.version("fixed"))
	u := w.end(w.start("fixed", w.image("3.0.0", image), func(r *firmware.Request) { r.Profile = "fixed-host" }), 2*time.Minute)
	require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u))
	require.True(t, asked.Load())
}

// TestKilledAtRandom kills the device repeatedly in mid-update. Each update must end with the right
// outcome.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	w := newWorld(t)
	args := []string{"-endpoint", "sim"}
	p := w.client(args...)
	for round := range rounds {
		version := fmt.Sprintf("1.%d.0", round+1)
		u := w.start("sim", w.demo(version), pull)
		for range 5 {
			<-time.After(time.Duration(rand.IntN(150)) * time.Millisecond) // the test is about the moment
			p.kill()
			p = w.client(args...)
		}
		u = w.end(u, 3*time.Minute)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u))
		require.Equal(t, version, w.version("sim"))
	}
}

func TestOptions(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	tests := map[string]string{ // arguments, and the expected error
		"-install exec":         "-trust",
		"-install magic":        "simulate or exec",
		"-server http://x":      "no LwM2M over http",
		"-server nonsense":      "no URI",
		"-server coaps://x":     "needs -psk-key-file",
		"-server coaps+tcp://x": "needs -cert",
		"-psk-identity x":       "needs -psk-key-file",
		"-psk-key-file x":       "is for coaps",
		"-server coaps://x -psk-key-file x -cert x -key x": "one or the other",
		"-cert x":                               "belong together",
		"-lwm2m 2.0":                            "1.0, 1.1 or 1.2",
		"-lifetime 0":                           "at least 1",
		"-count 0":                              "at least 1",
		"-fail 2":                               "up to -count 1",
		"-count 9 -fail 5 -rollback 5":          "up to -count 9",
		"-silent -1":                            "no numbers",
		"-silent 1 -server coap+tcp://x":        "is for coap",
		"-endpoint=":                            "not be empty",
		"-version=":                             "not be empty",
		"-version " + strings.Repeat("1", 256):  "255 bytes",
		"-trust main.go -version=-1":            "begin with a digit",
		"-trust main.go -version 2..0":          "single dots",
		"-profile x":                            "not pull, push",
		"-profile fixed-host":                   "needs -fixed-host",
		"-fixed-host x":                         "no URL",
		"-fault x":                              "no fault",
		"-confirm-within 0s":                    "more than 0",
		"-log-level x":                          "not debug",
		"extra":                                 "extra",
		"-endpoint " + strings.Repeat("x", 256): "255 bytes",
		"-install exec -trust main.go -count 2": "one device",
	}
	for args, want := range tests {
		_, err := parseOptions(strings.Fields(args), none, io.Discard)
		require.ErrorIs(t, err, cli.ErrUsage, args)
		require.ErrorContains(t, err, want, args)
	}
	for args, want := range map[string]string{"-trust none": "-trust", "-ca none": "-ca", "-cert none -key none": "-cert"} {
		_, err := parseOptions(strings.Fields(args), none, io.Discard)
		require.ErrorContains(t, err, want, args)
		require.False(t, errors.Is(err, cli.ErrUsage))
	}
	var help bytes.Buffer
	_, err := parseOptions([]string{"-h"}, none, &help)
	require.Error(t, err)
	require.Contains(t, help.String(), faultNoRegister)
}

// TestProtocols checks that a device lists only the protocols that its keys allow.
func TestProtocols(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("0123"), 0o600))
	none := func(string) (string, bool) { return "", false }
	o, err := parseOptions([]string{"-server", "coaps://127.0.0.1", "-psk-key-file", key}, none, io.Discard)
	require.NoError(t, err)
	protocols := o.device("dev", nil).Protocols
	require.Contains(t, protocols, fsm.ProtocolCoAPS)
	require.NotContains(t, protocols, fsm.ProtocolCoAPSTCP)
}

func TestStateFolder(t *testing.T) {
	o := &options{state: "state"}
	for endpoint, want := range map[string]string{
		"urn:imei:1": "state/urn:imei:1", "..": "state/%2E.", ".": "state/%2E", "a/../../b": "state/a%2F..%2F..%2Fb",
	} {
		require.Equal(t, want, o.stateFolder(endpoint))
	}
}
