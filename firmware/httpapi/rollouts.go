package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

// rollouts is the part of [rollout.Manager] that the handler uses.
type rollouts interface {
	Create(ctx context.Context, q rollout.Request) (rollout.Rollout, error)
	Plan(ctx context.Context, q rollout.Request) (rollout.DryRun, error)
	Start(ctx context.Context, id string, o rollout.Order) (rollout.Rollout, error)
	Pause(ctx context.Context, id string, o rollout.Order) (rollout.Rollout, error)
	Resume(ctx context.Context, id string, o rollout.Order) (rollout.Rollout, error)
	Open(ctx context.Context, id string, o rollout.Order) (rollout.Rollout, error)
	Stop(ctx context.Context, id string, cancels bool, o rollout.Order) (rollout.Rollout, error)
	StopPlan(ctx context.Context, id string, cancels bool) (finish, never int, err error)
	Retry(ctx context.Context, id string, outcomes []rollout.Outcome, o rollout.Order) (rollout.Rollout, error)
	Add(ctx context.Context, id, endpoint string, o rollout.Order) (rollout.Rollout, error)
	Edit(ctx context.Context, id string, c rollout.Change, o rollout.Order) (rollout.Rollout, error)
	Delete(ctx context.Context, id string, o rollout.Order) error
	Get(ctx context.Context, id string) (rollout.Rollout, error)
	List(ctx context.Context, q store.RolloutQuery) iter.Seq2[rollout.Rollout, error]
	Members(ctx context.Context, q store.MemberQuery) iter.Seq2[rollout.Member, error]
	Events(ctx context.Context, q store.RolloutEventQuery) iter.Seq2[rollout.Event, error]
	Why(r *rollout.Rollout, m *rollout.Member) (fsm.Waiting, time.Time)
}

// ofRollouts wraps a call that needs Config.Rollouts, and translates the errors of its manager.
func (a *api) ofRollouts(serve func(http.ResponseWriter, *http.Request, request) error) func(http.ResponseWriter, *http.Request, request) error {
	return func(w http.ResponseWriter, r *http.Request, req request) error {
		if a.rollouts == nil {
			return newProblem(http.StatusNotFound, "not-found", "this server has no rollouts")
		}
		return rolloutProblem(serve(w, r, req))
	}
}

// rolloutProblem translates the errors of rollouts that others do not have.
func rolloutProblem(err error) error {
	text := func(sentinel error) string {
		return clip(strings.TrimPrefix(err.Error(), sentinel.Error()+": "), maxReason)
	}
	switch {
	case errors.Is(err, rollout.ErrState):
		return newProblem(http.StatusConflict, "rollout-state", text(rollout.ErrState))
	case errors.Is(err, store.ErrExists):
		return newProblem(http.StatusConflict, "conflict", "a rollout has this id already")
	case errors.Is(err, rollout.ErrRefused):
		return newProblem(http.StatusForbidden, "refused", text(rollout.ErrRefused))
	}
	return err
}

// actor returns who sends a request, for journals.
func (a *api) actor(r *http.Request) (name string) {
	if a.config.Actor == nil {
		return ""
	}
	defer func() {
		if p := recover(); p != nil {
			a.config.Logger.Error("Config.Actor panicked", "panic", p)
			name = ""
		}
	}()
	if name = a.config.Actor(r); names.Check(name, 0, store.MaxName) != "" {
		a.config.Logger.Error("Config.Actor returned a name that cannot be stored", "name", name)
		return ""
	}
	return name
}

const (
	rolloutTime = 2 * time.Minute // for the body to arrive
	largeBodies = 2               // bodies of more than maxJSON that are read at once
)

