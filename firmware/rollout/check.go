package rollout

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	ufsm "github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

const (
	checkTime = 30 * time.Second // for one device at the end of a soak
)

// checkPauses are how long a device that does not answer at the end of a soak is left alone before
// it is read again, and at last counts as missing: a server that was restarted may have to wait for
// a message of the device.
var checkPauses = []time.Duration{time.Minute, 5 * time.Minute}

// check reads the members again that succeeded in the open stage.
func (r *runner) check(ctx context.Context) error {
	if r.record.Machine.StageState != fsm.StageChecking || r.checking {
		return nil
	}
	target, err := r.target(ctx)
	if err != nil {
		return err
	}
	r.checking = true
	q := store.MemberQuery{Rollout: r.id, State: fsm.MemberSucceeded, Stage: r.record.Machine.Stage + 1}
	r.actions.Go(func() {
		x := result{of: &r.checking, input: fsm.Input{Kind: fsm.InputChecked}}
		if err := r.checkAll(ctx, q, target.Version); err != nil {
			if ctx.Err() == nil {
				r.m.log.Error("devices could not be read again at the end of a soak; it is tried again", "rollout", r.id, "error", err)
			}
			x.input.Kind = fsm.InputTick
			work.Sleep(ctx, actionPause)
		}
		r.ended(x)
	})
	return nil
}

// checkAll reads the devices of members again.
func (r *runner) checkAll(ctx context.Context, q store.MemberQuery, target string) error {
	silent, err := r.checkEach(ctx, r.m.db.Members(ctx, q), target, false)
	for i, pause := range checkPauses {
		if err != nil || len(silent) == 0 {
			break
		}
		work.Sleep(ctx, pause)
		again := func(yield func(Member, error) bool) {
			for _, m := range silent {
				if !yield(m, nil) {
					return
				}
			}
		}
		silent, err = r.checkEach(ctx, again, target, i == len(checkPauses)-1)
	}
	return cmp.Or(err, ctx.Err())
}

// checkEach reads the devices of members, several at a time. It returns those that do not answer,
// unless this is their last chance.
func (r *runner) checkEach(ctx context.Context, members iter.Seq2[Member, error], target string, last bool) (silent []Member, failed error) {
	var mu sync.Mutex
	var reads sync.WaitGroup
	places := make(chan struct{}, parallel)
	for m, err := range members {
		if errors.Is(err, store.ErrDamaged) {
			continue
		}
		if err != nil {
			reads.Wait()
			return nil, err
		}
		places <- struct{}{}
		reads.Go(func() {
			defer func() { <-places }()
			answers, err := r.checkOne(ctx, &m, target, last)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
			} else if !answers {
				silent = append(silent, m)
			}
		})
	}
	reads.Wait()
	return silent, failed
}

// checkOne reads the device of a member again. It returns false if the device does not answer and
// this is not its last chance. What another update of the device has done since is not this
// rollout's affair.
func (r *runner) checkOne(ctx context.Context, m *Member, target string, last bool) (answers bool, err error) {
	for u, err := range r.m.updates.List(ctx, store.UpdateQuery{Endpoint: m.Endpoint, Limit: 1}) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return true, err
		}
		if err != nil || u.ID != m.Machine.Update {
			return true, nil
		}
		shown, version := r.read(ctx, m.Endpoint, target)
		switch {
		case ctx.Err() != nil || shown == "" || shown == fsm.ShownTarget:
			return true, ctx.Err()
		case shown == fsm.ShownSilent && !last:
			return false, nil
		case shown == fsm.ShownOther && u.Machine.Plan.Verify == ufsm.VerifyResult && version != u.Machine.OldVersion:
			return true, nil // its version proves nothing
		case shown == fsm.ShownOther:
			// The update first: after a crash in between the device is read again.
			if _, err := r.m.updates.SetLater(ctx, u.ID, version); err != nil {
				return true, err
			}
		}
		r.ended(result{endpoint: m.Endpoint, input: fsm.Input{Kind: fsm.InputShown, Shown: shown, Text: version}})
	}
	return true, nil
}

// read reads the version of a device. It returns "" if a device in queue mode does not answer.
func (r *runner) read(ctx context.Context, endpoint, target string) (fsm.Shown, string) {
	reg, ok := r.m.srv.Registration(endpoint)
	silent := fsm.ShownSilent
	if reg.Queue {
		silent = ""
	}
	if !ok || !r.m.srv.Registered(endpoint) {
		return silent, ""
	}
	version, err := r.version(ctx, endpoint)
	switch {
	case err != nil:
		return silent, ""
	case version == "" || version == target:
		return fsm.ShownTarget, version // it answers
	}
	return fsm.ShownOther, version
}
