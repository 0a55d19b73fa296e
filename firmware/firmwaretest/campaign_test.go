package firmwaretest_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/memory"
)

// Test_rollback is in doc/testing.md.
func Test_rollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1) // the same seed loses the same datagrams
		network.SetDefault(simnet.Conditions{Delay: 50 * time.Millisecond, Loss: 0.05})

		db := memory.New() // or your store
		images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
		require.NoError(t, err)
		server := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{
			Registrations: firmware.Registrations(db),
		})
		manager, err := firmware.NewManager(server, db, images, firmware.ManagerConfig{})
		require.NoError(t, err)
		device := firmwaretest.NewDevice(lwm2m.ClientConfig{
			Endpoint: "sensor-1", Server: "coap://10.0.0.1:5683",
			Listen: func(context.Context) (net.PacketConn, error) { return network.Listen("10.0.0.2:0") },
		}, firmwaretest.Script{
			Version: "1.0.0", Delivery: firmware.PushOnly,
			Install: firmwaretest.Install{BootTime: 20 * time.Second}, // and then starts the old version
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { require.NoError(t, manager.Run(ctx)) })
		running.Go(func() { require.NoError(t, device.Run(ctx)) })
		defer running.Wait()
		defer cancel()

		image, err := images.Add(ctx, firmware.Image{Name: "sensor", Version: "1.1.0"}, bytes.NewReader(make([]byte, 20_000)))
		require.NoError(t, err)
		update, err := manager.Start(ctx, firmware.Request{Endpoint: "sensor-1", Image: image.ID})
		require.NoError(t, err)
		update, err = manager.Wait(ctx, update.ID)
		require.NoError(t, err)
		require.Equal(t, firmware.OutcomeRolledBack, update.Outcome())
	})
}
