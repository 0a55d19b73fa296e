package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store/bolt"
)

const (
	oldVersion = "1.0.0"
	newVersion = "1.1.0"
)

// endpoints are the devices with their download rates in bytes a second. At the speed of loopback
// there would be no progress to show.
var endpoints = []struct {
	name string
	rate int
}{{"sensor-1", 1 << 20}, {"sensor-2", 5 << 18}, {"sensor-3", 3 << 19}}

func main() {
	if os.Getenv(deviceVariable) != "" {
		os.Exit(cli.Status("quickstart device", os.Stderr, runDevice(context.Background())))
	}
	os.Exit(cli.Main("quickstart", os.Stderr, func(ctx context.Context) error {
		q, err := parse(os.Args[1:])
		if err != nil {
			return err
		}
		return q.run(ctx, newShow(os.Stdout, isTerminal(os.Stdout)))
	}))
}

// parse returns what the flags ask for.
func parse(args []string) (quickstart, error) {
	q := quickstart{imageSize: 4 << 20, limit: 55 * time.Second}
	fs := cli.NewFlagSet(os.Stderr, "quickstart", "[flags]",
		"shows a whole firmware update on one machine, or with -devices a rollout over many. It needs no flags.")
	fs.IntVar(&q.devices, "devices", 0, "`number` of devices of a rollout in waves, up to 500; 0 updates three devices without one")
	fs.IntVar(&q.fail, "fail", 0, "`number` of them that refuse the image")
	if err := cli.Parse(fs, args, os.LookupEnv); err != nil {
		return q, err
	}
	if err := cli.NoArguments(fs); err != nil {
		return q, err
	}
	switch {
	case q.devices < 0 || q.devices > 500:
		return q, cli.Usagef("-devices %d is not 0 to 500", q.devices)
	case q.fail < 0 || q.fail > q.devices:
		return q, cli.Usagef("-fail %d is not 0 to -devices %d", q.fail, q.devices)
	}
	if q.devices > 0 {
		q.imageSize, q.limit = 256<<10, 3*time.Minute
	}
	return q, nil
}

// quickstart is the configuration of a run.
type quickstart struct {
	imageSize int           // bytes
	limit     time.Duration // for the whole run
	devices   int           // of a rollout; 0 for none
	fail      int           // how many of them refuse the image
}

// run runs the server, the devices and the updates, and removes their files.
func (q quickstart) run(ctx context.Context, s *show) (err error) {
	dir, err := os.MkdirTemp("", "otago-quickstart-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := bolt.Open(filepath.Join(dir, "ota.db"), bolt.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	server, err := backend.Listen(ctx, backend.Config{
		Store: db, Images: filepath.Join(dir, "images"), CoAP: "127.0.0.1:0", FWHTTP: "127.0.0.1:0",
	})
	if err != nil {
		return err
	}
	s.server(server.URL(backend.CoAP), server.URL(backend.FWHTTP))

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, expire := context.WithTimeoutCause(ctx, q.limit, fmt.Errorf("not finished after %s", q.limit))
	defer expire()

	// The server ends after the devices, so that they can de-register.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() {
		err := server.Run(serving)
		cancel(err) // an error if updates are still running
		served <- err
	}()
	running, deviceCtx := errgroup.WithContext(ctx)
	var devices []func(context.Context) error
	body := func() error { return q.update(ctx, s, server.Manager()) }
	if q.devices > 0 {
		w := newWaves(q, server, dir)
		devices, body = w.devices(), func() error { return w.run(ctx, s) }
	} else {
		for _, e := range endpoints {
			device := process{Endpoint: e.name, Server: server.URL(backend.CoAP), Dir: filepath.Join(dir, e.name), Rate: e.rate}
			devices = append(devices, device.run)
		}
	}
	for _, run := range devices {
		running.Go(func() error {
			err := run(deviceCtx)
			cancel(err)
			return err
		})
	}
	err = body()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w\n%w", cause, err)
	}
	cancel(nil)
	for _, end := range []func() error{running.Wait, func() error { stop(); return <-served }} {
		if late := end(); late != nil && !errors.Is(err, late) {
			err = errors.Join(err, late)
		}
	}
	return err
}

// update uploads the image, updates every device, and shows the progress.
func (q quickstart) update(ctx context.Context, s *show, manager *firmware.Manager) error {
	content := demo.Image(newVersion, q.imageSize)
	image, err := manager.Images().Add(ctx, firmware.Image{Name: "demo", Version: newVersion}, bytes.NewReader(content))
	if err != nil {
		return err
	}
	s.image(image)
	for _, e := range endpoints {
		// An update waits for a device that has not registered yet.
		u, err := manager.Start(ctx, firmware.Request{
			Endpoint: e.name, Image: image.ID, Delivery: firmware.DeliveryPull, Protocol: firmware.ProtocolHTTP,
		})
		if err != nil {
			return err
		}
		s.add(u)
	}
	for event, err := range manager.Events(ctx, 0) {
		if err != nil {
			return err
		}
		if s.event(event); s.done() {
			break
		}
	}
	updates := make([]firmware.Update, 0, len(endpoints))
	for _, id := range s.updates() {
		// Also after ctx has ended: the table shows what did not finish.
		u, err := manager.Get(context.WithoutCancel(ctx), id)
		if err != nil {
			return err
		}
		updates = append(updates, u)
	}
	s.table(updates)
	return verdict(updates)
}

// verdict returns nil if all devices run the new version.
func verdict(updates []firmware.Update) error {
	var errs []error
	for _, u := range updates {
		switch m := u.Machine; {
		case u.Active():
			errs = append(errs, fmt.Errorf("%s: %s, waits for %s", u.Endpoint, m.Phase, m.Wait.Reason))
		case m.Outcome != firmware.OutcomeSucceeded:
			errs = append(errs, fmt.Errorf("%s: %s, %s (%s)", u.Endpoint, m.Outcome, m.Result, m.Reason))
		case m.Version != newVersion:
			errs = append(errs, fmt.Errorf("%s: runs %s, not %s", u.Endpoint, m.Version, newVersion))
		}
	}
	return errors.Join(errs...)
}
