package rollout

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// lookAtActive adds all active members, and those that are invited, to those to look at.
func (r *runner) lookAtActive(ctx context.Context, looks map[string]hint) error {
	for _, q := range []store.MemberQuery{
		{State: fsm.MemberActive, AnyPlace: true},
		{State: fsm.MemberWaiting, Place: fsm.PlaceInvited}, {State: fsm.MemberWaiting, Place: fsm.PlaceReserved},
	} {
		q.Rollout = r.id
		for m, err := range r.readable(ctx, q) {
			if err != nil {
				return err
			}
			r.note(&m)
			looks[m.Endpoint], r.unsure[m.Endpoint] = hint{}, struct{}{}
		}
	}
	return nil
}

// lookAt steps members by what their updates and devices show now.
func (r *runner) lookAt(ctx context.Context, looks map[string]hint) error {
	if len(looks) == 0 {
		return nil
	}
	b := r.begin()
	var heard []*Member
	for endpoint, known := range looks {
		m, err := b.find(ctx, endpoint)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if offer, err := r.lookAtOne(ctx, b, m, known); err != nil {
			return err
		} else if offer {
			heard = append(heard, m)
		}
		if err := b.full(ctx); err != nil {
			return err
		}
	}
	if len(heard) > 1 {
		slices.SortFunc(heard, inTurn)
	}
	for _, m := range heard {
		if err := r.heard(ctx, b, m); err != nil {
			return err
		}
		if err := b.full(ctx); err != nil {
			return err
		}
	}
	return b.commit(ctx)
}

// lookAtOne looks at a member. It reports whether the member may be offered to the rollout, because
// its device was heard.
func (r *runner) lookAtOne(ctx context.Context, b *batch, m *Member, known hint) (offer bool, err error) {
	if m.Machine.State == fsm.MemberWaiting && m.Machine.Busy != "" && b.record.Machine.State != fsm.StateStopping {
		if still, err := r.stillBusy(ctx, b, m); still || err != nil {
			return false, err
		}
	}
	active := m.Machine.State == fsm.MemberActive && m.Machine.Update != ""
	if active {
		if err := r.see(ctx, b, m, known); err != nil {
			return false, err
		}
	}
	invited, failed, woke := m.Machine.Place == fsm.PlaceInvited, m.Machine.Failed != "", r.woke(m)
	if woke {
		m.Machine.Until = time.Now()
	}
	if wake := m.Machine.Wake(); !active || !wake.IsZero() && !wake.After(time.Now()) {
		b.stepMember(m, fsm.Input{Kind: fsm.InputTick})
	}
	switch {
	case active:
		if _, unsure := r.unsure[m.Endpoint]; unsure {
			delete(r.unsure, m.Endpoint)
			b.stepMember(m, fsm.Input{Kind: fsm.InputGrant}) // releases it again
		}
	case failed && !woke && m.Machine.Failed == "" && m.Machine.State == fsm.MemberWaiting:
		r.walk.invitable() // its turn comes after that of the others, and no stage waits for it
	case invited && m.Machine.Place == fsm.PlaceNone && r.asleep(m.Endpoint):
		r.walk.lapse(m.Endpoint) // its turn is over
	case m.Machine.State == fsm.MemberWaiting && b.record.Machine.State == fsm.StateStopping:
		b.stepMember(m, fsm.Input{Kind: fsm.InputFinish})
	case m.Machine.State == fsm.MemberWaiting || m.Machine.Missing:
		return true, nil
	}
	return false, nil
}

// busyPause is how long the other update of a device is left alone, unless its journal says that
// something has happened.
const busyPause = 10 * time.Minute

// stillBusy reports whether another update is still in the way of a member. It costs no admission
// to find out, so that one busy device does not use up the rate.
func (r *runner) stillBusy(ctx context.Context, b *batch, m *Member) (bool, error) {
	u, err := r.m.updates.Get(ctx, m.Machine.Busy)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged):
		return false, err
	case err == nil && !u.Active() || errors.Is(err, store.ErrNotFound):
		m.Machine.Until = time.Now()
		return false, nil
	case !time.Now().Before(m.Machine.Until):
		b.busy(m, m.Machine.Busy, busyPause)
	}
	return true, nil
}

// see steps a member by what its update shows. If a line of the journal has said that the device
// installs, or how the update has ended after that, the update need not be read.
func (r *runner) see(ctx context.Context, b *batch, m *Member, known hint) error {
	var seen fsm.Seen
	reg, _ := r.m.srv.Registration(m.Endpoint)
	switch own := known.update == m.Machine.Update; {
	case own && known.end != fsm.EndingNone && m.Machine.Place == fsm.PlaceInstalling:
		seen.End = known.end
	case own && known.installs && m.Machine.Gone.IsZero() && !m.Machine.Missing:
		seen = fsm.Seen{Place: fsm.PlaceInstalling, Online: true, Silence: r.silence(&reg), Heard: reg.LastSeen}
	default:
		var err error
		seen, err = r.seen(ctx, m, r.silence(&reg))
		if errors.Is(err, store.ErrDamaged) {
			return nil // an operator removes the update, and the member is skipped then
		}
		if err != nil {
			return err
		}
	}
	b.stepMember(m, fsm.Input{Kind: fsm.InputSeen, Seen: seen})
	return nil
}

// progress does what the rollout as a whole has to do next.
func (r *runner) progress(ctx context.Context) error {
	for {
		before := r.record.Revision
		r.edge = time.Time{}
		var err error
		switch r.record.Machine.State {
		case fsm.StateDraft:
			err = r.draft(ctx)
		case fsm.StateRunning:
			err = errors.Join(r.takeBack(ctx), r.grant(ctx), r.admit(ctx), r.check(ctx))
			r.askHealth(ctx)
		case fsm.StatePaused:
			err = r.takeBack(ctx)
		case fsm.StateStopping:
			err = errors.Join(r.takeBack(ctx), r.grant(ctx), r.finish(ctx))
		}
		if err != nil || r.record.Revision == before {
			return err
		}
	}
}

// draft goes on with a creation that was interrupted. One whose targets are not known is over.
func (r *runner) draft(ctx context.Context) error {
	if r.record.Machine.Filled || r.m.isFilling(r.id) {
		return nil
	}
	asked, err := parseStored(&r.record)
	if err != nil {
		return err
	}
	b := r.begin()
	if asked.Select == nil {
		b.abandon("its targets were not all named before the server stopped")
	} else if err := b.fill(ctx); errors.Is(err, ErrInvalid) {
		b = r.begin()
		b.abandon(err.Error())
	} else if err != nil {
		return err
	}
	return b.commit(ctx)
}

// finish ends the members that wait, page by page.
func (r *runner) finish(ctx context.Context) error {
	for _, place := range []fsm.Place{fsm.PlaceNone, fsm.PlaceInvited, fsm.PlaceReserved} {
		for again := true; again; {
			b := r.begin()
			n := 0
			q := store.MemberQuery{Rollout: r.id, State: fsm.MemberWaiting, Place: place, Limit: batchSize}
			for m, err := range r.readable(ctx, q) {
				if err != nil {
					return err
				}
				b.stepMember(&m, fsm.Input{Kind: fsm.InputFinish})
				n++
			}
			if err := b.commit(ctx); err != nil {
				return err
			}
			again = n == batchSize
		}
	}
	return nil
}
