package leshan

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// classNames are the names of Leshan's classes, which its errors show.
var classNames = map[kind]string{
	kindObject:           "LwM2mObject",
	kindInstance:         "LwM2mObjectInstance",
	kindSingle:           "LwM2mSingleResource",
	kindMultiple:         "LwM2mMultipleResource",
	kindResourceInstance: "LwM2mResourceInstance",
}

// errValue is the category of errors about values, which Leshan answers with 500.
var errValue = errors.New("value")

// A rawNode is a node as it was sent, before its values have types.
type rawNode struct {
	ID        *json.Number               `json:"id"`
	Kind      string                     `json:"kind"`
	Type      string                     `json:"type"`
	Value     json.RawMessage            `json:"value"`
	Values    map[string]json.RawMessage `json:"values"`
	Resources []rawNode                  `json:"resources"`
	Instances []rawNode                  `json:"instances"`
}

// input is a node that was sent.
type input struct {
	kind kind
	id   uint16
	// named reports whether the node had an id; only an instance can do without.
	named bool
	// children are the instances of an object or the resources of an instance.
	children []input
	// value is that of a single resource or a resource instance, values those of a multiple
	// resource, whose paths count for their resource instance only.
	value  lwm2m.Value
	values []lwm2m.Entry
}

// parseNode reads a node.
func parseNode(data []byte) (input, error) {
	var raw rawNode
	if err := json.Unmarshal(data, &raw); err != nil {
		return input{}, err
	}
	return raw.node()
}

// node gives the values of a node their types, and finds its kind as Leshan does: by its members
// if it does not say.
func (r rawNode) node() (n input, err error) {
	if r.ID != nil {
		id, err := strconv.ParseUint(r.ID.String(), 10, 16)
		if err != nil || uint16(id) == lwm2m.NoID {
			return n, fmt.Errorf("invalid id %s", r.ID)
		}
		n.id, n.named = uint16(id), true
	}
	switch {
	case r.Kind == string(kindObject) || r.Instances != nil:
		n.kind = kindObject
		n.children, err = nodes(r.Instances)
	case r.Kind == string(kindInstance) || r.Resources != nil:
		n.kind = kindInstance
		n.children, err = nodes(r.Resources)
		return n, err
	case r.Kind == string(kindMultiple) || r.Values != nil:
		n.kind = kindMultiple
		n.values, err = r.multiple()
	case r.Value != nil:
		n.kind = kindSingle
		if r.Kind == string(kindResourceInstance) {
			n.kind = kindResourceInstance
		}
		n.value, err = parseValue(r.Type, r.Value)
	default:
		return n, errors.New("Invalid node element") //nolint:staticcheck // Leshan's words
	}
	if err == nil && r.ID == nil {
		err = errors.New("Missing id") //nolint:staticcheck // Leshan's words
	}
	return n, err
}

