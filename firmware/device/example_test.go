package device_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/lwm2m"
)

// A device's program. Its service manager starts it again when it ends with an error.
func ExampleNew() {
	const version = "1.0.0" // of this program
	trust, err := bundle.ReadPublicKey("/etc/sensor/trust.pem")
	if err != nil {
		log.Fatal(err)
	}
	slots, err := device.OpenSlots("/var/lib/sensor", device.SlotConfig{Trust: trust, Version: version})
	if err != nil {
		log.Fatal(err)
	}
	if err := slots.Exec(); err != nil { // becomes the installed program, if there is one
		log.Fatal(err)
	}
	ota, err := device.New(slots, device.Config{
		Hosts:    []string{"fw.example.com"},
		SelfTest: func(ctx context.Context) error { return nil }, // the sensor answers, for example
	})
	if err != nil {
		log.Fatal(err)
	}
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "urn:imei:490154203237518",
		Server:   "coap://lwm2m.example.com",
		Objects:  []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{FirmwareVersion: version}), ota.Object()},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Run(context.Background()); errors.Is(err, device.ErrRestart) {
		log.Fatal(slots.Exec()) // becomes the version that was just installed, or the one before again
	}
}

// The calls that an Installer gets from a Device and from a boot loader.
func ExampleOpenSlots() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "slots")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		log.Fatal(err)
	}
	slots, err := device.OpenSlots(dir, device.SlotConfig{Trust: public, Version: "1.0.0"})
	if err != nil {
		log.Fatal(err)
	}
	defer slots.Close()

	var pkg bytes.Buffer
	if err := bundle.Sign(&pkg, private, bundle.Manifest{Name: "sensor", Version: "1.1.0"}, strings.NewReader("new firmware")); err != nil {
		log.Fatal(err)
	}
	w, err := slots.OpenPackage(ctx, 0, int64(pkg.Len()))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := pkg.WriteTo(w); err != nil {
		log.Fatal(err)
	}
	if _, err := w.Sync(); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	info, err := slots.Verify(ctx)
	fmt.Println("verified:", info.Name, info.Version, err)
	restart, err := slots.Apply(ctx)
	fmt.Println("restart:", restart, err)

	boot, err := slots.Boot()
	fmt.Println("started:", boot.Version, "on trial:", boot.Trial, err)
	fmt.Println("confirmed:", slots.Confirm(ctx))
	boot, err = slots.Boot()
	fmt.Println("started:", boot.Version, "on trial:", boot.Trial, err)
	// Output:
	// verified: sensor 1.1.0 <nil>
	// restart: true <nil>
	// started: 1.1.0 on trial: true <nil>
	// confirmed: <nil>
	// started: 1.1.0 on trial: false <nil>
}

func ExampleServerCredentials() {
	credentials := device.ServerCredentials("coaps://lwm2m.example.com", lwm2m.FetchConfig{PSKIdentity: "sensor", PSK: []byte("secret")})
	fmt.Println(credentials("lwm2m.example.com:5684").PSKIdentity)
	fmt.Println(credentials("evil.example:5684").PSKIdentity == "")
	// Output:
	// sensor
	// true
}
