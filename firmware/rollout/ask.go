package rollout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// Describe returns why a rollout stands where it stands, as a sentence without a full stop, and
// until when that holds. The time is zero if no time ends it.
func Describe(r Rollout) (reason string, until time.Time) {
	m := &r.Machine
	stages := len(m.Plan.Stages)
	switch m.State {
	case fsm.StateDraft:
		if !m.Filled {
			return fmt.Sprintf("it takes its devices: %d so far", m.Total.Waiting+m.Total.Skipped), time.Time{}
		}
		switch {
		case m.Total == fsm.Counts{}:
			return "it has no device, and cannot start", time.Time{}
		case !time.Now().Before(m.Plan.EndAt):
			return "it cannot start any more, because its end_at has passed", time.Time{}
		case m.Total.Waiting == 0:
			return fmt.Sprintf("it waits for its start, and has no device to update; skipped devices: %d", m.Total.Skipped), time.Time{}
		}
		return fmt.Sprintf("it waits for its start, with %d devices", m.Total.Waiting), time.Time{}
	case fsm.StatePaused:
		if m.Reason == fsm.ReasonOperator {
			return ordered("paused", m.Detail), m.Plan.EndAt
		}
		return m.Detail, m.Plan.EndAt
	case fsm.StateStopping:
		why := m.Detail
		if m.Reason == fsm.ReasonOperator {
			why = ordered("stopped", m.Detail)
		}
		return fmt.Sprintf("%s; updates that go on to their end: %d", why, m.Total.Active), time.Time{}
	case fsm.StateEnded:
		why := ends[m.Reason]
		if m.Reason == fsm.ReasonOperator {
			why = ordered("stopped", m.Detail)
		}
		return fmt.Sprintf("%s: %d succeeded, %d failed, %d rolled back, %d skipped", why, m.Total.Succeeded,
			m.Total.Failed, m.Total.RolledBack, m.Total.Skipped), time.Time{}
	}
	if m.Now.Before(m.Plan.StartAt) && m.Total.Admitted() == 0 {
		return "it begins at its start time", m.Plan.StartAt
	}
	n := m.Stage + 1
	switch m.StageState {
	case fsm.StageSoaking:
		return fmt.Sprintf("stage %d of %d has ended, and its devices are watched", n, stages), m.Until
	case fsm.StageChecking:
		return fmt.Sprintf("the devices of stage %d of %d are read again", n, stages), m.Until
	case fsm.StageGate:
		return fmt.Sprintf("an operator opens stage %d of %d", n+1, stages), m.Plan.EndAt
	case fsm.StageHealth:
		if m.Detail != "" {
			return fmt.Sprintf("stage %d of %d does not open: %s", n+1, stages, m.Detail), m.Until
		}
		return fmt.Sprintf("the program is asked whether stage %d of %d may open", n+1, stages), m.Until
	}
	reason = fmt.Sprintf("stage %d of %d: %d of at most %d admitted", n, stages, m.Total.Admitted(), m.Ceiling())
	if m.Exhausted && m.Total.Waiting > 0 {
		reason += ", and no other device can be reached"
	}
	if w := &m.Plan.Window; w.Zone != "" && w.Zone != fsm.ZoneDevice {
		if zone, err := location(w.Zone); err == nil {
			if open, change := w.At(time.Now(), zone); !open {
				return reason + "; the window is closed", change
			}
		}
	}
	return reason, m.Plan.EndAt
}

// ordered says what an operator has done, with the text of the Order.
func ordered(done, text string) string {
	switch {
	case text == "":
		return "an operator " + done + " it"
	case strings.HasPrefix(text, "by "):
		return "it was " + done + " " + text
	}
	return "an operator " + done + " it: " + text
}

// ends says why a rollout has ended.
var ends = map[fsm.Reason]string{
	fsm.ReasonNone: "it has ended", fsm.ReasonEndAt: "its time was over", fsm.ReasonDone: "every device has ended",
}

