package httpapi

import (
	"bytes"
	"flag"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs.html from openapi.yaml")

// TestDocs makes the page from openapi.yaml and compares it with docs.html, which is part of the
// program: so the program needs no reader of YAML.
func TestDocs(t *testing.T) {
	s, err := theSpec()
	require.NoError(t, err)
	style, err := os.ReadFile("testdata/docs.css")
	require.NoError(t, err)
	page, err := template.New("docs.html.tmpl").Funcs(template.FuncMap{"paragraphs": paragraphs, "code": pieces}).ParseFiles("testdata/docs.html.tmpl")
	require.NoError(t, err)
	var want bytes.Buffer
	require.NoError(t, page.Execute(&want, newDocs(s, string(style))))
	if *update {
		require.NoError(t, os.WriteFile("docs.html", want.Bytes(), 0o644))
		return
	}
	require.True(t, bytes.Equal(want.Bytes(), docs), "docs.html is not that of openapi.yaml: go test ./firmware/httpapi -run TestDocs -update")

	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllSubmatch(docs, -1) {
		require.False(t, ids[string(m[1])], "two elements have the id %s", m[1])
		ids[string(m[1])] = true
	}
	for _, m := range regexp.MustCompile(` href="#([^"]+)"`).FindAllSubmatch(docs, -1) {
		require.True(t, ids[string(m[1])], "a link to %s leads nowhere", m[1])
	}
	require.NotRegexp(t, `<script|<link|https?://[^ ]+\.(js|css)|style="| on[a-z]+="`, string(docs))
}

// docsPage is what the template shows.
type docsPage struct {
	Title, Summary, Description, Version, ProblemType string
	Style                                             template.CSS
	Tags                                              []docsTag
	Problems                                          []docsProblem
	Schemas                                           []docsSchema
}

type docsTag struct {
	Name, Title, Description string
	Calls                    []docsCall
}

type docsCall struct {
	ID, Method, Path, Summary, Description, Scope string
	Parameters                                    docsSchema
	Body                                          *docsBody
	Responses                                     []docsResponse
	Problems                                      []docsRefusal
}

type docsBody struct {
	Description string
	Required    bool
	Kinds       []docsKind
	Example     string
}

// A docsKind is a media type, or a type of event, and its schema.
type docsKind struct {
	Kind string
	Type []docsPiece
}

type docsResponse struct {
	Status      int
	Description string
	Kinds       []docsKind
	Events      []docsKind
}

// A docsRefusal is a status and its types of problem.
type docsRefusal struct {
	Status int
	Names  []string
}

type docsProblem struct{ Name, Title, Example string }

type docsSchema struct {
	Name, Description, Example string
	Type                       []docsPiece
	Rows                       []docsRow
}

type docsRow struct {
	Indent, Name, Description string
	Required                  bool
	Type                      []docsPiece
}

// A docsPiece is a part of a text.
type docsPiece struct {
	Text, Link   string
	Code, Strong bool
}

func newDocs(s *spec, style string) docsPage {
	info, _ := s.at("/info")
	page := docsPage{
		Title: textOf(info, "title"), Summary: textOf(info, "summary"), Description: textOf(info, "description"), Version: s.doc["openapi"].(string),
		ProblemType: problemType, Style: template.CSS("\n" + style),
	}
	for _, tag := range s.doc["tags"].([]any) {
		name := textOf(tag.(map[string]any), "name")
		t := docsTag{Name: name, Title: strings.ToUpper(name[:1]) + name[1:], Description: textOf(tag.(map[string]any), "description")}
		for _, o := range s.operations {
			if object, at := s.at("/paths/" + escape(o.path) + "/" + strings.ToLower(o.method)); object["tags"].([]any)[0] == name {
				t.Calls = append(t.Calls, s.docsCall(o, object, at))
			}
		}
		page.Tags = append(page.Tags, t)
	}
	types, _ := s.at("/components/schemas/ProblemType")
	responses, _ := s.at("/components/responses")
	for _, kind := range types["enum"].([]any) {
		p := docsProblem{Name: strings.TrimPrefix(kind.(string), problemType)}
		p.Title = titles[p.Name]
		for _, name := range slices.Sorted(maps.Keys(responses)) {
			example, _ := s.at("/components/responses/" + name + "/content/application~1problem+json/examples/" + p.Name)
			if p.Example == "" && example != nil {
				p.Example = jsonText(example["value"])
			}
		}
		page.Problems = append(page.Problems, p)
	}
	schemas, _ := s.at("/components/schemas")
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		page.Schemas = append(page.Schemas, s.docsSchema(name, "/components/schemas/"+name))
	}
	return page
}

func (s *spec) docsCall(o *operation, object map[string]any, at string) docsCall {
	c := docsCall{
		ID: o.id, Method: o.method, Path: "/api/v1" + o.path, Summary: textOf(object, "summary"), Description: textOf(object, "description"),
		Scope: o.scope,
	}
	for _, from := range []string{"/paths/" + escape(o.path), at} {
		of, _ := s.at(from)
		list, _ := of["parameters"].([]any)
		for i := range list {
			p, pointer := s.at(fmt.Sprintf("%s/parameters/%d", from, i))
			where := map[string]string{"query": "?", "path": "", "header": "header "}[p["in"].(string)]
			c.Parameters.Rows = append(c.Parameters.Rows, docsRow{
				Name: where + textOf(p, "name"), Description: textOf(p, "description"), Required: p["required"] == true,
				Type: s.typeOf(pointer + "/schema"),
			})
		}
	}
	if object["requestBody"] != nil {
		body, pointer := s.at(at + "/requestBody")
		c.Body = &docsBody{Description: textOf(body, "description"), Required: o.needsBody}
		for _, kind := range slices.Sorted(maps.Keys(o.body)) {
			k := docsKind{Kind: kind}
			if o.body[kind] != "" {
				k.Type = s.typeOf(o.body[kind])
			}
			c.Body.Kinds = append(c.Body.Kinds, k)
			if media, _ := s.at(pointer + "/content/" + escape(kind)); media["example"] != nil {
				c.Body.Example = jsonText(media["example"])
			}
		}
	}
	for _, status := range slices.Sorted(maps.Keys(o.responses)) {
		of, _ := s.at(at + "/responses/" + strconv.Itoa(status))
		r := docsResponse{Status: status, Description: textOf(of, "description")}
		for _, kind := range slices.Sorted(maps.Keys(o.responses[status].content)) {
			schema := o.responses[status].content[kind]
			if kind == "application/problem+json" {
				p := docsRefusal{Status: status}
				for name := range titles {
					document := map[string]any{"type": problemType + name, "title": "t", "status": status, "detail": "d"}
					if s.validate(schema, document) == nil {
						p.Names = append(p.Names, name)
					}
				}
				slices.Sort(p.Names)
				c.Problems = append(c.Problems, p)
				continue
			}
			k := docsKind{Kind: kind}
			if strings.HasSuffix(kind, "json") {
				k.Type = s.typeOf(schema)
			}
			r.Kinds = append(r.Kinds, k)
			events := o.responses[status].events[kind]
			for _, event := range slices.Sorted(maps.Keys(events)) {
				r.Events = append(r.Events, docsKind{event, s.typeOf(events[event])})
			}
		}
		if status < http.StatusBadRequest {
			c.Responses = append(c.Responses, r)
		}
	}
	return c
}
