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
