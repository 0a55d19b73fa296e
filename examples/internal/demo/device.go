// Package demo is a device that installs nothing: it takes images whose first line is
// "otago-demo-image VERSION", keeps them in two slots as a real one does, and "reboots" by
// registering again, from another port, with the new version.
package demo

import (
	"context"
	"errors"

	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/lwm2m"
)

// Device is the configuration of a device.
type Device struct {
	// Client is how it registers; Objects is filled in.
	Client lwm2m.ClientConfig
	// Firmware is how it takes packages.
	Firmware device.Config
	// Dir is the folder of its slots, Version what runs while they are empty.
	Dir, Version string
	// Started is called after each start, with the version that runs. Default: nothing.
	Started func(version string)
}

// Run registers and takes updates until ctx ends, then returns nil. An installed version is
// "started" by opening the slots again, which loses all that a reboot loses.
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
