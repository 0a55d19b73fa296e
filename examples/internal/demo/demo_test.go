package demo_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

func TestImage(t *testing.T) {
	image := demo.Image("1.1.0", 1<<16)
	require.Len(t, image, 1<<16)
	require.Equal(t, image, demo.Image("1.1.0", 1<<16), "the same each time")
	require.NotEqual(t, image[100:], demo.Image("1.2.0", 1<<16)[100:])
	info, err := demo.Inspect(bytes.NewReader(image), int64(len(image)))
	require.NoError(t, err)
	require.Equal(t, "1.1.0", info.Version)

	info, err = demo.Inspect(strings.NewReader("otago-demo-image 2\r\n"), -1)
	require.NoError(t, err)
	require.Equal(t, "2", info.Version)
}

func TestNotAnImage(t *testing.T) {
	for _, text := range []string{
		"", "\n", "otago-demo-image", "otago-demo-image \n", "otago-demo-image 1.0", "otago-demo-image a\x00b\n",
		"<html>otago-demo-image 1\n", "otago-demo-image " + strings.Repeat("1", 1000) + "\n",
	} {
		_, err := demo.Inspect(strings.NewReader(text), int64(len(text)))
		require.ErrorIs(t, err, device.ErrUnsupportedPackage, "%q", text)
	}
}

// TestUpdate runs a complete update on loopback, in one process.
func TestUpdate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b, err := backend.Listen(ctx, backend.Config{
		Store: memory.New(), Images: t.TempDir(), CoAP: "127.0.0.1:0", FWHTTP: "127.0.0.1:0",
	})
	require.NoError(t, err)
	served, ended := make(chan error, 1), make(chan error, 1)
	go func() { served <- b.Run(ctx) }()
	deviceCtx, stop := context.WithCancel(ctx)
	defer stop()
	var versions []string
	device := demo.Device{
		Client: lwm2m.ClientConfig{Endpoint: "demo", Server: b.URL(backend.CoAP)}, Dir: t.TempDir(), Version: "1.0.0",
		Started: func(version string) { versions = append(versions, version) },
	}
	go func() { ended <- device.Run(deviceCtx) }()

	manager := b.Manager()
	image, err := manager.Images().Add(ctx, firmware.Image{Version: "1.1.0"}, bytes.NewReader(demo.Image("1.1.0", 100_000)))
	require.NoError(t, err)
	update, err := manager.Start(ctx, firmware.Request{Endpoint: "demo", Image: image.ID})
	require.NoError(t, err)
	for event, err := range manager.Events(ctx, update.Since) {
		require.NoError(t, err)
		t.Log(event.Name, event.Phase, event.State, event.Progress, event.Detail)
		if event.Outcome != "" {
			break
		}
	}
	update, err = manager.Get(ctx, update.ID)
	require.NoError(t, err)
	require.Equal(t, "succeeded", string(update.Machine.Outcome), "%+v", update.Machine)
	require.Equal(t, "1.0.0", update.Machine.OldVersion)
	require.Equal(t, "1.1.0", update.Machine.Version)
	stop() // while the server can still answer the De-register
	require.NoError(t, <-ended)
	cancel()
	require.NoError(t, <-served)
	require.Equal(t, []string{"1.0.0", "1.1.0"}, versions)
}
