package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware"
)

// fleet describes the devices and their behaviour, the same in all processes.
type fleet struct {
	Devices                    int
	Updates                    int     // how many of them are updated, 0 for all; the others only register
	Silent                     float64 // share, like the others
	Failing                    float64
	RollingBack, Lying, Asleep float64
	SlowShare                  float64 // of the rest
	Slow                       time.Duration
	Sleep                      time.Duration
	Loss                       float64
	Composite                  bool
	AtOnce                     bool // all register at once
	Size                       int
	Download                   time.Duration // how much longer a download takes, at most
	Restart, Lifetime          time.Duration
}

// kind is the behaviour of a device, and the beginning of its endpoint name.
type kind string

const (
	live        kind = "live"
	slow        kind = "slow"
	silent      kind = "silent"
	failing     kind = "failing"
	rollingBack kind = "rollback"
	lying       kind = "lying"
	asleep      kind = "asleep"
)

// expected returns the outcome of a device's update. That of a silent device is any but success.
func (k kind) expected() firmware.Outcome {
	switch k {
	case silent:
		return firmware.OutcomeNone
	case failing, lying:
		return firmware.OutcomeFailed
	case rollingBack:
		return firmware.OutcomeRolledBack
	default:
		return firmware.OutcomeSucceeded
	}
}

// succeeds reports whether the devices can take an update.
func (k kind) succeeds() bool { return k.expected() == firmware.OutcomeSucceeded }

// others returns the share of devices that are neither live nor slow.
func (f fleet) others() float64 { return f.Silent + f.Failing + f.RollingBack + f.Lying + f.Asleep }

// count returns how many devices a share is.
func (f fleet) count(share float64) int { return int(float64(f.Devices)*share + 1e-9) }

// updated returns how many devices are updated: those with the lowest numbers.
func (f fleet) updated() int {
	if f.Updates > 0 {
		return min(f.Updates, f.Devices)
	}
	return f.Devices
}

// answering returns how many of the devices that are updated answer.
func (f fleet) answering() int {
	n := 0
	for i := range f.updated() {
		if f.kind(i) != silent {
			n++
		}
	}
	return n
}

// silent returns how many devices are silent.
func (f fleet) silent() int { return f.count(f.Silent) }

// kind returns the kind of device i. The devices of a kind are spread evenly.
func (f fleet) kind(i int) kind {
	i = i * f.stride() % f.Devices // every number of a device occurs once
	for _, k := range []struct {
		share float64
		kind  kind
	}{{f.Silent, silent}, {f.Failing, failing}, {f.RollingBack, rollingBack}, {f.Lying, lying}, {f.Asleep, asleep}} {
		if n := f.count(k.share); i < n {
			return k.kind
		} else {
			i -= n
		}
	}
	if rest := f.Devices - f.count(f.others()); f.Slow > 0 && i < int(float64(rest)*f.SlowShare+1e-9) {
		return slow
	}
	return live
}

// stride returns a number near the golden section of f.Devices that has no divisor in common with
// it: its multiples, modulo f.Devices, are spread evenly.
func (f fleet) stride() int {
	for n := int(float64(f.Devices)*0.618) | 1; ; n += 2 {
		a, b := n, f.Devices
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return n
		}
	}
}

// endpointSize is the length of the shortest endpoint name.
const endpointSize = len("live-000000")

// endpoint returns the name of device i.
func (f fleet) endpoint(i int) string { return fmt.Sprintf("%s-%06d", f.kind(i), i) }

// kindOf returns the kind of the device with an endpoint name.
func kindOf(endpoint string) kind {
	k, _, _ := strings.Cut(endpoint, "-")
	return kind(k)
}
