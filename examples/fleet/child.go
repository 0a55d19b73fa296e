package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/otago-iot/otago/examples/internal/cli"
)

// roleVariable makes a process of this program a server or a process of devices; it holds a role as
// JSON.
const roleVariable = "OTAGO_FLEET_ROLE"

// role says what a process does: one of the fields is set.
type role struct {
	Server  *serverRole  `json:",omitempty"`
	Devices *devicesRole `json:",omitempty"`
}

// command asks a process for something. The process answers each one with one JSON value; it also
// sends one when it is ready.
type command struct {
	// Campaign has a server update all devices. The answer is a campaignReport.
	Campaign *campaign `json:",omitempty"`
	// Count has devices count. The answer is a devicesReport.
	Count bool `json:",omitempty"`
}

// stopTime bounds the end of a process after its standard input has ended.
const stopTime = 30 * time.Second

// child is another process of this program.
type child struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *json.Decoder
	said    cli.Tail
	once    sync.Once
	ended   error        // how the process did
	stopped func() error // its error is not nil once the process must end
}

// startChild starts a process. It ends when its standard input does, even if this process is
// killed. What it says goes to log.
func startChild(ctx context.Context, name string, r role, log io.Writer) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	c := &child{name: name, cmd: exec.CommandContext(ctx, self), stopped: ctx.Err}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+string(config))
	c.cmd.Stderr = io.MultiWriter(&c.said, log)
	c.cmd.WaitDelay = stopTime
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Cancel = c.stdin.Close
	c.answers = json.NewDecoder(stdout)
	return c, c.cmd.Start()
}

// ask sends a command and waits for the answer.
func (c *child) ask(ctx context.Context, cmd command, answer any) error {
	if err := json.NewEncoder(c.stdin).Encode(cmd); err != nil {
		return c.failed(ctx, err)
	}
	return c.wait(ctx, answer)
}

// wait waits for an answer.
func (c *child) wait(ctx context.Context, answer any) error {
	if err := c.answers.Decode(answer); err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// failed says why there is no answer.
func (c *child) failed(ctx context.Context, err error) error {
	if ended := c.stop(); ended != nil {
		err = ended
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s: no answer: %w", c.name, err)
}

// stop ends the process and waits for its end. The error says how it ended, if not well.
func (c *child) stop() error {
	c.once.Do(func() {
		_ = c.stdin.Close()
		late := time.AfterFunc(stopTime, func() { _ = c.cmd.Process.Kill() })
		defer late.Stop()
		if err := c.cmd.Wait(); err != nil && c.stopped() == nil {
			c.ended = fmt.Errorf("%s: %w: %s", c.name, err, c.said.String())
		}
	})
	return c.ended
}

// console is the other end of a child: what it is asked, and where it answers.
type console struct {
	commands <-chan command
	answers  *json.Encoder
}

// newConsole returns a console, and a context that ends with the input.
func newConsole(in io.Reader, out io.Writer) (console, context.Context) {
	ctx, cancel := context.WithCancelCause(context.Background())
	commands := make(chan command, 1) // the next one comes after the answer, so that this reads on and sees the end
	go func() {
		defer close(commands)
		for decoder := json.NewDecoder(in); ; {
			var c command
			if err := decoder.Decode(&c); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				cancel(err)
				return
			}
			commands <- c
		}
	}()
	return console{commands, json.NewEncoder(out)}, ctx
}
