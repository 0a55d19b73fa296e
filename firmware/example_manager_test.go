package firmware_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/memory"
)

// A server updates a device, both in this process, on a network in memory.
func ExampleManager() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	db := memory.New()
	images, err := firmware.OpenRepository(dir, db, firmware.RepositoryConfig{})
	if err != nil {
		panic(err)
	}
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	if err != nil {
		panic(err)
	}
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	if err != nil {
		panic(err)
	}

	network := simnet.New(1)
	conn, err := network.Listen("192.0.2.1:5683")
	if err != nil {
		panic(err)
	}
	go srv.ServePacket(ctx, conn)
	go mgr.Run(ctx)

	device := firmwaretest.NewDevice(lwm2m.ClientConfig{
		Endpoint: "urn:imei:490154203237518", Server: "coap://192.0.2.1:5683",
		Listen: func(context.Context) (net.PacketConn, error) { return network.Listen("192.0.2.2:0") },
	}, firmwaretest.Script{
		Version: "1.0.0", Delivery: firmware.PushOnly, Install: firmwaretest.Install{Version: "1.1.0"},
	})
	go device.Run(ctx)

	img, err := images.Add(ctx, firmware.Image{Name: "sensor", Version: "1.1.0"}, bytes.NewReader(make([]byte, 10_000)))
	if err != nil {
		panic(err)
	}
	update, err := mgr.Start(ctx, firmware.Request{Endpoint: "urn:imei:490154203237518", Image: img.ID})
	if err != nil {
		panic(err)
	}
	if update, err = mgr.Wait(ctx, update.ID); err != nil {
		panic(err)
	}
	fmt.Println(update.Outcome(), update.Machine.Result)
	fmt.Println(device.Version())
	// Output:
	// succeeded success
	// 1.1.0
}
