package rollout

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	ufsm "github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

const (
	healthTime = 30 * time.Second // for Config.Health
	allowTime  = 10 * time.Second // for Config.Allow
	checkTime  = 30 * time.Second // for one device at the end of a soak
)

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
	var mu sync.Mutex
	var failed error
	var reads sync.WaitGroup
	places := make(chan struct{}, parallel)
	for m, err := range r.m.db.Members(ctx, q) {
		if errors.Is(err, store.ErrDamaged) {
			continue
		}
		if err != nil {
			failed = err
			break
		}
		places <- struct{}{}
		reads.Go(func() {
			defer func() { <-places }()
			if err := r.checkOne(ctx, &m, target); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	reads.Wait()
	mu.Lock()
	defer mu.Unlock()
	return cmp.Or(failed, ctx.Err())
}

// checkOne reads the device of a member again. What another update of the device has done since is
// not this rollout's affair.
func (r *runner) checkOne(ctx context.Context, m *Member, target string) error {
	for u, err := range r.m.updates.List(ctx, store.UpdateQuery{Endpoint: m.Endpoint, Limit: 1}) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return err
		}
		if err != nil || u.ID != m.Machine.Update {
			return nil
		}
		shown, version := r.read(ctx, m.Endpoint, target)
		switch {
		case ctx.Err() != nil || shown == "" || shown == fsm.ShownTarget:
			return ctx.Err()
		case shown == fsm.ShownOther && u.Machine.Plan.Verify == ufsm.VerifyResult && version != u.Machine.OldVersion:
			return nil // its version proves nothing
		case shown == fsm.ShownOther:
			// The update first: after a crash in between the device is read again.
			if _, err := r.m.updates.SetLater(ctx, u.ID, version); err != nil {
				return err
			}
		}
		r.ended(result{endpoint: m.Endpoint, input: fsm.Input{Kind: fsm.InputShown, Shown: shown, Text: version}})
	}
	return nil
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
	type answer struct {
		ok     bool
		reason string
	}
	a, err := bounded(ctx, r.m, "Config.Health", &r.m.healthCalls, healthTime, func(ctx context.Context) (answer, error) {
		ok, reason, err := r.m.config.Health(ctx, record, record.Machine.Stage+2)
		return answer{ok, reason}, err
	})
	if err != nil {
		return false, "the health of the fleet is not known: " + err.Error()
	}
	return a.ok, a.reason
}
