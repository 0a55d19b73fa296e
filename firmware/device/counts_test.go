package device

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// miscounting is an installer that returns impossible counts.
type miscounting struct {
	Installer
	write func(p []byte) (said int, err error) // nil: the correct count
	sync  func(durable int64) int64            // nil: the correct count
}

func (m miscounting) OpenPackage(ctx context.Context, offset, size int64) (PackageWriter, error) {
	out, err := m.Installer.OpenPackage(ctx, offset, size)
	return miscountingWriter{out, m}, err
}

type miscountingWriter struct {
	PackageWriter
	m miscounting
}

func (w miscountingWriter) Write(p []byte) (int, error) {
	if w.m.write == nil {
		return w.PackageWriter.Write(p)
	}
	said, err := w.m.write(p)
	_, _ = w.PackageWriter.Write(p[:max(0, min(said, len(p)))])
	return said, err
}

func (w miscountingWriter) Sync() (int64, error) {
	durable, err := w.PackageWriter.Sync()
	if w.m.sync != nil {
		durable = w.m.sync(durable)
	}
	return durable, err
}

// TestInstallerMiscounts: an installer that takes fewer bytes than it got, or reports more, has
// failed, by push and by pull. No package with a gap counts as complete.
func TestInstallerMiscounts(t *testing.T) {
	image := testImage("2.0", 5000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(image))
	}))
	defer server.Close()
	for name, m := range map[string]miscounting{
		"less than it got":     {write: func(p []byte) (int, error) { return len(p) - 1, nil }},
		"nothing":              {write: func([]byte) (int, error) { return 0, nil }},
		"more than it got":     {write: func(p []byte) (int, error) { return len(p) + 1, nil }},
		"far more":             {write: func([]byte) (int, error) { return math.MaxInt, nil }},
		"fewer than no bytes":  {write: func([]byte) (int, error) { return -1, nil }},
		"that, with an error":  {write: func([]byte) (int, error) { return math.MinInt, errors.New("broken") }},
		"more, with an error":  {write: func(p []byte) (int, error) { return len(p) + 1, errors.New("broken") }},
		"more durable than is": {sync: func(n int64) int64 { return n + 1 }},
		"less than 0 durable":  {sync: func(int64) int64 { return -1 }},
	} {
		for _, way := range []string{"push", "pull"} {
			t.Run(name+" "+way, func(t *testing.T) {
				r := newRig(t)
				r.slots.Inspect = inspectAnything
				r.wrap = func(i Installer) Installer { m.Installer = i; return m }
				require.NoError(t, r.start())
				if way == "push" {
					require.ErrorIs(t, r.push(image, 64), ErrNoStorage)
				} else {
					require.NoError(t, r.write(resURI, lwm2m.String(server.URL)))
				}
				require.Less(t, r.wait(fsm.Idle, fsm.ResultNoStorage).Offset, int64(len(image)))
				r.stop()
			})
		}
	}
}

// TestSlowInstaller: the time that the installer takes does not count as silence of the server.
func TestSlowInstaller(t *testing.T) {
	image := testImage("2.0", 100_000)
	for _, method := range []string{"OpenPackage", "Write", "Sync", "SaveState"} {
		t.Run(method, func(t *testing.T) {
			hooked(t, func(r *rig, _ <-chan struct{}) {
				requests := 0
				r.config.Transport = transportFunc(func(q *http.Request) (*http.Response, error) {
					requests++
					return served(q, image), nil
				})
				r.config.Idle, r.config.Attempts, r.config.SyncEvery = 100*time.Millisecond, 2, 40_000
				r.spoil(method, func() { <-time.After(300 * time.Millisecond) })
				require.NoError(r.t, r.start())
				require.NoError(r.t, r.write(resURI, lwm2m.String("http://fw.example.com/x")))
				r.wait(fsm.Downloaded, fsm.ResultDefault)
				r.stop()
				require.Equal(r.t, 1, requests)
			})
		})
	}
}
