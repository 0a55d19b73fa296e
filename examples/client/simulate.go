package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
)

// runFleet runs -count simulated devices.
func (o *options) runFleet(ctx context.Context) error {
	if o.count == 1 {
		return o.simulate(ctx, o.endpoint)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range o.count {
		g.Go(func() error { return o.simulate(ctx, fmt.Sprintf("%s-%d", o.endpoint, i+1)) })
	}
	return g.Wait()
}

// simulate runs one device until ctx ends, and restarts it on each reboot.
func (o *options) simulate(ctx context.Context, endpoint string) error {
	log := o.log.With("endpoint", endpoint)
	config := device.SlotConfig{Inspect: demo.Inspect, Version: o.version}
	if o.trust != nil {
		config.Trust, config.Inspect = o.trust, nil // bundles with any contents: they are not started
	}
	slots, err := device.OpenSlots(o.stateFolder(endpoint), config)
	if err != nil {
		return err
	}
	defer slots.Close()
	for ctx.Err() == nil {
		boot, err := slots.Boot()
		if err != nil {
			return err
		}
		err = life{options: o, endpoint: endpoint, slots: slots, boot: boot, log: log}.live(ctx)
		switch {
		case again(err):
			log.Info("device reboots", "because", err)
		case errors.Is(err, errCrash):
			log.Warn("device crashes", "because", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		case err != nil:
			return fmt.Errorf("%s: %w", endpoint, err)
		}
	}
	return nil
}
