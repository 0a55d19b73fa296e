package leshan

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// get reads: a registration, or something on a device.
func (c call) get() reply {
	switch {
	case c.endpoint == "":
		return invalidPath
	case len(c.path) == 0:
		r, ok := c.server.Registration(c.endpoint)
		if !ok || !c.known() {
			return c.unregistered("no")
		}
		return reply{status: http.StatusOK, json: clientOf(r, time.Now())}
	case !c.known():
		return c.unregistered("No")
	case len(c.path) == 1 && c.path[0] == "composite":
		paths, wrong := c.paths()
		if wrong != nil {
			return *wrong
		}
		a, err := c.ask(lwm2m.Request{Operation: lwm2m.OpReadComposite, Paths: paths, Format: c.format("nodeformat")})
		if err != nil {
			return c.failure(lwm2m.OpReadComposite, err, "No")
		}
		return contents(paths, a.Entries)
	case c.last("discover"):
		path, wrong := c.target()
		if wrong != nil {
			return *wrong
		}
		if path.IsResourceInstance() {
			return invalidRequest("Discover request cannot target resource instance path: %s ", path)
		}
		a, err := c.ask(lwm2m.Request{Operation: lwm2m.OpDiscover, Path: path})
		if err != nil {
			return c.failure(lwm2m.OpDiscover, err, "No")
		}
		answer := success(statusContent)
		answer.ObjectLinks = discovered(a.Discovered)
		return reply{status: http.StatusOK, json: answer}
	}
	path, wrong := c.target()
	if wrong != nil {
		return *wrong
	}
	a, err := c.ask(lwm2m.Request{Operation: lwm2m.OpRead, Path: path, Format: c.format("format")})
	if err != nil {
		return c.failure(lwm2m.OpRead, err, "No")
	}
	return content(path, a.Entries)
}

// ask sends a request that changes nothing, and waits for the answer as long as the caller says.
func (c call) ask(r lwm2m.Request) (lwm2m.Answer, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), c.timeout())
	defer cancel()
	r.Endpoint, r.NoWait = c.endpoint, true
	a, err := c.server.Do(ctx, r)
	if errors.Is(err, context.DeadlineExceeded) {
		err = lwm2m.ErrTimeout
	}
	return a, err
}

