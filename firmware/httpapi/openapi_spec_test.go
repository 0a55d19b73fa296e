package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// A spec is the file openapi.yaml, with what the tests need of it.
type spec struct {
	doc        map[string]any
	operations []*operation

	mu       sync.Mutex // guards the next two
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by pointer
}

// An operation is a method of a path.
type operation struct {
	spec         *spec
	method, path string
	segments     []string
	id, scope    string
	parameters   []parameter
	body         map[string]string // pointers to schemas by media type; "" accepts any bytes
	needsBody    bool
	responses    map[int]response
}

type parameter struct {
	name, in   string
	required   bool
	emptyValue bool
	schema     string // pointer
}

// A response is what an operation answers with a status.
type response struct {
	at      string                       // pointer
	content map[string]string            // pointers to schemas by media type
	events  map[string]map[string]string // by media type: pointers by the type of event
	headers []string
}

const specURL = "file:///openapi.yaml"

// theSpec reads openapi.yaml once.
var theSpec = sync.OnceValues(func() (*spec, error) { return readSpec(openapi) })

func readSpec(text []byte) (*spec, error) {
	var parsed any
	if err := yaml.Unmarshal(text, &parsed); err != nil { // it refuses a key that occurs twice
		return nil, err
	}
	data, err := json.Marshal(parsed)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s := &spec{doc: doc.(map[string]any), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	s.compiler.AssertFormat()
	s.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := s.compiler.AddResource(specURL, doc); err != nil {
		return nil, err
	}
	paths := s.doc["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			if method != "parameters" {
				s.operations = append(s.operations, s.operation(path, method, item))
			}
		}
	}
	return s, nil
}

// at returns what a pointer points at, and its own pointer if that is a reference.
func (s *spec) at(pointer string) (map[string]any, string) {
	var value any = s.doc
	for _, step := range strings.Split(pointer, "/")[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			n, _ := strconv.Atoi(step)
			value = v[n]
		}
	}
	object, _ := value.(map[string]any)
	if to, ok := object["$ref"].(string); ok {
		return s.at(strings.TrimPrefix(to, "#"))
	}
	return object, pointer
}

func escape(step string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(step) }

func (s *spec) operation(path, method string, item map[string]any) *operation {
	at := "/paths/" + escape(path) + "/" + method
	object := item[method].(map[string]any)
	o := &operation{
		spec: s, method: strings.ToUpper(method), path: path, segments: strings.Split(path[1:], "/"),
		body: map[string]string{}, responses: map[int]response{},
	}
	o.id, _ = object["operationId"].(string)
	if list, _ := object["security"].([]any); len(list) > 0 {
		o.scope, _ = list[0].(map[string]any)["bearer"].([]any)[0].(string)
	}
	for _, from := range []string{"/paths/" + escape(path), at} {
		of, _ := s.at(from)
		list, _ := of["parameters"].([]any)
		for i := range list {
			p, pointer := s.at(fmt.Sprintf("%s/parameters/%d", from, i))
			required, _ := p["required"].(bool)
			empty, _ := p["allowEmptyValue"].(bool)
			_, schema := s.at(pointer + "/schema")
			o.parameters = append(o.parameters, parameter{p["name"].(string), p["in"].(string), required, empty, schema})
		}
	}
	if object["requestBody"] != nil {
		body, pointer := s.at(at + "/requestBody")
		o.needsBody, _ = body["required"].(bool)
		for kind, media := range body["content"].(map[string]any) {
			if o.body[kind] = ""; media.(map[string]any)["schema"] != nil {
				o.body[kind] = pointer + "/content/" + escape(kind) + "/schema"
			}
		}
	}
	for code := range object["responses"].(map[string]any) {
		status, _ := strconv.Atoi(code)
		of, pointer := s.at(at + "/responses/" + code)
		r := response{at: pointer, content: map[string]string{}, events: map[string]map[string]string{}}
		content, _ := of["content"].(map[string]any)
		for kind, media := range content {
			in := pointer + "/content/" + escape(kind)
			r.content[kind] = in + "/schema"
			types, _ := media.(map[string]any)["x-events"].(map[string]any)
			for event := range types {
				if r.events[kind] == nil {
					r.events[kind] = map[string]string{}
				}
				r.events[kind][event] = in + "/x-events/" + event
			}
		}
		headers, _ := of["headers"].(map[string]any)
		r.headers = slices.Collect(maps.Keys(headers))
		o.responses[status] = r
	}
	return o
}

// find returns the operation of a request whose path is below /api/v1/, escaped, and the values of
// its path's parameters. HEAD is as GET.
func (s *spec) find(method, path string) (*operation, map[string]string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path = strings.Replace(path, "/resources//", "/resources/", 1) // the slash of a path of LwM2M is tolerated
	segments := strings.Split(path, "/")
	for _, o := range s.operations {
		if o.method != method || len(o.segments) != len(segments) {
			continue
		}
		values, fits := map[string]string{}, true
		for i, segment := range o.segments {
			if segment[0] != '{' {
				fits = fits && segment == segments[i]
				continue
			}
			value, err := url.PathUnescape(segments[i])
			fits = fits && err == nil
			values[strings.Trim(segment, "{}")] = value
		}
		if fits {
			return o, values
		}
	}
	return nil, nil
}

