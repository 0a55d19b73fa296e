package httpapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
	rfsm "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

const (
	maxFailures        = 500 // bad members that are examined for one answer
	maxFailureGroups   = 100
	maxFailureExamples = 3
)

// failuresView groups the bad members of a rollout by what their updates came to.
type failuresView struct {
	Devices  int           `json:"devices"`  // that failed, timed out or rolled back
	Examined int           `json:"examined"` // of them
	Groups   []failureView `json:"groups"`   // the largest first
}

// A failureView counts the members whose updates ended in the same way.
type failureView struct {
	failureKind
	Devices  int             `json:"devices"`
	Examples []failedExample `json:"examples"`
}

type failureKind struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	Result  string `json:"result"`
	Phase   string `json:"phase"` // the last one before the end
}

type failedExample struct {
	Endpoint string `json:"endpoint"`
	Update   string `json:"update"`
}

// listFailures answers with the failures of a rollout. An update that was deleted since has an
// empty outcome.
func (a *api) listFailures(w http.ResponseWriter, r *http.Request, req request) error {
	of, err := a.rollouts.Get(r.Context(), req.rollout)
	if err != nil {
		return err
	}
	v := failuresView{Devices: of.Machine.Total.Failed + of.Machine.Total.RolledBack, Groups: []failureView{}}
	groups := map[failureKind]*failureView{}
	for _, state := range []rfsm.MemberState{rfsm.MemberFailed, rfsm.MemberRolledBack} {
		q := store.MemberQuery{Rollout: req.rollout, AnyPlace: true, State: state, Limit: maxFailures - v.Examined}
		if q.Limit == 0 {
			break
		}
		for m, err := range a.rollouts.Members(r.Context(), q) {
			if errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrShort) {
				continue
			}
			if err != nil {
				return err
			}
			kind, err := a.failureOf(r.Context(), m.Machine.Update)
			if err != nil {
				return err
			}
			v.Examined++
			g := groups[kind]
			if g == nil {
				g = &failureView{failureKind: kind}
				groups[kind] = g
			}
			if g.Devices++; len(g.Examples) < maxFailureExamples {
				g.Examples = append(g.Examples, failedExample{m.Endpoint, m.Machine.Update})
			}
		}
	}
	for _, g := range groups {
		v.Groups = append(v.Groups, *g)
	}
	slices.SortFunc(v.Groups, func(a, b failureView) int {
		return cmp.Or(cmp.Compare(b.Devices, a.Devices), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Result, b.Result),
			cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.Outcome, b.Outcome))
	})
	v.Groups = v.Groups[:min(len(v.Groups), maxFailureGroups)]
	return writeJSON(w, http.StatusOK, v)
}

// failureOf says how an update ended, and in which phase. Only the journal knows the phase.
func (a *api) failureOf(ctx context.Context, id string) (kind failureKind, err error) {
	u, err := a.manager.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
		return kind, nil
	}
	if err != nil {
		return kind, err
	}
	kind = failureKind{Outcome: string(u.Outcome()), Reason: string(u.Reason()), Result: u.Machine.Result.String()}
	for e, err := range a.manager.Journal(ctx, id) {
		if errors.Is(err, store.ErrDamaged) {
			continue
		}
		if err != nil {
			return kind, err
		}
		if e.Phase != fsm.PhaseEnded {
			kind.Phase = string(e.Phase)
		}
	}
	return kind, nil
}
