package httpapi

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

// Bounds of a page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// query holds the parameters that a call knows, each at most once, except label and path. A call
// that knows "label." knows all names that begin so.
type query url.Values

func parseQuery(r *http.Request, known []string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, newProblem(http.StatusBadRequest, "invalid-query", "the query is not encoded as it should be")
	}
	for name, list := range values {
		family, of, _ := strings.Cut(name, ".")
		switch {
		case of != "" && slices.Contains(known, family+"."):
			if len(list) > 1 {
				return nil, invalidQuery(clip(name, 40), clip(name, 40)+" is given more than once")
			}
		case !slices.Contains(known, name) || strings.HasSuffix(name, "."):
			detail := "unknown parameter " + strconv.Quote(clip(name, 40)) + "; this call knows "
			if len(known) == 0 {
				return nil, invalidQuery(clip(name, 40), detail+"none")
			}
			return nil, invalidQuery(clip(name, 40), detail+strings.ReplaceAll(strings.Join(known, ", "), ".", ".NAME"))
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
	for _, name := range []string{"image", "update", "rollout"} {
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

// selector returns which devices a list has.
func (q query) selector() (firmware.Selector, error) {
	s := firmware.Selector{
		Manufacturer: q.get("manufacturer"), Model: q.get("model"), Hardware: q.get("hardware"),
		Version: q.get("version"), VersionBelow: q.get("version_below"), Registered: q.has("registered"), Contains: q.get("contains"),
	}
	// An empty value, perhaps one that a page left out by mistake, would select everything.
	for _, name := range []string{"manufacturer", "model", "hardware", "version", "version_below", "contains"} {
		if q.has(name) && q.get(name) == "" {
			return s, invalidQuery(name, name+" is empty")
		}
	}
	if s.Registered && q.get("registered") != "true" {
		return s, invalidQuery("registered", "registered can only be true")
	}
	for name, values := range q {
		if name, ok := strings.CutPrefix(name, "label."); ok {
			if s.Labels == nil {
				s.Labels = make(map[string]string)
			}
			s.Labels[name] = values[0]
		}
	}
	if wrong, ok := errors.AsType[*firmware.RequestError](s.Check()); ok {
		name := wrong.Field
		if name == "labels" {
			name = "label."
		}
		return s, invalidQuery(name, wrong.Field+" "+wrong.Problem)
	}
	return s, nil
}

// state returns the state that devices must be in, "" for any.
func (q query) state() (string, error) {
	if !q.has("state") {
		return "", nil
	}
	for _, state := range deviceStates {
		if state == q.get("state") {
			return state, nil
		}
	}
	return "", invalidQuery("state", "state must be registered, asleep, silent or not_registered")
}

// part returns a function that reports whether one of some texts has the part that the query wants,
// in upper or lower case; nil if it wants none.
func (q query) part() (func(texts ...string) bool, error) {
	if !q.has("contains") {
		return nil, nil
	}
	if problem := names.Check(q.get("contains"), 1, maxEndpoint); problem != "" {
		return nil, invalidQuery("contains", "contains "+problem)
	}
	part := strings.ToLower(q.get("contains"))
	return func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), part) })
	}, nil
}

// limit returns the requested size of a page.
func (q query) limit() (int, error) {
	if !q.has("limit") {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(q.get("limit"))
	if err != nil || n < 1 || n > maxLimit || strconv.Itoa(n) != q.get("limit") { // not +1 or 01
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
