package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware"
	ufsm "github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// actionPause is how long an action that failed for a reason of the server's own waits before it is
// done again.
const actionPause = 5 * time.Second

// KeyPrefix begins the idempotency keys of a rollout's updates.
const KeyPrefix = "rollout/"

// key is the idempotency key of a member's update.
func key(m *Member) string {
	sum := sha256.Sum256([]byte(m.Endpoint))
	return KeyPrefix + m.Rollout + "/" + strconv.Itoa(m.Machine.Attempt) + "/" + hex.EncodeToString(sum[:16])
}

// holder is the holder of a rollout's holds.
func (r *runner) holder() string { return KeyPrefix + r.id }

// act carries an action out, unless one of the member is under way: then the member is looked at
// when that has ended.
func (r *runner) act(ctx context.Context, m Member, do fsm.ActionKind) {
	if _, busy := r.busy[m.Endpoint]; busy {
		r.again[m.Endpoint] = struct{}{}
		return
	}
	r.busy[m.Endpoint] = struct{}{}
	r.actions.Add(1)
	r.pool.Run(func() {
		defer r.actions.Done()
		x := r.perform(ctx, &m, do)
		x.endpoint, x.action = m.Endpoint, do
		r.ended(x)
	})
}

func (r *runner) perform(ctx context.Context, m *Member, do fsm.ActionKind) result {
	var err error
	switch do {
	case fsm.ActionStart:
		return r.startUpdate(ctx, m)
	case fsm.ActionHold:
		_, err = r.m.updates.Hold(ctx, m.Machine.Update, r.hold())
		if err == nil {
			return result{input: fsm.Input{Kind: fsm.InputHeld}}
		}
	case fsm.ActionRelease:
		_, err = r.m.updates.Release(ctx, m.Machine.Update, r.holder())
	case fsm.ActionCancel:
		_, err = r.m.updates.Cancel(ctx, m.Machine.Update)
	}
	switch {
	case err == nil && do == fsm.ActionRelease:
		return result{}
	case err == nil, errors.Is(err, firmware.ErrEnded), errors.Is(err, store.ErrNotFound):
		r.look(m.Endpoint)
		return result{}
	}
	if ctx.Err() == nil {
		r.m.log.Error("an action of a rollout failed", "rollout", r.id, "endpoint", m.Endpoint, "action", do, "error", err)
	}
	return result{failed: true}
}

func (r *runner) hold() firmware.Hold {
	return firmware.Hold{Holder: r.holder(), Reason: "its turn in the rollout"}
}

// startUpdate makes the update of a member.
func (r *runner) startUpdate(ctx context.Context, m *Member) result {
	var asked stored
	if err := json.Unmarshal([]byte(r.record.Request), &asked); err != nil {
		return result{input: fsm.Input{Kind: fsm.InputRefused, Text: "its request cannot be read: " + err.Error()}}
	}
	q := asked.Update
	q.Endpoint, q.Image, q.Key = m.Endpoint, r.record.Image, key(m)
	if !m.Machine.Granted {
		q.Hold = r.hold()
	}
	u, err := r.m.updates.Start(ctx, q)
	active := new(store.UpdateError)
	wrong := new(firmware.RequestError)
	switch {
	case err == nil:
		return result{input: fsm.Input{Kind: fsm.InputStarted, Update: u.ID}}
	case errors.As(err, &active) && errors.Is(err, store.ErrActive):
		return result{input: fsm.Input{Kind: fsm.InputRefused, Busy: active.ID}}
	case errors.As(err, &wrong), errors.Is(err, store.ErrNotFound):
		return result{input: fsm.Input{Kind: fsm.InputRefused, Text: err.Error()}}
	}
	if ctx.Err() == nil {
		r.m.log.Error("an update of a rollout could not be made", "rollout", r.id, "endpoint", m.Endpoint, "error", err)
	}
	return result{failed: true}
}

// seen is what a member's update shows.
func (r *runner) seen(ctx context.Context, m *Member) (fsm.Seen, error) {
	u, err := r.m.updates.Get(ctx, m.Machine.Update)
	if errors.Is(err, store.ErrNotFound) { // an operator has deleted it, after it had ended
		return fsm.Seen{End: fsm.EndingCancelled}, nil
	}
	if err != nil {
		return fsm.Seen{}, fmt.Errorf("reading update %s: %w", m.Machine.Update, err)
	}
	reg, _ := r.m.srv.Registration(m.Endpoint)
	s := fsm.Seen{Online: r.m.srv.Reachable(m.Endpoint), Silence: r.record.Machine.Plan.MissingAfter}
	if reg.Queue {
		s.Silence += reg.Lifetime
	}
	switch u.Machine.Phase {
	case ufsm.PhaseTransferred:
		s.Place = fsm.PlaceReady
	case ufsm.PhaseExecuting, ufsm.PhaseRestarting, ufsm.PhaseVerifying:
		s.Place = fsm.PlaceInstalling
		s.Heard = !m.Machine.Executed.IsZero() && reg.LastSeen.After(m.Machine.Executed.Add(time.Second))
	default:
		s.Place = fsm.PlaceTransferring
	}
	switch u.Machine.Outcome {
	case ufsm.OutcomeNone:
	case ufsm.OutcomeSucceeded:
		s.End = fsm.EndingSucceeded
		if u.Machine.Reason == ufsm.ReasonAlreadyRunning {
			s.End = fsm.EndingCurrent
		}
	case ufsm.OutcomeRolledBack:
		s.End = fsm.EndingRolledBack
	case ufsm.OutcomeCancelled:
		s.End = fsm.EndingCancelled
	case ufsm.OutcomeTimedOut:
		s.End = fsm.EndingTimedOut
		if u.Machine.Result == ufsm.ResultConnectionLost && m.Machine.Place != fsm.PlaceInstalling && !u.Machine.Executed() {
			s.End = fsm.EndingAway
		}
	default:
		s.End = fsm.EndingFailed
	}
	return s, nil
}

// zone returns where a member's clock is, if the rollout has a window.
func (r *runner) zone(m *Member) *time.Location {
	w := r.record.Machine.Plan.Window
	if w.Zone == "" {
		return nil
	}
	name := w.Zone
	if name == fsm.ZoneDevice {
		if name = m.Zone; name == "" {
			name = w.Fallback
		}
	}
	zone, ok := r.zones[name]
	if !ok {
		var err error
		if zone, err = location(name); err != nil {
			r.m.log.Warn("a zone is not known; UTC counts", "rollout", r.id, "zone", name, "error", err)
			zone = time.UTC
		}
		if len(r.zones) < 1000 {
			r.zones[name] = zone
		}
	}
	return zone
}

// location returns a zone by its name in the IANA database, or by its offset, such as +02:00.
func location(name string) (*time.Location, error) {
	if at, err := time.Parse("-07:00", name); err == nil {
		_, offset := at.Zone()
		return time.FixedZone(name, offset), nil
	}
	return time.LoadLocation(name)
}
