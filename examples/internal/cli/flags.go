// Package cli has the code that the example programs share: flags that the environment can set, a
// context that ends on SIGINT and SIGTERM, a text logger, secrets read from files, and the last
// output of a child process.
//
//	fs := cli.NewFlagSet(os.Stderr, "server", "[flags]", "runs the update server")
//	http := fs.String("http", "127.0.0.1:8080", "address of the operators' API")
//	if err := cli.Parse(fs, os.Args[1:], os.LookupEnv); err != nil { ... } // -http, else OTAGO_HTTP, else the default
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// ErrUsage marks errors of the command line, which end a program with status 2.
var ErrUsage = errors.New("usage")

// Usagef returns an error that matches [ErrUsage].
func Usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

type usageError struct{ text string }

func (e *usageError) Error() string        { return e.text }
func (e *usageError) Is(target error) bool { return target == ErrUsage }

// NewFlagSet returns a flag set that prints its help to out: the purpose, the flags, and how the
// environment sets them.
func NewFlagSet(out io.Writer, name, arguments, purpose string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		fmt.Fprintf(out, "%s %s\n%s\n\nFlags; each can be set by the environment too, -fw-http as OTAGO_FW_HTTP and so on:\n",
			name, arguments, purpose)
		fs.PrintDefaults()
	}
	return fs
}

// Parse sets the flags from the arguments, and the others from the environment: -fw-http from
// OTAGO_FW_HTTP. It returns [flag.ErrHelp] after it has printed the help; other errors match
// [ErrUsage].
func Parse(fs *flag.FlagSet, args []string, lookupEnv func(string) (string, bool)) error {
	usage := fs.Usage
	fs.Usage = func() {}
	out := fs.Output()
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	fs.SetOutput(out)
	fs.Usage = usage
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage()
		return err
	case err != nil:
		return Usagef("%v", err)
	}

	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fs.VisitAll(func(f *flag.Flag) {
		if given[f.Name] || err != nil {
			return
		}
		variable := EnvName(f.Name)
		if value, ok := lookupEnv(variable); ok {
			if setErr := fs.Set(f.Name, value); setErr != nil {
				err = Usagef("%s=%q: %v", variable, value, setErr)
			}
		}
	})
	return err
}

// EnvName returns the environment variable of a flag: OTAGO_FW_HTTP for fw-http.
func EnvName(flagName string) string {
	return "OTAGO_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// Given returns the names of the flags that the arguments or the environment set.
func Given(fs *flag.FlagSet) map[string]bool {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given
}

// NoArguments returns an error if arguments follow the flags.
func NoArguments(fs *flag.FlagSet) error {
	if fs.NArg() > 0 {
		return Usagef("unexpected argument %q", fs.Arg(0))
	}
	return nil
}

// List is a flag that may be given several times and contain several values, separated by commas.
type List []string

// String returns the values, separated by commas.
func (l *List) String() string {
	if l == nil {
		return ""
	}
	return strings.Join(*l, ",")
}

// Set appends the values.
func (l *List) Set(value string) error {
	for v := range strings.SplitSeq(value, ",") {
		if v = strings.TrimSpace(v); v != "" {
			*l = append(*l, v)
		}
	}
	return nil
}
