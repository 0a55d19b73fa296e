package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/examples/internal/cli"
)

// options are the flags.
type options struct {
	fleet      fleet
	campaigns  int
	delivery   string
	timeout    time.Duration
	memory     bool
	postgres   string        // URL of a database
	disk       time.Duration // for each transaction, in addition
	kill       float64       // the part of a campaign after which the server is killed; 0 for never
	away       time.Duration // how long it is away then
	compare    bool
	json       bool
	logLevel   string
	profiles   profiles
	followers  int  // of the event stream, during the last campaign
	history    bool // the followers begin with the first event there is
	other      bool // measure also what is not of one update
	ended      int  // updates in the store then
	scale      sizes
	refresh    bool // the devices refresh their lifetimes at once
	pages      bool // time the pages of lists at the end
	yardstick  bool // measure the yardstick, too
	rollout    bool // measure each campaign as a rollout, too
	inRollouts bool // the campaigns are rollouts
	telemetry  bool // measure with metrics and traces, too
	measured   bool // the server makes them
	kills      int  // of the server, in a trial; 0 for no trial
	seed       uint64
	atATime    int  // updates at a time; 0 for all at once
	bareServer bool // the yardstick is the server
}

func parseOptions(args []string, lookup func(string) (string, bool), errOut io.Writer) (options, error) {
	var o options
	fs := cli.NewFlagSet(errOut, "fleet", "[flags]",
		"updates a fleet of simulated devices on this machine, and prints how it went and what it cost the server.")
	fs.IntVar(&o.fleet.Devices, "devices", 2000, "`number` of devices, 1 to 1000000")
	fs.IntVar(&o.fleet.Updates, "updates", 0, "`number` of devices that campaigns update, 0 for all of them; the others only register")
	fs.Float64Var(&o.fleet.Silent, "silent", 0, "`share` of devices that register and then answer no request, 0 to 1")
	fs.DurationVar(&o.fleet.Slow, "slow", 0, "how long slow devices take to answer each request, up to 90s; 0 makes none slow")
	fs.Float64Var(&o.fleet.SlowShare, "slow-share", 1, "`share` of the other devices that -slow makes slow, 0 to 1")
	fs.Float64Var(&o.fleet.Failing, "failing", 0, "`share` of devices that find fault with each package, 0 to 1")
	fs.Float64Var(&o.fleet.RollingBack, "rolling-back", 0, "`share` of devices that come back with their old version and say so, 0 to 1")
	fs.Float64Var(&o.fleet.Lying, "lying", 0, "`share` of devices that come back with their old version and say that the update succeeded, 0 to 1")
	fs.Float64Var(&o.fleet.Asleep, "asleep", 0, "`share` of devices in queue mode, 0 to 1")
	fs.DurationVar(&o.fleet.Sleep, "sleep", 20*time.Second, "how often a device in queue mode says that it is awake, 5s to 1h; it then listens for 3 s")
	fs.BoolVar(&o.fleet.Composite, "composite", false, "the devices answer Read-Composite")
	fs.Float64Var(&o.fleet.Loss, "loss", 0, "`probability` that a datagram to or from a device is lost, 0 to 0.9")
	fs.IntVar(&o.fleet.Size, "size", 4096, "size of a package, in `bytes`, 64 to 16777216")
	fs.DurationVar(&o.fleet.Download, "download", 0, "how much longer than its bytes need a device takes for a download, from 0 to this, up to 1h")
	fs.DurationVar(&o.fleet.Restart, "restart", 300*time.Millisecond, "how long a device is away when it starts its new version")
	fs.DurationVar(&o.fleet.Lifetime, "lifetime", 5*time.Minute, "lifetime of a registration, 10s to 24h")
	fs.IntVar(&o.campaigns, "campaigns", 1, "`number` of campaigns, one after the other, each with a version of its own, 0 to 1000")
	fs.StringVar(&o.delivery, "delivery", "pull", "`way` of the package to a device: pull, by HTTP, or push")
	fs.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long a campaign may take until the last live device is done")
	fs.StringVar(&o.postgres, "postgres", "", "`URL` of a PostgreSQL database that keeps the server's records instead of a bbolt file")
	fs.BoolVar(&o.memory, "memory", false, "keep the server's records in memory instead of a bbolt file")
	fs.DurationVar(&o.disk, "disk", 0, "how much longer the server's disk takes for each transaction, up to 1s")
	fs.BoolVar(&o.fleet.AtOnce, "at-once", false, "all devices register at once, not 256 at a time")
	fs.Float64Var(&o.kill, "kill", 0, "`part` of each campaign after which the server is killed and started again, 0 to 1; 0 is never")
	fs.DurationVar(&o.away, "away", 0, "how long a killed server is away, up to 1h")
	fs.BoolVar(&o.compare, "compare", false, "measure the live devices alone first, then with the silent ones, and print the ratio")
	fs.BoolVar(&o.json, "json", false, "print the measurements as JSON")
	fs.StringVar(&o.logLevel, "log-level", "error", "level of the server's log: debug, info, warn or error")
	fs.BoolVar(&o.yardstick, "yardstick", true, "measure the least server that could do the same, too, and print the ratios")
	fs.BoolVar(&o.rollout, "rollout", false, "measure each campaign as a rollout, too, and print the ratios; -at-a-time is 1000 then if it is 0")
	fs.BoolVar(&o.telemetry, "telemetry", false, "measure each campaign with metrics and traces, too, and print the ratios")
	fs.IntVar(&o.kills, "trial", 0, "`number` of kills of the server, at random during one rollout, which the devices' own counts then judge")
	fs.Uint64Var(&o.seed, "seed", 0, "repeats when the server is killed in a trial; 0 is random")
	fs.IntVar(&o.atATime, "at-a-time", 0, "`number` of updates at a time, up to 100000; 0 starts all at once")
	fs.IntVar(&o.followers, "followers", 0, "`number` of followers of the event stream during the last campaign, 0 to 1000")
	fs.BoolVar(&o.history, "history", false, "the followers begin with the first event in the store, instead of the next one")
	fs.BoolVar(&o.other, "other", false, "measure also what is not of one update: memory, followers, refreshes, Registers at once, lists")
	fs.IntVar(&o.ended, "ended", 100_000, "`number` of ended updates in the store for the pages of -other, 1 to 10000000")
	fs.Var(&o.scale, "scale", "`sizes` of fleets whose updates -other compares: 100,1000,10000")
	fs.StringVar(&o.profiles.CPU, "cpuprofile", "", "write a profile of the server's processor time during campaigns to this `file`")
	fs.StringVar(&o.profiles.Memory, "memprofile", "", "write a profile of the server's memory and allocations to this `file`")
	if err := cli.Parse(fs, args, lookup); err != nil {
		return o, err
	}
	if err := cli.NoArguments(fs); err != nil {
		return o, err
	}
	if o.atATime == 0 {
		switch {
		case o.kills > 0:
			o.atATime = 100
		case o.rollout:
			o.atATime = 1000
		}
	}
	return o, o.check()
}

