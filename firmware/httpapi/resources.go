package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// Bounds of a request to a device.
const (
	defaultTimeout = 30 * time.Second
	maxTimeout     = 10 * time.Minute
	defaultLate    = time.Hour // for a client that does not wait
	maxLate        = 24 * time.Hour
	maxPaths       = 64 // of a composite read or observation
	maxOfDevice    = 16 // requests of one device that wait or are under way, and observations of it
)

// A task is a request to a device, and how its answer is shown.
type task struct {
	request lwm2m.Request
	// show returns the status and the body of the answer; without a body it is nil.
	show func(lwm2m.Answer) (status int, body any)
}

func noContent(lwm2m.Answer) (int, any) { return http.StatusNoContent, nil }

// ask makes a request to the device of a call and answers the call.
func (a *api) ask(w http.ResponseWriter, r *http.Request, req request, t task) error {
	wait := true
	if req.query.has("wait") {
		var err error
		if wait, err = req.query.flag("wait"); err != nil {
			return err
		}
	}
	timeout, err := req.query.timeout(wait)
	if err != nil {
		return err
	}
	t.request.Endpoint = req.endpoint
	if t.request.Format, err = req.query.format(); err != nil {
		return err
	}
	leave, err := a.asked.enter(r, req.endpoint)
	if err != nil {
		return err
	}
	if !wait {
		return a.handIn(w, r, req, t, timeout, func() { leave() })
	}
	defer leave()
	answer, err := a.do(r.Context(), t, timeout)
	if err != nil {
		return err
	}
	status, body := t.show(answer)
	if body == nil {
		w.WriteHeader(status)
		return nil
	}
	if status == http.StatusCreated { // relative to the path of the object
		_, instance, _ := strings.Cut(answer.Path.String()[1:], "/")
		w.Header().Set("Location", strconv.Itoa(int(answer.Path.Object()))+"/"+instance)
	}
	return writeJSON(w, status, body)
}

// do makes a request, and translates its error.
func (a *api) do(ctx context.Context, t task, timeout time.Duration) (lwm2m.Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errWaited)
	defer cancel()
	answer, err := a.manager.Do(ctx, t.request)
	if errors.Is(err, ctx.Err()) { // it ended before the request began
		err = context.Cause(ctx)
	}
	if err != nil {
		err = deviceProblem(err, timeout)
	}
	return answer, err
}

// readResources reads, observes or discovers what is at a path, or reads or observes several paths
// at once.
func (a *api) readResources(w http.ResponseWriter, r *http.Request, req request) error {
	discover, err := req.query.flag("discover")
	if err != nil {
		return err
	}
	observe, err := req.query.flag("observe")
	switch {
	case err != nil:
		return err
	case observe && discover:
		return invalidQuery("discover", "observe excludes discover")
	case observe && req.query.has("wait"):
		return invalidQuery("wait", "observe excludes wait")
	}
	models := a.modelsOf(req.endpoint)
	values := func(answer lwm2m.Answer) (int, any) { return http.StatusOK, viewValues(answer.Entries, models) }
	if req.path.IsRoot() {
		paths, err := req.query.paths()
		if err != nil {
			return err
		}
		if observe {
			return a.observeResources(w, r, req, lwm2m.Request{Operation: lwm2m.OpObserveComposite, Paths: paths})
		}
		return a.ask(w, r, req, task{request: lwm2m.Request{Operation: lwm2m.OpReadComposite, Paths: paths}, show: values})
	}
	if observe {
		return a.observeResources(w, r, req, lwm2m.Request{Operation: lwm2m.OpObserve, Path: req.path})
	}
	if !discover {
		return a.ask(w, r, req, task{request: lwm2m.Request{Operation: lwm2m.OpRead, Path: req.path}, show: values})
	}
	switch {
	case req.query.has("format"):
		return invalidQuery("format", "format is not for discover")
	case req.path.IsResourceInstance():
		return invalidQuery("discover", "discover is for an object, an instance or a resource")
	}
	return a.ask(w, r, req, task{
		request: lwm2m.Request{Operation: lwm2m.OpDiscover, Path: req.path},
		show:    func(answer lwm2m.Answer) (int, any) { return http.StatusOK, viewLinks(answer.Discovered, models) },
	})
}

