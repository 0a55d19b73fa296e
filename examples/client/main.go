// Client is a LwM2M device with a firmware that can be updated: a simulated one, a fleet of them, or this very program, which
// an update replaces.
//
//	client -server coap://127.0.0.1:5683 -endpoint sensor -version 1.0.0
//
// With -install simulate (the default) it takes images whose first line is "otago-demo-image VERSION", keeps them, and
// "reboots": it registers anew, from a new port, with the new version. -count N makes a fleet of N of them.
//
// With -install exec it takes signed bundles of other builds of itself. The program is then two processes: one that starts
// and watches, and stays what it is, and one that is the device, started from the image that was installed. A version that
// does not register and confirm itself within -confirm-within is given up for the one before. Either process may be killed
// at any time.
//
// Its state is in -state, a folder for each endpoint: what was once installed there wins over -version.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/otago-iot/otago/examples/internal/cli"
)

func main() {
	restart := false
	status := cli.Main("client", os.Stderr, func(ctx context.Context) error {
		err := run(ctx, os.Args[1:])
		if restart = errors.Is(err, errNextLife); restart {
			return nil
		}
		return err
	})
	if restart {
		status = statusRestart
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string) error {
	o, err := parseOptions(args, os.LookupEnv, os.Stderr)
	if err != nil {
		return err
	}
	switch slot, child := os.LookupEnv(slotVariable); {
	case child:
		return o.runInstalled(ctx, slot)
	case o.install == installExec:
		return o.supervise(ctx, args)
	default:
		return o.runFleet(ctx)
	}
}
