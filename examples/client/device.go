package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
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
	faults   faults
	silent   bool // it answers no request
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
	if l.faults[faultVersion] {
		version = o.version
	}
	l.log.Info("device starts", "version", version, "slot", l.boot.Slot, "trial", l.boot.Trial, "server", o.server)
	if l.boot.Trial {
		switch {
		case l.faults[faultCrash]:
			return errCrash
		case l.faults[faultNoRegister]:
			return l.hang(ctx)
		}
	}
	ota, err := device.New(installer{l.slots, l.faults, l.confirmed}, o.device(l.endpoint, l.log))
	if err != nil {
		return err
	}
	keys := o.keys(l.endpoint)
	var listen func(context.Context) (net.PacketConn, error)
	if l.silent {
		listen = deaf
	}
	var client *lwm2m.Client
	client, err = lwm2m.NewClient(lwm2m.ClientConfig{
		Listen:   listen,
		Endpoint: l.endpoint, Server: o.server, Version: o.lwm2m, Lifetime: time.Duration(o.lifetime) * time.Second, Queue: o.queue,
		Certificate: keys.Certificate, RootCAs: keys.RootCAs, PSK: keys.PSK, PSKIdentity: keys.PSKIdentity, Logger: l.log, MaxRetry: 30 * time.Second,
		Objects: []lwm2m.Object{
			lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{
				Manufacturer: o.about.manufacturer, Model: o.about.model, HardwareVersion: o.about.hardware,
				Serial: l.endpoint, FirmwareVersion: version,
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

// deaf returns a socket that requests do not come through.
func deaf(ctx context.Context) (net.PacketConn, error) {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return nil, err
	}
	return deafConn{conn}, nil
}

type deafConn struct{ net.PacketConn }

// ReadFrom implements net.PacketConn.
func (c deafConn) ReadFrom(p []byte) (n int, from net.Addr, err error) {
	for {
		n, from, err = c.PacketConn.ReadFrom(p)
		if err != nil || n < 4 || !isRequest(p[1]) {
			return n, from, err
		}
	}
}

// isRequest reports whether a message with this code is a request (RFC 7252, section 12.1).
func isRequest(code byte) bool { return code>>5 == 0 && code != 0 }

// again reports whether another life follows one that ended with err.
func again(err error) bool { return errors.Is(err, device.ErrRestart) || errors.Is(err, errReboot) }
