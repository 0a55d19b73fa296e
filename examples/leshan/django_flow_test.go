package leshan_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"
)

// handle stores a resource and acts on it.
func (d *django) handle(endpoint string, objectID json.Number, r map[string]any, t *posted) error {
	object, _ := strconv.Atoi(objectID.String())
	id, _ := strconv.Atoi(r["id"].(json.Number).String())
	if r["kind"] == "multiResource" {
		return nil
	}
	known, ok := fixture[[2]int{object, id}]
	switch {
	case !ok:
		return broken("DoesNotExist")
	case columns[known] != columns[r["type"].(string)]:
		return invalid("mismatch of types")
	}
	value, given := r["value"].(string)
	if !given {
		return broken("KeyError 'value'")
	}
	var number int64
	var err error
	switch columns[known] {
	case "int":
		number, err = strconv.ParseInt(value, 10, 64)
	case "float":
		var f float64
		if f, err = strconv.ParseFloat(value, 64); err == nil && math.IsInf(f, 0) {
			t.what += "(the page of this resource is broken from now on)"
		}
	}
	if err != nil {
		return broken("ValueError")
	}
	t.what = strings.TrimSpace(fmt.Sprintf("%s %d/%d=%s", t.what, object, id, value))
	switch {
	case object == 10240 && id == 2:
		return d.process(endpoint)
	case object == 10240:
		d.registered[endpoint] = id == 0
		return nil
	case object == 3 && id == 3 || object == 5:
		return d.judge(endpoint, object, id, value, number)
	}
	return nil
}

// judge acts on the version and on the resources of object 5.
func (d *django) judge(endpoint string, object, id int, value string, number int64) error {
	active := d.active(endpoint)
	switch {
	case len(active) == 0 && id == 3:
		return nil
	case len(active) != 1:
		return invalid("no active update, or several")
	}
	u := active[0]
	switch {
	case object == 3 && value == u.version:
		u.state, u.result = 0, 1
	case object == 3:
		u.state, u.result = 0, 8
	case id == 3 && number == 2:
		u.state = 2
		u.operations = append(u.operations, &operation{update: u, resource: 2, status: "QUEUED"})
		return d.process(endpoint)
	case id == 5:
		u.state, u.result = 0, number
	}
	return nil
}

func (d *django) active(endpoint string) []*update {
	return slices.DeleteFunc(slices.Clone(d.updates), func(u *update) bool { return u.endpoint != endpoint || u.result != 0 })
}

// process sends the operations that are queued. Without the task queue it fails after 19 s.
func (d *django) process(endpoint string) error {
	if d.queueDown {
		d.mu.Unlock()
		time.Sleep(19 * time.Second)
		d.mu.Lock()
		return broken("OperationalError")
	}
	for _, u := range d.updates {
		for _, o := range u.operations {
			if u.endpoint == endpoint && o.status == "QUEUED" {
				o.status = "SENDING"
				go d.send(o)
			}
		}
	}
	return nil
}

// send sends an operation to the bridge.
func (d *django) send(o *operation) {
	method, body := http.MethodPost, ""
	if o.resource == 1 {
		method, body = http.MethodPut, fmt.Sprintf(`{"id": 1, "kind": "singleResource", "value": %q, "type": "STRING"}`, o.update.uri)
	}
	target := fmt.Sprintf("/api/clients/%s/5/0/%d?timeout=5&format=CBOR", o.update.endpoint, o.resource)
	answer := request(d.api, method, target, body)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = append(d.sent, fmt.Sprintf("%s 5/%d -> %d", method, o.resource, answer.Code))
	switch {
	case answer.Code == 200 && json.Valid(answer.Body.Bytes()):
		o.status = "CONFIRMED"
	case answer.Code == 200: // the task ends with an exception
	default:
		o.tries++
		o.status = "QUEUED"
		if o.tries == 3 {
			o.status = "FAILED"
		}
	}
}

// request sends a request to the bridge as Django does.
func request(api http.Handler, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	r.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, r)
	return answer
}

// update makes an update in the admin, which sends its URI.
func (d *django) update(endpoint, version string) *update {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := &update{endpoint: endpoint, version: version, uri: "/binaries/" + version + ".bin"}
	u.operations = []*operation{{update: u, resource: 1, status: "QUEUED"}}
	d.updates = append(d.updates, u)
	_ = d.process(endpoint)
	return u
}

// list returns the posts of an endpoint, without the times of registrations.
func (d *django) list(endpoint string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := []string{}
	for _, t := range d.posts {
		if t.endpoint == endpoint {
			what := t.what
			if strings.HasPrefix(what, "10240/") {
				what, _, _ = strings.Cut(what, "=")
			}
			list = append(list, what)
		}
	}
	return list
}

// forget forgets the posts so far.
func (d *django) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.posts = nil
}

// with calls fn with the lock held.
func (d *django) with(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn()
}

// requests returns the requests to the bridge, with their status.
func (d *django) requests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.sent)
}