// addRollout makes a rollout. The program has authorized it before the body is read, since that may
// be large.
func (a *api) addRollout(w http.ResponseWriter, r *http.Request, req request) error {
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	dry, err := req.query.flag("dry_run")
	if err != nil {
		return err
	}
	if r.ContentLength < 0 || r.ContentLength > maxJSON {
		select {
		case a.large <- struct{}{}:
			defer func() { <-a.large }()
		default:
			return newProblem(http.StatusServiceUnavailable, "unavailable", "too many large requests at once: try again")
		}
	}
	data, err := readBody(w, r, maxRollout, rolloutTime)
	if err != nil {
		return err
	}
	var body rolloutRequest
	if err := body.decode(data); err != nil {
		return err
	}
	q, err := body.parse()
	if err != nil {
		return err
	}
	q.Actor = a.actor(r)
	if dry {
		plan, err := a.rollouts.Plan(r.Context(), q)
		if errors.Is(err, store.ErrNotFound) {
			return invalidImage()
		}
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, viewDryRun(plan))
	}
	if key != "" {
		q.Key, q.Fingerprint = digest([]byte(key)), digest(data)
	}
	// A client that goes away must not leave a rollout with some of its devices.
	made, err := a.rollouts.Create(context.WithoutCancel(r.Context()), q)
	switch {
	case errors.Is(err, rollout.ErrInvalid) && made.ID != "" && key != "":
		return newProblem(http.StatusUnprocessableEntity, "key-reused", "the Idempotency-Key was used for rollout "+made.ID+", by another request")
	case errors.Is(err, store.ErrNotFound):
		return invalidImage()
	case err != nil:
		return err
	}
	w.Header().Set("Location", "rollouts/"+made.ID) // relative to /api/v1/rollouts, under any prefix
	return a.writeRollout(r.Context(), w, http.StatusCreated, made)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (a *api) listRollouts(w http.ResponseWriter, r *http.Request, req request) error {
	limit, err := req.query.limit()
	if err != nil {
		return err
	}
	q := store.RolloutQuery{Limit: limit + 1}
	switch state := req.query.get("state"); {
	case !req.query.has("state"):
	case state == "active":
		q.Active = true
	default:
		return invalidQuery("state", "state must be active, for rollouts that have not ended, or absent")
	}
	if q.After, err = req.query.cursor("rollouts"); err != nil {
		return err
	}
	has, err := req.query.part()
	if err != nil {
		return err
	}
	if has != nil {
		q.Limit = store.MaxSkipped
	}
	list := a.rollouts.List(r.Context(), q)
	if has != nil {
		list = fitting(list, func(r rollout.Rollout) bool { return has(r.ID, r.Name) })
	}
	return writePage(w, limit, "rollouts", list, func(r rollout.Rollout) string { return r.ID }, viewRollout)
}

func (a *api) getRollout(w http.ResponseWriter, r *http.Request, req request) error {
	got, err := a.rollouts.Get(r.Context(), req.rollout)
	if err != nil {
		return err
	}
	return a.writeRollout(r.Context(), w, http.StatusOK, got)
}

// maxExamined bounds the members that are examined for one answer.
const maxExamined = 2000

func (a *api) writeRollout(ctx context.Context, w http.ResponseWriter, status int, r rollout.Rollout) error {
	v := viewWhole(r)
	v.Orders = viewEffects(r)
	v.Waiting = &waitingView{Reasons: map[string]int{}}
	if r.Machine.Total.Waiting > 0 {
		q := store.MemberQuery{Rollout: r.ID, State: fsm.MemberWaiting, AnyPlace: true, Limit: maxExamined}
		for m, err := range a.rollouts.Members(ctx, q) {
			if errors.Is(err, store.ErrShort) || errors.Is(err, store.ErrDamaged) {
				continue
			}
			if err != nil {
				return err
			}
			why, _ := a.rollouts.Why(&r, &m)
			v.Waiting.Examined++
			v.Waiting.Reasons[string(why)]++
		}
	}
	return writeJSON(w, status, v)
}

