package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// campaign describes the update of all devices to one image.
type campaign struct {
	Version  string
	Delivery string        // pull or push
	Timeout  time.Duration // for the live devices
	Part     float64       // the share of the live devices whose end ends the campaign, 0 for all
	Resume   bool          // an earlier process has started the updates
	Rollout  bool          // the updates are those of a rollout
	AtATime  int           // updates at a time; 0 for all at once
}

// campaignReport is the result of a campaign.
type campaignReport struct {
	Version  string
	Live     map[string]int // devices by outcome, or by what the server waits for
	Silent   map[string]int
	Started  int // updates, or members of a rollout
	Starting time.Duration
	Refused  string // why an update could not start; "" if all could

	Done       int           // live devices that succeeded in time
	Took       time.Duration // from the first start to the last success, or to the end if some are missing
	Rollout    rolloutReport
	Quantiles  []time.Duration // when 50 %, 90 % and 99 % of them were done
	Wrong      int             // devices with a wrong outcome
	WrongFirst []wrong         // one of each situation, at most maxWrong

	Usage       usage
	CommitKinds map[string]uint64 // commits by what they change
	Changes     uint64            // in all commits
	Database    int64             // size of the file in bytes
	Growth      int64             // of what is in use in the file, in bytes
	Downloads   uint64            // HTTP requests for packages
	Actions     map[string]actionCount
}

// commits returns the commits that store more than registrations.
func (r campaignReport) commits() uint64 {
	var n uint64
	for kind, count := range r.CommitKinds {
		if kind != registering {
			n += count
		}
	}
	return n
}

// finish records when the updates of the live devices were done, of which there are want. The
// times rise; lasted is the time of the whole campaign.
func (r *campaignReport) finish(took []time.Duration, want int, lasted time.Duration) {
	r.Done, r.Took = len(took), lasted
	if len(took) == 0 {
		return
	}
	if r.Done == want {
		r.Took = took[len(took)-1]
	}
	for _, percent := range []int{50, 90, 99} {
		r.Quantiles = append(r.Quantiles, took[(len(took)*percent+99)/100-1])
	}
}

// rate returns how many live devices were done per second.
func (r campaignReport) rate() float64 {
	if r.Took <= 0 {
		return 0
	}
	return float64(r.Done) / r.Took.Seconds()
}

// wrong is a device with a wrong outcome.
type wrong struct {
	Endpoint, Outcome string
	Journal           []string
}

// maxWrong limits the devices with a wrong outcome that the report names, with their journals. It
// names one for each situation.
const maxWrong = 5

// race is a campaign in progress.
type race struct {
	image string
	begin time.Time
	want  int // devices that answer, and have to be done
	done  chan struct{}

	mu   sync.Mutex
	took []time.Duration // of the updates that ended as expected
	seen map[string]bool // endpoints whose update has ended
}

// ended records an update that has ended.
func (r *race) ended(u firmware.Update) {
	if u.Image != r.image || kindOf(u.Endpoint) == silent {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[u.Endpoint] {
		return
	}
	r.seen[u.Endpoint] = true
	if asExpected(u) {
		r.took = append(r.took, time.Since(r.begin))
	}
	if len(r.seen) == r.want {
		close(r.done)
	}
}

// times returns, in order, when the successful updates were done.
func (r *race) times() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.took)
}

// asExpected reports whether the device behaves so that its update has this outcome.
func asExpected(u firmware.Update) bool {
	if k := kindOf(u.Endpoint); k != silent {
		return u.Machine.Outcome == k.expected()
	}
	return u.Machine.Outcome != firmware.OutcomeSucceeded
}

// starters is how many updates start concurrently.
const starters = 256

// campaign updates all devices, and reports when the last live one is done or the time is over.
func (s *server) campaign(ctx context.Context, c campaign) (campaignReport, error) {
	report := campaignReport{Version: c.Version}
	image, err := s.manager.Images().Add(ctx, firmware.Image{Name: "fleet", Version: c.Version},
		bytes.NewReader(newPackage(c.Version, s.role.Fleet.Size)))
	if err != nil {
		return report, err
	}
	if c.Rollout && !c.Resume {
		if err := s.planRollout(ctx, image, c, &report); err != nil {
			return report, err
		}
	}
	if err := s.role.Profiles.start(); err != nil {
		return report, err
	}
	use, kinds := databaseUse(s.database()), s.db.kinds.all()
	before, changes, downloads := s.meter.usage(), s.db.changes.Load(), s.downloads.Load()
	s.actions.take()
	f := s.role.Fleet
	r := &race{image: image.ID, begin: time.Now(), want: f.answering(), done: make(chan struct{}), seen: map[string]bool{}}
	if c.Part > 0 {
		r.want = max(1, int(float64(r.want)*c.Part))
	}
	s.race.Store(r)
	late := time.NewTimer(c.Timeout)
	defer late.Stop()
	switch {
	case !c.Resume && c.Rollout:
		err = s.startRollout(ctx, image, c, &report)
	case !c.Resume:
		err = s.startAll(ctx, image, c, &report)
	default:
		for u, listErr := range s.manager.List(ctx, store.UpdateQuery{Image: image.ID, Filter: func(u store.Update) bool { return !u.Active() }}) {
			if err = listErr; err != nil {
				break
			}
			r.ended(u)
		}
	}
	if err != nil {
		return report, err
	}
	select {
	case <-r.done:
	case <-late.C:
	case <-ctx.Done():
		return report, context.Cause(ctx)
	}
	report.Usage = s.meter.usage().since(before)
	report.CommitKinds, report.Changes = since(s.db.kinds.all(), kinds), s.db.changes.Load()-changes
	report.Downloads, report.Actions = s.downloads.Load()-downloads, s.actions.take()
	report.Growth = databaseUse(s.database()) - use
	report.finish(r.times(), r.want, time.Since(r.begin))
	if info, err := os.Stat(s.database()); err == nil {
		report.Database = info.Size()
	}
	if c.Part > 0 {
		return report, nil
	}
	return report, s.judge(ctx, image, &report)
}

