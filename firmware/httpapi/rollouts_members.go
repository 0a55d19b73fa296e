package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

func (a *api) addMember(w http.ResponseWriter, r *http.Request, req request) error {
	var body struct {
		Endpoint string `json:"endpoint"`
		Reason   string `json:"reason"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if problem := checkEndpoint(body.Endpoint); problem != "" {
		return invalidField("endpoint", problem)
	}
	changed, err := a.rollouts.Add(r.Context(), req.rollout, body.Endpoint, rollout.Order{Actor: a.actor(r), Reason: body.Reason})
	return a.orderedRollout(w, r, changed, err)
}

// The words for states of members and for reasons, of the parameters state and reason.
var (
	memberStates = []fsm.MemberState{
		fsm.MemberWaiting, fsm.MemberActive, fsm.MemberSucceeded, fsm.MemberFailed, fsm.MemberRolledBack, fsm.MemberSkipped,
	}
	waitingReasons = []fsm.Waiting{
		fsm.WaitingNotStarted, fsm.WaitingStage, fsm.WaitingGate, fsm.WaitingPaused, fsm.WaitingWindow, fsm.WaitingRate,
		fsm.WaitingConcurrency, fsm.WaitingOffline, fsm.WaitingAsleep, fsm.WaitingBusy, fsm.WaitingRetry,
	}
	skipReasons = []fsm.SkipReason{
		fsm.SkipCurrent, fsm.SkipIncompatible, fsm.SkipNotComparable, fsm.SkipRemoved, fsm.SkipCancelled, fsm.SkipUnreachable,
	}
)

func wordsOf[S ~string](list []S) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = string(w)
	}
	return strings.Join(words, ", ")
}

// listMembers lists members by rising endpoint, or those of a state in the order in which their
// turn comes.
func (a *api) listMembers(w http.ResponseWriter, r *http.Request, req request) error {
	limit, err := req.query.limit()
	if err != nil {
		return err
	}
	q := store.MemberQuery{Rollout: req.rollout, AnyPlace: true, State: fsm.MemberState(req.query.get("state"))}
	if req.query.has("state") && !slices.Contains(memberStates, q.State) {
		return invalidQuery("state", "state must be one of "+wordsOf(memberStates))
	}
	reason := req.query.get("reason")
	skip := fsm.SkipReason(reason)
	switch {
	case !req.query.has("reason"):
	case slices.Contains(skipReasons, skip) && (q.State == "" || q.State == fsm.MemberSkipped):
		q.State, q.Skip = fsm.MemberSkipped, skip
	case !slices.Contains(waitingReasons, fsm.Waiting(reason)) || q.State != "" && q.State != fsm.MemberWaiting && q.State != fsm.MemberActive:
		return invalidQuery("reason", "reason must be one of "+wordsOf(waitingReasons)+", or for skipped members one of "+wordsOf(skipReasons))
	}
	kind := "members " + string(q.State) + " " + reason
	if q.After, err = req.query.cursor(kind); err != nil {
		return err
	}
	of, err := a.rollouts.Get(r.Context(), req.rollout)
	if err != nil {
		return err
	}
	if q.Limit = limit + 1; req.query.has("reason") && q.Skip == "" {
		q.Limit = maxExamined
	}
	p, examined := page{Items: []any{}}, 0
	for m, err := range a.rollouts.Members(r.Context(), q) {
		damaged, isDamaged := errors.AsType[*store.DamagedError](err)
		if err != nil && !isDamaged && !errors.Is(err, store.ErrShort) {
			return err
		}
		if len(p.Items) == limit || errors.Is(err, store.ErrShort) {
			p.Next = newCursor(kind, q.After)
			break
		}
		examined++
		q.After = q.Cursor(&m)
		if isDamaged {
			p.Items = append(p.Items, damagedView{Endpoint: m.Endpoint, Damaged: clip(damaged.Err.Error(), maxReason)})
			continue
		}
		why, until := a.rollouts.Why(&of, &m)
		if q.Skip == "" && reason != "" && string(why) != reason {
			continue
		}
		v := viewMember(&m, why, until)
		if m.Machine.State == fsm.MemberFailed || m.Machine.State == fsm.MemberRolledBack {
			u, err := a.manager.Get(r.Context(), m.Machine.Update)
			if err == nil { // it may have been deleted since
				v.Reason, v.Detail = string(u.Machine.Reason), u.Machine.Result.String()
			}
		}
		p.Items = append(p.Items, v)
	}
	if p.Next == "" && examined == maxExamined && q.Limit == maxExamined { // there may be more
		p.Next = newCursor(kind, q.After)
	}
	return writeJSON(w, http.StatusOK, p)
}