// paths returns the paths of a composite.
func (c call) paths() ([]lwm2m.Path, *reply) {
	var paths []lwm2m.Path
	for text := range strings.SplitSeq(c.r.URL.Query().Get("paths"), ",") {
		p, err := lwm2m.ParsePath(text)
		if err != nil || text == "" || len(paths) == 64 {
			a := invalidRequest("invalid path format")
			return nil, &a
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// put writes: a value, several as a composite, or attributes.
func (c call) put() reply {
	composite := len(c.path) == 1 && c.path[0] == "composite"
	switch {
	case c.endpoint == "", !composite && len(c.path) < 2:
		return invalidPath
	case !c.known() && composite:
		return c.unregistered("no")
	case !c.known():
		return c.unregistered("No")
	case composite:
		return c.writeComposite()
	case c.last("attributes"):
		return c.writeAttributes()
	}
	path, wrong := c.target()
	if wrong != nil {
		return *wrong
	}
	n, wrong := c.node(path)
	if wrong != nil {
		return *wrong
	}
	operation := lwm2m.OpWrite
	if replace := c.r.URL.Query()["replace"]; len(replace) > 0 && !strings.EqualFold(replace[0], "true") {
		operation = lwm2m.OpWritePartial
	}
	if why := fits(n.kind, path, operation); why != nil {
		return *why
	}
	entries, err := n.entries(path)
	if err != nil {
		return invalidRequest("%v", err)
	}
	return c.change(lwm2m.Request{Operation: operation, Path: path, Entries: entries, Format: c.format("format")}, statusChanged, "No")
}

// fits checks that a node can be written at a path, as Leshan does.
func fits(k kind, path lwm2m.Path, operation lwm2m.Operation) *reply {
	single := path.IsResource() && k == kindSingle
	var match bool
	switch path.Len() {
	case 2:
		match = k == kindInstance
	case 3:
		match = single || k == kindMultiple
	case 4:
		match = k == kindResourceInstance
	}
	if !match {
		a := invalidRequest("path '%s' and node type '%s' do not match", path, classNames[k])
		return &a
	}
	if operation == lwm2m.OpWritePartial && (single || path.IsResourceInstance()) {
		what := "resource instance"
		if single {
			what = "single resource"
		}
		a := invalidRequest("Invalid mode for '%s': update is not allowed on %s", path, what)
		return &a
	}
	return nil
}

// node reads the node in the body.
func (c call) node(path lwm2m.Path) (input, *reply) {
	fail := func(a reply) (input, *reply) { return input{}, &a }
	given := c.r.Header.Get("Content-Type")
	kindOfBody, _, _ := mime.ParseMediaType(given)
	switch {
	case given == "":
		return fail(invalidRequest("content type null not supported"))
	case kindOfBody != "application/json" && kindOfBody != "text/plain":
		return fail(invalidRequest("content type %.100s not supported", given))
	}
	data, wrong := c.body()
	if wrong != nil {
		return input{}, wrong
	}
	if kindOfBody == "text/plain" {
		last := c.path[len(c.path)-1]
		id, err := strconv.ParseUint(last, 10, 16)
		if err != nil {
			return fail(unexpected("For input string: " + strconv.Quote(last)))
		}
		return input{kind: kindSingle, id: uint16(id), named: true, value: lwm2m.String(string(data))}, nil
	}
	n, err := parseNode(data)
	switch {
	case errors.Is(err, errValue):
		return fail(unexpected(err))
	case err != nil:
		return fail(invalidRequest("unable to parse json to tlv:%v", err))
	}
	return n, nil
}

// writeComposite writes several nodes, each at its path.
func (c call) writeComposite() reply {
	data, wrong := c.body()
	if wrong != nil {
		return *wrong
	}
	var raw map[string]rawNode
	if err := json.Unmarshal(data, &raw); err != nil {
		return unexpected(err)
	}
	var entries []lwm2m.Entry
	for text, r := range raw {
		path, err := lwm2m.ParsePath(text)
		if err != nil {
			return unexpected("Invalid elements in path " + text)
		}
		n, err := r.node()
		if err != nil {
			return unexpected(err)
		}
		if n.kind != kindSingle && n.kind != kindResourceInstance || path.Len() < 3 {
			return invalidRequest("Invalid value : path (%s) should not refer to a %s value", path, classNames[n.kind])
		}
		entries = append(entries, lwm2m.Entry{Path: path, Value: n.value})
	}
	return c.change(lwm2m.Request{Operation: lwm2m.OpWriteComposite, Entries: entries, Format: c.format("nodeformat")}, statusChanged, "no")
}

// writeAttributes sets notification attributes.
func (c call) writeAttributes() reply {
	path, wrong := c.target()
	if wrong != nil {
		return *wrong
	}
	var set lwm2m.Attributes
	query := c.r.URL.Query()
	for _, a := range attributes {
		values, given := query[a.String()]
		switch {
		case !given:
		case values[0] == "":
			set.Clear(a)
		default:
			v, err := strconv.ParseFloat(values[0], 64)
			if err == nil {
				err = set.Set(a, v)
			}
			if err != nil {
				return unexpected(err)
			}
		}
	}
	_, err := c.ask(lwm2m.Request{Operation: lwm2m.OpWriteAttributes, Path: path, Attributes: set})
	if err != nil {
		return c.failure(lwm2m.OpWriteAttributes, err, "No")
	}
	return reply{status: http.StatusOK, json: success(statusChanged)}
}

// post executes, creates or observes.
func (c call) post() reply {
	switch {
	case c.endpoint == "":
		return invalidPath
	case len(c.path) == 2 && c.path[0] == "composite" && c.path[1] == "observe":
		return c.observeComposite()
	case c.last("observe"):
		return c.observe()
	case len(c.path) == 3:
		return c.execute()
	case len(c.path) == 1 || len(c.path) == 2:
		return c.create()
	}
	return invalidPath
}

func (c call) execute() reply {
	if !c.known() {
		return c.unregistered("no")
	}
	path, wrong := c.target()
	if wrong != nil {
		return *wrong
	}
	arguments, wrong := c.body()
	if wrong != nil {
		return *wrong
	}
	if _, err := lwm2m.ParseArguments(string(arguments)); err != nil {
		return invalidRequest("Invalid Execute request : [%v]", err)
	}
	return c.change(lwm2m.Request{Operation: lwm2m.OpExecute, Path: path, Arguments: string(arguments)}, statusChanged, "no")
}

func (c call) create() reply {
	if !c.known() {
		return c.unregistered("no")
	}
	path, wrong := c.target()
	if wrong != nil {
		return *wrong
	}
	n, wrong := c.node(path)
	switch {
	case wrong != nil:
		return *wrong
	case n.kind != kindInstance:
		return unexpected("payload must contain an object instance")
	case !path.IsObject():
		return invalidRequest("Invalid path %s: Create request must target an object", path)
	}
	format := c.format("format")
	if !n.named && format != nil && *format != lwm2m.FormatTLV {
		return invalidRequest("Missing object instance id for CREATE request (%s) using %s content format.", path,
			strings.ToUpper(c.r.URL.Query().Get("format")))
	}
	if !n.named {
		n.id = c.freeInstance(path.Object())
	}
	instance, err := below(path, n.id)
	if err != nil {
		return invalidRequest("%v", err)
	}
	entries, err := n.entries(instance)
	if err != nil {
		return invalidRequest("%v", err)
	}
	return c.change(lwm2m.Request{Operation: lwm2m.OpCreate, Path: path, Entries: entries, Format: format}, statusCreated, "no")
}

// freeInstance returns the lowest instance of an object that the device does not list.
func (c call) freeInstance(object uint16) uint16 {
	r, _ := c.server.Registration(c.endpoint)
	var id uint16
	for _, o := range r.Objects().Objects {
		if o.ID == object {
			for slices.Contains(o.Instances, id) {
				id++
			}
		}
	}
	return id
}

// delete deletes an instance, or ends an observation.
func (c call) delete() reply {
	switch {
	case c.endpoint == "":
		return invalidPath
	case !c.known():
		return c.unregistered("no")
	case len(c.path) == 2 && c.path[0] == "composite" && c.path[1] == "observe":
		return c.unobserve(c.r.URL.Query().Get("paths"))
	case c.last("observe"):
		path, wrong := c.target()
		if wrong != nil {
			return *wrong
		}
		return c.unobserve(path.String())
	}
	path, wrong := c.target()
	switch {
	case wrong != nil:
		return *wrong
	case !path.IsInstance():
		return invalidRequest("Invalid path %s : Only object instances can be delete", path)
	}
	return c.change(lwm2m.Request{Operation: lwm2m.OpDelete, Path: path}, statusDeleted, "no")
}
