package httpapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

// Bounds of a page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// query holds the parameters that a call knows, each at most once, except label and path.
type query url.Values

func parseQuery(r *http.Request, known []string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, newProblem(http.StatusBadRequest, "invalid-query", "the query is not encoded as it should be")
	}
	for name, list := range values {
		switch {
		case !slices.Contains(known, name):
			detail := "unknown parameter " + strconv.Quote(clip(name, 40)) + "; this call knows "
			if len(known) == 0 {
				return nil, invalidQuery(clip(name, 40), detail+"none")
			}
			return nil, invalidQuery(clip(name, 40), detail+strings.Join(known, ", "))
		case len(list) > 1 && name != "label" && name != "path":
			return nil, invalidQuery(name, name+" is given more than once")
		}
	}
	// An empty value, perhaps one that a page left out by mistake, would select everything.
	if values.Has("endpoint") {
		if problem := names.Check(values.Get("endpoint"), 1, maxEndpoint); problem != "" {
			return nil, invalidQuery("endpoint", "endpoint "+problem)
		}
	}
	for _, name := range []string{"image", "update"} {
		if id := values.Get(name); values.Has(name) && (id == "" || len(id) > maxID || !utf8.ValidString(id)) {
			return nil, invalidQuery(name, name+" must be an id")
		}
	}
	return query(values), nil
}

// get returns a parameter, or "".
func (q query) get(name string) string { return url.Values(q).Get(name) }

// has reports whether a parameter is present, even if empty.
func (q query) has(name string) bool { return url.Values(q).Has(name) }

// labels returns the labels that an update must have. Each parameter label is NAME=VALUE.
func (q query) labels() (map[string]string, error) {
	labels := make(map[string]string)
	for _, label := range q["label"] {
		name, value, ok := strings.Cut(label, "=")
		if _, twice := labels[name]; !ok || twice {
			return nil, invalidQuery("label", "label must be NAME=VALUE, with each name once")
		}
		labels[name] = value
	}
	if err := store.CheckLabels(labels); err != nil {
		return nil, invalidQuery("label", "label is not valid: "+strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": "))
	}
	return labels, nil
}

// limit returns the requested size of a page.
func (q query) limit() (int, error) {
	if !q.has("limit") {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(q.get("limit"))
	if err != nil || n < 1 || n > maxLimit {
		return 0, invalidQuery("limit", "limit must be a number from 1 to "+strconv.Itoa(maxLimit))
	}
	return n, nil
}

// A cursor is the kind of a list and the key of the last item of the previous page.

// cursor returns the key after which the page starts, "" for the first page.
func (q query) cursor(kind string) (string, error) {
	if !q.has("cursor") {
		return "", nil
	}
	data, err := base64.RawURLEncoding.DecodeString(q.get("cursor"))
	if err == nil {
		if after, ok := strings.CutPrefix(string(data), kind+":"); ok && after != "" && len(after) <= maxEndpoint+64 {
			return after, nil
		}
	}
	return "", invalidQuery("cursor", "cursor is not the next of a page of this list")
}

func newCursor(kind, last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(kind + ":" + last))
}
