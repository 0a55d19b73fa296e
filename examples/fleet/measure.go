package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// result is the measurement of one fleet.
type result struct {
	Fleet       fleet
	Delivery    string
	Store       string
	Processes   int           // of devices
	Registering time.Duration // until all had registered
	Campaigns   []campaignResult
	Yardstick   *result `json:",omitempty"` // of the live devices alone, at the same time
}

// campaignResult holds the reports of the server and the devices on a campaign.
type campaignResult struct {
	Server  campaignReport
	Devices devicesReport // of this campaign; Versions at its end
}

// wrong returns how many devices have a wrong outcome according to the server or the devices.
func (c campaignResult) wrong(f fleet) int {
	return max(c.Server.Wrong, f.Devices-f.silent()-c.Devices.Versions[c.Server.Version])
}

const (
	// reservedFiles is how many files a process of devices needs in addition to its sockets.
	reservedFiles = 256
	// maxSockets is how many devices a process has at most: the system assigns their ports, of
	// which Linux has some 28,000 for each address.
	maxSockets = 20_000
	// maxProcesses is how many processes of devices there are at most.
	maxProcesses = 64
)

// split returns the devices of each process.
func split(f fleet, files int) ([]devicesRole, error) {
	most := maxSockets
	if files > 0 {
		most = min(most, files-reservedFiles)
	}
	n := 0
	if most > 0 {
		n = (f.Devices + most - 1) / most
	}
	if n == 0 || n > maxProcesses {
		return nil, fmt.Errorf("%d devices need as many open files, and a process may have %d: raise the limit (ulimit -Hn), or have fewer devices",
			f.Devices, files)
	}
	if n > 1 && runtime.GOOS != "linux" {
		return nil, fmt.Errorf("%d devices need %d processes with an address each, which only Linux has on loopback by default: at most %d here",
			f.Devices, n, most)
	}
	roles := make([]devicesRole, n)
	for i := range roles {
		roles[i] = devicesRole{
			Fleet: f, First: f.Devices * i / n, Last: f.Devices * (i + 1) / n,
			Local: netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}),
		}
	}
	return roles, nil
}

// measure runs a server, whose log goes to log, and its devices. It removes everything before it
// returns.
func measure(ctx context.Context, o options, log io.Writer) (r result, err error) {
	roles, err := split(o.fleet, openFiles())
	if err != nil {
		return r, err
	}
	r = result{Fleet: o.fleet, Delivery: o.delivery, Store: "bolt", Processes: len(roles)}
	if o.memory {
		r.Store = "memory"
	}
	dir, err := os.MkdirTemp("", "otago-fleet-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	server, err := startChild(ctx, "server", role{Server: &serverRole{
		Fleet: o.fleet, Dir: dir, Memory: o.memory, LogLevel: o.logLevel, Profiles: o.profiles, Yardstick: o.bareServer,
	}}, log)
	if err != nil {
		return r, err
	}
	defer func() { err = joinNew(err, server.stop()) }()
	var ready serverReady
	if err := server.wait(ctx, &ready); err != nil {
		return r, err
	}
	address, err := netip.ParseAddrPort(ready.CoAP)
	if err != nil {
		return r, err
	}
	begin := time.Now()
	var devices herd
	defer func() { err = joinNew(err, devices.stop()) }()
	for i := range roles {
		roles[i].Server = address
		c, err := startChild(ctx, fmt.Sprintf("devices %d", i+1), role{Devices: &roles[i]}, io.Discard)
		if err != nil {
			return r, err
		}
		devices = append(devices, c)
	}
	before, err := devices.each(ctx, (*child).wait)
	if err != nil {
		return r, err
	}
	r.Registering = time.Since(begin)
	for n := range o.campaigns {
		c := campaignResult{}
		order := campaign{Version: versionOf(n + 1), Delivery: o.delivery, Timeout: o.timeout}
		if err := server.ask(ctx, command{Campaign: &order}, &c.Server); err != nil {
			return r, err
		}
		after, err := devices.each(ctx, func(c *child, ctx context.Context, report any) error {
			return c.ask(ctx, command{Count: true}, report)
		})
		if err != nil {
			return r, err
		}
		c.Devices, before = after.since(before), after
		r.Campaigns = append(r.Campaigns, c)
		if c.wrong(o.fleet) > 0 {
			break
		}
	}
	return r, nil
}

// joinNew joins err and the error of a process's end, unless err includes that.
func joinNew(err, end error) error {
	if end == nil || errors.Is(err, end) {
		return err
	}
	return errors.Join(err, end)
}

// herd is the set of device processes.
type herd []*child

// each gets a report from each process, and returns their sum.
func (h herd) each(ctx context.Context, report func(*child, context.Context, any) error) (devicesReport, error) {
	reports := make([]devicesReport, len(h))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range h {
		group.Go(func() error { return report(c, ctx, &reports[i]) })
	}
	if err := group.Wait(); err != nil {
		return devicesReport{}, err
	}
	var sum devicesReport
	for _, r := range reports {
		sum.add(r)
	}
	return sum, nil
}

// stop ends the processes.
func (h herd) stop() error {
	var group errgroup.Group
	for _, c := range h {
		group.Go(c.stop)
	}
	return group.Wait()
}
