package fsm

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// A Plan is what an operator asks of a rollout.
type Plan struct {
	// Stages open one after another. A rollout has 1 to MaxStages of them.
	Stages []Stage `record:"1"`
	// Concurrency bounds how many members transfer at a time, and apart from that how many install.
	Concurrency int `record:"2"`
	// Interval is the least time between two admissions; 0 for none.
	Interval time.Duration `record:"3"`
	// MaxFailure is the share of bad members, from 0 to 1, above which the rollout pauses.
	MaxFailure float64 `record:"4"`
	// MissingAfter is how long a member may be silent after Execute before it counts as missing.
	MissingAfter time.Duration `record:"5"`
	// Window is when members may install, or be updated at all. Its zero value is always.
	Window Window `record:"6"`
	// StartAt is when the first member may be admitted; zero for at once.
	StartAt time.Time `record:"7"`
	// EndAt is when the rollout admits no more members.
	EndAt time.Time `record:"8"`
}

// A Stage says how far a rollout goes before it waits and looks.
type Stage struct {
	// Size is the ceiling of admitted members, in this stage and all before it. It is above the
	// Size of each stage before. If it is 0, Share counts.
	Size int `record:"1"`
	// Share is that ceiling as a share of the targets, up to 1, and above the Share of each stage
	// before. The number of members is rounded up. Skipped members are no targets.
	Share float64 `record:"2"`
	// Only admits only members that the stage names: see Member.Only.
	Only bool `record:"3"`
	// Manual stages open when an operator says so.
	Manual bool `record:"4"`
	// Soak is how long the stage is watched, after its last member has ended, before the next stage
	// opens.
	Soak time.Duration `record:"5"`
}

// Bounds of a plan.
const (
	MaxStages      = 16
	MaxConcurrency = 100_000
	minTripBase    = 20 // admitted members that MaxFailure is a share of, at least
)

// Check returns an error that says what is wrong with the plan.
func (p *Plan) Check() error {
	switch {
	case len(p.Stages) == 0 || len(p.Stages) > MaxStages:
		return fmt.Errorf("stages: there are %d; a rollout has 1 to %d", len(p.Stages), MaxStages)
	case p.Concurrency < 1 || p.Concurrency > MaxConcurrency:
		return fmt.Errorf("concurrency: %d is not between 1 and %d", p.Concurrency, MaxConcurrency)
	case p.Interval < 0:
		return fmt.Errorf("rate: the time between two admissions, %s, is negative", p.Interval)
	case !(p.MaxFailure >= 0 && p.MaxFailure <= 1):
		return fmt.Errorf("max_failure: %v is not between 0 and 1", p.MaxFailure)
	case p.MissingAfter <= 0:
		return fmt.Errorf("missing_after: %s is not positive", p.MissingAfter)
	case p.EndAt.IsZero():
		return errors.New("end_at: there is none")
	case !p.EndAt.After(p.StartAt):
		return fmt.Errorf("end_at: %s is not after start_at", p.EndAt.Format(time.RFC3339))
	}
	var size int
	var share float64
	for i, s := range p.Stages {
		err := s.check()
		if err == nil && (s.Size > 0 && s.Size <= size || s.Share > 0 && s.Share <= share) {
			err = errors.New("size: it is not above that of a stage before; sizes include the stages before")
		}
		if err != nil {
			return fmt.Errorf("stages[%d]: %w", i, err)
		}
		size, share = max(size, s.Size), max(share, s.Share)
	}
	if last := p.Stages[len(p.Stages)-1]; last.Size > 0 || last.Share < 1 || last.Only {
		return errors.New("stages: the last one does not cover all targets")
	}
	if !p.Window.always() {
		if err := p.Window.Check(); err != nil {
			return fmt.Errorf("window: %w", err)
		}
	}
	return nil
}

func (s Stage) check() error {
	switch {
	case s.Size < 0 || s.Size > math.MaxInt32:
		return fmt.Errorf("size: %d is not between 1 and %d", s.Size, math.MaxInt32)
	case s.Size == 0 && !(s.Share > 0 && s.Share <= 1):
		return errors.New("size: it is neither a number of devices nor a share above 0 and up to 100 %")
	case s.Size > 0 && s.Share != 0:
		return errors.New("size: it is a number of devices and a share")
	case s.Soak < 0:
		return fmt.Errorf("soak: %s is negative", s.Soak)
	}
	return nil
}

// ceiling returns how many of so many targets the stage admits, with those before it.
func (s Stage) ceiling(targets int) int {
	if s.Size > 0 {
		return min(s.Size, targets)
	}
	// The product of a share such as 0.07 and 100 is a little above 7: that is no eighth member.
	return min(int(math.Ceil(s.Share*float64(targets)-1e-9)), targets)
}

// Ceilings returns how many members each stage admits, with those before it, if there are so many
// targets.
func (p *Plan) Ceilings(targets int) []int {
	list, ceiling := make([]int, 0, len(p.Stages)), 0
	for _, s := range p.Stages {
		ceiling = max(ceiling, s.ceiling(targets))
		list = append(list, ceiling)
	}
	return list
}
