// Modules runs a command in a copy of the working tree in which each module stands by itself, as
// its users get it: there is no workspace, and of the other modules of the repository each sees the
// version that its go.mod requires, from a module proxy that has what the working tree holds.
//
//	go run ./internal/modules sh -c 'cd store/postgres && go vet ./...'
//	go run ./internal/modules sh -c 'go list -m github.com/otago-iot/otago/examples@$MODULES_VERSION'
//	go run ./internal/modules -tidy
//
// The version that the modules require of each other does not have to be published, and in general
// is the one that comes next. MODULES_VERSION names it to the command: the programs of the
// repository take variables that begin with OTAGO_ for their flags. The module cache of the user
// never sees that version: the command has one of its own, which ends with it.
//
// With -tidy it runs "go mod tidy" in each module instead, and writes go.mod and go.sum back. A
// go.sum of the working tree has no sums of the other modules of the repository, which each commit
// would change; in the copy they are complete.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(1) // the command has said why
		}
		fmt.Fprintln(os.Stderr, "modules:", err)
		os.Exit(2)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("modules", flag.ContinueOnError)
	flags.SetOutput(stderr)
	tidy := flags.Bool("tidy", false, `run "go mod tidy" in each module, and write back go.mod and go.sum`)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case *tidy == (flags.NArg() > 0):
		return errors.New("either -tidy or a command")
	}
	t, err := readTree(".")
	if err != nil {
		return err
	}
	// A signal ends the command, which is in the same group of processes, and then the copy goes.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
	temp, err := os.MkdirTemp("", "otago-modules-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	source := filepath.Join(temp, "source")
	if err := t.copyTo(source); err != nil {
		return err
	}
	if err := t.publish(source, filepath.Join(temp, "proxy")); err != nil {
		return err
	}
	environment, err := t.environment(temp)
	if err != nil {
		return err
	}
	in := func(dir string, command ...string) error {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir, cmd.Env = filepath.Join(source, filepath.FromSlash(dir)), environment
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
		return cmd.Run()
	}
	if !*tidy {
		return in(".", flags.Args()...)
	}
	for _, m := range t.modules {
		if err := in(m.dir, "go", "mod", "tidy"); err != nil {
			return err
		}
		if err := t.writeBack(m, source); err != nil {
			return err
		}
	}
	return nil
}

// environment returns the environment of the command. Modules of others come from the module cache
// of the user, whose content the go command has verified, and only then from the network.
func (t *tree) environment(temp string) ([]string, error) {
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY", "GOFLAGS").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	lines := strings.Split(string(out), "\n")
	cache, proxy, flags := filepath.ToSlash(lines[0]), lines[1], lines[2]
	url := func(path string) string { return "file:///" + strings.TrimPrefix(path, "/") } // file:///C:/...
	return append(os.Environ(),
		"GOWORK=off",
		"GOPROXY="+url(filepath.ToSlash(filepath.Join(temp, "proxy")))+","+url(cache+"/cache/download")+","+proxy,
		"GOSUMDB=off",
		"GOMODCACHE="+filepath.Join(temp, "cache"),
		// Without the paths of a temporary folder in it, what is compiled is good for the next run.
		"GOFLAGS="+strings.TrimSpace(flags+" -trimpath -modcacherw"),
		"MODULES_VERSION="+t.version,
	), nil
}
