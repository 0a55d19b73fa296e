package lwm2m_test

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func TestVectorsTLV(t *testing.T) {
	for _, v := range loadVectors(t, "tlv.json") {
		t.Run(v.Name, func(t *testing.T) {
			payload := v.payload(t)
			base := mustPath(t, v.Path)
			if !v.Valid {
				m := modelsFor(t, map[string]string{v.Path: typeOfMalformed(v.Name)})
				_, err := lwm2m.DecodePayload(v.ContentFormat, base, payload, m)
				requireMalformed(t, err, payload)
				return
			}
			want, types := tlvMeaning(t, v)
			m := modelsFor(t, types)
			entries, err := lwm2m.DecodePayload(v.ContentFormat, base, payload, m)
			require.NoError(t, err)
			byPath := make(map[string]lwm2m.Value)
			for _, e := range entries {
				byPath[e.Path.String()] = e.Value
			}
			for _, w := range want {
				got, ok := byPath[w.Path]
				if string(w.Value) == "{}" && w.Path == v.Path {
					require.Empty(t, entries)
					continue
				}
				require.True(t, ok, "%s is missing", w.Path)
				requireValue(t, w, got)
				delete(byPath, w.Path)
			}
			require.Empty(t, byPath)
			if v.Canonical && !notOurs[v.Name] {
				out, err := lwm2m.AppendPayload(nil, v.ContentFormat, base, entries, m)
				require.NoError(t, err)
				require.Equal(t, hex.EncodeToString(payload), hex.EncodeToString(out))
			}
		})
	}
}

// notOurs are canonical TLV, but AppendPayload encodes them differently.
var notOurs = map[string]bool{
	// An answer to the Read of an instance that repeats the instance.
	"oma_device_wrapped_answer_to_instance_read": true,
	"leshan_corelnk_in_tlv":                      true,
	// A float of 8 bytes that fits 4.
	"anjay_float64_neg42000": true,
}

// typeOfMalformed returns the type of the value, from the vector's name.
func typeOfMalformed(name string) string {
	for _, t := range []string{"uint", "int", "float", "bool", "objlnk", "string"} {
		if strings.HasPrefix(name, "bad_"+t+"_") {
			return t
		}
	}
	return ""
}

// tlvMeaning returns the values of a vector, a map of paths in the file, and the types of the
// resources that they imply.
func tlvMeaning(t testing.TB, v vector) ([]vectorValue, map[string]string) {
	var meaning struct{ Values map[string]json.RawMessage }
	require.NoError(t, json.Unmarshal(v.Meaning, &meaning))
	var want []vectorValue
	types := make(map[string]string)
	for path, raw := range meaning.Values {
		var x vectorValue
		require.NoError(t, json.Unmarshal(raw, &x))
		if x.Value == nil {
			x.Value = raw // {}: empty
		}
		types[path] = x.Type
		if mustPath(t, path).Len() < 4 && x.Type == "" {
			types[path] = "multiple"
		}
		want = append(want, vectorValue{Path: path, Type: longTypes[x.Type], Value: x.Value})
	}
	return want, types
}

var longTypes = map[string]string{
	"int": "integer", "uint": "unsigned", "bool": "boolean", "float": "float", "string": "string",
	"opaque": "opaque", "time": "time", "objlnk": "objlnk", "corelnk": "corelnk",
}

// modelsFor makes models in which the resources at paths have the given types.
func modelsFor(t testing.TB, types map[string]string) *lwm2m.Models {
	objects := make(map[uint16]*lwm2m.ObjectModel)
	for path, typ := range types {
		p := mustPath(t, path)
		if p.Len() < 3 {
			continue
		}
		o := objects[p.Object()]
		if o == nil {
			o = &lwm2m.ObjectModel{ID: p.Object(), Version: lwm2m.Version{Major: 200}, Name: "Test"}
			objects[p.Object()] = o
		}
		r := lwm2m.ResourceModel{ID: p.Resource(), Name: "Test", Multiple: p.Len() == 4 || typ == "multiple"}
		for k, name := range vectorTypes {
			if name == longTypes[typ] {
				r.Type = k
			}
		}
		at := func(x lwm2m.ResourceModel) bool { return x.ID == r.ID }
		if !slices.ContainsFunc(o.Resources, at) {
			o.Resources = append(o.Resources, r)
		}
	}
	m := new(lwm2m.Models)
	for _, o := range objects {
		slices.SortFunc(o.Resources, func(a, b lwm2m.ResourceModel) int { return int(a.ID) - int(b.ID) })
		require.NoError(t, m.Add(o))
	}
	return m
}