// linkView is a path that a device has.
type linkView struct {
	Path       string             `json:"path"`
	Name       string             `json:"name,omitempty"`
	Version    string             `json:"version,omitempty"`   // of an object
	Dimension  *int               `json:"dimension,omitempty"` // instances of a multiple resource
	Type       string             `json:"type,omitempty"`      // of a resource with a model, as its unit and operations
	Unit       string             `json:"unit,omitempty"`
	Operations string             `json:"operations,omitempty"` // the letters R, W, E
	Attributes map[string]float64 `json:"attributes,omitempty"`
}

type linksView struct {
	Links []linkView `json:"links"`
}

func viewLinks(found []lwm2m.Discovered, m *models) linksView {
	v := linksView{Links: make([]linkView, len(found))}
	for i, d := range found {
		name, model := m.name(d.Path)
		l := linkView{Path: d.Path.String(), Name: name, Unit: model.Unit, Operations: model.Operations.String()}
		if model.Type != lwm2m.TypeNone {
			l.Type = typeNames[model.Type]
		}
		if d.Version != (lwm2m.Version{}) {
			l.Version = d.Version.String()
		}
		if d.Dimension >= 0 {
			l.Dimension = new(d.Dimension)
		}
		for attribute := lwm2m.AttributePMin; attribute <= lwm2m.AttributeHQMax; attribute++ {
			if value, ok := d.Attributes.Get(attribute); ok {
				if l.Attributes == nil {
					l.Attributes = make(map[string]float64)
				}
				l.Attributes[attribute.String()] = value
			}
		}
		v.Links[i] = l
	}
	return v
}

// replaceResources writes an instance, a resource or a resource instance, or values anywhere on the
// device, or attributes.
func (a *api) replaceResources(w http.ResponseWriter, r *http.Request, req request) error {
	attributes, err := req.query.flag("attributes")
	switch {
	case err != nil:
		return err
	case attributes:
		return a.writeAttributes(w, r, req)
	}
	entries, err := a.readEntries(w, r, req)
	if err != nil {
		return err
	}
	t := task{request: lwm2m.Request{Operation: lwm2m.OpWrite, Path: req.path, Entries: entries}, show: noContent}
	if req.path.IsRoot() {
		if len(entries) == 0 {
			return invalidField("values", "must not be empty")
		}
		t.request.Operation = lwm2m.OpWriteComposite
	}
	return a.ask(w, r, req, t)
}

