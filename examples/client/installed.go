package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
)

// The environment contains the slot from which the supervisor started the device's process, and
// whether the slot is on trial. The processes exchange lines: stopLine on the device's standard
// input, confirmedLine on its standard output. If the input ends without stopLine, the supervisor
// has died, and the device exits: the next supervisor starts another device, and there must not be
// two.
const (
	slotVariable  = "OTAGO_CLIENT_SLOT"
	factorySlot   = "factory"
	trialSuffix   = ":trial"
	stopLine      = "stop"
	confirmedLine = "confirmed"
	statusRestart = 75 // exit status: start the device again
)

// errNextLife makes the device's process exit with statusRestart.
var errNextLife = errors.New("another life follows")

// runInstalled runs the device's process.
func (o *options) runInstalled(ctx context.Context, slot string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go obey(cancel)

	slot, trial := strings.CutSuffix(slot, trialSuffix)
	boot := device.BootTarget{Trial: trial}
	if slot != factorySlot {
		boot.Slot = slot
	}
	slots, err := device.OpenSlots(o.stateFolder(o.endpoint), o.slotConfig(boot.Slot))
	if err != nil {
		return err
	}
	defer slots.Close()
	boot.Version = slots.Version()
	faults, silent := o.faultsOf(0)
	err = life{
		options: o, endpoint: o.endpoint, faults: faults, silent: silent, slots: slots, boot: boot, log: o.log.With("endpoint", o.endpoint, "pid", os.Getpid()),
		confirmed: func() { _, _ = io.WriteString(os.Stdout, confirmedLine+"\n") },
	}.live(ctx)
	if again(err) {
		o.log.Info("device restarts", "because", err)
		return errNextLife
	}
	return err
}

// obey calls stop when stopLine arrives. It exits when the standard input ends, because the
// supervisor has died.
func obey(stop func()) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == stopLine {
			stop()
			return
		}
	}
	os.Exit(cli.StatusError)
}

func (o *options) slotConfig(running string) device.SlotConfig {
	return device.SlotConfig{Trust: o.trust, Version: o.version, Slot: running}
}

// runFleet runs -count simulated devices.
func (o *options) runFleet(ctx context.Context) error {
	if o.count == 1 {
		return o.simulate(ctx, 0, o.endpoint)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range o.count {
		g.Go(func() error { return o.simulate(ctx, i, fmt.Sprintf("%s-%d", o.endpoint, i+1)) })
	}
	return g.Wait()
}

// simulate runs device i of -count until ctx ends, and restarts it on each reboot.
func (o *options) simulate(ctx context.Context, i int, endpoint string) error {
	faults, silent := o.faultsOf(i)
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
		err = life{options: o, endpoint: endpoint, faults: faults, silent: silent, slots: slots, boot: boot, log: log}.live(ctx)
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
