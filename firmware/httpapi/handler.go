package httpapi

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/otago-iot/otago/firmware"
)

// An Action is what a request wants to do, for [Options.Authorize].
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

// ErrUnauthenticated is for [Options.Authorize]: the request does not say who asks. It is answered with 401.
var ErrUnauthenticated = errors.New("httpapi: no valid credentials")

// Options of a handler. The zero value works.
type Options struct {
	// Authorize decides whether a request may do what it asks for. An error that matches ErrUnauthenticated is answered
	// with 401, any other with 403; its text is not sent. Nil allows everything: the handler must then stand where only
	// operators reach it.
	Authorize func(r *http.Request, action Action) error
	// MaxImage bounds an uploaded image, in bytes. Default 1 GiB.
	MaxImage int64
	// MaxStreams bounds the event streams that are open at once. Default 100.
	MaxStreams int
	// Heartbeat is the pause between two signs of life in an event stream, and the time that a reader has to accept a
	// line. Default 15 s.
	Heartbeat time.Duration
	// Logger gets what goes wrong inside; clients get only its category. Default: silent.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Authorize == nil {
		o.Authorize = func(*http.Request, Action) error { return nil }
	}
	if o.MaxImage <= 0 {
		o.MaxImage = 1 << 30
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 100
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Handler returns the API of a manager. It can be mounted under any prefix: the calls start at the first /api segment of
// the path.
func Handler(m *firmware.Manager, options Options) http.Handler {
	return newAPI(m, m.Images(), options)
}

// api serves the calls.
type api struct {
	manager manager
	images  repository
	options Options
	routes  []route
	streams chan struct{} // one token for each open event stream
}

func newAPI(m manager, images repository, options Options) *api {
	a := &api{manager: m, images: images, options: options.withDefaults()}
	a.streams = make(chan struct{}, a.options.MaxStreams)
	a.routes = a.table()
	return a
}

// ServeHTTP finds the call and guards it; what goes wrong becomes a problem document.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if err := a.serve(w, r); err != nil {
		a.fail(w, r, err)
	}
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) error {
	call, req, err := a.match(w, r)
	if err != nil {
		return err
	}
	if err := sameOrigin(r); err != nil {
		return err
	}
	if call == nil { // OPTIONS
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := a.options.Authorize(r, call.action); err != nil {
		if errors.Is(err, ErrUnauthenticated) {
			return unauthenticated()
		}
		a.options.Logger.Info("request refused", "action", call.action, "error", err)
		return newProblem(http.StatusForbidden, "forbidden", "not allowed: "+string(call.action))
	}
	if req.query, err = parseQuery(r, call.query); err != nil {
		return err
	}
	if err := checkContentType(r, call.contentType); err != nil {
		return err
	}
	return call.serve(w, r, req)
}
