package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/otago-iot/otago/examples/internal/cli"
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
	err = life{
		options: o, endpoint: o.endpoint, slots: slots, boot: boot, log: o.log.With("endpoint", o.endpoint, "pid", os.Getpid()),
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
