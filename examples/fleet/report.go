package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// print prints the result as text.
func (r result) print(out io.Writer) {
	f := r.Fleet
	kinds := map[kind]int{}
	for i := range f.Devices {
		kinds[f.kind(i)]++
	}
	fmt.Fprintf(out, "fleet: %d live devices", kinds[live])
	for _, k := range []kind{slow, silent, failing, rollingBack, lying, asleep} {
		if kinds[k] > 0 {
			fmt.Fprintf(out, ", %d %s", kinds[k], k)
		}
	}
	fmt.Fprintf(out, "; %d bytes by %s; store: %s\n", f.Size, r.Delivery, r.Store)
	memory, collected := r.memory()
	fmt.Fprintf(out, "all registered in %s; %d datagrams dropped; memory of a device on the server: %s, after a collection %s\n",
		brief(r.Registering), r.Registered.Dropped, size(memory), size(collected))
	for i, c := range r.Campaigns {
		c.print(out, f)
		if r.Yardstick != nil {
			c.table(out, r.Yardstick.Campaigns[0])
		}
		if r.Telemetry != nil && i < len(r.Telemetry.Campaigns) {
			fmt.Fprintln(out, "\n  with metrics and traces")
			r.Telemetry.Campaigns[i].ratios(out, "telemetry", c)
		}
		if r.Rollouts != nil && i < len(r.Rollouts.Campaigns) {
			beside := r.Rollouts.Campaigns[i]
			beside.printRollout(out, c)
			if beside.wrong(f) > 0 {
				beside.print(out, f)
			}
		}
	}
	fmt.Fprintln(out)
}

// table prints the costs of an update beside those of the yardstick.
func (c campaignResult) table(out io.Writer, yardstick campaignResult) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n  per update\tserver\tyardstick\tratio\t\n")
	ours, theirs := c.costs(), yardstick.costs()
	for i, cost := range ours {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%.1f\t\n", cost.name, cost.format(cost.value), cost.format(theirs[i].value), cost.value/max(theirs[i].value, 1e-9))
	}
	_ = w.Flush()
	for _, side := range []struct {
		name string
		campaignResult
	}{{"server", c}, {"yardstick", yardstick}} {
		n := side.Server.Done
		fmt.Fprintf(out, "\n  %s, messages: %s\n", side.name, eachKind(side.Devices.Live.Kinds, n))
		fmt.Fprintf(out, "  %s, commits: %s\n", side.name, eachKind(side.Server.CommitKinds, n))
	}
}

// ratios prints the costs of an update beside those of the same campaign without what name says.
func (c campaignResult) ratios(out io.Writer, name string, single campaignResult) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n  per update\t%s\tsingle\tratio\t\n", name)
	ours, theirs := c.costs(), single.costs()
	for i, cost := range ours {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%.2f\t\n", cost.name, cost.format(cost.value), cost.format(theirs[i].value), cost.value/max(theirs[i].value, 1e-9))
	}
	_ = w.Flush()
}

// cost is what one update costs.
type cost struct {
	name   string
	value  float64
	format func(float64) string
}

func (c campaignResult) costs() []cost {
	s, u := c.Server, c.Server.Usage
	bytes := func(n float64) string { return size(uint64(max(n, 0))) }
	number := func(n float64) string { return fmt.Sprintf("%.1f", n) }
	costs := []cost{
		{"processor time of the server", float64(u.cpu()), func(n float64) string { return time.Duration(n).Round(time.Microsecond).String() }},
		{"CoAP messages", float64(c.Devices.Live.Received + c.Devices.Live.Sent), number},
		{"commits, Registers not counted", float64(s.commits()), number},
		{"written to disk", float64(u.StorageWrites), bytes},
		{"growth of the database", float64(s.Growth), bytes},
		{"allocations", float64(u.Allocations), number},
		{"allocated", float64(u.AllocatedBytes), bytes},
	}
	for i := range costs {
		costs[i].value /= float64(max(s.Done, 1))
	}
	return costs
}

