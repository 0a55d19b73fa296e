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

// roleVariable makes a process of this program a server or a process of devices. Its value is a
// role as JSON.
const roleVariable = "OTAGO_FLEET_ROLE"

// role configures a process: one of the fields is set.
type role struct {
	Server  *serverRole  `json:",omitempty"`
	Devices *devicesRole `json:",omitempty"`
}

// command is a request to a process. The process answers each command with one JSON value; it also
// sends one when it is ready.
type command struct {
	// Campaign makes a server update all devices. The answer is a campaignReport.
	Campaign *campaign `json:",omitempty"`
	// State requests the state of a server. The answer is a stateReport; with Collect after a
	// collection.
	State   bool `json:",omitempty"`
	Collect bool `json:",omitempty"`
	// Ended adds as many ended updates to the store of a server. The answer is the id of their
	// image.
	Ended int `json:",omitempty"`
	// Refresh lets devices refresh their lifetimes at once. The answer is how long it took until
	// they had their answers.
	Refresh bool `json:",omitempty"`
	// Rollout is about the rollout of a trial. The answer is a rolloutState.
	Rollout *rolloutCommand `json:",omitempty"`
	// Acts requests what devices have done. The answer is an actsReport.
	Acts bool `json:",omitempty"`
	// Count requests the counts of devices. The answer is a devicesReport.
	Count bool `json:",omitempty"`
}

// stopTime limits how long a process may run after its standard input has ended.
const stopTime = 30 * time.Second

// child is another process of this program.
type child struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *json.Decoder
	said    cli.Tail
	once    sync.Once
	ended   error        // how the process ended
	stopped func() error // returns an error once the process must end
}

// startChild starts a process. The process ends with its standard input, even if this process is
// killed. Its standard error goes to log.
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
	if err = c.cmd.Start(); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c, err
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

// failed returns the reason for a missing answer.
func (c *child) failed(ctx context.Context, err error) error {
	if ended := c.stop(); ended != nil {
		err = ended
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s: no answer: %w", c.name, err)
}

// interrupt ends the process at once; kill or stop must follow.
func (c *child) interrupt() { _ = c.cmd.Process.Kill() }

// kill ends the process at once.
func (c *child) kill() {
	c.once.Do(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()         // it was killed
	})
}

// stop ends the process and waits for it. The error says how it failed.
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

// console is the other end of a child: its commands, and the writer for answers.
type console struct {
	commands <-chan command
	answers  *json.Encoder
}

// newConsole returns a console, and a context that ends with in.
func newConsole(in io.Reader, out io.Writer) (console, context.Context) {
	ctx, cancel := context.WithCancelCause(context.Background())
	commands := make(chan command, 1) // the next command comes after the answer, so that the reader never blocks and sees the end
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
