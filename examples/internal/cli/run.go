package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
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

// maxSecret limits the size of a secret's file, in bytes.
const maxSecret = 64 << 10

// ReadSecret returns the content of a file without surrounding white space. An empty content is an
// error.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s: longer than %d bytes", path, maxSecret)
	}
	if data = bytes.TrimSpace(data); len(data) == 0 {
		return nil, fmt.Errorf("%s: empty", path)
	}
	return data, nil
}

// A Tail keeps the last bytes of a process's output, to show why it ended. The zero value is ready
// to use, also by several goroutines.
type Tail struct {
	Size int // bytes to keep; default 4096

	mu  sync.Mutex
	buf []byte
}

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := t.Size
	if size <= 0 {
		size = 4096
	}
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-size):]
	return len(p), nil
}

// String returns the end of the output without surrounding white space, or says that there was
// none.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.buf)
	if len(text) == 0 {
		return "it wrote nothing"
	}
	return string(text)
}
