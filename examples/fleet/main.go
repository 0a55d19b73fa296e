package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/otago-iot/otago/examples/internal/cli"
)

func main() {
	if os.Getenv(roleVariable) != "" {
		os.Exit(runRole())
	}
	os.Exit(cli.Main("fleet", os.Stderr, func(ctx context.Context) error {
		return run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	}))
}

// run is the main process: it starts the others, and prints their reports.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), out, errOut io.Writer) error {
	o, err := parseOptions(args, lookup, errOut)
	if err != nil {
		return err
	}
	if o.kills > 0 {
		return runTrial(ctx, o, out, errOut)
	}
	var runs []result
	for _, o := range o.runs() {
		r, err := measure(ctx, o, errOut)
		if err != nil {
			return err
		}
		if o.yardstick {
			beside, err := measure(ctx, o.bare(), errOut)
			if err != nil {
				return fmt.Errorf("yardstick: %w", err)
			}
			r.Yardstick = &beside
		}
		if o.rollout {
			beside, err := measure(ctx, o.asRollouts(), errOut)
			if err != nil {
				return fmt.Errorf("rollout: %w", err)
			}
			r.Rollouts = &beside
		}
		if o.telemetry {
			beside, err := measure(ctx, o.withTelemetry(), errOut)
			if err != nil {
				return fmt.Errorf("telemetry: %w", err)
			}
			r.Telemetry = &beside
		}
		runs = append(runs, r)
		if !o.json {
			r.print(out)
		}
	}
	if o.other {
		other, err := measureOther(ctx, o, errOut)
		if err != nil {
			return err
		}
		runs[0].Other = &other
		if !o.json {
			other.print(out)
		}
	}
	if o.json {
		if err := json.NewEncoder(out).Encode(runs); err != nil {
			return err
		}
	} else if o.compare {
		compare(out, runs)
	}
	return verdict(runs)
}

// runRole runs a process that run has started, and returns its exit status. run reports a failure
// with what the process wrote to its standard error.
func runRole() int {
	signal.Ignore(os.Interrupt) // the parent process handles it
	var r role
	err := json.Unmarshal([]byte(os.Getenv(roleVariable)), &r)
	if err == nil {
		c, ctx := newConsole(os.Stdin, os.Stdout)
		switch {
		case r.Server != nil && r.Server.Yardstick:
			err = runYardstick(ctx, *r.Server, c)
		case r.Server != nil:
			err = runServer(ctx, *r.Server, c)
		case r.Devices != nil:
			err = runDevices(ctx, *r.Devices, c)
		default:
			err = fmt.Errorf("%s names no role", roleVariable)
		}
	}
	return cli.Status("fleet", os.Stderr, err)
}