func nodes(raw []rawNode) ([]input, error) {
	list := make([]input, 0, len(raw))
	for _, r := range raw {
		n, err := r.node()
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// multiple returns the values of a multiple resource, with the path of the resource instance alone.
func (r rawNode) multiple() ([]lwm2m.Entry, error) {
	var list []lwm2m.Entry
	for _, name := range slices.Sorted(maps.Keys(r.Values)) {
		id, err := strconv.ParseUint(name, 10, 16)
		if err != nil || uint16(id) == lwm2m.NoID {
			return nil, fmt.Errorf("%w: For input string: %q", errValue, name)
		}
		v, err := parseValue(r.Type, r.Values[name])
		if err != nil {
			return nil, err
		}
		list = append(list, lwm2m.Entry{Path: lwm2m.NewPath(0, 0, 0, uint16(id)), Value: v})
	}
	return list, nil
}

// entries returns the values of a node that stands at path.
func (n input) entries(path lwm2m.Path) ([]lwm2m.Entry, error) {
	switch n.kind {
	case kindSingle, kindResourceInstance:
		return []lwm2m.Entry{{Path: path, Value: n.value}}, nil
	case kindMultiple:
		var list []lwm2m.Entry
		for _, e := range n.values {
			child, err := below(path, e.Path.ResourceInstance())
			if err != nil {
				return nil, err
			}
			list = append(list, lwm2m.Entry{Path: child, Value: e.Value})
		}
		if list == nil {
			list = []lwm2m.Entry{{Path: path}} // a multiple resource without instances
		}
		return list, nil
	}
	var list []lwm2m.Entry
	for _, c := range n.children {
		child, err := below(path, c.id)
		if err != nil {
			return nil, err
		}
		below, err := c.entries(child)
		if err != nil {
			return nil, err
		}
		list = append(list, below...)
	}
	return list, nil
}

// below returns the path one level below p.
func below(p lwm2m.Path, id uint16) (lwm2m.Path, error) {
	return lwm2m.ParsePath(strings.TrimSuffix(p.String(), "/") + "/" + strconv.Itoa(int(id)))
}

// parseValue reads the value of a resource. A null has no type, and Leshan refuses it for all.
func parseValue(typeName string, data json.RawMessage) (lwm2m.Value, error) {
	name := strings.ToUpper(typeName)
	unexpected := func(expected, more string) (lwm2m.Value, error) {
		return lwm2m.Value{}, fmt.Errorf("%wUnexpected JSON type of 'value' field [%s]: a JSON %s is expected for %s but was %s. %s",
			quiet{errValue}, data, expected, name, jsonType(data), more)
	}
	const tolerated = "(number is tolerated but not advised)"
	text, isText := jsonText(data)
	number := ""
	if jsonType(data) == "number" {
		number = string(data)
	} else if isText {
		number = text
	}
	switch name {
	case "STRING":
		if !isText {
			return unexpected("string", "null")
		}
		return lwm2m.String(text), nil
	case "BOOLEAN":
		var b bool
		if jsonType(data) != "boolean" || json.Unmarshal(data, &b) != nil {
			return unexpected("boolean", "null")
		}
		return lwm2m.Boolean(b), nil
	case "INTEGER":
		if number == "" {
			return unexpected("string", tolerated)
		}
		i, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return lwm2m.Value{}, fmt.Errorf("%w%s is not a valid Long.", quiet{errValue}, data) //nolint:revive,staticcheck // Leshan's words
		}
		return lwm2m.Integer(i), nil
	case "UNSIGNED_INTEGER":
		if number == "" {
			return unexpected("string", tolerated)
		}
		u, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return lwm2m.Value{}, fmt.Errorf("%w%s is not a valid Unsigned Long.", quiet{errValue}, data) //nolint:revive,staticcheck // Leshan's words
		}
		return lwm2m.Unsigned(u), nil
	case "FLOAT":
		if number == "" {
			return unexpected("string", "(number is tolerated but not adviced)") //nolint:misspell // as Leshan writes it
		}
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return lwm2m.Value{}, fmt.Errorf("%w%s is not a valid Double.", quiet{errValue}, data) //nolint:revive,staticcheck // Leshan's words
		}
		return lwm2m.Float(f), nil
	case "TIME":
		ms, err := strconv.ParseInt(string(data), 10, 64)
		if err != nil {
			return unexpected("number(long)", "null")
		}
		return lwm2m.Time(time.UnixMilli(ms)), nil
	case "OPAQUE":
		b, err := hex.DecodeString(text)
		if !isText || err != nil {
			return unexpected("string", "null")
		}
		return lwm2m.Opaque(b), nil
	case "OBJLNK":
		var link struct {
			Object   *uint16 `json:"objectId"`
			Instance *uint16 `json:"objectInstanceId"`
		}
		if json.Unmarshal(data, &link) != nil || link.Object == nil || link.Instance == nil {
			return unexpected("object{objectId:integer, objectInstanceId:integer}", "null")
		}
		return lwm2m.ObjectLink(*link.Object, *link.Instance), nil
	case "CORELINK":
		if !isText {
			return unexpected("object{objectId:integer, objectInstanceId:integer}", "null")
		}
		return lwm2m.CoreLink(text), nil
	}
	return lwm2m.Value{}, fmt.Errorf("%wNo enum constant org.eclipse.leshan.core.model.ResourceModel.Type.%s", quiet{errValue}, name)
}

// quiet wraps an error without adding to the text, which is Leshan's.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

// jsonText returns a JSON string.
func jsonText(data json.RawMessage) (string, bool) {
	var s string
	ok := jsonType(data) == "string" && json.Unmarshal(data, &s) == nil
	return s, ok
}

// jsonType returns the type of a JSON value by the name that Leshan's errors show.
func jsonType(data json.RawMessage) string {
	if len(data) == 0 {
		return "missing"
	}
	switch data[0] {
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	case '{':
		return "object"
	case '[':
		return "array"
	}
	return "number"
}
