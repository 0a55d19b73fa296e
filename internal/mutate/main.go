// Mutate breaks code on purpose, to see whether tests notice. It changes no file of the tree: the
// go command reads the changed text through -overlay.
//
// With packages, it makes random mutations of statements that their tests cover, runs the tests of
// the mutated package for each, and lists the mutations that no test detects:
//
//	go run ./internal/mutate -seed 7 -n 100 ./firmware ./firmware/fsm
//
// The kinds of mutations are: negate (a condition), drop (a call, an assignment, an increment), off
// by one (a comparison, a bound, an integer), and swap (a constant for another of its type, == for
// !=, true for false, a duration for its double or half). The same seed and the same source give
// the same mutations, as long as the tests cover the same statements. The flag -known names a file
// of mutations that change nothing that a test could observe; see [known] for its format.
//
// With -faults, it plants the faults of a directory one by one, and requires that the test that a
// fault names fails with the text that the fault expects; see [fault] for the format:
//
//	go run ./internal/mutate -faults firmware/fsm/testdata/faults -invariants 9
//
// The exit status is 1 if too many mutations survive or a fault is not found, and 2 if the command
// failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	dir, err := os.Getwd()
	if err == nil {
		err = run(ctx, os.Args[1:], environment{dir: dir, grace: 20 * time.Second, limit: limitMemory, stdout: os.Stdout, stderr: os.Stderr})
	}
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errFound):
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
}

// errFound is the category of errors about weak tests.
var errFound = errors.New("the tests are too weak")

// environment is what the command gets from its caller.
type environment struct {
	dir            string                   // where the go command runs; file names are relative to it
	grace          time.Duration            // how long tests may take beyond three times their unchanged duration
	limit          func(bytes uint64) error // limits the memory of each process started afterwards
	stdout, stderr io.Writer
}

type options struct {
	seed       uint64
	n          int
	jobs       int
	survivors  int
	only       int
	list       bool
	short      bool
	known      string
	memory     uint64
	faults     string
	invariants int
}

func run(ctx context.Context, args []string, env environment) error {
	var o options
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	flags.SetOutput(env.stderr)
	flags.Usage = func() {
		fmt.Fprintln(env.stderr, "usage: mutate [flags] package...\n       mutate -faults directory [-invariants n] [-j n]")
		flags.PrintDefaults()
	}
	flags.Uint64Var(&o.seed, "seed", 0, "`number` that determines the mutations; 0 draws one")
	flags.IntVar(&o.n, "n", 100, "how many mutations to make")
	flags.IntVar(&o.jobs, "j", 1, "how many tests run at the same time")
	flags.IntVar(&o.survivors, "survivors", 5, "how many mutations may survive")
	flags.IntVar(&o.only, "only", 0, "make only the mutation of this `number`, and show what its test prints")
	flags.BoolVar(&o.list, "list", false, "list the mutations without testing them")
	flags.BoolVar(&o.short, "short", false, "run the tests with -short")
	flags.StringVar(&o.known, "known", "", "`file` of mutations that change nothing")
	flags.Uint64Var(&o.memory, "memory", 4096, "`MiB` that a test may use (Unix only; 0 is no limit)")
	flags.StringVar(&o.faults, "faults", "", "`directory` of faults to plant, or the file of one")
	flags.IntVar(&o.invariants, "invariants", 0, "require a planted fault for each invariant from 1 to this `number`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case o.faults != "" && flags.NArg() > 0:
		return errors.New("-faults takes no packages: each fault names its own")
	case o.faults == "" && flags.NArg() == 0:
		flags.Usage()
		return errors.New("name the packages to mutate, or a directory of -faults")
	case o.n < 1 || o.jobs < 1 || o.survivors < 0 || o.only < 0 || o.invariants < 0:
		return errors.New("-n and -j must be at least 1; -survivors, -only and -invariants must not be negative")
	case o.only > 0 && o.seed == 0:
		return errors.New("-only needs the -seed that its number is from")
	}
	if o.memory > 0 {
		if err := env.limit(o.memory << 20); err != nil {
			return fmt.Errorf("limit memory: %w", err)
		}
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1
	}
	t, err := newTester(env)
	if err != nil {
		return err
	}
	defer t.close()
	if o.faults != "" {
		return plantFaults(ctx, o, t, env)
	}
	return mutateRandomly(ctx, o, flags.Args(), t, env)
}
