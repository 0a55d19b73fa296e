package httpapi

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/lwm2m"
)

// base is the start of each call's path, after the prefix where the handler is mounted.
const base = "/api/v1/"

// maxEndpoint bounds an endpoint name, in bytes.
const maxEndpoint = 255

// maxID bounds an id in a path, in bytes.
const maxID = 64

// request holds what the handler has parsed of a request.
type request struct {
	image    string // {image}, an id
	update   string // {update}, an id
	rollout  string // {rollout}, an id
	endpoint string // {endpoint}, decoded
	path     lwm2m.Path
	handedIn string // {request}, an id
	query    query
	access   Access           // for the authorizer
	start    firmware.Request // from the body of POST updates
}

// call is one row of the table of calls.
type call struct {
	action      Action
	public      bool     // without credentials, and for pages of any origin; it has no action
	contentType string   // of the body; "" for calls without one
	query       []string // the parameters that it knows
	// read completes the access from the body, before authorization. It is nil if path and query
	// suffice.
	read  func(http.ResponseWriter, *http.Request, *request) error
	serve func(http.ResponseWriter, *http.Request, request) error
}

// route is a path and its calls by method. A segment in braces is a variable; a last segment "..."
// matches the rest of the path, which is a path of LwM2M.
type route struct {
	path  string
	calls map[string]*call
}

func (a *api) table() []route {
	return slices.Concat(a.singles(), a.ofMany(), about())
}

// ofMany are the calls of rollouts.
func (a *api) ofMany() []route {
	paging := []string{"limit", "cursor"}
	routes := []route{
		{"rollouts", map[string]*call{
			http.MethodGet: {action: ReadRollouts, query: append(paging[:2:2], "state", "contains"), serve: a.ofRollouts(a.listRollouts)},
			http.MethodPost: {
				action: WriteRollouts, query: []string{"dry_run"}, contentType: applicationJSON, serve: a.ofRollouts(a.addRollout),
			},
		}},
		{"rollouts/{rollout}", map[string]*call{
			http.MethodGet:    {action: ReadRollouts, serve: a.ofRollouts(a.getRollout)},
			http.MethodPatch:  {action: WriteRollouts, contentType: applicationJSON, serve: a.ofRollouts(a.editRollout)},
			http.MethodDelete: {action: WriteRollouts, serve: a.ofRollouts(a.deleteRollout)},
		}},
		{"rollouts/{rollout}/members", map[string]*call{
			http.MethodGet: {
				action: ReadRollouts, query: append(paging[:2:2], "state", "reason"), serve: a.ofRollouts(a.listMembers),
			},
			http.MethodPost: {action: WriteRollouts, contentType: applicationJSON, serve: a.ofRollouts(a.addMember)},
		}},
		{"rollouts/{rollout}/failures", map[string]*call{
			http.MethodGet: {action: ReadRollouts, serve: a.ofRollouts(a.listFailures)},
		}},
		{"rollouts/{rollout}/events", map[string]*call{
			http.MethodGet: {action: ReadRollouts, query: append(paging[:2:2], "after"), serve: a.ofRollouts(a.rolloutEvents)},
		}},
	}
	for name, do := range a.orders() {
		routes = append(routes, route{"rollouts/{rollout}/" + name, map[string]*call{http.MethodPost: a.orderRollout(name, do)}})
	}
	return routes
}

