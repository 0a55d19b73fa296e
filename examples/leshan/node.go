package leshan

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/otago-iot/otago/lwm2m"
)

// A kind is what a node of the Leshan data format stands for.
type kind string

const (
	kindObject           kind = "obj"
	kindInstance         kind = "instance"
	kindSingle           kind = "singleResource"
	kindMultiple         kind = "multiResource"
	kindResourceInstance kind = "resourceInstance"
)

// A node is an object, an instance, a resource or a resource instance in the Leshan data format.
type node struct {
	kind kind
	id   uint16
	// children are the instances of an object or the resources of an instance.
	children []node
	// typeName and value are those of a single resource or a resource instance. values are those of
	// a multiple resource, by resource instance.
	typeName string
	value    any
	values   map[string]any
}

// A converter returns the name of the type of a value and its form in JSON, or false for a value to
// leave out.
type converter func(lwm2m.Path, lwm2m.Value) (typeName string, value any, ok bool)

// anyValue is the converter of the REST API, which shows all values.
func anyValue(_ lwm2m.Path, v lwm2m.Value) (string, any, bool) {
	return typeNames[v.Type()], jsonValue(v), true
}

// nodeOf returns what is at path, given all entries at and below it. It reports false if the
// entries have no value there, or path is the root.
func nodeOf(path lwm2m.Path, entries []lwm2m.Entry, convert converter) (node, bool) {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e lwm2m.Entry) bool { return !path.Contains(e.Path) })
	slices.SortStableFunc(entries, func(a, b lwm2m.Entry) int { return a.Path.Compare(b.Path) })
	switch path.Len() {
	case 1:
		return node{kind: kindObject, id: path.Object(), children: children(path, entries, convert)}, true
	case 2:
		return node{kind: kindInstance, id: path.Instance(), children: children(path, entries, convert)}, len(entries) > 0
	case 3:
		if len(entries) > 0 && entries[0].Path == path && entries[0].Value.Type() != lwm2m.TypeNone {
			name, value, ok := convert(path, entries[0].Value)
			return node{kind: kindSingle, id: path.Resource(), typeName: name, value: value}, ok
		}
		n := node{kind: kindMultiple, id: path.Resource(), typeName: typeNames[lwm2m.TypeString], values: map[string]any{}}
		for _, e := range entries {
			name, value, ok := convert(e.Path, e.Value)
			if ok && e.Path != path {
				n.typeName, n.values[strconv.Itoa(int(e.Path.ResourceInstance()))] = name, value
			}
		}
		return n, len(n.values) > 0
	case 4:
		if len(entries) > 0 {
			name, value, ok := convert(path, entries[0].Value)
			return node{kind: kindResourceInstance, id: path.ResourceInstance(), typeName: name, value: value}, ok
		}
	}
	return node{}, false
}

// children returns the nodes one level below path. entries are sorted.
func children(path lwm2m.Path, entries []lwm2m.Entry, convert converter) []node {
	list := []node{}
	for len(entries) > 0 {
		if entries[0].Path == path { // an instance without resources
			entries = entries[1:]
			continue
		}
		child := entries[0].Path.Prefix(path.Len() + 1)
		n := 1
		for n < len(entries) && child.Contains(entries[n].Path) {
			n++
		}
		if c, ok := nodeOf(child, entries[:n], convert); ok {
			list = append(list, c)
		}
		entries = entries[n:]
	}
	return list
}

// MarshalJSON returns the node with its members in Leshan's order.
func (n node) MarshalJSON() ([]byte, error) {
	switch n.kind {
	case kindObject:
		return json.Marshal(struct {
			Instances []node `json:"instances"`
			Kind      kind   `json:"kind"`
			ID        uint16 `json:"id"`
		}{n.children, n.kind, n.id})
	case kindInstance:
		return json.Marshal(struct {
			Kind      kind   `json:"kind"`
			Resources []node `json:"resources"`
			ID        uint16 `json:"id"`
		}{n.kind, n.children, n.id})
	case kindMultiple:
		return json.Marshal(struct {
			Kind   kind           `json:"kind"`
			Values map[string]any `json:"values"`
			ID     uint16         `json:"id"`
			Type   string         `json:"type"`
		}{n.kind, n.values, n.id, n.typeName})
	}
	return json.Marshal(struct {
		Kind  kind   `json:"kind"`
		ID    uint16 `json:"id"`
		Type  string `json:"type"`
		Value any    `json:"value"`
	}{n.kind, n.id, n.typeName, n.value})
}

// typeNames are Leshan's names of the types.
var typeNames = map[lwm2m.Type]string{
	lwm2m.TypeNone:       "NONE",
	lwm2m.TypeString:     "STRING",
	lwm2m.TypeInteger:    "INTEGER",
	lwm2m.TypeUnsigned:   "UNSIGNED_INTEGER",
	lwm2m.TypeFloat:      "FLOAT",
	lwm2m.TypeBoolean:    "BOOLEAN",
	lwm2m.TypeOpaque:     "OPAQUE",
	lwm2m.TypeTime:       "TIME",
	lwm2m.TypeObjectLink: "OBJLNK",
	lwm2m.TypeCoreLink:   "CORELINK",
	lwm2m.TypeNull:       "NONE",
}

// objectLink is the value of an OBJLNK, as Leshan writes it.
type objectLink struct {
	Object   uint16 `json:"objectId"`
	Instance uint16 `json:"objectInstanceId"`
	Null     bool   `json:"nullLink"`
}

// jsonValue returns a value as Leshan writes it: numbers as strings, since JavaScript rounds large
// ones, but times as milliseconds.
func jsonValue(v lwm2m.Value) any {
	switch v.Type() {
	case lwm2m.TypeBoolean:
		b, _ := v.Bool()
		return b
	case lwm2m.TypeOpaque:
		b, _ := v.Bytes()
		return hex.EncodeToString(b)
	case lwm2m.TypeTime:
		seconds, _ := v.Int64()
		return seconds * 1000
	case lwm2m.TypeFloat:
		f, _ := v.Float64()
		return javaDouble(f)
	case lwm2m.TypeObjectLink:
		object, instance, _ := v.ObjectLink()
		return objectLink{object, instance, object == lwm2m.NoID && instance == lwm2m.NoID}
	}
	return v.String()
}

// javaDouble returns f as Java's Double.toString does.
func javaDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if size := math.Abs(f); f == 0 || size >= 1e-3 && size < 1e7 {
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent) // digits with a sign
	return mantissa + "E" + strconv.Itoa(n)
}