// Why says why a member waits, and until when if a time ends it: one that is not admitted, or one
// that is active and may not go on. It is "" for a member that waits for nothing but its device.
func (m *Manager) Why(r *Rollout, member *Member) (fsm.Waiting, time.Time) {
	machine := &r.Machine
	var zone *time.Location
	if machine.Plan.Window.Zone != "" {
		zone = m.zoneOf(&machine.Plan.Window, member)
	}
	reg, known := m.srv.Registration(member.Endpoint)
	reachable := known && m.srv.Reachable(member.Endpoint)
	asleep := reachable && m.sleeps(&reg)
	why, until := machine.Waiting(&member.Machine, time.Now(), zone, reachable, asleep)
	switch {
	case why != "" || member.Machine.State != fsm.MemberWaiting:
	case asleep: // it has a place, and may have to be read first
		why = fsm.WaitingAsleep
	default:
		why = fsm.WaitingConcurrency // its turn comes with the next look
	}
	return why, until
}

// zoneOf returns where a member's clock is, for a window.
func (m *Manager) zoneOf(w *Window, member *Member) *time.Location {
	name := w.Zone
	if name == fsm.ZoneDevice {
		name = cmp.Or(member.Zone, w.Fallback)
	}
	m.mu.Lock()
	zone := m.zones[name]
	m.mu.Unlock()
	if zone != nil {
		return zone
	}
	zone, err := location(name)
	if err != nil {
		return time.UTC
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.zones == nil || len(m.zones) >= 1000 {
		m.zones = map[string]*time.Location{}
	}
	m.zones[name] = zone
	return zone
}

// StopPlan says what Stop would do now: how many updates would go on to their end, and how many
// members would never be updated by this rollout.
func (m *Manager) StopPlan(ctx context.Context, id string, cancels bool) (finish, never int, err error) {
	r, err := m.db.Rollout(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	return stopPlan(&r.Machine, cancels)
}

func stopPlan(m *fsm.Rollout, cancels bool) (finish, never int, err error) {
	if !stopped(m, cancels) && (!m.Active() || m.Cancels) {
		return 0, 0, fmt.Errorf("%w: it is %s", ErrState, m.State)
	}
	switch finish = m.Total.Active - m.Slots.Parked; { // those wait for another stage
	case cancels:
		finish = m.Slots.Installing // the others are cancelled
	case m.State == fsm.StatePaused, m.State == fsm.StateStopping && !m.Grants:
		finish = m.Slots.Installing + m.Slots.Granted
	}
	return finish, m.Total.Waiting + m.Total.Active - finish, nil
}

// ActionDelete is the action of Delete.
const ActionDelete Action = "delete"

// Delete deletes a rollout that has ended, with its members and its journal; its updates stay. The
// error is ErrState if it has not ended. A rollout whose record is damaged is deleted in any state.
func (m *Manager) Delete(ctx context.Context, id string, o Order) error {
	unlock, err := m.locks.LockContext(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := m.db.Rollout(ctx, id)
	if err == nil {
		err = m.allow(ctx, o.Actor, ActionDelete, r)
	}
	damaged := errors.Is(err, store.ErrDamaged)
	if damaged {
		err = m.allow(ctx, o.Actor, ActionDelete, Rollout{ID: id})
	}
	if err != nil {
		return err
	}
	if err = m.remove(ctx, id, damaged); errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w: it is %s", ErrState, r.Machine.State)
	}
	return err
}

// deleteChunk is how many records one commit of Delete removes.
const deleteChunk = 1000

// keyTime is how long the key of a Create counts, and keysLooked how many rollouts are looked at.
const (
	keyTime    = 24 * time.Hour
	keysLooked = 10_000
)

// made returns the rollout that a Create with the same key has made, or store.ErrNotFound.
func (m *Manager) made(ctx context.Context, q *Request, now time.Time) (Rollout, error) {
	for r, err := range m.db.RolloutList(ctx, store.RolloutQuery{Limit: keysLooked}) {
		switch {
		case errors.Is(err, store.ErrDamaged):
			continue
		case err != nil:
			return r, err
		case now.Sub(r.Created) > keyTime:
			return Rollout{}, store.ErrNotFound // the list is newest first
		}
		var asked stored
		if json.Unmarshal([]byte(r.Request), &asked) != nil || asked.Key != q.Key {
			continue
		}
		if !r.Machine.Filled && (r.Machine.State != fsm.StateDraft || asked.Select == nil && !m.isFilling(r.ID)) {
			continue // it ends without having had all its targets: the repeated Create makes another one
		}
		if asked.Fingerprint != q.Fingerprint {
			return r, fmt.Errorf("%w: key: rollout %s was made with it by another request", ErrInvalid, r.ID)
		}
		return r, nil
	}
	return Rollout{}, store.ErrNotFound
}