func (o options) check() error {
	f := o.fleet
	switch {
	case f.Devices < 1 || f.Devices > 1_000_000:
		return cli.Usagef("-devices %d is not 1 to 1000000", f.Devices)
	case f.Updates < 0:
		return cli.Usagef("-updates %d is negative", f.Updates)
	case !share(f.SlowShare):
		return cli.Usagef("-slow-share %g is not 0 to 1", f.SlowShare)
	case !share(f.Silent) || !share(f.Failing) || !share(f.RollingBack) || !share(f.Lying) || !share(f.Asleep) || !share(f.others()):
		return cli.Usagef("-silent, -failing, -rolling-back, -lying and -asleep are not 0 to 1, each and together")
	case f.Sleep < 5*time.Second || f.Sleep > time.Hour:
		return cli.Usagef("-sleep %s is not 5s to 1h", f.Sleep)
	case f.Slow < 0 || f.Slow > 90*time.Second:
		return cli.Usagef("-slow %s is not 0 to 90s", f.Slow)
	case !(f.Loss >= 0 && f.Loss <= 0.9):
		return cli.Usagef("-loss %g is not 0 to 0.9", f.Loss)
	case f.Size < minSize || f.Size > 16<<20:
		return cli.Usagef("-size %d is not %d to %d", f.Size, minSize, 16<<20)
	case f.Restart < 0 || f.Restart > time.Hour:
		return cli.Usagef("-restart %s is not 0 to 1h", f.Restart)
	case f.Lifetime < 10*time.Second || f.Lifetime > 24*time.Hour:
		return cli.Usagef("-lifetime %s is not 10s to 24h", f.Lifetime)
	case f.Download < 0 || f.Download > time.Hour:
		return cli.Usagef("-download %s is not 0 to 1h", f.Download)
	case o.disk < 0 || o.disk > time.Second:
		return cli.Usagef("-disk %s is not 0 to 1s", o.disk)
	case !(o.kill >= 0 && o.kill < 1):
		return cli.Usagef("-kill %g is not 0 to 1", o.kill)
	case o.away < 0 || o.away > time.Hour:
		return cli.Usagef("-away %s is not 0 to 1h", o.away)
	case o.kill > 0 && o.memory:
		return cli.Usagef("-kill needs a file: it does not go with -memory")
	case o.followers < 0 || o.followers > 1000:
		return cli.Usagef("-followers %d is not 0 to 1000", o.followers)
	case o.ended < 1 || o.ended > 10_000_000:
		return cli.Usagef("-ended %d is not 1 to 10000000", o.ended)
	case o.kills < 0 || o.kills > 10_000:
		return cli.Usagef("-trial %d is not 0 to 10000", o.kills)
	case o.kills > 0 && o.memory:
		return cli.Usagef("-trial needs a file: it does not go with -memory")
	case o.atATime < 0 || o.atATime > 100_000:
		return cli.Usagef("-at-a-time %d is not 0 to 100000", o.atATime)
	case o.campaigns < 0 || o.campaigns > 1000:
		return cli.Usagef("-campaigns %d is not 0 to 1000", o.campaigns)
	case o.delivery != "pull" && o.delivery != "push":
		return cli.Usagef("-delivery %q is neither pull nor push", o.delivery)
	case o.timeout <= 0:
		return cli.Usagef("-timeout %s is not positive", o.timeout)
	case f.answering() == 0:
		return cli.Usagef("-silent %g leaves no device that answers", f.Silent)
	case o.compare && f.silent() == 0:
		return cli.Usagef("-compare needs silent devices: -silent 0.3")
	}
	return nil
}

