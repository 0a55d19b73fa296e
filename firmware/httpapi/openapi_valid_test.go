package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

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
		seen.addEvent(schema)
		if err := o.spec.validateJSON(schema, data); err != nil {
			return fmt.Errorf("an event of type %s, %s: %w", name, data, err)
		}
	}
	return nil
}
