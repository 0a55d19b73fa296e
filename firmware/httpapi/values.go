package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/otago-iot/otago/lwm2m"
)

// valueView is one value of a device, in answers and in bodies. Name, Unit and Time of a body are
// ignored, so that a client can write what it has read.
type valueView struct {
	Path  string          `json:"path"`
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
	Name  string          `json:"name,omitempty"`
	Unit  string          `json:"unit,omitempty"`
	Time  string          `json:"time,omitempty"`
}

// valuesView is the answer to a read.
type valuesView struct {
	Values []valueView `json:"values"`
}

// typeNames are the words of the API for the types of values.
var typeNames = [...]string{
	lwm2m.TypeNone: "none", lwm2m.TypeString: "string", lwm2m.TypeInteger: "integer", lwm2m.TypeUnsigned: "unsigned_integer",
	lwm2m.TypeFloat: "float", lwm2m.TypeBoolean: "boolean", lwm2m.TypeOpaque: "opaque", lwm2m.TypeTime: "time",
	lwm2m.TypeObjectLink: "objlnk", lwm2m.TypeCoreLink: "corelnk", lwm2m.TypeNull: "null",
}

// models finds the models of resources, and remembers that of the last object.
type models struct {
	find   func(object uint16) (*lwm2m.ObjectModel, bool)
	object *lwm2m.ObjectModel // nil if there is none
	id     uint16
	known  bool
}

// modelsOf returns the models of a device.
func (a *api) modelsOf(endpoint string) *models {
	return &models{find: func(object uint16) (*lwm2m.ObjectModel, bool) { return a.manager.Model(endpoint, object) }}
}

// name returns the name of the object or the resource at path, and the model of a resource.
func (m *models) name(path lwm2m.Path) (string, lwm2m.ResourceModel) {
	if path.IsRoot() {
		return "", lwm2m.ResourceModel{}
	}
	if id := path.Object(); !m.known || m.id != id {
		m.object, _ = m.find(id)
		m.id, m.known = id, true
	}
	switch {
	case m.object == nil:
		return "", lwm2m.ResourceModel{}
	case path.Len() < 3:
		return m.object.Name, lwm2m.ResourceModel{}
	}
	i, found := slices.BinarySearchFunc(m.object.Resources, path.Resource(), func(r lwm2m.ResourceModel, id uint16) int {
		return int(r.ID) - int(id)
	})
	if !found {
		return "", lwm2m.ResourceModel{}
	}
	return m.object.Resources[i].Name, m.object.Resources[i]
}

// viewValues returns the entries of an answer.
func viewValues(entries []lwm2m.Entry, m *models) valuesView {
	v := valuesView{Values: make([]valueView, len(entries))}
	for i, e := range entries {
		name, model := m.name(e.Path)
		v.Values[i] = valueView{
			Path: e.Path.String(), Type: typeNames[e.Value.Type()], Value: appendValue(nil, e.Value), Name: name, Unit: model.Unit,
			Time: textOfTime(e.Time),
		}
	}
	return v
}

// The years that RFC 3339 can write, in seconds since 1970.
const (
	firstSecond = -62167219200 // 0000-01-01T00:00:00Z
	lastSecond  = 253402300799 // 9999-12-31T23:59:59Z
)

