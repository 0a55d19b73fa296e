package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// An Action names what a request does.
type Action string

// The actions.
const (
	ReadImages   Action = "images:read"
	WriteImages  Action = "images:write" // upload, delete
	ReadDevices  Action = "devices:read"
	WriteDevices Action = "devices:write" // delete
	ReadUpdates  Action = "updates:read"
	WriteUpdates Action = "updates:write" // start, cancel, hold, release, served; remove a damaged one
	ReadEvents   Action = "events:read"
	ReadStatus   Action = "status:read" // of the server: addresses, limits, what does not work

	ReadRollouts  Action = "rollouts:read"
	WriteRollouts Action = "rollouts:write" // create, edit, delete, add a device, and each order

	ReadTraces  Action = "traces:read"  // messages of a device, with the values in them
	WriteTraces Action = "traces:write" // begin and end a trace

	ReadResources  Action = "resources:read"  // ask a device for values: read, discover, observe
	WriteResources Action = "resources:write" // change a device: write, execute, create, delete
)

// An Access describes a request to the authorizer: an action, and the device, update, image or
// rollout that it concerns. The answer discloses nothing beyond it.
//
// An empty Endpoint means all devices: refuse it to a user who has rights on some of them only.
// Lists and event streams concern one device if the query names an endpoint. If the request names
// an update and no endpoint, Endpoint and Image are those of the update. Both are empty if the
// update does not exist or its record is damaged, so that a user with limited rights gets the same
// answer as for another user's update.
//
// A rollout concerns all devices: Endpoint is empty. Image is that of the rollout that the request
// names; it is empty for POST /api/v1/rollouts, whose body is read after the call.
// [rollout.Config.Allow] knows the whole rollout.
type Access struct {
	Action   Action
	Endpoint string // "": all devices
	Update   string // id, if the request names one; the update may not exist
	Image    string // id, if the request names one, or of the update or the rollout
	Rollout  string // id, if the request names one; the rollout may not exist
}

// ErrUnauthenticated is the error that an authorizer (see [New]) returns for a request without
// valid credentials. The answer is 401.
var ErrUnauthenticated = errors.New("httpapi: no valid credentials")

// AllowAll is an authorizer that allows every request.
func AllowAll(*http.Request, Access) error { return nil }

// find completes the request's access with what its path and query name.
func (a *api) find(ctx context.Context, req *request) error {
	access := &req.access
	if access.Endpoint = req.endpoint; access.Endpoint == "" {
		access.Endpoint = req.query.get("endpoint")
	}
	if req.image != "" {
		access.Image = req.image
	} else {
		access.Image = req.query.get("image")
	}
	if access.Update = req.update; access.Update == "" {
		access.Update = req.query.get("update")
	}
	if access.Rollout = req.rollout; access.Rollout == "" {
		access.Rollout = req.query.get("rollout")
	}
	if access.Rollout != "" && a.rollouts != nil {
		got, err := a.rollouts.Get(ctx, access.Rollout)
		switch p := asProblem(err); {
		case err == nil:
			access.Image = got.Image
		case p == nil || p.Status == http.StatusServiceUnavailable:
			return err
		}
	}
	if access.Update == "" || access.Endpoint != "" {
		return nil // the answer leaves out updates of other endpoints
	}
	update, err := a.manager.Get(ctx, access.Update)
	switch p := asProblem(err); {
	case err == nil:
		access.Endpoint, access.Image = update.Endpoint, update.Image
	case p == nil || p.Status == http.StatusServiceUnavailable:
		return err
	}
	return nil // the call meets the same error, and reports it only if the access is allowed
}

const (
	authorizeTime = 10 * time.Second // for an authorizer to return
	maxAsked      = 1000             // calls that have not returned
)

// An authorizer calls the program's function, which may panic, block, or return too late.
type authorizer struct {
	ask   func(*http.Request, Access) error
	log   *slog.Logger
	asked chan struct{} // holds one token for each call that has not returned
}

func newAuthorizer(ask func(*http.Request, Access) error, log *slog.Logger) authorizer {
	return authorizer{ask: ask, log: log, asked: make(chan struct{}, maxAsked)}
}

var errPanicked = errors.New("httpapi: the authorizer panicked")

// check returns nil if the function allows the access.
func (a *authorizer) check(asked *http.Request, access Access) error {
	ctx, cancel := context.WithTimeout(asked.Context(), authorizeTime)
	defer cancel()
	late := newProblem(http.StatusServiceUnavailable, "unavailable", "it could not be found out whether this is allowed")
	select {
	case a.asked <- struct{}{}:
	default:
		a.log.Error("too many calls of the authorizer have not returned")
		return late
	}
	r := asked.Clone(ctx) // a function that returns late must not hold a request that net/http reuses
	r.Body = http.NoBody
	done := make(chan error, 1)
	go func() {
		defer func() { <-a.asked }()
		done <- a.call(r, access)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if asked.Context().Err() != nil {
			return asked.Context().Err() // the client has gone
		}
		a.log.Error("the authorizer has not returned in time", "action", access.Action)
		return late
	}
}

// again returns an error if the function now refuses a request that it had allowed. Any other
// failure changes nothing.
func (a *authorizer) again(asked *http.Request, access Access) error {
	err := a.check(asked, access)
	if p := asProblem(err); p != nil && (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden) {
		return err
	}
	return nil
}

// call calls the function, and turns its error into a problem: the methods of that error may panic
// too.
func (a *authorizer) call(r *http.Request, access Access) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("the authorizer panicked", "panic", p, "stack", string(debug.Stack()))
			err = errPanicked
		}
	}()
	err = a.ask(r, access)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnauthenticated):
		return unauthenticated()
	}
	a.log.Info("request refused", "action", access.Action, "endpoint", access.Endpoint, "update", access.Update,
		"rollout", access.Rollout, "image", access.Image, "error", err.Error())
	return newProblem(http.StatusForbidden, "forbidden", "not allowed: "+string(access.Action))
}
