package lwm2m_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestRemovedIdentity: a device sends a request after its identity was removed, or got another key.
// The server refuses any request, ends the association, and accepts no Register, not even for the
// endpoint named like the identity.
func TestRemovedIdentity(t *testing.T) {
	for change, f := range map[string]func(*keyring){
		"key removed":      func(k *keyring) { delete(k.keys, "id") },
		"endpoint removed": func(k *keyring) { delete(k.endpoints, pskIdentity("id")) },
		"key changed":      func(k *keyring) { k.keys["id"] = []byte{2} },
		"a certificate of that name instead": func(k *keyring) {
			delete(k.endpoints, pskIdentity("id"))
			k.endpoints[certificateIdentity("id")] = "dev"
		},
	} {
		for request, speak := range speaks {
			t.Run(change+", "+request, func(t *testing.T) {
				inRingWorld(t, func(t *testing.T, w *ringWorld) {
					require.True(t, w.server.Reachable("dev"))
					w.ring.set(func() { f(w.ring) })
					code := speak(w)
					require.NotEqual(t, uint8(2), uint8(code>>5), "%v", code)
					require.False(t, w.server.Reachable("dev"))
					require.True(t, w.server.Registered("dev"), "it ends with its lifetime")
					_, err := w.server.Read(t.Context(), "dev", lwm2m.NewPath(3, 0, 0))
					require.ErrorIs(t, err, lwm2m.ErrUnreachable)
					require.Zero(t, w.update(), "the association has ended")
					if w.connect("id", 1) == nil {
						require.NotEqual(t, coap.Created, w.register("dev"))
						require.NotEqual(t, coap.Created, w.register("id"))
					}
				})
			})
		}
		t.Run(change+", register", func(t *testing.T) {
			inRingWorld(t, func(t *testing.T, w *ringWorld) {
				w.ring.set(func() { f(w.ring) })
				require.NotEqual(t, coap.Created, w.register("id"))
				require.False(t, w.server.Reachable("dev"))
				_, ok := w.server.Registration("id")
				require.False(t, ok)
			})
		})
	}
}

// TestChangedKeyKeepsTheNewAssociation: only associations with the old key end.
func TestChangedKeyKeepsTheNewAssociation(t *testing.T) {
	inRingWorld(t, func(t *testing.T, w *ringWorld) {
		old := *w
		w.ring.set(func() { w.ring.keys["id"] = []byte{2} })
		w.device = nil
		require.NoError(t, w.connect("id", 2))
		require.Equal(t, coap.Created, w.register("dev"))
		old.path = w.path
		require.NotEqual(t, coap.Changed, old.update(), "it knows the location, but not the key")
		require.Equal(t, coap.Changed, w.update())
		require.True(t, w.server.Reachable("dev"))
		require.NoError(t, old.device.Close())
	})
}

// TestEndpointOfAnother gives an identity another endpoint.
func TestEndpointOfAnother(t *testing.T) {
	for request, speak := range speaks {
		t.Run(request, func(t *testing.T) {
			inRingWorld(t, func(t *testing.T, w *ringWorld) {
				w.ring.set(func() { w.ring.endpoints[pskIdentity("id")] = "dev2" })
				require.Equal(t, coap.Forbidden, speak(w))
				require.False(t, w.server.Reachable("dev"))
				require.True(t, w.server.Registered("dev"))
				require.Equal(t, coap.Forbidden, w.register("dev"))
				require.Equal(t, coap.Created, w.register("dev2"), "by the same association")
				require.True(t, w.server.Reachable("dev2"))
			})
		})
	}
}

// TestCredentialsOutOfOrder: Credentials fail. Registered devices stay registered, and no device
// can register.
func TestCredentialsOutOfOrder(t *testing.T) {
	for name, trouble := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errors.New("no database") },
		"panic": func(context.Context) error { panic("no database") },
		"block": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"late": func(context.Context) error {
			time.Sleep(time.Hour)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRingWorld(t, func(t *testing.T, w *ringWorld) {
				w.ring.set(func() { w.ring.trouble = trouble })
				for range 3 {
					require.Equal(t, coap.Changed, w.update())
				}
				require.Equal(t, coap.Changed, speaks["send"](w))
				_, err := w.server.Read(t.Context(), "dev", lwm2m.NewPath(3, 0, 0))
				require.NoError(t, err)
				require.Equal(t, coap.ServiceUnavailable, w.register("dev"))
				require.Equal(t, coap.Changed, w.update(), "the registration of before holds")
				require.True(t, w.server.Reachable("dev"))
				w.ring.set(func() { w.ring.trouble = nil })
				time.Sleep(2 * time.Hour)
				require.Equal(t, coap.Created, w.register("dev"))
			})
		})
	}
}

