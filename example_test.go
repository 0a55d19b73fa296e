package otago_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/bolt"
)

// The bodies of these functions are the README's: a test compares them.

func server(ctx context.Context, staffOnly func(*http.Request, httpapi.Access) error) error {
	db, err := bolt.Open("ota.db", bolt.Config{})
	if err != nil {
		return err
	}
	defer db.Close()
	images, err := firmware.OpenRepository("images", db, firmware.RepositoryConfig{})
	if err != nil {
		return err
	}
	delivery, err := firmware.NewDelivery(images, firmware.DeliveryConfig{BaseURL: "http://127.0.0.1:8080"})
	if err != nil {
		return err
	}
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	if err != nil {
		return err
	}
	srv.HandleFunc("/", delivery.ServeCoAP) // devices download by CoAP
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{Delivery: delivery})
	if err != nil {
		return err
	}

	api, err := httpapi.New(mgr, staffOnly, httpapi.Config{})
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("/ota/", api)                          // operators
	web := firmware.NewHTTPServer(delivery.Wrap(mux)) // devices download by HTTP, below /fw/
	web.Addr = "127.0.0.1:8080"

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.ListenAndServe(ctx, "coap://127.0.0.1:5683") })
	group.Go(func() error { return mgr.Run(ctx) })
	group.Go(func() error { return firmware.RunHTTPServer(ctx, web, nil) })
	return group.Wait() // nil when ctx has ended, and downloads with it
}

func fleet(ctx context.Context, srv *lwm2m.Server, db rollout.Store, mgr *firmware.Manager, image firmware.Image, alarms func() int) error {
	rollouts, err := rollout.NewManager(srv, mgr, db, rollout.Config{
		Health: func(context.Context, rollout.Rollout, int) (ok bool, reason string, err error) {
			return alarms() == 0, "the network has alarms", nil // asked before each stage opens
		},
	})
	if err != nil {
		return err
	}
	go rollouts.Run(ctx) // beside mgr.Run
	r, err := rollouts.Create(ctx, rollout.Request{
		Image: image.ID, Start: true,
		Select: &rollout.Selector{Labels: map[string]string{"site": "north"}, VersionBelow: "2.0.0"},
		Stages: []rollout.Stage{{Size: 1, Soak: time.Hour}, {Share: 0.1, Soak: time.Hour}, {Share: 1}},
	})
	if err != nil {
		return err
	}
	reason, until := rollout.Describe(r) // "stage 1 of 3: 0 of at most 1 admitted"
	log.Print(r.ID, r.Machine.State, r.Machine.Total, reason, until)
	return nil
}

// version is the version of this program. The build of another one sets it:
//
//	go build -ldflags "-X main.version=1.1.0"
var version = "1.0.0"

func sensor(ctx context.Context, publicKey ed25519.PublicKey) error {
	slots, err := device.OpenSlots("/var/lib/sensor", device.SlotConfig{Trust: publicKey, Version: version})
	if err != nil {
		return err
	}
	defer slots.Close()
	if err := slots.Exec(); err != nil { // becomes the installed program, if there is one
		return err
	}
	ota, err := device.New(slots, device.Config{})
	if err != nil {
		return err
	}
	about := lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: "Example", Model: "sensor", FirmwareVersion: version})
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "urn:imei:490154203237518",
		Server:   "coap://127.0.0.1:5683",
		Objects:  []lwm2m.Object{about, ota.Object()},
	})
	if err != nil {
		return err
	}
	if err := client.Run(ctx); !errors.Is(err, device.ErrRestart) {
		return err // nil when ctx has ended
	}
	return slots.Exec() // becomes the version that was just installed, or the one before again
}

// A whole update server: devices register and download, operators use the API below /ota/api/v1.
func Example_server() {
	if err := server(context.Background(), httpapi.AllowAll); err != nil {
		log.Fatal(err)
	}
}

// A whole device. It installs bundles that are signed with the key that belongs to publicKey, and
// becomes the program in them. Its service manager starts it again when it ends with an error.
func Example_device() {
	var publicKey ed25519.PublicKey // made with: server bundle keygen
	if err := sensor(context.Background(), publicKey); err != nil {
		log.Fatal(err)
	}
}

// A rollout over the devices of one site, an hour apart.
func Example_fleet() {
	_ = fleet
}

// What an operator does from a program of their own.
func Example_update() {
	follow := func(ctx context.Context, mgr *firmware.Manager, image firmware.Image) error {
		update, err := mgr.Start(ctx, firmware.Request{Endpoint: "urn:imei:490154203237518", Image: image.ID})
		if err != nil {
			return err
		}
		for event, err := range mgr.Events(ctx, update.Since) {
			if err != nil {
				return err
			}
			log.Println(event.Endpoint, event.Phase, event.Progress.Bytes, event.Outcome)
			if event.Update == update.ID && event.Outcome != "" {
				break
			}
		}
		return nil
	}
	_ = follow
}