// validate checks a value against the schema at a pointer.
func (s *spec) validate(pointer string, value any) error {
	s.mu.Lock()
	schema := s.schemas[pointer]
	var err error
	if schema == nil {
		if schema, err = s.compiler.Compile(specURL + "#" + pointer); err == nil {
			s.schemas[pointer] = schema
		}
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("the schema %s: %w", pointer, err)
	}
	return schema.Validate(value)
}

// validateJSON checks a text of JSON.
func (s *spec) validateJSON(pointer string, text []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return s.validate(pointer, value)
}

// checkRequest returns why a request is not valid by the file.
func (o *operation) checkRequest(r *http.Request, path map[string]string, body []byte) error {
	query := r.URL.Query()
	for _, p := range o.parameters {
		var values []string
		switch p.in {
		case "path":
			values = []string{path[p.name]}
		case "header":
			values = r.Header.Values(p.name)
		default:
			values = query[p.name]
		}
		schema, _ := o.spec.at(p.schema)
		var value any
		switch kind := schema["type"]; {
		case kind == "object": // the names that begin as it does
			members := map[string]any{}
			for name, list := range query {
				if strings.HasPrefix(name, p.name) {
					members[name] = list[0]
					delete(query, name)
				}
			}
			value = members
		case len(values) == 0:
			if p.required {
				return fmt.Errorf("%s is missing", p.name)
			}
			continue
		case kind == "array":
			list := make([]any, len(values))
			for i, v := range values {
				list[i] = v
			}
			value = list
		case len(values) > 1:
			return fmt.Errorf("%s is given more than once", p.name)
		case kind == "integer" && json.Valid([]byte(values[0])), kind == "boolean" && (values[0] == "true" || values[0] == "false"):
			value, _ = jsonschema.UnmarshalJSON(strings.NewReader(values[0]))
		default:
			value = values[0]
		}
		if err := o.spec.validate(p.schema, value); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if p.in == "query" {
			query.Del(p.name)
		}
	}
	for name := range query {
		return fmt.Errorf("%q is no parameter", name)
	}
	if o.method == http.MethodGet {
		return nil // a body does not count
	}
	if len(body) == 0 {
		if o.needsBody {
			return fmt.Errorf("the body is missing")
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	schema, known := o.body[kind]
	switch {
	case err != nil:
		return fmt.Errorf("the Content-Type: %w", err)
	case !known:
		return fmt.Errorf("the Content-Type is %s", kind)
	case schema == "":
		return nil
	}
	return o.spec.validateJSON(schema, body)
}

// checkResponse returns why a response is not valid by the file. A stream may be cut short.
func (o *operation) checkResponse(method string, status int, header http.Header, body []byte) error {
	r, known := o.responses[status]
	if !known {
		return fmt.Errorf("it has no status %d", status)
	}
	for _, name := range r.headers {
		if header.Get(name) == "" {
			return fmt.Errorf("%d: the header %s is missing", status, name)
		}
	}
	if len(r.content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("%d: it has a body", status)
		}
		return nil
	}
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	schema, known := r.content[kind]
	switch {
	case !known:
		return fmt.Errorf("%d: it has no Content-Type %q", status, kind)
	case method == http.MethodHead:
		return nil
	case r.events[kind] != nil:
		return o.checkEvents(r.events[kind], body)
	case !strings.HasSuffix(kind, "json"):
		return nil // text
	}
	if err := o.spec.validateJSON(schema, body); err != nil {
		return fmt.Errorf("%d: %w", status, err)
	}
	if kind == "application/problem+json" {
		return sameStatus(status, body)
	}
	return nil
}

// sameStatus checks that a problem document has the status of its response.
func sameStatus(status int, body []byte) error {
	var p struct{ Status int }
	if err := json.Unmarshal(body, &p); err != nil || p.Status != status {
		return fmt.Errorf("%d: the problem has the status %d", status, p.Status)
	}
	return nil
}

// checkEvents checks the events of a stream.
func (o *operation) checkEvents(schemas map[string]string, text []byte) error {
	for len(text) > 0 {
		event, rest, whole := bytes.Cut(text, []byte("\n\n"))
		if !whole {
			return nil
		}
		text = rest
		name, data := "message", []byte(nil)
		for line := range bytes.Lines(event) {
			field, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(": "))
			switch string(field) {
			case "event":
				name = string(value)
			case "data":
				data = value
			case "id", "retry", ":":
			default:
				return fmt.Errorf("the stream has a line %q", line)
			}
		}
		if data == nil {
			continue
		}
		schema, known := schemas[name]
		if !known {
			return fmt.Errorf("the stream has no events of type %s", name)
		}
		if err := o.spec.validateJSON(schema, data); err != nil {
			return fmt.Errorf("an event of type %s, %s: %w", name, data, err)
		}
	}
	return nil
}
