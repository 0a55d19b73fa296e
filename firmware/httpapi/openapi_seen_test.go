package httpapi

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// seen is what all tests together have seen.
var seen = sightings{statuses: map[string]bool{}, problems: map[string]bool{}}

type sightings struct {
	mu       sync.Mutex
	statuses map[string]bool // such as "listImages 200"; also events
	problems map[string]bool // by kind
}

func (s *sightings) add(o *operation, status int, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[fmt.Sprintf("%s %d", o.id, status)] = true
	if status >= 400 {
		var p struct{ Type string }
		_ = json.Unmarshal(body, &p) // HEAD has none
		s.problems[strings.TrimPrefix(p.Type, problemType)] = true
	}
}

// addEvent records that an event of a stream was seen. at points at its schema, which several calls
// may share.
func (s *sightings) addEvent(at string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[at] = true
}

// unseen are the problems of the file that no test of this package provokes, and why.
var unseen = map[string]string{
	"method-not-allowed": "it is of no operation",
	"withdrawn":          "it is inside the answer to a request that was handed in",
}

// TestMain fails if the tests together have not seen each success, each type of event and each type
// of problem that openapi.yaml has: what nothing provokes may be wrong in the file.
func TestMain(m *testing.M) {
	code := m.Run()
	s, err := theSpec()
	some := testing.Short() // or only some of the tests
	for _, name := range []string{"run", "skip", "list", "fuzz"} {
		some = some || flag.Lookup("test."+name).Value.String() != ""
	}
	if code != 0 || err != nil || some {
		os.Exit(code)
	}
	var missing []string
	for _, o := range s.operations {
		for status, r := range o.responses {
			if at := fmt.Sprintf("%s %d", o.id, status); status < http.StatusMultipleChoices && !seen.statuses[at] {
				missing = append(missing, at)
			}
			for _, events := range r.events {
				for _, at := range events {
					if !seen.statuses[at] && !slices.Contains(missing, at) {
						missing = append(missing, at)
					}
				}
			}
		}
	}
	for kind := range titles {
		if !seen.problems[kind] && unseen[kind] == "" {
			missing = append(missing, kind)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		fmt.Println("openapi.yaml: no test has seen these:", strings.Join(missing, ", "))
		code = 1
	}
	os.Exit(code)
}

// obliging is a manager whose devices carry out every request, and say nothing about it.
type obliging struct{ manager }

func (obliging) Do(context.Context, lwm2m.Request) (lwm2m.Answer, error) { return lwm2m.Answer{}, nil }

func (obliging) Model(string, uint16) (*lwm2m.ObjectModel, bool) { return nil, false }

// TestHandInEachRequest makes each request to a device without waiting, and a create whose answer
// does not say what was made.
func TestHandInEachRequest(t *testing.T) {
	a := Recorded(t, newAPI(obliging{}, nil, AllowAll, Config{}))
	do := func(method, path, body string) int {
		r := httptest.NewRequestWithContext(t.Context(), method, "/api/v1/devices/dev/resources"+path, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", applicationJSON)
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		return w.Code
	}
	const one, some, attributes = `{"value":1}`, `{"values":[{"path":"/3/0/7/1","value":1}]}`, `{"attributes":{"pmin":1}}`
	for _, call := range []struct{ method, path, query, body string }{
		{"GET", "", "path=/3/0/7", ""}, {"PUT", "", "", some},
		{"GET", "/3", "", ""}, {"PUT", "/3", "attributes=true", attributes}, {"POST", "/3", "", ""},
		{"GET", "/3/0", "", ""}, {"PUT", "/3/0", "", some}, {"POST", "/3/0", "", some}, {"DELETE", "/3/0", "", ""},
		{"GET", "/3/0/7", "", ""}, {"PUT", "/3/0/7", "", some}, {"POST", "/3/0/4", "", ""},
		{"GET", "/3/0/7/1", "", ""}, {"PUT", "/3/0/7/1", "", one}, {"DELETE", "/3/0/7/1", "", ""},
	} {
		require.EventuallyWithT(t, func(t *assert.CollectT) { // a device has 16 at most
			require.Equal(t, http.StatusAccepted, do(call.method, call.path+"?wait=false&"+call.query, call.body), "%s %s", call.method, call.path)
		}, 20*time.Second, 10*time.Millisecond)
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.Equal(t, http.StatusNoContent, do("POST", "/3", ""))
	}, 20*time.Second, 10*time.Millisecond)
}
