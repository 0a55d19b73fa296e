package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/lwm2m"
)

// deviceVariable makes a process of this program a device. Its value is a process struct as JSON.
const deviceVariable = "OTAGO_QUICKSTART_DEVICE"

// process is a device that runs in its own process.
type process struct {
	Endpoint, Server, Dir string
	Rate                  int // bytes a second of a download
}

// run starts this program again as the device, and waits until it exits. The device's standard
// input closes when ctx ends, and also when this process is killed.
func (p process) run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	config, err := json.Marshal(p)
	if err != nil {
		return err
	}
	var output cli.Tail
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), deviceVariable+"="+string(config))
	cmd.Stdout, cmd.Stderr = &output, &output
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	cmd.Cancel = stdin.Close
	cmd.WaitDelay = 6 * time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil // as expected
	case err == nil:
		err = errors.New("ended too early")
	}
	return fmt.Errorf("device %s: %w: %s", p.Endpoint, err, output.String())
}

// runDevice runs the device until its standard input ends.
func runDevice(ctx context.Context) error {
	var p process
	if err := json.Unmarshal([]byte(os.Getenv(deviceVariable)), &p); err != nil {
		return err
	}
	signal.Ignore(os.Interrupt) // the parent handles it and closes the standard input
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return demo.Device{
		Client:   lwm2m.ClientConfig{Endpoint: p.Endpoint, Server: p.Server},
		Firmware: device.Config{Transport: newSlow(p.Rate)},
		Dir:      p.Dir,
		Version:  oldVersion,
	}.Run(ctx)
}

// slow is an HTTP transport as slow as a radio link: bodies arrive at rate bytes a second, and
// receive buffers are small.
type slow struct {
	http.RoundTripper
	rate int
}

func newSlow(rate int) slow {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			err = tcp.SetReadBuffer(64 << 10)
		}
		return conn, err
	}
	return slow{&http.Transport{DialContext: dial}, rate}
}

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := s.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = &slowBody{body: response.Body, ctx: r.Context(), rate: s.rate, begin: time.Now()}
	}
	return response, err
}

type slowBody struct {
	body  io.ReadCloser
	ctx   context.Context
	rate  int
	begin time.Time
	n     int
}

func (b *slowBody) Read(p []byte) (int, error) {
	due := b.begin.Add(time.Duration(float64(b.n) / float64(b.rate) * float64(time.Second)))
	select {
	case <-time.After(time.Until(due)):
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
	n, err := b.body.Read(p[:min(len(p), 32<<10)])
	b.n += n
	return n, err
}

func (b *slowBody) Close() error { return b.body.Close() }