func (c campaignResult) print(out io.Writer, f fleet) {
	s, d := c.Server, c.Devices
	fmt.Fprintf(out, "\nversion %s\n", s.Version)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("live devices", "%s", outcomes(s.Live))
	if f.silent() > 0 {
		line("silent devices", "%s", outcomes(s.Silent))
	}
	line("run the version", "%d devices after %d installations", d.Versions[s.Version], d.Installs[s.Version])
	line("wrong outcomes", "%d", c.wrong(f))
	line("starting", "%d updates in %s", s.Started, brief(s.Starting))
	if s.Refused != "" {
		line("not started", "%s", s.Refused)
	}
	line("live updates", "%d in %s: %.1f/s%s", s.Done, brief(s.Took), s.rate(), quantiles(s.Quantiles))

	u := s.Usage
	line("server processor", "%s (user %s, system %s); %s an update",
		brief(u.cpu()), brief(u.User), brief(u.System), each(u.cpu(), s.Done))
	line("server memory", "%s now, %s at most; %d goroutines at most; allocated %s in %d pieces: %s in %.0f an update",
		size(u.RSS), size(u.PeakRSS), u.PeakGoroutines, size(u.AllocatedBytes), u.Allocations,
		size(per(u.AllocatedBytes, s.Done)), ratio(u.Allocations, s.Done))
	line("server store", "%d commits without Registers, of %d changes: %.2f an update; %s written, %s an update; database %s",
		s.commits(), s.Changes, ratio(s.commits(), s.Done), size(u.StorageWrites), size(per(u.StorageWrites, s.Done)), size(uint64(s.Database)))
	line("server requests", "%s", requests(s.Actions))
	line("messages, live", "%s; %.1f an update", d.Live, ratio(d.Live.Received+d.Live.Sent, s.Done))
	if f.silent() > 0 {
		line("messages, silent", "%s", d.Silent)
	}
	line("devices", "%d Registers, %d Updates of registrations, %d downloads and %d failed ones; processor %s, %s a message; %d datagrams dropped",
		d.Registers, d.Updates, d.Downloads, d.DownloadsFailed, brief(d.CPU), each(d.CPU, int(d.Live.Received+d.Live.Sent+d.Silent.Received+d.Silent.Sent)), d.Dropped)
	for _, wrong := range s.WrongFirst {
		fmt.Fprintf(w, "\n  wrong: %s: %s\n", wrong.Endpoint, wrong.Outcome)
		for _, entry := range wrong.Journal {
			fmt.Fprintf(w, "    %s\n", entry)
		}
	}
	_ = w.Flush() // errors are ignored, as for the rest of the text
}

// String formats traffic.
func (t traffic) String() string {
	text := fmt.Sprintf("%d received (%s), of them %d again; %d sent (%s)",
		t.Received, size(t.ReceivedBytes), t.Repeated, t.Sent, size(t.SentBytes))
	if t.Lost > 0 {
		text += fmt.Sprintf("; %d lost", t.Lost)
	}
	return text
}

// outcomes formats how many devices are in each situation, the most frequent first.
func outcomes(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return cmp.Or(strings.Join(parts, "; "), "none")
}

// requests formats the manager's requests to devices.
func requests(counts map[string]actionCount) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		c := counts[name]
		part := fmt.Sprintf("%d %s", c.Done, name)
		if c.Failed > 0 {
			part += fmt.Sprintf(" (%d failed)", c.Failed)
		}
		parts = append(parts, part)
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

func quantiles(q []time.Duration) string {
	if len(q) < 3 {
		return ""
	}
	return fmt.Sprintf("; half after %s, 90 %% after %s, 99 %% after %s", brief(q[0]), brief(q[1]), brief(q[2]))
}

// brief rounds a duration for display.
func brief(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}

func each(d time.Duration, n int) time.Duration {
	return (d / time.Duration(max(n, 1))).Round(time.Microsecond)
}

func per(total uint64, n int) uint64 { return total / uint64(max(n, 1)) }

func ratio(total uint64, n int) float64 { return float64(total) / float64(max(n, 1)) }

// size formats a number of bytes.
func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// rate returns how many live devices were done per second in all campaigns.
func (r result) rate() float64 {
	var done int
	var took time.Duration
	for _, c := range r.Campaigns {
		done += c.Server.Done
		took += c.Server.Took
	}
	if took <= 0 {
		return 0
	}
	return float64(done) / took.Seconds()
}

// compare prints how much the silent devices slow the live ones.
func compare(out io.Writer, runs []result) {
	alone, together := runs[0].rate(), runs[1].rate()
	fmt.Fprintf(out, "live devices done in a second: %.1f alone, %.1f beside the silent ones; ratio %.3f\n",
		alone, together, together/max(alone, 1e-9))
}

// verdict returns an error if devices have a wrong outcome.
func verdict(runs []result) error {
	for _, r := range runs {
		if r.Rollouts != nil {
			runs = append(runs, *r.Rollouts)
		}
	}
	for _, r := range runs {
		for _, c := range r.Campaigns {
			if n := c.wrong(r.Fleet); n > 0 {
				return fmt.Errorf("version %s: %d of %d devices have a wrong outcome", c.Server.Version, n, r.Fleet.Devices)
			}
		}
	}
	return nil
}