// singles are the calls of images, devices and updates.
func (a *api) singles() []route {
	paging := []string{"limit", "cursor"}
	read := []string{"format", "timeout", "wait", "observe"}
	write := []string{"format", "timeout", "wait"}
	return []route{
		{"images", map[string]*call{
			http.MethodGet:  {action: ReadImages, query: append(paging[:2:2], "contains"), serve: a.listImages},
			http.MethodPost: {action: WriteImages, query: []string{"version", "name", "manufacturer", "model", "hardware"}, contentType: octetStream, serve: a.addImage},
		}},
		{"images/{image}", map[string]*call{
			http.MethodGet:    {action: ReadImages, serve: a.getImage},
			http.MethodDelete: {action: WriteImages, query: []string{"dry_run"}, serve: a.deleteImage},
		}},
		{"devices", map[string]*call{http.MethodGet: {
			action: ReadDevices, serve: a.listDevices,
			query: append(paging[:2:2], "label.", "manufacturer", "model", "hardware", "version", "version_below", "registered", "contains", "state"),
		}}},
		{"devices/{endpoint}/labels", map[string]*call{
			http.MethodPut: {action: WriteDevices, contentType: applicationJSON, serve: a.putLabels},
		}},
		{"fleet", map[string]*call{http.MethodGet: {action: ReadDevices, serve: a.getFleet}}},
		{"devices/{endpoint}", map[string]*call{
			http.MethodGet:    {action: ReadDevices, serve: a.getDevice},
			http.MethodDelete: {action: WriteDevices, serve: a.deleteDevice},
		}},
		{"devices/{endpoint}/resources", map[string]*call{
			http.MethodGet: {action: ReadResources, query: append(read[:len(read):len(read)], "path"), serve: a.readResources},
			http.MethodPut: {action: WriteResources, query: write, contentType: applicationJSON, serve: a.replaceResources},
		}},
		{"devices/{endpoint}/resources/...", map[string]*call{
			http.MethodGet:    {action: ReadResources, query: append(read[:len(read):len(read)], "discover"), serve: a.readResources},
			http.MethodPut:    {action: WriteResources, query: append(write[:3:3], "attributes"), contentType: applicationJSON, serve: a.replaceResources},
			http.MethodPost:   {action: WriteResources, query: write, serve: a.postResources},
			http.MethodDelete: {action: WriteResources, query: []string{"timeout", "wait"}, serve: a.deleteResources},
		}},
		{"devices/{endpoint}/trace", map[string]*call{
			http.MethodGet:    {action: ReadTraces, query: []string{"after"}, serve: a.getTrace},
			http.MethodPost:   {action: WriteTraces, contentType: applicationJSON, serve: a.startTrace},
			http.MethodDelete: {action: WriteTraces, serve: a.stopTrace},
		}},
		{"devices/{endpoint}/requests/{request}", map[string]*call{
			http.MethodGet:    {action: ReadResources, serve: a.getRequest},
			http.MethodDelete: {action: WriteResources, serve: a.deleteRequest},
		}},
		{"updates", map[string]*call{
			http.MethodGet: {
				action: ReadUpdates, serve: a.listUpdates,
				query: append(paging[:2:2], "endpoint", "image", "label", "order", "outcome", "state", "reason", "whose", "contains"),
			},
			http.MethodPost: {action: WriteUpdates, contentType: applicationJSON, read: readStart, serve: a.startUpdate},
		}},
		{"counts", map[string]*call{http.MethodGet: {action: ReadUpdates, query: []string{"image"}, serve: a.countUpdates}}},
		{"updates/{update}", map[string]*call{
			http.MethodGet:    {action: ReadUpdates, serve: a.getUpdate},
			http.MethodDelete: {action: WriteUpdates, serve: a.deleteUpdate},
		}},
		{"updates/{update}/cancel", map[string]*call{http.MethodPost: {action: WriteUpdates, serve: a.cancelUpdate}}},
		{"updates/{update}/hold", map[string]*call{
			http.MethodPost: {action: WriteUpdates, contentType: applicationJSON, serve: a.holdUpdate},
		}},
		{"updates/{update}/release", map[string]*call{
			http.MethodPost: {action: WriteUpdates, contentType: applicationJSON, serve: a.releaseUpdate},
		}},
		{"updates/{update}/served", map[string]*call{http.MethodPost: {action: WriteUpdates, serve: a.updateServed}}},
		{"status", map[string]*call{http.MethodGet: {action: ReadStatus, serve: a.getStatus}}},
		{"events", map[string]*call{
			http.MethodGet: {action: ReadEvents, query: []string{"after", "endpoint", "update", "rollout", "kinds"}, serve: a.streamEvents},
		}},
	}
}