func (a *api) deleteRollout(w http.ResponseWriter, r *http.Request, req request) error {
	if err := a.rollouts.Delete(r.Context(), req.rollout, rollout.Order{Actor: a.actor(r)}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) editRollout(w http.ResponseWriter, r *http.Request, req request) error {
	var body changeBody
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	change, err := body.parse()
	if err != nil {
		return err
	}
	changed, err := a.rollouts.Edit(r.Context(), req.rollout, change, rollout.Order{Actor: a.actor(r), Reason: body.Reason})
	return a.orderedRollout(w, r, changed, err)
}

// orderBody is the body of the calls that order something; it may be absent.
type orderBody struct {
	Reason   string            `json:"reason"`
	Mode     string            `json:"mode"`     // of stop
	Outcomes []rollout.Outcome `json:"outcomes"` // of retry
}

// An order is what a call orders of the manager.
type order func(ctx context.Context, id string, body *orderBody, o rollout.Order) (rollout.Rollout, error)

// orders are the orders by the last word of their paths.
func (a *api) orders() map[string]order {
	return map[string]order{
		"start": func(ctx context.Context, id string, _ *orderBody, o rollout.Order) (rollout.Rollout, error) {
			return a.rollouts.Start(ctx, id, o)
		},
		"pause": func(ctx context.Context, id string, _ *orderBody, o rollout.Order) (rollout.Rollout, error) {
			return a.rollouts.Pause(ctx, id, o)
		},
		"resume": func(ctx context.Context, id string, _ *orderBody, o rollout.Order) (rollout.Rollout, error) {
			return a.rollouts.Resume(ctx, id, o)
		},
		"open": func(ctx context.Context, id string, _ *orderBody, o rollout.Order) (rollout.Rollout, error) {
			return a.rollouts.Open(ctx, id, o)
		},
		"stop": func(ctx context.Context, id string, body *orderBody, o rollout.Order) (rollout.Rollout, error) {
			return a.rollouts.Stop(ctx, id, body.Mode == "cancel", o)
		},
		"retry": func(ctx context.Context, id string, body *orderBody, o rollout.Order) (rollout.Rollout, error) {
			return a.rollouts.Retry(ctx, id, body.Outcomes, o)
		},
	}
}

// orderRollout returns the call of an order.
func (a *api) orderRollout(name string, do order) *call {
	c := &call{action: WriteRollouts}
	if name == "stop" {
		c.query = []string{"dry_run"}
	}
	c.serve = a.ofRollouts(func(w http.ResponseWriter, r *http.Request, req request) error {
		var body orderBody
		if r.ContentLength != 0 {
			if err := readJSON(w, r, &body); err != nil {
				return err
			}
		}
		switch {
		case body.Mode != "" && name != "stop":
			return invalidField("mode", "is not a field of this call")
		case body.Outcomes != nil && name != "retry":
			return invalidField("outcomes", "is not a field of this call")
		case body.Mode != "" && body.Mode != "finish" && body.Mode != "cancel":
			return invalidField("mode", "must be finish or cancel")
		}
		dry, err := req.query.flag("dry_run")
		switch {
		case err != nil:
			return err
		case dry:
			finish, never, err := a.rollouts.StopPlan(r.Context(), req.rollout, body.Mode == "cancel")
			if err != nil {
				return err
			}
			return writeJSON(w, http.StatusOK, stopView{finish, never})
		}
		changed, err := do(r.Context(), req.rollout, &body, rollout.Order{Actor: a.actor(r), Reason: body.Reason})
		return a.orderedRollout(w, r, changed, err)
	})
	return c
}

// stopView says what a stop would do.
type stopView struct {
	Finish int `json:"finish"`
	Never  int `json:"never_start"`
}

func (a *api) orderedRollout(w http.ResponseWriter, r *http.Request, changed rollout.Rollout, err error) error {
	if err != nil {
		return err
	}
	return a.writeRollout(r.Context(), w, http.StatusOK, changed)
}
