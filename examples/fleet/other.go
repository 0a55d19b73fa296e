package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// otherResult has the costs that are not of one update.
type otherResult struct {
	Devices    int
	AtOnce     time.Duration // until all had registered that came at once
	Dropped    uint64        // of their datagrams
	Memory     uint64        // of a registered device on the server
	Collected  uint64        // the same after a collection
	Followers  int
	Alone      time.Duration // the server's processor time of an update in a later campaign
	Followed   time.Duration // the same with followers
	Refreshing refreshReport // with a slow disk
	Disk       time.Duration
	Ended      int // updates in the store
	Pages      []pages
	Scale      []scaled
}

// scaled is what an update costs in a fleet of some size.
type scaled struct {
	Devices int
	CPU     time.Duration // the server's processor time of an update
}

// followers is how many followers the event stream has in the second table.
const followers = 10

// slowDiskTime is how much longer each transaction of the slow disk takes.
const slowDiskTime = 10 * time.Millisecond

// measureOther measures what is not of one update.
func measureOther(ctx context.Context, o options, log io.Writer) (other otherResult, err error) {
	o.profiles, o.kill, o.fleet.Loss = profiles{}, 0, 0
	other = otherResult{Devices: o.fleet.Devices, Followers: followers, Disk: slowDiskTime, Ended: o.ended}

	storm := o
	storm.fleet.AtOnce, storm.campaigns = true, 0
	r, err := measure(ctx, storm, log)
	if err != nil {
		return other, err
	}
	other.AtOnce, other.Dropped = r.Registering, r.Registered.Dropped

	refresh := o
	refresh.campaigns, refresh.disk, refresh.refresh = 0, slowDiskTime, true
	if r, err = measure(ctx, refresh, log); err != nil {
		return other, err
	}
	other.Refreshing = r.Refreshing
	other.Memory, other.Collected = r.memory()

	later := o // two campaigns without followers, of which the second counts, and one with them
	later.campaigns, later.followers, later.pages = 3, followers, true
	if r, err = measure(ctx, later, log); err != nil {
		return other, err
	}
	if err := verdict([]result{r}); err != nil {
		return other, err
	}
	other.Alone, other.Followed = r.Campaigns[1].Server.cpuEach(), r.Campaigns[2].Server.cpuEach()
	other.Pages = r.Pages

	for _, n := range o.scale {
		size := o
		size.fleet.Devices, size.campaigns = n, max(1, min(10, scaleUpdates/n))
		if r, err = measure(ctx, size, log); err != nil {
			return other, err
		}
		if err := verdict([]result{r}); err != nil {
			return other, err
		}
		var sum campaignReport
		for _, c := range r.Campaigns {
			sum.Usage.User += c.Server.Usage.cpu()
			sum.Done += c.Server.Done
		}
		other.Scale = append(other.Scale, scaled{Devices: n, CPU: sum.cpuEach()})
	}
	return other, nil
}

// scaleUpdates is how many updates a small fleet makes, so that its times mean something.
const scaleUpdates = 1000

// cpuEach returns the server's processor time of an update.
func (r campaignReport) cpuEach() time.Duration { return each(r.Usage.cpu(), r.Done) }

// print prints the table.
func (o otherResult) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("other", "%d devices, %d ended updates in the store for the lists", o.Devices, o.Ended)
	line("memory of a registered device", "%s; %s after a collection", size(o.Memory), size(o.Collected))
	line(fmt.Sprintf("%d followers of the event stream", o.Followers), "%s of processor time for an update, %s without: ratio %.2f",
		o.Followed, o.Alone, float64(o.Followed)/float64(max(o.Alone, 1)))
	r := o.Refreshing
	line(fmt.Sprintf("lifetimes refreshed, %s for each transaction", o.Disk), "%d answered in %s, %d stored in %s, of which %s in %d commits: %.0f/s; %d commits failed",
		o.Devices, brief(r.Answered), r.Stored, brief(r.Took), brief(r.Busy), r.Commits, float64(r.Stored)/max(r.Busy.Seconds(), 1e-9), r.Failed)
	line("Registers at once", "%d in %s; %d datagrams dropped", o.Devices, brief(o.AtOnce), o.Dropped)
	for _, p := range o.Pages {
		line("page of "+p.Query, "%s at most, of %d pages with %d items", brief(p.Slowest), p.Pages, p.Items)
	}
	least, most := time.Duration(0), time.Duration(0)
	for i, s := range o.Scale {
		line(fmt.Sprintf("processor time of an update, %d devices", s.Devices), "%s", s.CPU)
		if most = max(most, s.CPU); i == 0 || s.CPU < least {
			least = s.CPU
		}
	}
	if len(o.Scale) > 1 {
		line("most, of the least", "%.2f", float64(most)/float64(max(least, 1)))
	}
	_ = w.Flush() // errors are ignored, as for the rest of the text
	fmt.Fprintln(out)
}

// memory returns how much memory a registered device takes on the server, and how much of it is in
// use.
func (r result) memory() (all, used uint64) {
	before, after := r.Before, r.Registered
	return per(after.Memory-min(before.Memory, after.Memory), r.Fleet.Devices),
		per(after.Collected-min(before.Collected, after.Collected), r.Fleet.Devices)
}

// refreshReport says how a server took a refresh of the lifetime of each device at once.
type refreshReport struct {
	Answered time.Duration // until all had an answer
	Took     time.Duration // until all were stored, or refreshTime
	Stored   uint64
	Busy     time.Duration // with commits
	Commits  uint64
	Failed   uint64 // commits
}

// refreshTime limits how long the server may take.
const refreshTime = time.Minute

// refresh lets all devices refresh their lifetimes at once.
func (m *measurement) refresh(ctx context.Context) (r refreshReport, err error) {
	var before, now stateReport
	if err := m.server.ask(ctx, command{State: true}, &before); err != nil {
		return r, err
	}
	begin := time.Now()
	if err := m.devices.ask(ctx, command{Refresh: true}, &r.Answered); err != nil {
		return r, err
	}
	for {
		if err := m.server.ask(ctx, command{State: true}, &now); err != nil {
			return r, err
		}
		r.Took = time.Since(begin)
		r.Stored, r.Commits, r.Failed = now.Stored-before.Stored, now.Commits-before.Commits, now.Failed-before.Failed
		r.Busy = now.Busy - before.Busy
		if r.Stored >= uint64(m.o.fleet.Devices) || r.Took > refreshTime {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// refresh lets all devices refresh their lifetimes at once, and returns how long it took until they
// had their answers.
func (w *world) refresh(ctx context.Context) time.Duration {
	begin, before := time.Now(), w.updates.Load()
	for _, s := range w.shards {
		for i := range s.devices {
			s.mu.Lock()
			if d := &s.devices[i]; d.location != "" && !d.pending.active {
				d.report(w.now())
			} else {
				before-- // it is busy, and no answer will come
			}
			s.mu.Unlock()
		}
	}
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	for w.updates.Load()-before < uint64(w.role.Fleet.Devices) && time.Since(begin) < refreshTime {
		select {
		case <-ctx.Done():
			return 0
		case <-ticker.C:
		}
	}
	return time.Since(begin)
}
