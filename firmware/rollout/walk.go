package rollout

import (
	"context"
	"errors"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

const (
	rewindPause = 10 * time.Second // between two walks through all that wait
	awake       = time.Minute      // how long a device in queue mode counts as awake after it was heard
	healthTime  = 30 * time.Second
	checkTime   = 30 * time.Second
)

// fromStart makes the next walk begin with the first member that waits.
func (r *runner) fromStart() { r.walk, r.atEnd, r.left, r.rewind = "", false, false, false }

// lookAtActive adds all active members, and those that are invited, to those to look at.
func (r *runner) lookAtActive(ctx context.Context, looks map[string]struct{}) error {
	for _, q := range []store.MemberQuery{
		{State: fsm.MemberActive, AnyPlace: true},
		{State: fsm.MemberWaiting, Place: fsm.PlaceInvited}, {State: fsm.MemberWaiting, Place: fsm.PlaceReserved},
	} {
		q.Rollout = r.id
		for m, err := range r.m.db.Members(ctx, q) {
			if err != nil {
				return err
			}
			r.note(&m)
			looks[m.Endpoint], r.unsure[m.Endpoint] = struct{}{}, struct{}{}
		}
	}
	return nil
}

// lookAt steps members by what their updates and devices show now.
func (r *runner) lookAt(ctx context.Context, looks map[string]struct{}) error {
	b := r.begin()
	for endpoint := range looks {
		m, err := b.load(ctx, endpoint)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if err := r.lookAtOne(ctx, b, m); err != nil {
			return err
		}
		if err := b.full(ctx); err != nil {
			return err
		}
	}
	return b.commit(ctx)
}

func (r *runner) lookAtOne(ctx context.Context, b *batch, m *Member) error {
	b.stepMember(m, fsm.Input{Kind: fsm.InputTick})
	switch {
	case m.Machine.State == fsm.MemberActive && m.Machine.Update != "":
		seen, err := r.seen(ctx, m)
		if err != nil {
			return err
		}
		b.stepMember(m, fsm.Input{Kind: fsm.InputSeen, Seen: seen})
		if _, unsure := r.unsure[m.Endpoint]; unsure {
			delete(r.unsure, m.Endpoint)
			b.stepMember(m, fsm.Input{Kind: fsm.InputGrant}) // releases it again
		}
	case m.Machine.State == fsm.MemberWaiting && b.record.Machine.State == fsm.StateStopping:
		b.stepMember(m, fsm.Input{Kind: fsm.InputFinish})
	case m.Machine.State == fsm.MemberWaiting || m.Machine.Missing:
		r.offer(b, m)
	}
	return nil
}

// offer offers a member to the rollout, if its device can be reached or sleeps. It returns why the
// member waits on.
func (r *runner) offer(b *batch, m *Member) fsm.Waiting {
	reg, ok := r.m.srv.Registration(m.Endpoint)
	if !ok || !r.m.srv.Reachable(m.Endpoint) {
		return fsm.WaitingOffline
	}
	in := fsm.Input{Kind: fsm.InputReach, Asleep: reg.Queue && time.Since(reg.LastSeen) > awake, Lifetime: reg.Lifetime}
	out := b.stepMember(m, in)
	if out.Waiting == fsm.WaitingConcurrency || out.Waiting == fsm.WaitingRate {
		r.rewind = true
	}
	return out.Waiting
}

// progress does what the rollout as a whole has to do next.
func (r *runner) progress(ctx context.Context) error {
	for {
		machine := &r.record.Machine
		before := r.record.Revision
		var err error
		switch machine.State {
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

// takeBack has the updates held that may not execute any more.
func (r *runner) takeBack(ctx context.Context) error {
	b := r.begin()
	for endpoint := range r.granted {
		if err := b.member(ctx, endpoint, fsm.Input{Kind: fsm.InputTick}); err != nil {
			return err
		}
	}
	return b.commit(ctx)
}

// grant lets the updates execute that are ready, as far as there are places.
func (r *runner) grant(ctx context.Context) error {
	for _, place := range []fsm.Place{fsm.PlaceParked, fsm.PlaceReady} {
		q := store.MemberQuery{Rollout: r.id, State: fsm.MemberActive, Place: place}
		b := r.begin()
		refused := 0
		for m, err := range r.m.db.Members(ctx, q) {
			if err != nil {
				return err
			}
			free := b.record.Machine.Slots.Granted+b.record.Machine.Slots.Installing < b.record.Machine.Plan.Concurrency
			if !free || refused == batchSize {
				break
			}
			if m.Machine.Granted {
				continue
			}
			if out := b.stepMember(&m, fsm.Input{Kind: fsm.InputGrant}); !out.Persist {
				refused++
			}
		}
		if err := b.commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// admit walks through the members that wait, and admits those that can be reached.
func (r *runner) admit(ctx context.Context) error {
	machine := &r.record.Machine
	if machine.StageState != fsm.StageFilling && machine.StageState != fsm.StageSoaking {
		return nil
	}
	if r.atEnd && r.rewind && time.Since(r.walked) >= rewindPause {
		r.fromStart()
	}
	for !r.atEnd {
		stop, err := r.page(ctx)
		if err != nil {
			return err
		}
		if stop {
			return nil
		}
	}
	if !r.record.Machine.Exhausted && !r.rewind {
		err := r.apply(ctx, nil, fsm.Input{Kind: fsm.InputExhausted, None: !r.left})
		if err != nil && !errors.Is(err, ErrState) {
			return err
		}
	}
	return nil
}

// page offers a page of members. It reports true if the rollout admits no more for now.
func (r *runner) page(ctx context.Context) (stop bool, err error) {
	q := store.MemberQuery{Rollout: r.id, State: fsm.MemberWaiting, After: r.walk, Limit: batchSize / 2}
	if at := r.record.Machine.Stage; r.record.Machine.Plan.Stages[at].Only {
		q.Only = at + 1
	}
	b := r.begin()
	n := 0
	for m, err := range r.m.db.Members(ctx, q) {
		if err != nil {
			return false, err
		}
		n++
		stage := b.record.Machine.Plan.Stages[b.record.Machine.Stage]
		may := !stage.Only || m.Machine.Only&(1<<b.record.Machine.Stage) != 0
		r.left = r.left || may
		if may {
			cursor := q.Cursor(&m)
			switch r.offer(b, &m) {
			case fsm.WaitingStage, fsm.WaitingGate, fsm.WaitingPaused, fsm.WaitingNotStarted, fsm.WaitingWindow, fsm.WaitingRate, fsm.WaitingConcurrency:
				return true, b.commit(ctx) // this one is offered again
			}
			r.walk = cursor
			continue
		}
		r.walk = q.Cursor(&m)
	}
	if n == 0 || n < q.Limit {
		r.atEnd, r.walked = true, time.Now()
	}
	return false, b.commit(ctx)
}

// finish ends the members that wait, page by page.
func (r *runner) finish(ctx context.Context) error {
	for _, place := range []fsm.Place{fsm.PlaceNone, fsm.PlaceInvited, fsm.PlaceReserved} {
		for {
			b := r.begin()
			n := 0
			for m, err := range r.m.db.Members(ctx, store.MemberQuery{Rollout: r.id, State: fsm.MemberWaiting, Place: place, Limit: batchSize}) {
				if err != nil {
					return err
				}
				b.stepMember(&m, fsm.Input{Kind: fsm.InputFinish})
				n++
			}
			if err := b.commit(ctx); err != nil {
				return err
			}
			if n < batchSize {
				break
			}
		}
	}
	return nil
}

// check reads the members again that succeeded in the open stage.
func (r *runner) check(ctx context.Context) error {
	if r.record.Machine.StageState != fsm.StageChecking || r.checking {
		return nil
	}
	r.checking = true
	stage := r.record.Machine.Stage
	target, err := r.m.updates.Images().Get(ctx, r.record.Image)
	if err != nil {
		r.checking = false
		return err
	}
	r.actions.Go(func() {
		pool := work.Pool{Limit: parallel}
		done := make(chan struct{}, parallel)
		q := store.MemberQuery{Rollout: r.id, State: fsm.MemberSucceeded, Stage: stage + 1}
		begun := 0
		failed := false
		for m, err := range r.m.db.Members(ctx, q) {
			if err != nil {
				failed = true
				break
			}
			if begun++; begun > parallel {
				<-done
			}
			pool.Run(func() {
				defer func() { done <- struct{}{} }()
				if shown, version := r.read(ctx, m.Endpoint, target.Version); shown != "" && shown != fsm.ShownTarget {
					r.ended(result{endpoint: m.Endpoint, input: fsm.Input{Kind: fsm.InputShown, Shown: shown, Text: version}})
				}
			})
		}
		for range min(begun, parallel) {
			<-done
		}
		x := result{of: &r.checking, input: fsm.Input{Kind: fsm.InputTick}}
		if !failed && ctx.Err() == nil {
			x.input.Kind = fsm.InputChecked
		}
		r.ended(x)
	})
	return nil
}

// read reads the version of a device. It returns "" if a device in queue mode does not answer.
func (r *runner) read(ctx context.Context, endpoint, target string) (fsm.Shown, string) {
	reg, ok := r.m.srv.Registration(endpoint)
	if !ok || !r.m.srv.Registered(endpoint) {
		if reg.Queue {
			return "", ""
		}
		return fsm.ShownSilent, ""
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	v, err := r.m.srv.ReadValue(ctx, endpoint, lwm2m.NewPath(3, 0, 3))
	version, _ := v.Text()
	switch {
	case err == nil && version == target:
		return fsm.ShownTarget, version
	case err == nil && version != "":
		return fsm.ShownOther, version
	case err == nil || errors.As(err, new(*lwm2m.ResponseError)):
		return fsm.ShownTarget, "" // it shows no version, and answers
	case reg.Queue:
		return "", ""
	}
	return fsm.ShownSilent, ""
}

// askHealth asks the program whether the next stage may open.
func (r *runner) askHealth(ctx context.Context) {
	machine := &r.record.Machine
	if machine.StageState != fsm.StageHealth || r.asking || time.Now().Before(machine.Until) {
		return
	}
	r.asking = true
	record := r.record
	r.actions.Go(func() {
		in := fsm.Input{Kind: fsm.InputHealth, OK: true}
		if r.m.config.Health != nil {
			in.OK, in.Text = r.health(ctx, record)
		}
		r.ended(result{of: &r.asking, input: in})
	})
}

// health calls the program's function.
func (r *runner) health(ctx context.Context, record Rollout) (ok bool, reason string) {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	type answer struct {
		ok     bool
		reason string
	}
	done := make(chan answer, 1)
	go func() {
		a, err := work.Guard(r.m.log, "Config.Health", func() (answer, error) {
			ok, reason, err := r.m.config.Health(ctx, record, record.Machine.Stage+2)
			return answer{ok, reason}, err
		})
		if err != nil {
			a = answer{false, "the health of the fleet is not known: " + err.Error()}
		}
		done <- a
	}()
	select {
	case a := <-done:
		return a.ok, a.reason
	case <-ctx.Done():
		return false, "the health of the fleet is not known: the program has not answered in time"
	}
}
