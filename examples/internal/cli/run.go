package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses of the example programs.
const (
	StatusOK    = 0
	StatusError = 1
	StatusUsage = 2
)

// Main runs a program's body with a context that ends on SIGINT and SIGTERM, and returns the exit
// status. It prints an error to stderr, in one line that starts with the program's name. A second
// signal ends the process at once.
func Main(name string, stderr io.Writer, body func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Status(name, stderr, body(ctx))
}

// Status prints err, if not nil, and returns its exit status.
func Status(name string, stderr io.Writer, err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return StatusOK
	case errors.Is(err, ErrUsage):
		fmt.Fprintf(stderr, "%s: %v (%s -h lists the flags)\n", name, err, name)
		return StatusUsage
	default:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return StatusError
	}
}

// NewLogger returns a logger that writes text to w, from a level on: debug, info, warn or error.
func NewLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, Usagef("-log-level %q: not debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}
