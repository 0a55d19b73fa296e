package firmware_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
)

// imageFile returns the file of the world's image.
func (w *world) imageFile() string {
	var found string
	require.NoError(w.t, filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, w.image.SHA256[2:]) {
			found = path
		}
		return err
	}))
	require.NotEmpty(w.t, found)
	return found
}

// damages are the ways to damage an image's file.
var damages = map[string]func(file string) error{
	"truncated": func(file string) error { return os.Truncate(file, 2048) },
	"emptied":   func(file string) error { return os.Truncate(file, 0) },
	"deleted":   os.Remove,
	"changed": func(file string) error {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err = f.WriteAt([]byte("damage"), 3000); err != nil {
			return err
		}
		return os.Chtimes(file, time.Time{}, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) // another tick of the clock than the original
	},
}

// TestImageDamaged damages an image before and in the middle of its delivery. The journal blames
// the image, not the connection.
func TestImageDamaged(t *testing.T) {
	for name, damage := range damages {
		for _, way := range []string{"push", "coap", "http"} {
			for _, when := range []string{"before", "before, in another process", "in the middle"} {
				if when == "in the middle" && (name == "deleted" || name == "changed") {
					continue // an open file stays readable, and only the device can notice changed bytes
				}
				t.Run(way+" "+name+" "+when, func(t *testing.T) {
					t.Parallel()
					inWorldThatServes(t, firmware.DeliveryConfig{BaseURLs: bases(nowhere)}, firmware.ManagerConfig{}, func(w *world) {
						file := w.imageFile()
						require.NoError(t, os.Chmod(file, 0o600))
						script := good()
						var begun atomic.Bool
						switch way {
						case "push":
							script.Delivery = fsm.PushOnly
						case "http":
							script.Protocols = []fsm.Protocol{fsm.ProtocolHTTP}
						}
						if when == "in the middle" {
							w.net.Tap(w.damageOnce(&begun, func() { require.NoError(t, damage(file)) }))
						}
						script.Pull = func(ctx context.Context, uri string) fsm.Result {
							if way == "http" && when == "in the middle" {
								w.fetches("10.0.1.1")(ctx, uri) // the file is open from now on
								require.NoError(t, damage(file))
							}
							return w.fetches("10.0.1.1")(ctx, uri)
						}
						device := w.device(script)
						switch when {
						case "before":
							require.NoError(t, damage(file))
						case "before, in another process":
							require.NoError(t, damage(file))
							w.stop()
							w.openImages(w.db)
							w.start(w.db)
						}
						u := w.update(w.request())
						w.ends(u, fsm.OutcomeFailed, fsm.ReasonImage)
						require.Equal(t, fsm.ResultUpdateFailed, u.Machine.Result)
						require.Zero(t, count(device.Log(), "execute"))
						require.Equal(t, 1, u.Machine.Attempt, w.journal(u.ID))
					})
				})
			}
		}
	}
}

// TestSecrets checks that no secret of a Package URI is in a journal or a log.
func TestSecrets(t *testing.T) {
	var logged strings.Builder
	serve := firmware.DeliveryConfig{BaseURLs: bases(map[fsm.Protocol]string{fsm.ProtocolHTTP: "http://203.0.113.1/fw"})}
	inWorldThatServes(t, serve, firmware.ManagerConfig{}, func(w *world) {
		w.stop()
		logger := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		w.config.Logger = logger
		var uris []string
		script := good()
		script.Protocols = []fsm.Protocol{fsm.ProtocolHTTP}
		script.Pull = func(_ context.Context, uri string) fsm.Result {
			uris = append(uris, uri)
			return fsm.ResultConnectionLost
		}
		w.start(w.db)
		w.device(script)
		r := w.request()
		r.Attempts = 2
		u := w.update(r)
		w.ends(u, fsm.OutcomeFailed, fsm.ReasonAttempts)
		require.Equal(t, fsm.ResultConnectionLost, u.Machine.Result)
		journal := w.journal(u.ID)
		require.Contains(t, journal, "http://203.0.113.1/fw/[secret]")
		require.Contains(t, journal, "the device has not requested the package from this server")
		w.stop() // so that nothing is logged meanwhile
		require.Len(t, uris, 2)
		for _, uri := range uris {
			secret := uri[strings.LastIndexByte(uri, '/')+1:]
			require.NotContains(t, journal, secret)
			require.NotContains(t, logged.String(), secret)
		}
	})
}
