// Package demo is a device that installs nothing: it accepts images whose first line is
// "otago-demo-image VERSION", stores them in two slots as a real device does, and "reboots": it
// registers again, from another port, with the new version.
package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"unicode"

	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/lwm2m"
)

// Device is the configuration of a device.
type Device struct {
	// Client configures the registration; Run sets Objects.
	Client lwm2m.ClientConfig
	// Firmware configures the firmware update.
	Firmware device.Config
	// Dir is the folder of the slots; Version is what runs while they are empty.
	Dir, Version string
	// Started is called after each start, with the running version. Default: nothing.
	Started func(version string)
	// Refuses is asked when a package is complete: if it returns true, the device finds fault with
	// it (Result 5). Default: the device takes all packages that Inspect takes.
	Refuses func() bool
}

// Run registers and accepts updates until ctx ends, then returns nil. It "starts" an installed
// version by opening the slots again, and loses what a reboot loses.
func (d Device) Run(ctx context.Context) error {
	for {
		err := d.boot(ctx)
		if !errors.Is(err, device.ErrRestart) {
			return err
		}
	}
}

// boot runs the current version until ctx ends or another version must start.
func (d Device) boot(ctx context.Context) (err error) {
	inspect := func(image io.Reader, size int64) (device.PackageInfo, error) {
		if d.Refuses != nil && d.Refuses() {
			return device.PackageInfo{}, device.ErrIntegrity
		}
		return Inspect(image, size)
	}
	slots, err := device.OpenSlots(d.Dir, device.SlotConfig{Inspect: inspect, Version: d.Version})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, slots.Close()) }()
	target, err := slots.Boot()
	if err != nil {
		return err
	}
	if d.Started != nil {
		d.Started(target.Version)
	}
	ota, err := device.New(slots, d.Firmware)
	if err != nil {
		return err
	}
	config := d.Client
	config.Objects = []lwm2m.Object{
		lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: "otago", Model: "demo", FirmwareVersion: target.Version}),
		ota.Object(),
	}
	client, err := lwm2m.NewClient(config)
	if err != nil {
		return err
	}
	return client.Run(ctx)
}

// magic begins an image. The version and a line feed follow.
const magic = "otago-demo-image "

// maxVersion limits the length of a version, in bytes.
const maxVersion = 255

// Image returns an image of the given version for a [Device]. It has size bytes, or more if its
// first line needs them.
func Image(version string, size int) []byte {
	image := []byte(magic + version + "\n")
	if missing := size - len(image); missing > 0 {
		rest := make([]byte, missing)
		var seed [32]byte
		copy(seed[:], version)
		_, _ = rand.NewChaCha8(seed).Read(rest) // never fails
		image = append(image, rest...)
	}
	return image
}

var errNoImage = errors.New("not a demo image: its first line is not " + magic + "VERSION")

// Inspect returns the version of an image. It is the Inspect of a [device.SlotConfig].
func Inspect(image io.Reader, _ int64) (device.PackageInfo, error) {
	line, err := bufio.NewReader(io.LimitReader(image, int64(len(magic)+maxVersion+2))).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return device.PackageInfo{}, err
	}
	version, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), magic)
	if !ok || err != nil || version == "" || len(version) > maxVersion || strings.ContainsFunc(version, unicode.IsControl) {
		return device.PackageInfo{}, fmt.Errorf("%w: %w", device.ErrUnsupportedPackage, errNoImage)
	}
	return device.PackageInfo{Name: "otago-demo-image", Version: version}, nil
}
