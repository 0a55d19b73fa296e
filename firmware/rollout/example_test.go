package rollout_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// A program of thirty lines updates the sensors below version 2.0, one first and then five at a
// time, and stops by itself if it goes wrong.
func ExampleManager() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "images")
	check(err)
	defer os.RemoveAll(dir)
	db := memory.New() // bolt.Open keeps everything in a file
	images, err := firmware.OpenRepository(dir, db, firmware.RepositoryConfig{})
	check(err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	check(err)
	var rollouts *rollout.Manager
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{
		Inventory: true, // so that devices are known by version and model
		Keep: func(ctx context.Context, kind store.Kind, id string) (string, error) { // what a rollout needs stays
			return rollouts.Keep(ctx, kind, id)
		},
	})
	check(err)
	rollouts, err = rollout.NewManager(srv, mgr, db, rollout.Config{})
	check(err)
	go mgr.Run(ctx)
	go rollouts.Run(ctx)
	address := serve(ctx, srv) // srv.ListenAndServe(ctx, "coap://:5683") in a program
	runSensors(ctx, address, mgr, 4)

	image, err := images.Add(ctx, store.Image{Name: "sensor", Version: "2.0.0"}, strings.NewReader("the firmware"))
	check(err)
	r, err := rollouts.Create(ctx, rollout.Request{
		Image: image.ID, Select: &rollout.Selector{VersionBelow: "2.0.0"}, Concurrency: 5, Start: true,
		Stages: []rollout.Stage{{Size: 1, Soak: time.Second}, {Share: 1}},
	})
	check(err)
	for r.Machine.State != fsm.StateEnded && r.Machine.State != fsm.StatePaused {
		time.Sleep(50 * time.Millisecond)
		r, err = rollouts.Get(ctx, r.ID)
		check(err)
	}
	reason, _ := rollout.Describe(r)
	fmt.Println(reason)
	// Output: every device has ended: 4 succeeded, 0 failed, 0 rolled back, 0 skipped
}

// serve serves devices on a free port.
func serve(ctx context.Context, srv *lwm2m.Server) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(err)
	go srv.ServePacket(ctx, conn)
	return conn.LocalAddr().String()
}

// runSensors runs devices, and waits until the manager knows their versions.
func runSensors(ctx context.Context, address string, mgr *firmware.Manager, n int) {
	for i := range n {
		d := firmwaretest.NewDevice(lwm2m.ClientConfig{Endpoint: fmt.Sprint("sensor-", i), Server: "coap://" + address}, firmwaretest.Script{
			Version: "1.4.2", Delivery: firmware.PushAndPull, Install: firmwaretest.Install{Version: "2.0.0"},
		})
		go d.Run(ctx)
	}
	for known := 0; known < n; time.Sleep(20 * time.Millisecond) {
		known = 0
		for range mgr.Select(ctx, firmware.Selector{VersionBelow: "2.0.0"}, "", 0) {
			known++
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
