package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
)

// rolloutReport says what the rollout of a campaign took as a whole.
type rolloutReport struct {
	Members  int
	Planning time.Duration // of a dry run
	Creating time.Duration // until the rollout had its members
}

// rolloutOf is the rollout of a campaign's image: one device that can be updated, and then all of
// them.
func (s *server) rolloutOf(image firmware.Image, c campaign) rollout.Request {
	all := 1.0
	return rollout.Request{
		Name: c.Version, Image: image.ID, Targets: s.targets(), Update: c.request(), Concurrency: c.AtATime, MaxFailure: &all, Start: true,
		Downgrade: true, // else the version of each device is read first, which single updates do not do
		Stages:    []rollout.Stage{{Size: 1, Only: true}, {Share: 1}}, Only: map[int]rollout.Only{0: {Endpoints: []string{s.canary()}}},
	}
}

// planRollout makes a dry run.
func (s *server) planRollout(ctx context.Context, image firmware.Image, c campaign, report *campaignReport) error {
	report.Rollout.Members = s.role.Fleet.updated()
	begin := time.Now()
	plan, err := s.rollouts.Plan(ctx, s.rolloutOf(image, c))
	report.Rollout.Planning = time.Since(begin)
	if err == nil && plan.Targets != report.Rollout.Members {
		err = fmt.Errorf("a dry run has %d targets, not %d", plan.Targets, report.Rollout.Members)
	}
	return err
}

func (s *server) startRollout(ctx context.Context, image firmware.Image, c campaign, report *campaignReport) error {
	begin := time.Now()
	r, err := s.rollouts.Create(ctx, s.rolloutOf(image, c))
	report.Starting = time.Since(begin)
	report.Started, report.Rollout.Creating = r.Machine.Total.Waiting+r.Machine.Total.Active, report.Starting
	return err
}

// targets yields the endpoints of the devices that campaigns update.
func (s *server) targets() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range s.role.Fleet.updated() {
			if !yield(s.role.Fleet.endpoint(i), nil) {
				return
			}
		}
	}
}

// canary returns the first device that an update succeeds on.
func (s *server) canary() string {
	for i := range s.role.Fleet.updated() {
		if k := s.role.Fleet.kind(i); k == live || k == slow {
			return s.role.Fleet.endpoint(i)
		}
	}
	return s.role.Fleet.endpoint(0)
}

// printRollout prints what an update of a rollout costs beside a single one.
func (c campaignResult) printRollout(out io.Writer, single campaignResult) {
	r := c.Server.Rollout
	fmt.Fprintf(out, "\n  as a rollout: %d members planned in %s, created in %s; %d of %d devices done in %s: %.1f/s\n",
		r.Members, brief(r.Planning), brief(r.Creating), c.Server.Done, r.Members, brief(c.Server.Took), c.Server.rate())
	c.ratios(out, "rollout", single)
	fmt.Fprintf(out, "\n  rollout, messages: %s\n", eachKind(c.Devices.Live.Kinds, c.Server.Done))
	fmt.Fprintf(out, "  rollout, commits: %s\n", eachKind(c.Server.CommitKinds, c.Server.Done))
}