// TestHandshakeWithoutAnswer: a device starts a handshake while Credentials fail. It gets no
// alert that its identity is unknown, and its next handshake succeeds.
func TestHandshakeWithoutAnswer(t *testing.T) {
	for name, trouble := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errors.New("no database") },
		"panic": func(context.Context) error { panic("no database") },
		"late":  func(context.Context) error { time.Sleep(time.Hour); return nil },
		"exit":  func(context.Context) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			inRingWorld(t, func(t *testing.T, w *ringWorld) {
				w.ring.set(func() { w.ring.trouble = trouble })
				err := w.connect("id", 1)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, dtls.ErrUnknownIdentity)
				w.ring.set(func() { w.ring.trouble = nil })
				require.ErrorIs(t, w.connect("another", 1), dtls.ErrUnknownIdentity)
				require.NoError(t, w.connect("id", 1))
				require.Equal(t, coap.Changed, w.update(), "its registration is still there")
				time.Sleep(2 * time.Hour) // for the late calls to end
			})
		})
	}
}

// TestStuckCredentials: the server bounds the calls that never return, and how long other calls
// wait for them.
func TestStuckCredentials(t *testing.T) {
	inRingWorld(t, func(t *testing.T, w *ringWorld) {
		release := make(chan struct{})
		w.ring.set(func() { w.ring.trouble = func(context.Context) error { <-release; return nil } })
		began := time.Now()
		for range 100 {
			require.Equal(t, coap.Changed, w.update())
		}
		require.Less(t, time.Since(began), 70*6*time.Second)
		began = time.Now()
		require.Equal(t, coap.Changed, w.update())
		require.Less(t, time.Since(began), time.Second)
		w.ring.set(func() { require.Equal(t, 64, w.ring.most) })
		close(release)
		synctest.Wait()
		w.ring.set(func() { w.ring.trouble = nil })
		require.Equal(t, coap.Created, w.register("dev"))
	})
}

// TestRevoke: Revoke ends the association at once, before the device sends anything.
func TestRevoke(t *testing.T) {
	inRingWorld(t, func(t *testing.T, w *ringWorld) {
		w.server.Revoke(certificateIdentity("id"), pskIdentity("dev"))
		require.True(t, w.server.Reachable("dev"))
		require.Equal(t, coap.Changed, w.update())
		w.server.Revoke(pskIdentity("id"))
		require.False(t, w.server.Reachable("dev"))
		require.Zero(t, w.update())
		require.NoError(t, w.connect("id", 1), "its key is still there")
		require.Equal(t, coap.Changed, w.update(), "and its registration")
		require.True(t, w.server.Reachable("dev"))
	})
}

// TestPSKFileOfServer edits the file while a device is registered. The association ends when its
// line is removed, without a message from the device, but not while the file cannot be read, which
// is logged once.
func TestPSKFileOfServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "keys")
		require.NoError(t, os.WriteFile(name, []byte("id 01 dev\n"), 0o600))
		log := new(lines)
		w := &ringWorld{t: t, net: simnet.New(1)}
		w.server = lwm2m.MustServer(lwm2m.ServerConfig{
			Credentials: lwm2m.PSKFile(name), Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		conn, err := w.net.Listen(serverAddress)
		require.NoError(t, err)
		go func() { done <- w.server.ServeDTLS(ctx, conn) }()
		require.NoError(t, w.connect("id", 1))
		require.Equal(t, coap.Forbidden, w.register("id"))
		require.Equal(t, coap.Created, w.register("dev"))

		logged := func() int { return bytes.Count(log.get(), []byte("credentials cannot be read")) }
		require.NoError(t, os.WriteFile(name, []byte("id 01 dev\nother\n"), 0o600))
		for range 10 {
			time.Sleep(time.Minute)
			require.Equal(t, coap.Changed, w.update())
		}
		require.Equal(t, 1, logged())
		require.True(t, w.server.Reachable("dev"))
		require.NoError(t, os.WriteFile(name, []byte("other 01\n"), 0o600))
		time.Sleep(10 * time.Second)
		require.False(t, w.server.Reachable("dev"))
		require.Error(t, w.connect("id", 1))
		require.Equal(t, 1, logged())
		require.NotContains(t, string(log.get()), " 01")
		require.NoError(t, w.device.Close())
		cancel()
		require.NoError(t, <-done)
	})
}

// TestOnlineEndsWithAssociation: the device closes its association, and at once counts as not
// reachable.
func TestOnlineEndsWithAssociation(t *testing.T) {
	inRingWorld(t, func(t *testing.T, w *ringWorld) {
		require.True(t, w.server.Reachable("dev"))
		require.NoError(t, w.device.Close())
		synctest.Wait()
		require.False(t, w.server.Reachable("dev"))
		require.True(t, w.server.Registered("dev"))
		w.device = nil
		require.NoError(t, w.connect("id", 1))
		require.False(t, w.server.Reachable("dev"), "it has not said that it is the device")
		require.Equal(t, coap.Changed, w.update())
		require.True(t, w.server.Reachable("dev"))
		time.Sleep(25 * time.Hour)
		require.False(t, w.server.Reachable("dev"))
	})
}
