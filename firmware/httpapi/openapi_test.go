package httpapi

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOpenAPIHasTheTable compares openapi.yaml with the table of calls, both ways: methods, paths,
// actions, query parameters, and the media types of bodies.
func TestOpenAPIHasTheTable(t *testing.T) {
	s, err := theSpec()
	require.NoError(t, err)
	type entry struct {
		action string
		query  []string
		body   string
	}
	inFile, inCode := map[string]*entry{}, map[string]*entry{}
	deep := regexp.MustCompile(`/resources/\{object\}.*`) // the table has one path for all lengths
	for _, o := range s.operations {
		key := o.method + deep.ReplaceAllString(o.path, "/resources/...")
		e := inFile[key]
		if e == nil {
			e = &entry{action: o.scope}
			inFile[key] = e
		}
		require.Equal(t, e.action, o.scope, key)
		var variables []string
		for _, p := range o.parameters {
			if p.in == "path" {
				variables = append(variables, "{"+p.name+"}")
			}
			if p.in == "query" && !slices.Contains(e.query, p.name) {
				e.query = append(e.query, p.name)
			}
		}
		require.Equal(t, regexp.MustCompile(`\{\w+\}`).FindAllString(o.path, -1), variables, key)
		for kind := range o.body {
			e.body = kind
		}
	}
	for _, route := range newAPI(nil, nil, AllowAll, Config{}).routes {
		for method, c := range route.calls {
			inCode[method+"/"+route.path] = &entry{string(c.action), slices.Clone(c.query), c.contentType}
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(inCode)), slices.Collect(maps.Keys(inFile)))
	for key, want := range inCode {
		got := inFile[key]
		require.Equal(t, want.action, got.action, key)
		require.ElementsMatch(t, want.query, got.query, key)
		if want.body != "" {
			require.Equal(t, want.body, got.body, key)
		}
	}
}

// TestOpenAPIHasTheProblems compares openapi.yaml with the problems that the code makes, both ways:
// statuses, types and titles.
func TestOpenAPIHasTheProblems(t *testing.T) {
	s, err := theSpec()
	require.NoError(t, err)
	statusOf := map[string]int{}
	for status := 400; status < 600; status++ {
		statusOf["Status"+strings.NewReplacer(" ", "", "-", "").Replace(http.StatusText(status))] = status
	}
	inCode := map[string]bool{}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.Ident); !ok || f.Name != "newProblem" || len(call.Args) != 3 {
				return true
			}
			kind, ok := call.Args[1].(*ast.BasicLit)
			require.True(t, ok, "%s: the kind of a problem is a literal", name)
			word, err := strconv.Unquote(kind.Value)
			require.NoError(t, err)
			if status, ok := call.Args[0].(*ast.SelectorExpr); ok {
				require.NotZero(t, statusOf[status.Sel.Name], status.Sel.Name)
				inCode[fmt.Sprint(statusOf[status.Sel.Name], " ", word)] = true
				return true
			}
			require.Equal(t, "device-refused", word, "%s: the status of a problem is a constant", name)
			return true
		})
	}
	for _, status := range statuses {
		inCode[fmt.Sprint(status, " device-refused")] = true
	}
	delete(inCode, "409 withdrawn") // inside the answer to a request that was handed in

	inFile := map[string]bool{}
	for _, o := range s.operations {
		for status, r := range o.responses {
			if status < 400 {
				continue
			}
			require.Equal(t, []string{"application/problem+json"}, slices.Collect(maps.Keys(r.content)), "%s %d", o.id, status)
			for kind := range titles {
				p := map[string]any{"type": problemType + kind, "title": titles[kind], "status": status, "detail": "x"}
				if s.validate(r.content["application/problem+json"], p) == nil {
					inFile[fmt.Sprint(status, " ", kind)] = true
				}
			}
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(inCode)), slices.Sorted(maps.Keys(inFile)))

	types, _ := s.at("/components/schemas/ProblemType")
	var kinds []string
	for _, kind := range types["enum"].([]any) {
		kinds = append(kinds, strings.TrimPrefix(kind.(string), problemType))
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(titles)), kinds)
	responses, _ := s.at("/components/responses")
	for name := range responses {
		examples, _ := s.at("/components/responses/" + name + "/content/application~1problem+json/examples")
		for kind, example := range examples {
			value := example.(map[string]any)["value"].(map[string]any)
			require.Equal(t, titles[kind], value["title"], "%s %s", name, kind)
			require.Equal(t, problemType+kind, value["type"], "%s %s", name, kind)
		}
	}
}

