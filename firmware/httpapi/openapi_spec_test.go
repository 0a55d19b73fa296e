package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
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