// match finds the call of a request. For OPTIONS it returns no call, and sets the header Allow.
func (a *api) match(w http.ResponseWriter, r *http.Request) (*call, request, error) {
	// It splits the escaped path, so that an endpoint may contain slashes.
	_, path, found := strings.Cut(r.URL.EscapedPath(), base)
	if !found {
		return nil, request{}, notFound(r)
	}
	segments := strings.Split(path, "/")
	for _, route := range a.routes {
		req, ok, err := matchPath(route.path, segments)
		if err != nil {
			return nil, request{}, err
		}
		if !ok {
			continue
		}
		calls := callsAt(route.calls, req.path, r.URL.Query().Get("attributes") == "true")
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if call, ok := calls[method]; ok {
			return call, req, nil
		}
		if method == http.MethodOptions {
			w.Header().Set("Allow", allow(calls))
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				w.Header().Set("Access-Control-Allow-Methods", allow(calls))
			}
			return nil, req, nil
		}
		p := newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "")
		p.allow = allow(calls)
		p.Detail = clip(r.Method, 20) + " is not among " + p.allow
		if method == http.MethodPut && req.path.IsObject() {
			p.Detail += "; PUT needs an instance, a resource or a resource instance, or ?attributes=true"
		}
		return nil, request{}, p
	}
	return nil, request{}, notFound(r)
}

// callsAt returns those of the calls that a path of LwM2M has. Other paths are the root here, and
// have all.
func callsAt(calls map[string]*call, path lwm2m.Path, attributes bool) map[string]*call {
	if path.IsRoot() {
		return calls
	}
	calls = maps.Clone(calls)
	if path.IsObject() && !attributes {
		delete(calls, http.MethodPut)
	}
	if path.IsObject() || path.IsResource() {
		delete(calls, http.MethodDelete)
	}
	if path.IsResourceInstance() {
		delete(calls, http.MethodPost)
	}
	return calls
}

func allow(calls map[string]*call) string {
	methods := append(slices.Collect(maps.Keys(calls)), http.MethodOptions)
	if calls[http.MethodGet] != nil {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

func notFound(r *http.Request) *problem {
	return newProblem(http.StatusNotFound, "not-found", "there is no call "+clip(r.URL.EscapedPath(), 100)+"; all are below "+base)
}

// clip shortens a string that an answer repeats to the client.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

func matchPath(pattern string, segments []string) (request, bool, error) {
	var req request
	parts := strings.Split(pattern, "/")
	var below []string
	if rest := len(parts) - 1; parts[rest] == "..." {
		if len(segments) <= rest {
			return req, false, nil
		}
		below = segments[rest:]
		parts, segments = parts[:rest], segments[:rest]
	}
	if len(parts) != len(segments) {
		return req, false, nil
	}
	for i, name := range parts {
		if name[0] != '{' && name != segments[i] {
			return req, false, nil
		}
	}
	for i, name := range parts {
		value, err := url.PathUnescape(segments[i])
		if err != nil {
			return req, false, newProblem(http.StatusBadRequest, "bad-request", "the path is not percent-encoded as it should be")
		}
		switch name {
		case "{image}", "{update}", "{rollout}", "{request}":
			if value == "" || len(value) > maxID {
				return req, false, newProblem(http.StatusNotFound, "not-found", "there is nothing of that id")
			}
			switch name {
			case "{image}":
				req.image = value
			case "{update}":
				req.update = value
			case "{rollout}":
				req.rollout = value
			default:
				req.handedIn = value
			}
		case "{endpoint}":
			if problem := names.Check(value, 1, maxEndpoint); problem != "" {
				return req, false, newProblem(http.StatusBadRequest, "bad-request", "the endpoint "+problem)
			}
			req.endpoint = value
		}
	}
	var err error
	if req.path, err = lwm2m.ParsePath(strings.Join(below, "/")); err != nil || below != nil && req.path.IsRoot() {
		return req, false, newProblem(http.StatusBadRequest, "bad-request", strconv.Quote(clip(strings.Join(below, "/"), 100))+
			" is not a path such as 3/0/9: 1 to 4 numbers from 0 to 65534, without a slash at the end")
	}
	return req, true, nil
}
