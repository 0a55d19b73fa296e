package leshan_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vector is an exchange that was recorded from flownexus.
type vector struct {
	ID          string          `json:"id"`
	Group       string          `json:"group"`
	To          string          `json:"to"` // django or leshan
	Method      string          `json:"method"`
	Path        string          `json:"path"`
	ContentType *string         `json:"content_type"`
	Request     json.RawMessage `json:"request_body"`
	Status      int             `json:"status"`
	Response    json.RawMessage `json:"response_body"`
}

// body returns the body of a request, which was recorded as a text if it is no JSON.
func (v vector) body() string {
	var text string
	if json.Unmarshal(v.Request, &text) == nil {
		return text
	}
	return string(v.Request)
}

func vectors(t *testing.T) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/flownexus.json")
	require.NoError(t, err)
	var file struct{ Vectors []vector }
	require.NoError(t, json.Unmarshal(data, &file))
	require.NotEmpty(t, file.Vectors)
	return file.Vectors
}

// The stand-in answers every recorded post as Django did. Those of the firmware flow need the
// update that was active then.
func TestStandInIsDjango(t *testing.T) {
	n := 0
	d := &django{api: http.NotFoundHandler()}
	for _, v := range vectors(t) {
		if v.To != "django" || v.Status == 0 {
			continue
		}
		switch v.Group {
		case "single values and registrations", "composites":
			d.updates = nil
		case "firmware flow":
			d.updates = nil
			if !strings.HasSuffix(v.ID, "-after") {
				d.updates = []*update{{endpoint: "urn:dev:example-1", version: "2.0"}}
			}
		default:
			continue
		}
		contentType := "application/json"
		if v.ContentType != nil {
			contentType = *v.ContentType
		}
		r := httptest.NewRequest(v.Method, v.Path, strings.NewReader(v.body()))
		r.Header.Set("Content-Type", contentType)
		answer := httptest.NewRecorder()
		d.ServeHTTP(answer, r)
		require.Equal(t, v.Status, answer.Code, "%s %s", v.ID, v.Request)
		n++
	}
	require.Greater(t, n, 100)
}
