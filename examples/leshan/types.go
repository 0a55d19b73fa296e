package leshan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/otago-iot/otago/lwm2m"
)

// maxText is the longest text that Django accepts, in characters: an endpoint, or the value of a
// resource.
const maxText = 255

// Types are the resources that Django knows, each with its type. Django answers the whole request
// with an error if it holds another one, and may have stored a part. The zero value is that of
// [DefaultTypes].
type Types struct {
	types map[resourceID]lwm2m.Type
}

// resourceID is an object and a resource.
type resourceID struct{ object, resource uint16 }

// DefaultTypes returns the resource types that flownexus loads into its database
// (db_initial_resource_types.json), except those that no value can be posted for: executable,
// opaque, and object links.
func DefaultTypes() Types {
	t := Types{types: map[resourceID]lwm2m.Type{
		{3303, 5700}: lwm2m.TypeFloat,
		{3304, 5700}: lwm2m.TypeFloat,
		{3, 13}:      lwm2m.TypeTime,
		{5, 1}:       lwm2m.TypeString,
		{5, 3}:       lwm2m.TypeInteger,
		{5, 5}:       lwm2m.TypeInteger,
		{5, 6}:       lwm2m.TypeString,
	}}
	for _, id := range []uint16{0, 1, 2, 3, 14, 15, 16, 17, 18, 19} {
		t.types[resourceID{3, id}] = lwm2m.TypeString
	}
	for _, id := range []uint16{6, 7, 8, 9, 10, 11, 20, 21} {
		t.types[resourceID{3, id}] = lwm2m.TypeInteger
	}
	return t
}

// ReadTypes reads resource types in the format of flownexus's db_initial_resource_types.json, for a
// Django that knows more than [DefaultTypes]. It reads at most 4 MiB.
func ReadTypes(r io.Reader) (Types, error) {
	var list []struct {
		Fields struct {
			Object   *uint16 `json:"object_id"`
			Resource *uint16 `json:"resource_id"`
			Type     string  `json:"data_type"`
		} `json:"fields"`
	}
	if err := json.NewDecoder(io.LimitReader(r, 4<<20)).Decode(&list); err != nil {
		return Types{}, fmt.Errorf("leshan: resource types: %w", err)
	}
	t := Types{types: map[resourceID]lwm2m.Type{}}
	for i, item := range list {
		f := item.Fields
		if f.Object == nil || f.Resource == nil {
			return Types{}, fmt.Errorf("leshan: resource types: number %d has no object_id and resource_id", i+1)
		}
		for kind, name := range typeNames {
			if posted[kind] && name == f.Type {
				t.types[resourceID{*f.Object, *f.Resource}] = kind
			}
		}
	}
	return t, nil
}

// posted are the types whose values Django accepts.
var posted = map[lwm2m.Type]bool{
	lwm2m.TypeString: true, lwm2m.TypeInteger: true, lwm2m.TypeFloat: true, lwm2m.TypeTime: true, lwm2m.TypeBoolean: true,
}

// AddTo adds models for the objects that have none in m, so that a server finds the types of their
// values in formats that do not carry them, such as TLV.
func (t Types) AddTo(m *lwm2m.Models) error {
	if t.types == nil {
		t = DefaultTypes()
	}
	objects := map[uint16]*lwm2m.ObjectModel{}
	for id, kind := range t.types {
		if _, known := m.Object(id.object, lwm2m.Version{}); known {
			continue
		}
		o := objects[id.object]
		if o == nil {
			o = &lwm2m.ObjectModel{ID: id.object, Version: lwm2m.Version{Major: 1}, Multiple: true}
			objects[id.object] = o
		}
		o.Resources = append(o.Resources, lwm2m.ResourceModel{ID: id.resource, Type: kind, Operations: lwm2m.Readable})
	}
	for _, o := range objects {
		slices.SortFunc(o.Resources, func(a, b lwm2m.ResourceModel) int { return cmp.Compare(a.ID, b.ID) })
		if err := m.Add(o); err != nil {
			return err
		}
	}
	return nil
}

// accepts returns the value of a resource as Django takes it, and Django's name of its type. It
// reports false for what Django refuses or stores wrongly.
func (t Types) accepts(path lwm2m.Path, v lwm2m.Value) (typeName string, value any, ok bool) {
	kind, known := t.types[resourceID{path.Object(), path.Resource()}]
	if !known {
		return "", nil, false
	}
	v, ok = v.As(kind)
	if !ok {
		return "", nil, false
	}
	value = jsonValue(v)
	switch kind {
	case lwm2m.TypeBoolean:
		b, _ := v.Bool()
		value = "0"
		if b {
			value = "1"
		}
	case lwm2m.TypeFloat:
		if f, _ := v.Float64(); math.IsNaN(f) || math.IsInf(f, 0) {
			return "", nil, false
		}
	case lwm2m.TypeTime:
		if seconds, _ := v.Int64(); seconds > math.MaxInt64/1000 || seconds < math.MinInt64/1000 {
			return "", nil, false
		}
	case lwm2m.TypeString:
		if s, _ := v.Text(); !postable(s) {
			return "", nil, false
		}
	}
	return typeNames[kind], value, true
}

// postable reports whether Django accepts a text.
func postable(s string) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= maxText && !strings.ContainsRune(s, 0)
}

// postableEndpoint reports whether Django keeps an endpoint as it is: Django removes blanks at the
// ends of a text, and refuses an empty one.
func postableEndpoint(s string) bool { return s != "" && postable(s) && strings.TrimSpace(s) == s }
