package httpapi

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/internal/door"
)

// Options of a handler. The zero value works.
type Options struct {
	// MaxImage bounds an uploaded image, in bytes. Default 1 GiB.
	MaxImage int64
	// MaxStreams bounds the event streams that are open at once. One client, which is an address with what it shows as
	// Authorization, may have a quarter of them; an IPv6 network of 64 bits counts as one address. Default 100.
	MaxStreams int
	// Heartbeat is the pause between two signs of life in an event stream, and the time that a reader has to accept a
	// line. Default 15 s.
	Heartbeat time.Duration
	// TrustedOrigins are the origins, such as https://ops.example.com, of pages on other hosts that may use the API from a
	// browser, with the credentials that it has (CORS). Handler panics if one is not an origin; there is none for all. Default:
	// only pages of the API's own host may.
	TrustedOrigins []string
	// Logger gets what goes wrong inside; clients get only its category. Default: silent.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
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

// Handler returns the API of a manager. It can be mounted under any prefix: the calls start at the first /api/v1/ of
// the path.
//
// authorize decides about each request; [AllowAll] is for a handler that only operators reach. It must not be nil. An error that
// matches [ErrUnauthenticated] is answered with 401, any other with 403; its text is not sent. It gets the request without its
// body, and has 10 seconds: whatever it returns later, or when it panics, the request is refused.
//
// The handler limits its own waits for bodies and readers, by the deadlines of http.ResponseController; middleware between the
// server and the handler must not hide them (see its documentation on Unwrap), as http.TimeoutHandler does. The server has to
// limit the waits for headers, for the next request, for handshakes, and for what it reads without a handler (its
// ReadTimeout), and the number of connections: that of [firmware.NewHTTPServer] does.
func Handler(m *firmware.Manager, authorize func(*http.Request, Access) error, options Options) http.Handler {
	return newAPI(m, m.Images(), authorize, options)
}

// api serves the calls.
type api struct {
	manager manager
	images  repository
	options Options
	routes  []route
	guard   authorizer
	origins map[string]bool // that are trusted
	streams streams
}

func newAPI(m manager, images repository, authorize func(*http.Request, Access) error, options Options) *api {
	a := &api{manager: m, images: images, options: options.withDefaults(), origins: trusted(options.TrustedOrigins)}
	a.guard = newAuthorizer(authorize, a.options.Logger)
	a.streams.most = a.options.MaxStreams
	a.routes = a.table()
	return a
}

// answerTime is how long a reader of an answer may take nothing.
const answerTime = 30 * time.Second

// ServeHTTP finds the call and guards it; what goes wrong becomes a problem document.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w, r, done := door.Limit(w, r, answerTime)
	defer done()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if err := a.serve(w, r); err != nil {
		a.fail(w, r, err)
	}
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) error {
	foreign := a.checkOrigin(w, r) // first, so that a page that is trusted can read whatever is wrong with its request
	call, req, err := a.match(w, r)
	switch {
	case err != nil:
		return err
	case foreign != nil:
		return foreign
	case call == nil: // OPTIONS
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if req.query, err = parseQuery(r, call.query); err != nil {
		return err
	}
	if err := checkContentType(r, call.contentType); err != nil {
		return err
	}
	req.access.Action = call.action
	if err := a.find(r.Context(), &req); err != nil {
		return err
	}
	if call.read != nil {
		if err := call.read(w, r, &req); err != nil {
			return err
		}
	}
	if err := a.guard.check(r, req.access); err != nil {
		return err
	}
	return call.serve(w, r, req)
}
