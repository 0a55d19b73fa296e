package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/lwm2m"
)

// errReboot ends a run because the server ordered a reboot (3/0/4).
var errReboot = errors.New("the server ordered a reboot")

// errCrash ends the run of a version that crashes.
var errCrash = errors.New("fault: this version crashes")

// life is one run of a device, from a start to the next.
type life struct {
	options  *options
	endpoint string
	slots    *device.Slots
	boot     device.BootTarget
	log      *slog.Logger
	// confirmed is called after the version on trial was confirmed.
	confirmed func()
}

// live runs the device until ctx ends, or until an error that matches device.ErrRestart or
// errReboot; then another life follows.
func (l life) live(ctx context.Context) error {
	o := l.options
	version := l.boot.Version
	if o.fault[faultVersion] {
		version = o.version
	}
	l.log.Info("device starts", "version", version, "slot", l.boot.Slot, "trial", l.boot.Trial, "server", o.server)
	if l.boot.Trial {
		switch {
		case o.fault[faultCrash]:
			return errCrash
		case o.fault[faultNoRegister]:
			return l.hang(ctx)
		}
	}
	ota, err := device.New(installer{l.slots, o.fault, l.confirmed}, o.device(l.endpoint, l.log))
	if err != nil {
		return err
	}
	keys := o.keys(l.endpoint)
	var client *lwm2m.Client
	client, err = lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: l.endpoint, Server: o.server, Version: o.lwm2m, Lifetime: time.Duration(o.lifetime) * time.Second, Queue: o.queue,
		Certificate: keys.Certificate, RootCAs: keys.RootCAs, PSK: keys.PSK, PSKIdentity: keys.PSKIdentity, Logger: l.log, MaxRetry: 30 * time.Second,
		Objects: []lwm2m.Object{
			lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{
				Manufacturer: "otago", Model: "example client", Serial: l.endpoint, FirmwareVersion: version,
				Reboot: func() { client.Stop(errReboot) },
			}),
			ota.Object(),
		},
	})
	if err != nil {
		return err
	}
	return client.Run(ctx)
}

// hang is a version that runs but does not register.
func (l life) hang(ctx context.Context) error {
	l.log.Warn("fault: this version does not register")
	if l.options.install == installExec {
		<-ctx.Done() // the supervisor watches
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(l.options.confirmWithin):
		return errors.Join(l.slots.Rollback(ctx), &device.RestartError{RolledBack: true, Reason: "it did not register"})
	}
}

// again reports whether another life follows one that ended with err.
func again(err error) bool { return errors.Is(err, device.ErrRestart) || errors.Is(err, errReboot) }