// request returns what the update of each device asks for.
func (c campaign) request() firmware.Request {
	if c.Delivery == "pull" {
		return firmware.Request{Delivery: firmware.DeliveryPull, Protocol: firmware.ProtocolHTTP}
	}
	return firmware.Request{Delivery: firmware.DeliveryPush}
}

// pace lets only so many devices that answer have an update at a time. It holds a value for each of
// them.
type pace chan struct{}

func (p *pace) ended(u firmware.Update) {
	if kindOf(u.Endpoint) == silent {
		return
	}
	select {
	case <-*p:
	default: // it had started before the pace was set
	}
}

// startAll starts the update of each device, unless an update of an earlier campaign is still
// active. Devices come in an order of their own, as in the field: that of their names would be the
// order of the store's tables, and cheaper than what a program meets.
func (s *server) startAll(ctx context.Context, image firmware.Image, c campaign, report *campaignReport) error {
	request := c.request()
	request.Image = image.ID
	places := make(pace, c.AtATime)
	if c.AtATime > 0 {
		s.pace.Store(&places)
		defer s.pace.Store(nil)
	}
	late := time.NewTimer(c.Timeout)
	defer late.Stop()
	var started atomic.Int64
	var refused atomic.Pointer[string]
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(starters)
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(s.role.Fleet.updated()) {
		if ctx.Err() != nil {
			break
		}
		r := request
		r.Endpoint = s.role.Fleet.endpoint(i)
		if c.AtATime > 0 && kindOf(r.Endpoint) != silent {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				continue
			case <-late.C:
				return group.Wait()
			}
		}
		group.Go(func() error {
			_, err := s.manager.Start(ctx, r)
			switch {
			case err == nil:
				started.Add(1)
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case !errors.Is(err, store.ErrActive) || kindOf(r.Endpoint) != silent:
				text := r.Endpoint + ": " + err.Error()
				refused.CompareAndSwap(nil, &text)
			}
			return nil
		})
	}
	err := group.Wait()
	report.Started, report.Starting = int(started.Load()), time.Since(begin)
	if text := refused.Load(); text != nil {
		report.Refused = *text
	}
	return err
}

// judge checks the update of each device.
func (s *server) judge(ctx context.Context, image firmware.Image, report *campaignReport) error {
	report.Live, report.Silent = map[string]int{}, map[string]int{}
	seen := map[string]bool{}
	for u, err := range s.manager.List(ctx, store.UpdateQuery{Image: image.ID}) {
		if err != nil {
			return err
		}
		seen[u.Endpoint] = true
		count := report.Live
		if kindOf(u.Endpoint) == silent {
			count = report.Silent
		}
		count[situation(u)]++
		if asExpected(u) {
			continue
		}
		report.Wrong++
		if len(report.WrongFirst) < maxWrong && !slices.ContainsFunc(report.WrongFirst, sameAs(u)) {
			w, err := s.explain(ctx, u)
			if err != nil {
				return err
			}
			report.WrongFirst = append(report.WrongFirst, w)
		}
	}
	why := "busy with the update of an earlier campaign"
	if s.rollouts != nil {
		why = "waiting for their turn"
	}
	for i := range s.role.Fleet.updated() {
		endpoint := s.role.Fleet.endpoint(i)
		switch {
		case seen[endpoint]:
		case kindOf(endpoint) == silent:
			report.Silent[why]++
		default:
			report.Live["not started"]++
			report.Wrong++
		}
	}
	return nil
}

// sameAs returns a function that reports whether a device is in the situation of u.
func sameAs(u firmware.Update) func(wrong) bool {
	return func(w wrong) bool { return w.Outcome == situation(u) && kindOf(w.Endpoint) == kindOf(u.Endpoint) }
}

// situation describes how an update ended, or its current state.
func situation(u firmware.Update) string {
	m := u.Machine
	if u.Active() {
		return fmt.Sprintf("%s, waits for %s", m.Phase, m.Wait.Reason)
	}
	if m.Reason != "" {
		return fmt.Sprintf("%s (%s)", m.Outcome, m.Reason)
	}
	return string(m.Outcome)
}

// explain returns the situation of an update with its journal.
func (s *server) explain(ctx context.Context, u firmware.Update) (wrong, error) {
	w := wrong{Endpoint: u.Endpoint, Outcome: situation(u)}
	for e, err := range s.manager.Journal(ctx, u.ID) {
		if err != nil {
			return w, err
		}
		line := fmt.Sprintf("%8.3fs %s", e.Time.Sub(u.Created).Seconds(), e.Name)
		if e.Detail != "" {
			line += ": " + e.Detail
		}
		w.Journal = append(w.Journal, line)
	}
	return w, nil
}
