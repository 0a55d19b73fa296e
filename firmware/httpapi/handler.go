package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/internal/door"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Config is the configuration of a handler. The zero value works.
type Config struct {
	// MaxImage bounds an uploaded image, in bytes; RepositoryConfig.MaxSize bounds it as well.
	// Default 1 GiB.
	MaxImage int64
	// MaxStreams bounds the event streams that are open at once, with those of observations. One
	// client may have a quarter of them, and one device 16 observations. Requests with the same
	// address and the same Authorization are of one client; an IPv6 network of 64 bits counts as
	// one address. Default 100.
	MaxStreams int
	// MaxRequests bounds the requests to devices that wait or are under way. One client may have a
	// quarter of them, one device 16. It also bounds the answers that wait for clients. Default
	// 1000.
	MaxRequests int
	// Heartbeat is the interval of comments in an event stream, and the time that a client has to
	// accept a line. Default 15 s.
	Heartbeat time.Duration
	// TrustedOrigins are the origins, such as https://ops.example.com, of pages on other hosts that
	// may use the API with the browser's credentials (CORS). There is no wildcard. Default: none,
	// so only pages of the API's own host may.
	TrustedOrigins []string
	// Rollouts runs rollouts over the same firmware.Manager. Default: none, and their calls answer
	// 404.
	Rollouts *rollout.Manager
	// Actor says who sends a request that is authorized, for the journals of rollouts: a name of at
	// most 255 bytes without control characters. Default: the journals name no one.
	Actor func(*http.Request) string
	// Status says what the program knows of itself, for GET /api/v1/status and [Health]. It must
	// return at once; an answer that takes more than a second counts as none. Default: the program
	// says nothing.
	Status func() Program
	// Logger receives internal errors; clients see only their category. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MaxImage <= 0 {
		c.MaxImage = 1 << 30
	}
	if c.MaxStreams <= 0 {
		c.MaxStreams = 100
	}
	if c.MaxRequests <= 0 {
		c.MaxRequests = 1000
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// New returns the API of a manager. The program may mount it under any prefix: the handler ignores
// what precedes the first /api/v1/ of the path.
//
// authorize decides about each request; use [AllowAll] for a handler that only operators can reach.
// If the error matches [ErrUnauthenticated] the answer is 401, else 403; the client does not see
// its text. authorize gets the request without its body, and has 10 seconds; if it takes longer or
// panics, the handler refuses the request.
//
// The error says which argument or field of config is invalid, and why.
//
// The handler limits its waits for request bodies, and for clients that do not read, with the
// deadlines of http.ResponseController. Middleware between the server and the handler must not hide
// them, as http.TimeoutHandler does: its ResponseWriter needs an Unwrap method. The server must
// limit the number of connections, and the waits for headers, for the next request, for handshakes,
// and for bodies that no handler reads (ReadTimeout); the server of [firmware.NewHTTPServer] does.
func New(m *firmware.Manager, authorize func(*http.Request, Access) error, config Config) (http.Handler, error) {
	switch {
	case m == nil:
		return nil, errors.New("httpapi: New: the manager is nil")
	case authorize == nil:
		return nil, errors.New("httpapi: New: authorize is nil; AllowAll allows everything")
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	return newAPI(m, m.Images(), authorize, config), nil
}

// check returns which field is invalid, and why.
func (c Config) check() error {
	switch {
	case c.MaxImage < 0:
		return fmt.Errorf("httpapi: Config.MaxImage: %d is negative", c.MaxImage)
	case c.MaxStreams < 0:
		return fmt.Errorf("httpapi: Config.MaxStreams: %d is negative", c.MaxStreams)
	case c.MaxRequests < 0:
		return fmt.Errorf("httpapi: Config.MaxRequests: %d is negative", c.MaxRequests)
	case c.Heartbeat < 0:
		return fmt.Errorf("httpapi: Config.Heartbeat: %s is negative", c.Heartbeat)
	}
	for _, origin := range c.TrustedOrigins {
		if !anOrigin.MatchString(strings.ToLower(origin)) {
			return fmt.Errorf("httpapi: Config.TrustedOrigins: %.100q is not an origin such as https://ops.example.com", origin)
		}
	}
	return nil
}

// api serves the calls.
type api struct {
	manager manager
	images  repository
	config  Config
	routes  []route
	guard   authorizer
	origins map[string]bool // that are trusted
	streams places
	asked   places // requests to devices

	rollouts rollouts      // nil without Config.Rollouts
	large    chan struct{} // holds one token for each large body

	handedIn handedIn
	texts    texts
	watches  watches
	monitor  monitor
	hub      hub
	owners   owners
	journals journals // of rollouts
	traces   traces
}

func newAPI(m manager, images repository, authorize func(*http.Request, Access) error, config Config) *api {
	a := &api{manager: m, images: images, config: config.withDefaults(), origins: trusted(config.TrustedOrigins)}
	a.guard = newAuthorizer(authorize, a.config.Logger)
	a.streams = places{what: "event streams", most: a.config.MaxStreams, device: maxOfDevice}
	a.handedIn.most = a.config.MaxRequests
	a.asked = places{what: "requests to devices", most: a.config.MaxRequests, device: maxOfDevice}
	a.large = make(chan struct{}, largeBodies)
	if config.Rollouts != nil {
		a.rollouts = config.Rollouts
	}
	a.monitor = monitor{
		manager: m, program: config.Status, followers: a.streams.count, log: a.config.Logger, started: time.Now(),
	}
	a.hub.api = a
	a.routes = a.table()
	return a
}

// answerTime is how long a client may accept nothing of an answer.
const answerTime = 30 * time.Second

// ServeHTTP checks a request and serves its call. An error becomes a problem document.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w, r, done := door.Limit(w, r, answerTime, door.Piece)
	defer done()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if err := a.serve(w, r); err != nil {
		a.fail(w, r, err)
	}
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) error {
	foreign := a.checkOrigin(w, r) // first, so that a trusted page can read any error of its request
	call, req, err := a.match(w, r)
	switch {
	case err != nil:
		return err
	case foreign != nil && (call == nil || !call.public):
		return foreign
	case call == nil: // OPTIONS
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if req.query, err = parseQuery(r, call.query); err != nil {
		return err
	}
	if call.public {
		return call.serve(w, r, req)
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

// manager is the part of [firmware.Manager] that the handler uses.
type manager interface {
	Start(ctx context.Context, request firmware.Request) (firmware.Update, error)
	Cancel(ctx context.Context, id string) (firmware.Update, error)
	Hold(ctx context.Context, id string, h firmware.Hold) (firmware.Update, error)
	Release(ctx context.Context, id, holder string) (firmware.Update, error)
	Served(ctx context.Context, id string) error
	DeleteUpdate(ctx context.Context, id string) error
	RemoveDamaged(ctx context.Context, id string) error
	Get(ctx context.Context, id string) (firmware.Update, error)
	List(ctx context.Context, q store.UpdateQuery) iter.Seq2[firmware.Update, error]
	Counts(ctx context.Context, image string) ([]store.Count, error)
	Journal(ctx context.Context, id string) iter.Seq2[firmware.Event, error]
	EventBatches(ctx context.Context, after uint64) iter.Seq2[[]firmware.Event, error]
	Span(ctx context.Context) (store.Span, error)
	Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[firmware.DeviceInfo, error]
	Device(ctx context.Context, endpoint string) (firmware.DeviceInfo, error)
	DeleteDevice(ctx context.Context, endpoint string) error
	Select(ctx context.Context, s firmware.Selector, after string, limit int) iter.Seq2[firmware.DeviceInfo, error]
	SetLabels(ctx context.Context, endpoint string, labels map[string]string) (firmware.DeviceInfo, error)
	Fleet(ctx context.Context) (firmware.Fleet, error)
	Do(ctx context.Context, r lwm2m.Request) (lwm2m.Answer, error)
	Model(endpoint string, object uint16) (*lwm2m.ObjectModel, bool)
	Status(ctx context.Context) firmware.Status
	Watch(fn func(lwm2m.RegistrationEvent)) (stop func())
	Trace(endpoint string, config lwm2m.TraceConfig) (*lwm2m.Trace, error)
}

// repository is the part of [firmware.Repository] that the handler uses.
type repository interface {
	Add(ctx context.Context, image firmware.Image, content io.Reader) (firmware.Image, error)
	Get(ctx context.Context, id string) (firmware.Image, error)
	List(ctx context.Context, q store.ImageQuery) iter.Seq2[firmware.Image, error]
	Delete(ctx context.Context, id string) error
	CheckDelete(ctx context.Context, id string) error
}
