package main

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"time"
)

// result is the measurement of one fleet.
type result struct {
	Fleet       fleet
	Delivery    string
	Store       string
	Registering time.Duration // until all had registered
	Before      stateReport   // of the server without devices
	Registered  stateReport   // when all had registered
	Campaigns   []campaignResult
	Refreshing  refreshReport
	Pages       []pages
	Other       *otherResult `json:",omitempty"`
	Yardstick   *result      `json:",omitempty"` // of the live devices alone, in the same run
	Rollouts    *result      `json:",omitempty"` // the same campaigns as rollouts, in the same run
	Telemetry   *result      `json:",omitempty"` // the same campaigns with metrics and traces, in the same run
}

// campaignResult holds the reports of the server and the devices on a campaign.
type campaignResult struct {
	Server  campaignReport
	Devices devicesReport // of this campaign; Versions and Installs at its end
}

// wrong returns how many devices have a wrong outcome according to the server or the devices.
func (c campaignResult) wrong(f fleet) int {
	want := 0
	for i := range f.updated() {
		if f.kind(i).succeeds() {
			want++
		}
	}
	apart := func(n int) int { return max(n-want, want-n) }
	version := c.Server.Version
	return max(c.Server.Wrong, apart(c.Devices.Versions[version]), apart(int(c.Devices.Installs[version])))
}

// measurement is a server and its devices, in processes of their own.
type measurement struct {
	o       options
	log     io.Writer
	role    serverRole
	server  *child
	devices *child
	ready   serverReady
}

// measure runs a server, whose log goes to log, and its devices. It removes everything before it
// returns.
func measure(ctx context.Context, o options, log io.Writer) (r result, err error) {
	r = result{Fleet: o.fleet, Delivery: o.delivery, Store: "bolt"}
	switch {
	case o.postgres != "":
		r.Store = "postgres"
	case o.memory:
		r.Store = "memory"
	}
	dir, err := os.MkdirTemp("", "otago-fleet-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := &measurement{o: o, log: log, role: serverRole{
		Fleet: o.fleet, Dir: dir, Memory: o.memory, Postgres: o.postgres, Disk: o.disk, LogLevel: o.logLevel, Profiles: o.profiles, Yardstick: o.bareServer,
		Rollouts: o.inRollouts, Telemetry: o.measured,
	}}
	if err := m.startServer(ctx); err != nil {
		return r, err
	}
	defer func() { err = joinNew(err, m.server.stop()) }()
	if err := m.server.ask(ctx, command{State: true, Collect: true}, &r.Before); err != nil {
		return r, err
	}
	address, err := netip.ParseAddrPort(m.ready.CoAP)
	if err != nil {
		return r, err
	}
	begin := time.Now()
	m.devices, err = startChild(ctx, "devices", role{Devices: &devicesRole{Fleet: o.fleet, Server: address}}, io.Discard)
	if err != nil {
		return r, err
	}
	defer func() { err = joinNew(err, m.devices.stop()) }()
	var before devicesReport
	if err := m.devices.wait(ctx, &before); err != nil {
		return r, err
	}
	r.Registering = time.Since(begin)
	if err := m.server.ask(ctx, command{State: true, Collect: true}, &r.Registered); err != nil {
		return r, err
	}
	if o.refresh {
		if r.Refreshing, err = m.refresh(ctx); err != nil {
			return r, err
		}
	}
	var stops []func()
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	for n := range o.campaigns {
		c := campaignResult{}
		for n == o.campaigns-1 && len(stops) < o.followers {
			stop, err := m.follow(ctx)
			if err != nil {
				return r, err
			}
			stops = append(stops, stop)
		}
		if err := m.campaign(ctx, campaign{Version: versionOf(n + 1), Delivery: o.delivery, Timeout: o.timeout, Rollout: o.inRollouts, AtATime: o.atATime}, &c.Server); err != nil {
			return r, err
		}
		var after devicesReport
		if err := m.devices.ask(ctx, command{Count: true}, &after); err != nil {
			return r, err
		}
		c.Devices, before = after.since(before), after
		r.Campaigns = append(r.Campaigns, c)
		if c.wrong(o.fleet) > 0 {
			break
		}
	}
	if o.pages {
		r.Pages, err = m.timePages(ctx)
	}
	return r, err
}

// startServer starts the server, at the address of the one before if there was one.
func (m *measurement) startServer(ctx context.Context) (err error) {
	m.role.Listen = m.ready
	if m.server, err = startChild(ctx, "server", role{Server: &m.role}, m.log); err != nil {
		return err
	}
	return m.server.wait(ctx, &m.ready)
}

// campaign updates all devices. If the server is to be killed in the middle, the report is that of
// the process after it.
func (m *measurement) campaign(ctx context.Context, c campaign, report *campaignReport) error {
	if m.o.kill == 0 || m.o.bareServer {
		return m.server.ask(ctx, command{Campaign: &c}, report)
	}
	part := c
	part.Part = m.o.kill
	if err := m.server.ask(ctx, command{Campaign: &part}, report); err != nil {
		return err
	}
	m.server.kill()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(m.o.away):
	}
	if err := m.startServer(ctx); err != nil {
		return err
	}
	c.Resume = true
	*report = campaignReport{} // a decoder would add to its maps
	return m.server.ask(ctx, command{Campaign: &c}, report)
}

// joinNew joins err and the error of a process's end, unless err includes that.
func joinNew(err, end error) error {
	if end == nil || errors.Is(err, end) {
		return err
	}
	return errors.Join(err, end)
}
