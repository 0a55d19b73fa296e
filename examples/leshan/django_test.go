package leshan_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// django stands in for the backend of flownexus: it answers as the recorded one does
// (TestStandInIsDjango), keeps endpoints, updates and operations, and sends operations as it does.
type django struct {
	api http.Handler // the bridge

	mu         sync.Mutex
	posts      []posted
	underWay   map[string]int // posts by endpoint
	overlap    int            // posts that began before the one before was answered
	registered map[string]bool
	updates    []*update
	down       bool          // nothing listens
	queueDown  bool          // the task queue is gone
	delay      time.Duration // before each answer
	drop       bool          // the connection ends without an answer
	sent       []string      // requests to the bridge, with their status
}

// posted is a post, and how it was answered.
type posted struct {
	endpoint string
	what     string // "3/3=1.0", a composite as "3/0=a 3/1=b"
	status   int
	at       time.Time
}

// update is a FirmwareUpdate.
type update struct {
	endpoint, version, uri string
	state, result          int64
	operations             []*operation
}

type operation struct {
	update   *update
	resource int // 1 or 2
	status   string
	tries    int
}

// fixture holds the resource types of the database.
var fixture = func() map[[2]int]string {
	m := map[[2]int]string{{3303, 5700}: "FLOAT", {3304, 5700}: "FLOAT", {3, 13}: "TIME", {3, 22}: "objlnk",
		{5, 0}: "opaque", {5, 1}: "STRING", {5, 2}: "NONE", {5, 3}: "INTEGER", {5, 5}: "INTEGER", {5, 6}: "STRING",
		{10240, 0}: "INTEGER", {10240, 1}: "INTEGER", {10240, 2}: "INTEGER"}
	for _, id := range []int{0, 1, 2, 3, 14, 15, 16, 17, 18, 19} {
		m[[2]int{3, id}] = "STRING"
	}
	for _, id := range []int{6, 7, 8, 9, 10, 11, 20, 21} {
		m[[2]int{3, id}] = "INTEGER"
	}
	for _, id := range []int{4, 5, 12} {
		m[[2]int{3, id}] = "NONE"
	}
	return m
}()

// columns are the columns in which Django stores a type.
var columns = map[string]string{"TIME": "int", "INTEGER": "int", "BOOLEAN": "int", "FLOAT": "float", "STRING": "str"}

// dial connects to the stand-in.
func (d *django) dial(_ context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	go func() {
		defer func() { _ = far.Close() }()
		r, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			return
		}
		answer := httptest.NewRecorder()
		d.ServeHTTP(answer, r)
		d.mu.Lock()
		drop := d.drop
		d.mu.Unlock()
		if !drop {
			_ = answer.Result().Write(far)
		}
	}()
	return near, nil
}

type rejection struct {
	status int
	why    string
}

func (e rejection) Error() string { return e.why }

func invalid(format string, args ...any) error { return rejection{400, fmt.Sprintf(format, args...)} }
func broken(format string, args ...any) error  { return rejection{500, fmt.Sprintf(format, args...)} }

func (d *django) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	single := r.URL.Path == "/leshan_api/resource/single"
	if !single && r.URL.Path != "/leshan_api/resource/composite" {
		http.NotFound(w, r)
		return
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		http.Error(w, "{}", http.StatusUnsupportedMediaType)
		return
	}
	data, _ := io.ReadAll(r.Body)
	var body any
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber()
	err := decoder.Decode(&body)
	if err != nil {
		body, err = nil, invalid("JSON parse error")
		if len(data) == 0 {
			err = invalid("required")
		}
	}
	fields, _ := body.(map[string]any)
	endpoint, endpointErr := text(fields["ep"])
	d.mu.Lock()
	if d.underWay == nil {
		d.underWay, d.registered = map[string]int{}, map[string]bool{}
	}
	if d.underWay[endpoint] > 0 {
		d.overlap++
	}
	d.underWay[endpoint]++
	delay := d.delay
	d.mu.Unlock()
	time.Sleep(delay)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay[endpoint]--
	t := posted{endpoint: endpoint, at: time.Now()}
	switch {
	case err != nil:
	case fields == nil:
		err = invalid("not a dictionary")
	case endpointErr != nil || endpoint == "":
		err = invalid("ep")
	case single:
		err = d.single(endpoint, fields, &t)
	default:
		err = d.composite(endpoint, fields, &t)
	}
	t.status = http.StatusCreated
	if refused, ok := err.(rejection); ok { //nolint:errorlint // never wrapped
		t.status = refused.status
	}
	d.posts = append(d.posts, t)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(t.status)
	_, _ = io.WriteString(w, "{}")
}

// text validates a CharField of at most 255 characters, which loses blanks at its ends.
func text(v any) (string, error) {
	s, ok := v.(string)
	if number, isNumber := v.(json.Number); isNumber {
		s, ok = number.String(), true
	}
	s = strings.TrimSpace(s)
	if !ok || utf8.RuneCountInString(s) > 255 || strings.ContainsRune(s, 0) {
		return "", invalid("not a valid string")
	}
	return s, nil
}

// resource validates a resource.
func resource(v any) (map[string]any, error) {
	r, ok := v.(map[string]any)
	if !ok {
		return nil, invalid("not a dictionary")
	}
	_, isInt := r["id"].(json.Number)
	kind, _ := r["kind"].(string)
	name, _ := r["type"].(string)
	if !isInt || kind != "singleResource" && kind != "multiResource" || columns[name] == "" {
		return nil, invalid("kind, id or type")
	}
	out := map[string]any{"kind": kind, "id": r["id"], "type": name}
	if value, given := r["value"]; given {
		s, err := text(value)
		if err != nil {
			return nil, err
		}
		out["value"] = s
	}
	if values, given := r["values"]; given {
		list, ok := values.(map[string]any)
		if !ok {
			return nil, invalid("values")
		}
		for _, value := range list {
			if _, err := text(value); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (d *django) single(endpoint string, fields map[string]any, t *posted) error {
	object, isInt := fields["obj_id"].(json.Number)
	r, err := resource(fields["val"])
	if err != nil || !isInt {
		return invalid("obj_id or val")
	}
	return d.handle(endpoint, object, r, t)
}

func (d *django) composite(endpoint string, fields map[string]any, t *posted) error {
	if _, isList := fields["val"].([]any); isList {
		return broken("'list' object has no attribute 'items'")
	}
	val, ok := fields["val"].(map[string]any)
	if !ok {
		return invalid("val")
	}
	type found struct {
		id        json.Number
		missing   bool
		resources []map[string]any
	}
	var objects []found
	for _, v := range val {
		o, ok := v.(map[string]any)
		id, isInt := o["id"].(json.Number)
		if !ok || o["kind"] != "obj" || !isInt {
			return invalid("object")
		}
		f := found{id: id}
		list, given := o["instances"].([]any)
		f.missing = !given
		for _, i := range list {
			instance, _ := i.(map[string]any)
			resources, ok := instance["resources"].([]any)
			if _, isInt := instance["id"].(json.Number); !ok || !isInt || instance["kind"] != "instance" {
				return invalid("instance")
			}
			for _, v := range resources {
				r, err := resource(v)
				if err != nil {
					return err
				}
				f.resources = append(f.resources, r)
			}
		}
		objects = append(objects, f)
	}
	for _, f := range objects {
		if f.missing {
			return broken("KeyError 'instances'")
		}
		for _, r := range f.resources {
			if err := d.handle(endpoint, f.id, r, t); err != nil {
				return err
			}
		}
	}
	return nil
}