// textOfTime returns a time in RFC 3339, "" for the zero time and for one that RFC 3339 cannot
// write.
func textOfTime(t time.Time) string {
	if s := t.Unix(); t.IsZero() || s < firstSecond || s > lastSecond {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// maxExact is the largest integer up to which every integer is a float64, as which many programs
// read the numbers of JSON (RFC 7493 section 2.2).
const maxExact = 1<<53 - 1

// appendValue appends the JSON of a value. parseValue reads it back.
func appendValue(dst []byte, v lwm2m.Value) []byte {
	switch v.Type() {
	case lwm2m.TypeNone, lwm2m.TypeNull:
		return append(dst, "null"...)
	case lwm2m.TypeBoolean:
		b, _ := v.Bool()
		return strconv.AppendBool(dst, b)
	case lwm2m.TypeInteger, lwm2m.TypeUnsigned:
		return appendInteger(dst, v)
	case lwm2m.TypeTime:
		t, _ := v.Time()
		if s := t.Unix(); s < firstSecond || s > lastSecond {
			return appendInteger(dst, v)
		}
		return strconv.AppendQuote(dst, t.UTC().Format(time.RFC3339))
	case lwm2m.TypeFloat:
		f, _ := v.Float64()
		switch {
		case math.IsNaN(f):
			return append(dst, `"NaN"`...)
		case math.IsInf(f, 1):
			return append(dst, `"Infinity"`...)
		case math.IsInf(f, -1):
			return append(dst, `"-Infinity"`...)
		}
		text, _ := json.Marshal(f) // a finite number
		return append(dst, text...)
	default: // text, a link, or bytes in base64
		text, _ := marshal(v.String())
		return append(dst, bytes.TrimSuffix(text, []byte("\n"))...)
	}
}

// appendInteger appends a number, or beyond maxExact a string of its digits.
func appendInteger(dst []byte, v lwm2m.Value) []byte {
	i, signed := v.Int64()
	if signed && i >= -maxExact && i <= maxExact {
		return strconv.AppendInt(dst, i, 10)
	}
	return append(append(append(dst, '"'), v.String()...), '"')
}

// parseType returns the type of a word of the API.
func parseType(name string) (lwm2m.Type, bool) {
	i := slices.Index(typeNames[:], name)
	return lwm2m.Type(max(i, 0)), i >= 0
}

// parseValue reads a value of type t from its JSON. It returns what is wrong with it, "" if nothing
// is.
func parseValue(data json.RawMessage, t lwm2m.Type) (_ lwm2m.Value, wrong string) {
	none := lwm2m.Value{}
	text, isText := "", data[0] == '"'
	if isText {
		if json.Unmarshal(data, &text) != nil || halfSurrogate(data) {
			return none, "is not Unicode text"
		}
	}
	digits := text
	if !isText {
		digits = string(data)
	}
	switch t {
	case lwm2m.TypeNone, lwm2m.TypeNull:
		if string(data) != "null" {
			return none, "must be null"
		}
		if t == lwm2m.TypeNull {
			return lwm2m.Null(), ""
		}
		return none, ""
	case lwm2m.TypeBoolean:
		if string(data) == "true" || string(data) == "false" {
			return lwm2m.Boolean(data[0] == 't'), ""
		}
		return none, "must be true or false"
	case lwm2m.TypeInteger:
		if i, err := strconv.ParseInt(digits, 10, 64); err == nil {
			return lwm2m.Integer(i), ""
		}
		return none, "must be an integer of 64 bits, as a number or a string of digits"
	case lwm2m.TypeUnsigned:
		if u, err := strconv.ParseUint(digits, 10, 64); err == nil {
			return lwm2m.Unsigned(u), ""
		}
		return none, "must be an unsigned integer of 64 bits, as a number or a string of digits"
	case lwm2m.TypeFloat:
		return parseFloat(data, text)
	case lwm2m.TypeTime:
		return parseTime(digits, isText)
	}
	if !isText {
		return none, "must be a string"
	}
	switch t {
	case lwm2m.TypeOpaque:
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || strings.ContainsAny(text, "\r\n") {
			return none, "must be bytes in base64, with padding"
		}
		return lwm2m.Opaque(b), ""
	case lwm2m.TypeObjectLink:
		if v, ok := lwm2m.String(text).As(t); ok {
			return v, ""
		}
		return none, `must be a link to an object instance, such as "3:0"`
	case lwm2m.TypeCoreLink:
		return lwm2m.CoreLink(text), ""
	default:
		return lwm2m.String(text), ""
	}
}

func parseFloat(data json.RawMessage, text string) (lwm2m.Value, string) {
	switch text {
	case "NaN":
		return lwm2m.Float(math.NaN()), ""
	case "Infinity":
		return lwm2m.Float(math.Inf(1)), ""
	case "-Infinity":
		return lwm2m.Float(math.Inf(-1)), ""
	}
	var f float64
	if data[0] == '"' || data[0] == 'n' || json.Unmarshal(data, &f) != nil {
		return lwm2m.Value{}, `must be a number of 64 bits, "NaN", "Infinity" or "-Infinity"`
	}
	return lwm2m.Float(f), ""
}

func parseTime(text string, isText bool) (lwm2m.Value, string) {
	if s, err := strconv.ParseInt(text, 10, 64); err == nil {
		return lwm2m.Time(time.Unix(s, 0)), ""
	}
	t, err := time.Parse(time.RFC3339, text)
	if !isText || err != nil || !rfc3339.MatchString(text) || t.Nanosecond() != 0 {
		return lwm2m.Value{}, "must be a time of RFC 3339 in whole seconds with its zone, such as 2026-01-02T15:04:05Z, or seconds since 1970"
	}
	return lwm2m.Time(t), ""
}

// guess reads a value whose type neither the body nor a model says, as far as its JSON says it.
func guess(data json.RawMessage) (lwm2m.Value, string) {
	t := lwm2m.TypeFloat
	switch c := data[0]; {
	case c == '"':
		t = lwm2m.TypeString
	case c == 't' || c == 'f':
		t = lwm2m.TypeBoolean
	case c == 'n':
		t = lwm2m.TypeNull
	case c == '{' || c == '[':
		return lwm2m.Value{}, "must be a string, a number, true, false or null"
	case !bytes.ContainsAny(data, ".eE"):
		if u, err := strconv.ParseUint(string(data), 10, 64); err == nil && u > math.MaxInt64 {
			return lwm2m.Unsigned(u), ""
		}
		t = lwm2m.TypeInteger
	}
	return parseValue(data, t)
}

// halfSurrogate reports whether a JSON string escapes half of a surrogate pair, which
// encoding/json replaces by U+FFFD.
func halfSurrogate(data []byte) bool {
	unit := func(b []byte) (rune, bool) { // the code unit of an escape such as \ud83d
		if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
			return 0, false
		}
		u, err := strconv.ParseUint(string(b[2:6]), 16, 16)
		return rune(u), err == nil
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		u, ok := unit(data[i:])
		switch {
		case !ok:
			i++ // an escape of one character
		case u >= 0xd800 && u <= 0xdbff:
			low, ok := unit(data[i+6:])
			if !ok || low < 0xdc00 || low > 0xdfff {
				return true
			}
			i += 11
		case !utf8.ValidRune(u):
			return true
		default:
			i += 5
		}
	}
	return false
}

// writeBody is the body of a write and of a create: one value, or several.
type writeBody struct {
	valueView
	Values []valueView `json:"values"`
}

// entries returns the values of a body for a request at path. none says whether the type none has a
// meaning in it.
func (b *writeBody) entries(path lwm2m.Path, none bool, m *models) ([]lwm2m.Entry, error) {
	if b.Values != nil {
		if b.valueView.given() {
			return nil, invalidField("values", "excludes the other fields")
		}
		entries := make([]lwm2m.Entry, len(b.Values))
		seen := make(map[lwm2m.Path]bool)
		for i := range b.Values {
			in := "values[" + strconv.Itoa(i) + "]."
			var err error
			if entries[i], err = b.Values[i].entry(path, in, false, none, m); err != nil {
				return nil, err
			}
			if !mark(seen, entries[i].Path) { // some formats cannot say so, in others the last one would count
				return nil, invalidField(in+"path", "occurs twice, or above or below another")
			}
		}
		return entries, nil
	}
	e, err := b.valueView.entry(path, "", path.Len() >= 3, none, m)
	if err != nil {
		return nil, err
	}
	return []lwm2m.Entry{e}, nil
}

// mark records p, as true, and the paths above it. It reports whether neither p nor a path above or
// below it was recorded before.
func mark(seen map[lwm2m.Path]bool, p lwm2m.Path) bool {
	if _, taken := seen[p]; taken {
		return false
	}
	for n := range p.Len() {
		if seen[p.Prefix(n)] {
			return false
		}
		seen[p.Prefix(n)] = false
	}
	seen[p] = true
	return true
}

// given reports whether a field was given.
func (v *valueView) given() bool {
	return v.Path != "" || v.Type != "" || v.Value != nil || v.Name != "" || v.Unit != "" || v.Time != ""
}

// entry returns the value. In a problem, in precedes the name of the wrong field. If the value may
// have no path of its own, it has that of the request.
func (v *valueView) entry(request lwm2m.Path, in string, ownPath, none bool, m *models) (lwm2m.Entry, error) {
	e := lwm2m.Entry{Path: request}
	if v.Path != "" || !ownPath {
		var err error
		if e.Path, err = lwm2m.ParsePath(v.Path); err != nil || v.Path == "" {
			return e, invalidField(in+"path", "must be the path of the value, such as /3/0/14")
		}
	}
	if !request.Contains(e.Path) || e.Path.Len() < 2 {
		return e, invalidField(in+"path", "must be that of the request, or below it")
	}
	if len(v.Value) == 0 {
		return e, invalidField(in+"value", "is missing")
	}
	var wrong string
	if v.Type == "" {
		_, model := m.name(e.Path)
		if model.Type == lwm2m.TypeNone || v.Value[0] == 'n' {
			e.Value, wrong = guess(v.Value)
		} else {
			e.Value, wrong = parseValue(v.Value, model.Type)
		}
	} else {
		t, ok := parseType(v.Type)
		if !ok {
			return e, invalidField(in+"type", "must be one of "+strings.Join(typeNames[:], ", "))
		}
		e.Value, wrong = parseValue(v.Value, t)
	}
	if wrong != "" {
		return e, invalidField(in+"value", wrong)
	}
	switch isNone := e.Value.Type() == lwm2m.TypeNone; {
	case !isNone && e.Path.Len() < 3:
		return e, invalidField(in+"path", "must be that of a resource, such as /3/0/14")
	case isNone && (!none || e.Path.IsResourceInstance()): // the device would get nothing, and agree
		return e, invalidField(in+"type", "may be none for an instance or a multiple resource, in a PUT of what it is in, or a create")
	}
	return e, nil
}
