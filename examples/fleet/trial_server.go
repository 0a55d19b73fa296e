package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// rolloutCommand is a request about the rollout of a trial.
type rolloutCommand struct {
	// Do is create, state, resume, unlimited (no share of bad devices pauses it any more), stop or
	// audit.
	Do       string
	Delivery string
	AtATime  int
}

// rolloutState is where the rollout of a trial stands.
type rolloutState struct {
	ID      string // "" if there is none
	Machine fsm.Rollout

	// Of an audit.

	// Open are the devices that answer and whose members have not ended: "endpoint: state, why".
	Open     []string
	Active   []string // some members that are active, and what their updates wait for
	Problems []string
	Executes map[string]int // by endpoint: how often the journals of its updates say that Execute goes out
	Kinds    map[string]int // members by kind of device and state
	Journal  []string       // of the rollout
}

// trialVersion is the version of the image of a trial.
var trialVersion = versionOf(1)

// trial carries out a command about the rollout of a trial.
func (s *server) trial(ctx context.Context, c rolloutCommand) (state rolloutState, err error) {
	order := rollout.Order{Actor: "trial"}
	r, err := s.theRollout(ctx)
	switch {
	case err != nil:
		return state, err
	case c.Do == "create" && r.ID == "":
		r, err = s.createTrial(ctx, c)
	case r.ID == "":
		return state, nil
	case c.Do == "resume":
		r, err = s.rollouts.Resume(ctx, r.ID, order)
	case c.Do == "unlimited":
		all := 1.0
		r, err = s.rollouts.Edit(ctx, r.ID, rollout.Change{MaxFailure: &all}, order)
	case c.Do == "stop":
		r, err = s.rollouts.Stop(ctx, r.ID, true, order)
	}
	if errors.Is(err, rollout.ErrState) { // the kill came after the commit
		r, err = s.theRollout(ctx)
	}
	if err != nil {
		return state, fmt.Errorf("%s: %w", c.Do, err)
	}
	state.ID, state.Machine = r.ID, r.Machine
	if c.Do == "audit" {
		err = s.audit(ctx, &r, &state)
	}
	return state, err
}

// theRollout returns the only rollout there is, or the zero value.
func (s *server) theRollout(ctx context.Context) (rollout.Rollout, error) {
	for r, err := range s.rollouts.List(ctx, store.RolloutQuery{}) {
		return r, err
	}
	return rollout.Rollout{}, nil
}

// createTrial creates the rollout with default limits and short soaks.
func (s *server) createTrial(ctx context.Context, c rolloutCommand) (rollout.Rollout, error) {
	image, err := s.manager.Images().Add(ctx, firmware.Image{Name: "fleet", Version: trialVersion}, bytes.NewReader(newPackage(trialVersion, s.role.Fleet.Size)))
	if err != nil {
		return rollout.Rollout{}, err
	}
	return s.rollouts.Create(ctx, rollout.Request{
		Name: "trial", Image: image.ID, Select: &rollout.Selector{}, Concurrency: c.AtATime, Start: true, Actor: "trial",
		Update: campaign{Delivery: c.Delivery}.request(),
		Stages: []rollout.Stage{{Size: 1, Soak: time.Second}, {Share: 0.01, Soak: time.Second}, {Share: 0.1, Soak: time.Second}, {Share: 1}},
	})
}

// audit compares the counters of the rollout with its members, and the journals of the updates with
// the holds.
func (s *server) audit(ctx context.Context, r *rollout.Rollout, state *rolloutState) error {
	wrong := func(format string, args ...any) {
		state.Problems = append(state.Problems, fmt.Sprintf(format, args...))
	}
	state.Executes, state.Kinds = map[string]int{}, map[string]int{}
	var total fsm.Counts
	var slots fsm.Slots
	stages := make([]fsm.Counts, len(r.Machine.Stages))
	for m, err := range s.rollouts.Members(ctx, store.MemberQuery{Rollout: r.ID}) {
		if err != nil {
			return err
		}
		count(&total, m.Machine.State)
		if m.Machine.Stage > 0 {
			count(&stages[m.Machine.Stage-1], m.Machine.State)
		}
		countSlots(&slots, &m.Machine)
		state.Kinds[string(kindOf(m.Endpoint))+" "+string(m.Machine.State)]++
		if m.Machine.State.Ended() {
			continue
		}
		why, until := s.rollouts.Why(r, &m)
		if m.Machine.State == fsm.MemberWaiting && why == "" {
			wrong("%s waits without a reason: %+v", m.Endpoint, m.Machine)
		}
		if m.Machine.State == fsm.MemberActive && len(state.Active) < 3 {
			text := fmt.Sprintf("%s (%s)", m.Endpoint, m.Machine.Place)
			if u, err := s.manager.Get(ctx, m.Machine.Update); err == nil {
				text += ": " + situation(u)
			}
			state.Active = append(state.Active, text)
		}
		if kindOf(m.Endpoint) != silent {
			text := fmt.Sprintf("%s: %s %s, %s", m.Endpoint, m.Machine.State, m.Machine.Place, why)
			if !until.IsZero() {
				text += " until " + until.Format(time.TimeOnly)
			}
			if m.Machine.Failed != "" {
				text += ": " + m.Machine.Failed
			}
			state.Open = append(state.Open, text)
		}
	}
	if total != r.Machine.Total || slots != r.Machine.Slots || !slices.Equal(stages, r.Machine.Stages) {
		wrong("counters are %+v %+v %+v, members %+v %+v %+v", r.Machine.Total, r.Machine.Slots, r.Machine.Stages, total, slots, stages)
	}
	for u, err := range s.manager.List(ctx, store.UpdateQuery{}) {
		if err != nil {
			return err
		}
		held := false
		for e, err := range s.manager.Journal(ctx, u.ID) {
			if err != nil {
				return err
			}
			switch e.Name {
			case firmware.EventHeld:
				held = true
			case firmware.EventReleased:
				held = false
			case firmware.EventExecute:
				state.Executes[u.Endpoint]++
				if held {
					wrong("%s executes while the rollout holds it: update %s", u.Endpoint, u.ID)
				}
			}
		}
	}
	for e, err := range s.rollouts.Events(ctx, store.RolloutEventQuery{Rollout: r.ID}) {
		if err != nil {
			return err
		}
		state.Journal = append(state.Journal, fmt.Sprintf("%s %s: %s", e.Time.Format("15:04:05.000"), e.Name, e.Detail))
	}
	return nil
}

func count(c *fsm.Counts, s fsm.MemberState) {
	switch s {
	case fsm.MemberWaiting:
		c.Waiting++
	case fsm.MemberActive:
		c.Active++
	case fsm.MemberSucceeded:
		c.Succeeded++
	case fsm.MemberFailed:
		c.Failed++
	case fsm.MemberRolledBack:
		c.RolledBack++
	case fsm.MemberSkipped:
		c.Skipped++
	}
}

func countSlots(c *fsm.Slots, m *fsm.Member) {
	switch m.Place {
	case fsm.PlaceInvited:
		c.Invited++
	case fsm.PlaceReserved:
		c.Reserved++
	case fsm.PlaceStarting, fsm.PlaceTransferring:
		c.Transferring++
	case fsm.PlaceReady:
		c.Ready++
	case fsm.PlaceInstalling:
		c.Installing++
	case fsm.PlaceAway:
		c.Away++
	case fsm.PlaceParked:
		c.Parked++
	}
	if m.Granted && m.Place != fsm.PlaceInstalling {
		c.Granted++
	}
	if m.Missing && m.State == fsm.MemberActive {
		c.Missing++
	}
}
