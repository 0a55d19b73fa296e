package leshan

import (
	"net/http"
	"slices"
	"strings"

	"github.com/otago-iot/otago/lwm2m"
)

// maxObservations is how many observations the REST API makes on one device.
const maxObservations = 16

// observe observes a path, or reads it if the bridge observes it anyway.
func (c call) observe() reply {
	if !c.known() {
		return c.unregistered("no")
	}
	path, wrong := c.target()
	if wrong != nil {
		return *wrong
	}
	if slices.Contains(c.config.Follow, path) {
		a, err := c.ask(lwm2m.Request{Operation: lwm2m.OpRead, Path: path, Format: c.format("format")})
		if err != nil {
			return c.failure(lwm2m.OpObserve, err, "no")
		}
		return content(path, a.Entries)
	}
	entries, wrong := c.begin(path.String(), lwm2m.Request{Operation: lwm2m.OpObserve, Path: path, Format: c.format("format")}, "no")
	if wrong != nil {
		return *wrong
	}
	return content(path, entries)
}

// observeComposite observes several paths at once.
func (c call) observeComposite() reply {
	if !c.known() {
		return c.unregistered("No")
	}
	paths, wrong := c.paths()
	if wrong != nil {
		return *wrong
	}
	entries, wrong := c.begin(c.r.URL.Query().Get("paths"),
		lwm2m.Request{Operation: lwm2m.OpObserveComposite, Paths: paths, Format: c.format("nodeformat")}, "No")
	if wrong != nil {
		return *wrong
	}
	return contents(paths, entries)
}

// begin starts an observation, in place of one under the same key. Its notifications go to Django,
// as those of the paths that the bridge follows.
func (c call) begin(key string, r lwm2m.Request, no string) ([]lwm2m.Entry, *reply) {
	c.mu.Lock()
	room := len(c.device(c.endpoint).observations) < maxObservations
	c.mu.Unlock()
	if !room {
		a := invalidRequest("too many observations")
		return nil, &a
	}
	registration, _ := c.server.Registration(c.endpoint)
	first := true
	r.Values = func(entries []lwm2m.Entry) {
		if !first {
			c.values(lwm2m.Values{Registration: registration, Path: r.Path, Entries: entries})
		}
		first = false
	}
	a, err := c.ask(r)
	if err != nil {
		refused := c.failure(r.Operation, err, no)
		return nil, &refused
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.device(c.endpoint)
	if d.observations == nil {
		d.observations = map[string]*lwm2m.Observation{}
	}
	if before := d.observations[key]; before != nil {
		before.Drop(nil)
	}
	d.observations[key] = a.Observation
	return a.Entries, nil
}

// unobserve ends an observation that the REST API has made.
func (c call) unobserve(key string) reply {
	c.mu.Lock()
	d := c.device(c.endpoint)
	o := d.observations[key]
	delete(d.observations, key)
	c.mu.Unlock()
	if o != nil {
		o.Drop(nil)
	}
	switch active := c.r.URL.Query().Has("active"); {
	case active && o == nil && strings.Contains(key, ","):
		return reply{status: http.StatusNotFound, text: "no composite observation for paths [" + strings.ReplaceAll(key, ",", ", ") +
			"] for  client '" + c.endpoint + "'"}
	case active && o == nil:
		return reply{status: http.StatusNotFound, text: "no observation for path " + key + " for  client '" + c.endpoint + "'"}
	case active:
		return reply{status: http.StatusOK, json: success(statusContent)}
	}
	return reply{status: http.StatusOK}
}
