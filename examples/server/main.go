package main

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/otago-iot/otago/examples/internal/cli"
)

func main() {
	os.Exit(cli.Main("server", os.Stderr, func(ctx context.Context) error {
		return run(ctx, os.Args[1:], environment{os.LookupEnv, os.Stdout, os.Stderr})
	}))
}

// environment is what a command gets from its caller.
type environment struct {
	lookup         func(string) (string, bool)
	stdout, stderr io.Writer
}

func run(ctx context.Context, args []string, env environment) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return serve(ctx, args, env)
	}
	switch name, rest := args[0], args[1:]; name {
	case "pki":
		return runPKI(rest, env)
	case "bundle":
		return runBundle(rest, env)
	case "export":
		return runExport(ctx, rest, env)
	case "copy":
		return runCopy(ctx, rest, env)
	case "help":
		return serve(ctx, []string{"-h"}, env)
	default:
		return cli.Usagef("unknown sub-command %q: there are pki, bundle, export and copy", name)
	}
}
