// Package demo is a device that installs nothing: it accepts images whose first line is
// "otago-demo-image VERSION", stores them in two slots as a real device does, and "reboots": it
// registers again, from another port, with the new version.
package demo

import (
	"context"
	"errors"

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
	slots, err := device.OpenSlots(d.Dir, device.SlotConfig{Inspect: Inspect, Version: d.Version})
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
