package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware/internal/ulid"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// A DryRun says what a rollout would do, as far as the devices are known now.
type DryRun struct {
	// ID is the id by which First is ordered: [Request].ID makes it that of the rollout.
	ID string
	// Targets is how many devices would be updated.
	Targets int
	// First are the first 20 of them in the order of the rollout. Those that can be reached then
	// come first.
	First []string
	// Stages are the ceilings of the stages, in devices.
	Stages []int
	// Plan is what was asked for, with the defaults filled in.
	Plan fsm.Plan
	// Versions says which versions the targets run, the most frequent first: at most 100. The
	// version of a device that was not read yet is "".
	Versions []Tally
	// Skipped says who would not be updated, by reason.
	Skipped []Tally
	// Unheld are the targets that install without Execute (resource 5/0/14), as far as that is
	// known. They do so as soon as they have the package, so that no hold keeps them from it: the
	// server withholds the package until their turn to install has come. Each Name is how they take
	// packages, resource 5/0/9, and the profile of the rollout.
	Unheld []Tally
}

// A Tally counts devices that have something in common.
type Tally struct {
	Name     string // what they have in common
	Devices  int
	Examples []string // at most 10 endpoints
}

const (
	maxFirst    = 20
	maxExamples = 10
	maxTallies  = 100
)

// tallies counts devices by name. It keeps the first few examples.
type tallies map[string]*Tally

func (t tallies) count(name, endpoint string) {
	c := t[name]
	if c == nil {
		c = &Tally{Name: name}
		t[name] = c
	}
	if c.Devices++; len(c.Examples) < maxExamples {
		c.Examples = append(c.Examples, endpoint)
	}
}

// list returns the largest counts, the largest first.
func (t tallies) list() []Tally {
	var list []Tally
	for _, c := range t {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Tally) int { return cmp.Or(cmp.Compare(b.Devices, a.Devices), cmp.Compare(a.Name, b.Name)) })
	return list[:min(len(list), maxTallies)]
}

// Plan says what Create would make of a request: a dry run, which changes nothing. Errors are those
// of Create.
func (m *Manager) Plan(ctx context.Context, q Request) (DryRun, error) {
	now := time.Now()
	plan, asked, err := m.check(&q, now)
	if err != nil {
		return DryRun{}, err
	}
	image, err := m.updates.Images().Get(ctx, q.Image)
	if err != nil {
		return DryRun{}, fmt.Errorf("rollout: image: %w", err)
	}
	run := DryRun{ID: cmp.Or(q.ID, ulid.New(now)), Plan: plan}
	versions, skipped, unheld := tallies{}, tallies{}, tallies{}
	first := firsts{rollout: run.ID}
	for d, err := range m.targets(ctx, &q) {
		if err != nil {
			return DryRun{}, err
		}
		if why := m.judge(&asked, &image, &d); why != "" {
			skipped.count(string(why), d.Endpoint)
			continue
		}
		if run.Targets++; run.Targets > MaxTargets {
			return DryRun{}, invalid("targets", "are more than %d", MaxTargets)
		}
		first.add(d.Endpoint)
		versions.count(d.Firmware.Version, d.Endpoint)
		if auto := d.Firmware.Auto; auto != nil && *auto {
			unheld.count(deliveryOf(&d)+", profile "+cmp.Or(q.Update.Profile, "default"), d.Endpoint)
		}
	}
	run.First, run.Versions, run.Skipped, run.Unheld = first.endpoints(), versions.list(), skipped.list(), unheld.list()
	run.Stages = plan.Ceilings(run.Targets)
	return run, nil
}

// deliveryOf says what resource 5/0/9 of a device is.
func deliveryOf(d *store.Device) string {
	if d.Firmware.Delivery == nil {
		return "delivery unknown"
	}
	return "delivery " + d.Firmware.Delivery.String()
}

// targets yields what is known of the devices that a request names or selects, each once.
func (m *Manager) targets(ctx context.Context, q *Request) iter.Seq2[store.Device, error] {
	if q.Select != nil {
		return func(yield func(store.Device, error) bool) {
			for d, err := range m.updates.Select(ctx, *q.Select, "", 0) {
				if errors.Is(err, store.ErrDamaged) {
					continue
				}
				if !yield(d.Device, err) || err != nil {
					return
				}
			}
		}
	}
	return func(yield func(store.Device, error) bool) {
		seen := map[string]struct{}{}
		err := m.eachTarget(ctx, q, func(list []string, _ bool) error {
			for _, endpoint := range list {
				if _, twice := seen[endpoint]; twice {
					continue
				}
				seen[endpoint] = struct{}{}
				d, err := m.device(ctx, endpoint)
				if err != nil {
					return err
				}
				if !yield(d, nil) {
					return errEnough
				}
			}
			return nil
		})
		if err != nil && err != errEnough { // it does not wrap
			yield(store.Device{}, err)
		}
	}
}

var errEnough = errors.New("rollout: enough")

// firsts keeps the first endpoints in the order of a rollout.
type firsts struct {
	rollout string
	list    []ranked // by rising rank
}

type ranked struct {
	rank     string
	endpoint string
}

func (f *firsts) add(endpoint string) {
	x := ranked{store.MemberOrder(f.rollout, endpoint), endpoint}
	less := func(a, b ranked) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.endpoint, b.endpoint)) }
	if len(f.list) == maxFirst && less(x, f.list[maxFirst-1]) > 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(f.list, x, less)
	f.list = slices.Insert(f.list, at, x)
	f.list = f.list[:min(len(f.list), maxFirst)]
}

func (f *firsts) endpoints() (list []string) {
	for _, x := range f.list {
		list = append(list, x.endpoint)
	}
	return list
}