// TestRecorderFinds: a field that the file lacks, a field that an answer lacks, a status, an event
// and a request that the file does not know are found.
func TestRecorderFinds(t *testing.T) {
	s, err := theSpec()
	require.NoError(t, err)
	const fleet = `{"devices":0,"states":{"registered":0,"asleep":0,"silent":0,"not_registered":0},"versions":[],"models":[]`
	for _, tt := range []struct {
		name, method, path, sent string
		status                   int
		contentType, answer      string
		wrong                    string
	}{
		{"right", "GET", "fleet", "", 200, "application/json", fleet + "}", ""},
		{"new field", "GET", "fleet", "", 200, "application/json", fleet + `,"more":1}`, "'more'"},
		{"field missing", "GET", "fleet", "", 200, "application/json", `{"devices":0}`, "states"},
		{"wrong type", "GET", "fleet", "", 200, "application/json", strings.Replace(fleet, "0", `"0"`, 1) + "}", "/devices"},
		{"status", "GET", "fleet", "", 202, "application/json", fleet + "}", "202"},
		{"media type", "GET", "fleet", "", 200, "text/plain", fleet + "}", "text/plain"},
		{"accepted parameter", "GET", "fleet?x=1", "", 200, "application/json", fleet + "}", `"x" is no parameter`},
		{"accepted limit", "GET", "devices?limit=1001", "", 200, "application/json", `{"items":[]}`, "limit"},
		{"label", "GET", "devices?label.site=oslo", "", 200, "application/json", `{"items":[]}`, ""},
		{"accepted label", "GET", "devices?label.Site=oslo", "", 200, "application/json", `{"items":[]}`, "label."},
		{"accepted body", "PUT", "devices/dev/resources/3/0/14", `{"valeu":1}`, 204, "", "", "value"},
		{"accepted nothing", "PUT", "devices/dev/resources/3/0/14", "", 204, "", "", "the body is missing"},
		{"accepted depth", "DELETE", "devices/dev/resources/3", "", 204, "", "", "no such call"},
		{"no call", "GET", "nothing", "", 200, "application/json", "{}", "no such call"},
		{"body of 204", "DELETE", "images/x", "", 204, "", "x", "it has a body"},
		{"problem", "GET", "fleet", "", 404, "application/problem+json", "{}", "404"},
		{"kind of problem", "GET", "images/x", "", 404, "application/problem+json", `{"type":"` + problemType + `kept","title":"t","status":404,"detail":"d"}`, "/type"},
		{"event", "GET", "events", "", 200, "text/event-stream", "data: {\"seq\":1}\n\n", "endpoint"},
		{"type of event", "GET", "events", "", 200, "text/event-stream", "retry: 1\n\n:\n\nevent: x\ndata: {}\n\n", "of type x"},
		{"half an event", "GET", "events", "", 200, "text/event-stream", "retry: 1\n\ndata: {", ""},
	} {
		r := &recorder{spec: s, api: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = bytes.NewBuffer(nil).ReadFrom(r.Body)
			if w.Header().Set("Content-Type", tt.contentType); tt.contentType == "" {
				w.Header().Del("Content-Type")
			}
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.answer))
		})}
		request := httptest.NewRequestWithContext(t.Context(), tt.method, "/api/v1/"+tt.path, strings.NewReader(tt.sent))
		request.Header.Set("Content-Type", "application/json")
		r.ServeHTTP(httptest.NewRecorder(), request)
		if tt.wrong == "" {
			require.Empty(t, r.wrong, tt.name)
			continue
		}
		require.Len(t, r.wrong, 1, tt.name)
		require.Contains(t, r.wrong[0], tt.wrong, tt.name)
	}
}

// TestDescription: the file and the page need no credentials, not even of a page of another origin.
func TestDescription(t *testing.T) {
	a := Recorded(t, newAPI(nil, nil, func(*http.Request, Access) error { return ErrUnauthenticated }, Config{}))
	for path, contentType := range map[string]string{"openapi.yaml": "application/yaml", "docs": "text/html; charset=utf-8"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/any/prefix/api/v1/"+path, nil)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, contentType, w.Header().Get("Content-Type"))
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
		require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
		r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/"+path+"?x=1", nil)
		w = httptest.NewRecorder()
		a.ServeHTTP(w, r)
		require.Equal(t, http.StatusBadRequest, w.Code)
	}
}
