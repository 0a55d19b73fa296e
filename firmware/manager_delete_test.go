package firmware_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/memory"
)

// keyed is a network with a server on two sockets, one with keys and one without security, over a
// store that outlives it.
type keyed struct {
	t   *testing.T
	net *simnet.Network
	db  store.Store
	srv *lwm2m.Server
	mgr *firmware.Manager
	end func()
	// again restarts the server.
	again func()
}

const securedAddress = "10.0.0.1:5684"

func inKeyed(t *testing.T, db store.Store, fn func(k *keyed)) {
	t.Helper()
	dir := t.TempDir()
	psk := filepath.Join(dir, "keys")
	require.NoError(t, os.WriteFile(psk, []byte(endpoint+" 01\n"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		k := &keyed{t: t, net: simnet.New(1), db: db}
		k.start(psk, dir)
		fn(k)
		k.end()
	})
}

func (k *keyed) start(psk, dir string) {
	images, err := firmware.OpenRepository(dir, k.db, firmware.RepositoryConfig{})
	require.NoError(k.t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Credentials: lwm2m.PSKFile(psk), Registrations: firmware.Registrations(k.db)})
	require.NoError(k.t, err)
	k.srv = srv
	k.mgr, err = firmware.NewManager(k.srv, k.db, images, firmware.ManagerConfig{})
	require.NoError(k.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	for address, serve := range map[string]func(context.Context, net.PacketConn) error{
		serverAddress: k.srv.ServePacket, securedAddress: k.srv.ServeDTLS,
	} {
		conn, err := k.net.Listen(address)
		require.NoError(k.t, err)
		go func() { done <- serve(ctx, conn) }()
	}
	synctest.Wait()
	k.end = func() {
		cancel()
		require.NoError(k.t, errors.Join(<-done, <-done))
	}
	k.again = func() {
		k.end()
		k.start(psk, dir)
	}
}

// registers runs a device for a minute, with its key or without, and reports whether it was
// registered. At the end the device de-registers or simply vanishes.
func (k *keyed) registers(secured, deregisters bool) bool {
	server, key := "coap://"+serverAddress, []byte(nil)
	if secured {
		server, key = "coaps://"+securedAddress, []byte{1}
	}
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: endpoint, Server: server, PSK: key, Lifetime: 2 * time.Minute,
		Listen: func(context.Context) (net.PacketConn, error) { return k.net.Listen("10.0.0.2:0") },
	})
	require.NoError(k.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	running, stop := context.WithCancel(context.Background())
	go func() { done <- client.Run(running) }()
	err = client.WaitRegistered(ctx)
	if !deregisters {
		server, device := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		k.net.Partition(server, device, true)
		defer k.net.Partition(server, device, false)
	}
	stop()
	require.NoError(k.t, <-done)
	return err == nil
}

// TestSecuredOutlivesAll impersonates, without a key, a device that has used its key once. Whatever
// has happened before, the server refuses it until an operator deletes the device.
func TestSecuredOutlivesAll(t *testing.T) {
	for name, happens := range map[string]func(k *keyed, file *bbolt.DB){
		"nothing":   func(k *keyed, _ *bbolt.DB) {},
		"a restart": func(k *keyed, _ *bbolt.DB) { k.again() },
		"expiry":    func(k *keyed, _ *bbolt.DB) { time.Sleep(3 * time.Minute) },
		"expiry and restart": func(k *keyed, _ *bbolt.DB) {
			time.Sleep(3 * time.Minute)
			k.again()
		},
		"expiry while it is down": func(k *keyed, _ *bbolt.DB) {
			k.again()
			time.Sleep(3 * time.Minute)
		},
		"a damaged record": func(k *keyed, file *bbolt.DB) {
			require.NoError(k.t, file.Update(func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte(bolt.DefaultNamespace)).Bucket([]byte("devices")).Put([]byte(endpoint), []byte("\x02{"))
			}))
			k.again()
		},
		"a damaged record that is replaced": func(k *keyed, file *bbolt.DB) {
			require.NoError(k.t, file.Update(func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte(bolt.DefaultNamespace)).Bucket([]byte("devices")).Put([]byte(endpoint), []byte("\x02{"))
			}))
			_, err := k.db.Commit(k.t.Context(), store.PutFirmware{Endpoint: endpoint, Firmware: store.Firmware{Version: oldFW}})
			require.NoError(k.t, err)
			k.again()
		},
	} {
		for _, deregisters := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, deregisters: %v", name, deregisters), func(t *testing.T) {
				file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, &bbolt.Options{NoSync: true})
				require.NoError(t, err)
				defer file.Close()
				db, err := bolt.New(file, bolt.Config{})
				require.NoError(t, err)
				defer db.Close()
				inKeyed(t, db, func(k *keyed) {
					require.True(k.t, k.registers(true, deregisters))
					happens(k, file)
					require.False(k.t, k.registers(false, true), "an impostor")
					k.again()
					require.False(k.t, k.registers(false, true), "an impostor, after a restart")
					require.True(k.t, k.registers(true, deregisters), "the device itself")
					require.NoError(k.t, k.mgr.DeleteDevice(k.t.Context(), endpoint))
					_, err := db.Device(k.t.Context(), endpoint)
					require.ErrorIs(k.t, err, store.ErrNotFound)
					require.ErrorIs(k.t, k.mgr.DeleteDevice(k.t.Context(), endpoint), store.ErrNotFound)
					require.True(k.t, k.registers(false, true), "a device that was set up anew")
				})
			})
		}
	}
}

// TestDeleteDevice: manager and store refuse to delete a device with an active update; otherwise
// the manager forgets what it read.
func TestDeleteDevice(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.device(firmwaretest.Script{Version: oldFW})
		held := w.request()
		held.Hold = fsm.Hold{Holder: "tester"}
		u, err := w.mgr.Start(w.ctx, held)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		err = w.mgr.DeleteDevice(w.ctx, endpoint)
		active, ok := errors.AsType[*store.UpdateError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, u.ID, active.ID)
		require.ErrorIs(t, w.srv.DeleteDevice(w.ctx, endpoint), store.ErrActive)
		require.True(t, w.srv.Registered(endpoint))

		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		require.NoError(t, w.mgr.DeleteDevice(w.ctx, endpoint))
		require.False(t, w.srv.Registered(endpoint))
		_, err = w.mgr.Device(w.ctx, endpoint)
		require.ErrorIs(t, err, store.ErrNotFound)
		time.Sleep(time.Hour)
		d, err := w.mgr.Device(w.ctx, endpoint)
		require.NoError(t, err, "it has registered anew")
		require.True(t, d.Online)
		require.Empty(t, d.Firmware.Version)
		require.NoError(t, w.mgr.DeleteDevice(w.ctx, endpoint))
	})
}

// TestDeleteDeviceOfAnotherStore has a server without a registration store: the manager forgets the
// device nevertheless.
func TestDeleteDeviceOfAnotherStore(t *testing.T) {
	db := memory.New()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(t, err)
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	require.NoError(t, err)
	require.ErrorIs(t, mgr.DeleteDevice(t.Context(), endpoint), store.ErrNotFound)
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: endpoint, Firmware: store.Firmware{Version: oldFW}})
	require.NoError(t, err)
	require.NoError(t, mgr.DeleteDevice(t.Context(), endpoint))
	_, err = db.Device(t.Context(), endpoint)
	require.ErrorIs(t, err, store.ErrNotFound)
}
