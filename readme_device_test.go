package otago_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// readmeProgram is the README's device as a program. Its standard error goes to the test's.
const readmeProgram = `package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"log"
	"os"

	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/lwm2m"
)

var version = "1.0.0"

func main() {
	key, err := hex.DecodeString(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	if err := sensor(context.Background(), key); err != nil {
		log.Fatal(version, ": ", err)
	}
}

func sensor(ctx context.Context, publicKey ed25519.PublicKey) error {
	SENSOR
}
`

// TestDeviceOfReadme runs the README's device as a process. It installs programs, which then run
// and say themselves what version they are, and comes back from packages that are no program, or
// that crash.
func TestDeviceOfReadme(t *testing.T) {
	workspace(t) // a module cache takes no overlay
	if runtime.GOOS == "windows" {
		t.Skip("a process of Windows cannot become another program")
	}
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	w := newReadmeWorld(t, private)
	dir := t.TempDir()
	build := w.program(dir)
	factory := build("1.0.0")
	w.keepRunning(factory, hex.EncodeToString(public))
	require.Eventually(t, func() bool { return w.version() == "1.0.0" }, time.Minute, 20*time.Millisecond)

	program := func(version string) []byte {
		content, err := os.ReadFile(build(version))
		require.NoError(t, err)
		return content
	}
	for _, step := range []struct {
		name    string
		version string // of the bundle
		content []byte
		outcome fsm.Outcome
		runs    string
	}{
		{"no program, first", "1.1.0", []byte("this is no program\n"), fsm.OutcomeRolledBack, "1.0.0"},
		{"a program", "1.2.0", program("1.2.0"), fsm.OutcomeSucceeded, "1.2.0"},
		{"no program", "1.3.0", []byte("this is no program\n"), fsm.OutcomeRolledBack, "1.2.0"},
		{"a program that crashes", "1.4.0", []byte("#!/bin/sh\nexit 1\n"), fsm.OutcomeRolledBack, "1.2.0"},
		{"a program of another version", "1.5.0", program("1.4.9"), fsm.OutcomeFailed, "1.4.9"},
	} {
		u := w.update(step.version, step.content)
		require.Equal(t, step.outcome, u.Machine.Outcome, "%s: %s", step.name, w.journal(u))
		require.Equal(t, step.runs, w.version(), step.name)
	}
}

const readmeEndpoint = "urn:imei:490154203237518"

// readmeWorld is the server of the README's device, in this process.
type readmeWorld struct {
	t       *testing.T
	key     ed25519.PrivateKey
	manager *firmware.Manager
	images  *firmware.Repository
	coap    string
}

func newReadmeWorld(t *testing.T, key ed25519.PrivateKey) *readmeWorld {
	ctx, cancel := context.WithCancel(context.Background())
	db := memory.New()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	packages, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	delivery, err := firmware.NewDelivery(images, firmware.DeliveryConfig{BaseURL: "http://" + packages.Addr().String()})
	require.NoError(t, err)
	server, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	require.NoError(t, err)
	manager, err := firmware.NewManager(server, db, images, firmware.ManagerConfig{
		Delivery: delivery, Inventory: true, Limits: fsm.Limits{Settle: 5 * time.Second},
	})
	require.NoError(t, err)
	devices, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	web := firmware.NewHTTPServer(delivery.Wrap(http.NotFoundHandler()))
	ended := make(chan error, 3)
	go func() { ended <- server.ServePacket(ctx, devices) }()
	go func() { ended <- manager.Run(ctx) }()
	go func() { ended <- web.Serve(packages) }()
	t.Cleanup(func() {
		cancel()
		web.Close()
		for range 3 {
			<-ended
		}
	})
	return &readmeWorld{t: t, key: key, manager: manager, images: images, coap: "coap://" + devices.LocalAddr().String()}
}

// program returns what builds the README's device with its state in dir.
func (w *readmeWorld) program(dir string) func(version string) (path string) {
	readme, err := os.ReadFile("README.md")
	require.NoError(w.t, err)
	m := regexp.MustCompile("(?s)## A device\n\n```go\n(.*?)```").FindSubmatch(readme)
	require.NotNil(w.t, m)
	body := string(m[1])
	for old, new := range map[string]string{"/var/lib/sensor": filepath.Join(dir, "state"), "coap://127.0.0.1:5683": w.coap} {
		require.Equal(w.t, 1, strings.Count(body, old))
		body = strings.ReplaceAll(body, old, new)
	}
	require.Contains(w.t, body, `"`+readmeEndpoint+`"`)
	source := filepath.Join(dir, "main.go")
	require.NoError(w.t, os.WriteFile(source, []byte(strings.ReplaceAll(readmeProgram, "SENSOR", body)), 0o600))
	here, err := os.Getwd()
	require.NoError(w.t, err)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(here, "internal", "readme", "main.go"): source,
	}})
	require.NoError(w.t, err)
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	return func(version string) string {
		path := filepath.Join(dir, "sensor-"+version)
		out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags", "-s -w -X main.version="+version,
			"-o", path, "./internal/readme").CombinedOutput()
		require.NoError(w.t, err, "%s", out)
		return path
	}
}

// keepRunning starts a program, and starts it again when it ends, as a service manager does.
func (w *readmeWorld) keepRunning(path string, args ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			cmd := exec.CommandContext(ctx, path, args...)
			cmd.Stderr = os.Stderr
			_ = cmd.Run()
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	w.t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// version returns the version that the device last said it runs, "" if none.
func (w *readmeWorld) version() string {
	d, err := w.manager.Device(w.t.Context(), readmeEndpoint)
	if err != nil {
		return ""
	}
	return d.Firmware.Version
}

// update installs a bundle and returns how that ended.
func (w *readmeWorld) update(version string, content []byte) firmware.Update {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	var signed bytes.Buffer
	manifest := bundle.Manifest{Name: "sensor", Version: version}
	require.NoError(w.t, bundle.Sign(&signed, w.key, manifest, bytes.NewReader(content)))
	image, err := w.images.Add(ctx, firmware.Image{Name: "sensor", Version: version}, &signed)
	require.NoError(w.t, err)
	u, err := w.manager.Start(ctx, firmware.Request{Endpoint: readmeEndpoint, Image: image.ID})
	require.NoError(w.t, err)
	for e, err := range w.manager.Events(ctx, u.Since) {
		require.NoError(w.t, err, "%s", w.journal(u))
		if e.Update == u.ID && e.Outcome != fsm.OutcomeNone {
			break
		}
	}
	u, err = w.manager.Get(ctx, u.ID)
	require.NoError(w.t, err)
	return u
}

func (w *readmeWorld) journal(u firmware.Update) string {
	var b strings.Builder
	for e, err := range w.manager.Journal(w.t.Context(), u.ID) {
		if err != nil {
			break
		}
		fmt.Fprintf(&b, "\n%s %s %s %s %s", e.Name, e.Phase, e.State, e.Result, e.Detail)
	}
	return b.String()
}