// writeAttributes sets and removes notification attributes.
func (a *api) writeAttributes(w http.ResponseWriter, r *http.Request, req request) error {
	if req.query.has("format") {
		return invalidQuery("format", "format is not for attributes")
	}
	var body struct {
		Attributes map[string]*float64 `json:"attributes"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if len(body.Attributes) == 0 {
		return invalidField("attributes", "must not be empty")
	}
	t := task{request: lwm2m.Request{Operation: lwm2m.OpWriteAttributes, Path: req.path}, show: noContent}
	for attribute := lwm2m.AttributePMin; attribute <= lwm2m.AttributeHQMax; attribute++ {
		name := attribute.String()
		value, named := body.Attributes[name]
		delete(body.Attributes, name)
		switch {
		case !named:
		case value == nil:
			t.request.Attributes.Clear(attribute)
		case t.request.Attributes.Set(attribute, *value) != nil:
			return invalidField("attributes."+name, "cannot have the value "+strconv.FormatFloat(*value, 'g', -1, 64))
		}
	}
	for name := range body.Attributes {
		return invalidField("attributes."+clip(name, 20), "is no notification attribute")
	}
	return a.ask(w, r, req, t)
}

func (a *api) readEntries(w http.ResponseWriter, r *http.Request, req request) ([]lwm2m.Entry, error) {
	var body writeBody
	if err := readJSON(w, r, &body); err != nil {
		return nil, err
	}
	partial := req.path.IsRoot() || r.Method == http.MethodPost && req.path.IsInstance()
	return body.entries(req.path, !partial, a.modelsOf(req.endpoint))
}

// postResources creates an instance of an object, writes part of an instance, or executes a
// resource.
func (a *api) postResources(w http.ResponseWriter, r *http.Request, req request) error {
	switch req.path.Len() {
	case 1:
		return a.createInstance(w, r, req)
	case 2:
		entries, err := a.readEntries(w, r, req)
		if err != nil {
			return err
		}
		return a.ask(w, r, req, task{request: lwm2m.Request{Operation: lwm2m.OpWritePartial, Path: req.path, Entries: entries}, show: noContent})
	default:
		return a.executeResource(w, r, req)
	}
}

// createdView is the answer to a create.
type createdView struct {
	Path string `json:"path"`
}

func (a *api) createInstance(w http.ResponseWriter, r *http.Request, req request) error {
	t := task{
		request: lwm2m.Request{Operation: lwm2m.OpCreate, Path: req.path},
		show: func(answer lwm2m.Answer) (int, any) {
			if !answer.Path.IsInstance() { // the device does not say which instance it has made
				return http.StatusNoContent, nil
			}
			return http.StatusCreated, createdView{answer.Path.String()}
		},
	}
	if r.ContentLength != 0 {
		entries, err := a.readEntries(w, r, req)
		if err != nil {
			return err
		}
		for i, e := range entries {
			if e.Path.Instance() != entries[0].Path.Instance() {
				return invalidField("values["+strconv.Itoa(i)+"].path", "must be in the same instance as the others")
			}
		}
		t.request.Entries = entries
	}
	return a.ask(w, r, req, t)
}

func (a *api) executeResource(w http.ResponseWriter, r *http.Request, req request) error {
	var body struct {
		Arguments string `json:"arguments"`
	}
	if r.ContentLength != 0 {
		if err := readJSON(w, r, &body); err != nil {
			return err
		}
	}
	if req.query.has("format") {
		return invalidQuery("format", "format is not for an execute")
	}
	if _, err := lwm2m.ParseArguments(body.Arguments); err != nil {
		return invalidField("arguments", `must be a list such as 0='text',5: digits, each once, with or without a value`)
	}
	return a.ask(w, r, req, task{
		request: lwm2m.Request{Operation: lwm2m.OpExecute, Path: req.path, Arguments: body.Arguments}, show: noContent,
	})
}

func (a *api) deleteResources(w http.ResponseWriter, r *http.Request, req request) error {
	return a.ask(w, r, req, task{request: lwm2m.Request{Operation: lwm2m.OpDelete, Path: req.path}, show: noContent})
}

// formats are the short names of content formats.
var formats = map[string]lwm2m.ContentFormat{
	"text": lwm2m.FormatText, "opaque": lwm2m.FormatOpaque, "cbor": lwm2m.FormatCBOR, "tlv": lwm2m.FormatTLV, "json": lwm2m.FormatJSON,
	"senml-json": lwm2m.FormatSenMLJSON, "senml-cbor": lwm2m.FormatSenMLCBOR, "lwm2m-cbor": lwm2m.FormatLwM2MCBOR,
	"senml-etch-json": 320, "senml-etch-cbor": 322, // RFC 8790
}

// format returns the content format that the query names, nil if it names none.
func (q query) format() (*lwm2m.ContentFormat, error) {
	if !q.has("format") {
		return nil, nil
	}
	name := strings.ReplaceAll(q.get("format"), " ", "+") // a plus that was not encoded
	for short, f := range formats {
		if name == short || name == f.String() {
			return new(f), nil
		}
	}
	return nil, invalidQuery("format", "format must be text, opaque, cbor, tlv, json, senml-json, senml-cbor, lwm2m-cbor, senml-etch-json or senml-etch-cbor, or the media type")
}

// timeout returns how long to wait for a device, for a client that waits or one that does not.
func (q query) timeout(wait bool) (time.Duration, error) {
	usual, most := defaultTimeout, maxTimeout
	if !wait {
		usual, most = defaultLate, maxLate
	}
	if !q.has("timeout") {
		return usual, nil
	}
	d, err := time.ParseDuration(q.get("timeout"))
	if seconds, wrong := strconv.ParseUint(q.get("timeout"), 10, 31); wrong == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d <= 0 || d > most {
		return 0, invalidQuery("timeout", "timeout must be a duration such as 30s or 5m, or a number of seconds, up to 10m, or 24h with wait=false")
	}
	return d, nil
}

// flag returns a parameter that is true or false; false if it is absent.
func (q query) flag(name string) (bool, error) {
	switch {
	case !q.has(name) || q.get(name) == "false":
		return false, nil
	case q.get(name) == "true":
		return true, nil
	}
	return false, invalidQuery(name, name+" must be true or false")
}

// paths returns the paths of a composite.
func (q query) paths() ([]lwm2m.Path, error) {
	list := q["path"]
	if len(list) == 0 || len(list) > maxPaths {
		return nil, invalidQuery("path", "path must be such as ?path=/3/0/9, and may be repeated: 1 to "+strconv.Itoa(maxPaths)+" times")
	}
	paths := make([]lwm2m.Path, len(list))
	for i, text := range list {
		var err error
		if paths[i], err = lwm2m.ParsePath(text); err != nil || text == "" {
			return nil, invalidQuery("path", "path must be such as /3/0/9")
		}
	}
	return paths, nil
}
