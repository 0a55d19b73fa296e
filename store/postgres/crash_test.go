//go:build unix

package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/postgres"
	"github.com/otago-iot/otago/store/storetest"
)

// TestCrashes kills a server before and after each of its commits, lets a standby go on, and
// expects the outcome of an undisturbed update. The devices live in virtual time, which stands
// still while the database works.
func TestCrashes(t *testing.T) {
	shared(t)
	installs := firmwaretest.Install{Version: "1.1.0", Time: time.Second, BootTime: 5 * time.Second}
	for _, test := range []struct {
		name    string
		script  firmwaretest.Script
		outcome fsm.Outcome
	}{
		{"pull", firmwaretest.Script{PullTime: 10 * time.Second, Install: installs}, fsm.OutcomeSucceeded},
		{"push", firmwaretest.Script{Delivery: fsm.PushOnly, Install: installs}, fsm.OutcomeSucceeded},
		{"rollback", firmwaretest.Script{Install: firmwaretest.Install{Forgets: true, BootTime: time.Second}}, fsm.OutcomeRolledBack},
	} {
		test.script.Version = "1.0.0"
		t.Run(test.name, func(t *testing.T) {
			points := crashAt(t, test.script, storetest.Cut{}, test.outcome)
			t.Logf("%d commits", points)
			require.Greater(t, points, 4)
			for cut := range storetest.Cuts(points) {
				if (testing.Short() || testkit.Race) && cut.Point%4 != 0 {
					continue
				}
				t.Run(cut.String(), func(t *testing.T) { crashAt(t, test.script, cut, test.outcome) })
			}
		})
	}
}

// crashAt runs an update with a crash at the cut, and returns how many commits there were.
func crashAt(t *testing.T, script firmwaretest.Script, cut storetest.Cut, want fsm.Outcome) (points int) {
	dir := t.TempDir()
	namespace := fmt.Sprint("crash ", spaces.Add(1))
	synctest.Test(t, func(t *testing.T) {
		config, err := pgxpool.ParseConfig(sharedURL)
		require.NoError(t, err)
		config.MaxConns = 4
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		defer pool.Close()
		network := simnet.New(1)
		network.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})

		open := func() *postgres.Store {
			db, err := postgres.New(pool, postgres.Config{Namespace: namespace})
			require.NoError(t, err)
			return db
		}
		first := open()
		dead := make(chan struct{})
		var die func()
		crash := storetest.NewCrash(first, cut, func() { die(); close(dead) })
		mgr, images, kill, stop := serve(t, network, dir, crash)
		die = kill

		device := firmwaretest.NewDevice(lwm2m.ClientConfig{
			Endpoint: "ep", Server: "coap://10.0.0.1:5683",
			Listen: func(context.Context) (net.PacketConn, error) { return network.Listen("10.0.0.2:0") },
		}, script)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = device.Run(ctx) }) // until the test ends
		defer running.Wait()
		defer cancel()

		add := func(images *firmware.Repository) (store.Image, error) {
			return images.Add(ctx, store.Image{Name: "sensor", Version: "1.1.0"}, bytes.NewReader(make([]byte, 5000)))
		}
		image, err := add(images)
		request := func() firmware.Request { return firmware.Request{Endpoint: "ep", Image: image.ID, Key: "once"} }
		var u firmware.Update
		if err == nil {
			u, err = mgr.Start(ctx, request())
		}
		ended := make(chan struct{})
		if err == nil {
			go func(mgr *firmware.Manager) {
				if u, err := mgr.Wait(ctx, u.ID); err == nil && !u.Active() {
					close(ended)
				}
			}(mgr)
		} else {
			require.ErrorIs(t, err, storetest.ErrCrashed)
		}
		select {
		case <-dead:
			stop()
			postgres.Abandon(first)
			_, expire := pool.Exec(ctx, "UPDATE otago.leases SET expires = clock_timestamp() - interval '1s' WHERE namespace = $1", namespace)
			require.NoError(t, expire)
			time.Sleep(3 * time.Second)
			db := open()
			defer func() { require.NoError(t, db.Close()) }()
			_, lost := first.Commit(ctx, store.PutFirmware{Endpoint: "ep"})
			require.ErrorIs(t, lost, postgres.ErrLost)
			mgr, images, _, stop = serve(t, network, dir, db)
			if err != nil { // the operator asks again, and does not know whether the first request arrived
				image, err = add(images)
				require.NoError(t, err)
				u, err = mgr.Start(ctx, request())
				if active, ok := errors.AsType[*store.UpdateError](err); ok {
					u.ID, err = active.ID, nil
				}
				require.NoError(t, err)
			}
		case <-ended:
		}
		defer stop()
		u, err = mgr.Wait(ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, want, u.Machine.Outcome)
		if want == fsm.OutcomeSucceeded {
			require.Equal(t, "1.1.0", device.Version())
		}
		executed := 0
		for _, line := range device.Log() {
			if line == "execute" {
				executed++
			}
		}
		require.LessOrEqual(t, executed, 2, "%v", device.Log())
		points = crash.Points()
		require.NoError(t, first.Close())
	})
	return points
}

// serve starts a server. Die ends it, and stop waits, too.
func serve(t *testing.T, network *simnet.Network, dir string, db store.Store) (mgr *firmware.Manager, images *firmware.Repository, die, stop func()) {
	conn, err := network.Listen("10.0.0.1:5683")
	require.NoError(t, err)
	images, err = firmware.OpenRepository(dir, db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	delivery, err := firmware.NewDelivery(images, firmware.DeliveryConfig{})
	require.NoError(t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	require.NoError(t, err)
	srv.HandleFunc("/", delivery.ServeCoAP)
	mgr, err = firmware.NewManager(srv, db, images, firmware.ManagerConfig{Delivery: delivery})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = srv.ServePacket(ctx, conn) })
	running.Go(func() { _ = mgr.Run(ctx) }) // it fails with the store
	return mgr, images, cancel, func() { cancel(); running.Wait() }
}
