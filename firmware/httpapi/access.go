package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// An Action is what a request wants to do.
type Action string

// The actions.
const (
	ReadImages   Action = "images:read"
	WriteImages  Action = "images:write" // upload, delete
	ReadDevices  Action = "devices:read"
	WriteDevices Action = "devices:write" // delete; write and execute resources
	ReadUpdates  Action = "updates:read"
	WriteUpdates Action = "updates:write" // start, cancel, hold, release, served; remove a damaged one
	ReadEvents   Action = "events:read"
)

// An Access is what a request asks for: an action, and what it is about. No answer goes beyond it.
//
// An empty Endpoint means every device there is, not none: who has rights on some devices only must
// be refused then. Lists and event streams are about one device if ?endpoint= says so. An update
// brings its Endpoint and Image with it. One that does not exist, or whose record is damaged, has
// none, so that who may not see all updates gets the same answer for it as for one of somebody
// else.
type Access struct {
	Action   Action
	Endpoint string // "": of all devices
	Update   string // id, if it is about one, be there such an update or not
	Image    string // id, if it is about one, or about updates to it
}

// ErrUnauthenticated is what an authorizer returns, see [New], if the request does not say who
// asks. It is answered with 401.
var ErrUnauthenticated = errors.New("httpapi: no valid credentials")

// AllowAll allows everything to everybody who reaches the handler.
func AllowAll(*http.Request, Access) error { return nil }

// find completes what a request asks for by what its path and query name.
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
	if access.Update == "" || access.Endpoint != "" {
		return nil // what is not about the endpoint is left out of the answer, an update of another one too
	}
	update, err := a.manager.Get(ctx, access.Update)
	switch p := asProblem(err); {
	case err == nil:
		access.Endpoint, access.Image = update.Endpoint, update.Image
	case p == nil || p.Status == http.StatusServiceUnavailable:
		return err
	}
	return nil // the call finds the same, and says so to who may know
}

const (
	authorizeTime = 10 * time.Second // for an authorizer to return
	maxAsked      = 1000             // authorizers that have not returned
)

// An authorizer calls a function of the caller's that may panic, block, or return too late.
type authorizer struct {
	ask   func(*http.Request, Access) error
	log   *slog.Logger
	asked chan struct{} // one token for each call that has not returned
}

func newAuthorizer(ask func(*http.Request, Access) error, log *slog.Logger) authorizer {
	return authorizer{ask: ask, log: log, asked: make(chan struct{}, maxAsked)}
}

var errPanicked = errors.New("httpapi: the authorizer panicked")

// check returns nil if the request may do what it asks for.
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
	r := asked.Clone(ctx) // what returns late must not hold what net/http uses again
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

// again returns an error if the request, which was allowed, is not any more. While nobody can tell
// it is.
func (a *authorizer) again(asked *http.Request, access Access) error {
	err := a.check(asked, access)
	if p := asProblem(err); p != nil && (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden) {
		return err
	}
	return nil
}

// call asks, and makes a problem of a refusal: the methods of its error are the caller's too, and
// may panic.
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
		"image", access.Image, "error", err.Error())
	return newProblem(http.StatusForbidden, "forbidden", "not allowed: "+string(access.Action))
}
