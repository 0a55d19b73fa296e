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
	healthTime = 30 * time.Second // for Config.Health
	allowTime  = 10 * time.Second // for Config.Allow
	checkTime  = 30 * time.Second // for one device at the end of a soak
)

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