func share(x float64) bool { return x >= 0 && x <= 1 }

// runs returns the measurements: with -compare the live devices alone, and then all devices.
func (o options) runs() []options {
	if !o.compare {
		return []options{o}
	}
	alone := o
	alone.fleet.Devices -= alone.fleet.silent()
	alone.fleet.Silent = 0
	alone.profiles = profiles{}
	return []options{alone, o}
}

// bare returns the measurement of the yardstick: one campaign of the live devices alone.
func (o options) bare() options {
	f := fleet{Devices: o.fleet.answering(), Size: o.fleet.Size, Restart: o.fleet.Restart, Lifetime: o.fleet.Lifetime}
	o.fleet = f
	o.campaigns, o.profiles, o.followers, o.disk, o.bareServer = 1, profiles{}, 0, 0, true
	return o
}

// withTelemetry returns the measurement of the same campaigns by a server that makes metrics and
// traces.
func (o options) withTelemetry() options {
	o.measured, o.pages, o.followers = true, false, 0
	o.profiles = o.profiles.of("telemetry")
	return o
}

// asRollouts returns the measurement of the same campaigns as rollouts.
func (o options) asRollouts() options {
	o.inRollouts, o.pages, o.followers = true, false, 0
	o.profiles = o.profiles.of("rollout")
	return o
}

// of returns the files for the profiles of another measurement.
func (p profiles) of(name string) profiles {
	for _, file := range []*string{&p.CPU, &p.Memory} {
		if *file != "" {
			*file += "." + name
		}
	}
	return p
}

// sizes are numbers of devices, a flag.
type sizes []int

func (s *sizes) String() string { return strings.Trim(fmt.Sprint([]int(*s)), "[]") }

// Set implements flag.Value.
func (s *sizes) Set(text string) error {
	*s = nil
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 1_000_000 {
			return fmt.Errorf("%q is no size of a fleet", word)
		}
		*s = append(*s, n)
	}
	return nil
}
