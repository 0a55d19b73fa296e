package tlv_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/tlv"
)

// vector is one entry of testdata/vectors.json.
type vector struct {
	Name    string
	Path    string
	Hex     string
	HexFill struct {
		Byte  string
		Count int
	} `json:"hex_fill"`
	Valid     bool
	Canonical bool
	Error     string
	Meaning   struct {
		TLV    []node
		Values map[string]struct {
			Type  string
			Value json.RawMessage
		}
	}
}

// node is an element and its children.
type node struct {
	Kind     string
	ID       uint16
	ValueHex string `json:"value_hex"`
	Children []node
}

func (v *vector) payload(t testing.TB) []byte {
	b := unhex(t, v.Hex)
	return append(b, bytes.Repeat(unhex(t, v.HexFill.Byte), v.HexFill.Count)...)
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func loadVectors(t testing.TB) []vector {
	var file struct{ Vectors []vector }
	loadJSON(t, "testdata/vectors.json", &file)
	require.NotEmpty(t, file.Vectors)
	return file.Vectors
}

func loadJSON(t testing.TB, name string, dst any) {
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, dst))
}

// needsPath lists the vectors that are malformed only under their request path, which this package
// does not know.
var needsPath = map[string]bool{
	"bad_instance_mismatch":                       true,
	"bad_bare_resource_instance_on_instance_path": true,
}

func TestVectors(t *testing.T) {
	for _, v := range loadVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			data := v.payload(t)
			switch {
			case v.Valid:
				require.NoError(t, tlv.Validate(data))
				tree, err := decodeTree(tlv.NewDecoder(data))
				require.NoError(t, err)
				if v.HexFill.Count == 0 {
					require.Equal(t, v.Meaning.TLV, tree)
				} else {
					require.Len(t, tree, 1)
					require.Len(t, tree[0].ValueHex, 2*v.HexFill.Count)
				}
				if v.Canonical {
					require.Equal(t, data, encodeTree(t, tree), "canonical encoding")
				}
				checkValues(t, &v, data)
			case needsPath[v.Name]:
				require.NoError(t, tlv.Validate(data))
			default:
				checkRefused(t, &v, data)
			}
		})
	}
}

// checkRefused checks that data is refused, by its structure or by the data type of its value, with
// an error of the right category and an offset.
func checkRefused(t *testing.T, v *vector, data []byte) {
	err := tlv.Validate(data)
	if strings.HasPrefix(v.Error, "bad_value") || v.Error == "bad_utf8" {
		require.NoError(t, err)
		e := first(t, data)
		err = readAs(e, strings.Split(v.Name, "_")[1])
	}
	want := map[string]error{
		"truncated":        tlv.ErrTruncated,
		"bad_value_length": tlv.ErrLength,
		"bad_value":        tlv.ErrValue,
		"bad_utf8":         tlv.ErrValue,
		"reserved_id":      tlv.ErrReservedID,
		"duplicate_id":     tlv.ErrDuplicateID,
		"bad_nesting":      tlv.ErrNesting,
	}[v.Error]
	require.NotNil(t, want, "no category for %s", v.Error)
	require.ErrorIs(t, err, want)
	var syntax *tlv.SyntaxError
	require.ErrorAs(t, err, &syntax)
	require.GreaterOrEqual(t, syntax.Offset, 0)
	require.LessOrEqual(t, syntax.Offset, len(data))
	require.Contains(t, err.Error(), fmt.Sprintf("offset %d", syntax.Offset))
}

func first(t *testing.T, data []byte) tlv.Element {
	d := tlv.NewDecoder(data)
	e, err := d.Next()
	require.NoError(t, err)
	return e
}

func readAs(e tlv.Element, typ string) (err error) {
	switch typ {
	case "int":
		_, err = e.Int()
	case "uint":
		_, err = e.Uint()
	case "float":
		_, err = e.Float()
	case "bool":
		_, err = e.Bool()
	case "objlnk":
		_, _, err = e.ObjectLink()
	case "string":
		_, err = e.Text()
	}
	return err
}

// decodeTree reads all elements of d and those inside them.
func decodeTree(d tlv.Decoder) ([]node, error) {
	nodes := []node{}
	for e, err := range d.All() {
		if err != nil {
			return nil, err
		}
		n := node{Kind: strings.ReplaceAll(e.Kind.String(), " ", "_"), ID: e.ID}
		if e.Kind == tlv.ObjectInstance || e.Kind == tlv.MultipleResource {
			if n.Children, err = decodeTree(e.Decoder()); err != nil {
				return nil, err
			}
		} else {
			n.ValueHex = hex.EncodeToString(e.Value)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

var kinds = map[string]tlv.Kind{
	"object_instance":   tlv.ObjectInstance,
	"resource_instance": tlv.ResourceInstance,
	"multiple_resource": tlv.MultipleResource,
	"resource":          tlv.Resource,
}

func encodeTree(t testing.TB, tree []node) []byte {
	enc := tlv.NewEncoder([]byte{})
	var encode func([]node)
	encode = func(nodes []node) {
		for _, n := range nodes {
			if n.Children != nil {
				enc.Begin(kinds[n.Kind], n.ID)
				encode(n.Children)
				enc.End()
			} else {
				enc.Opaque(kinds[n.Kind], n.ID, unhex(t, n.ValueHex))
			}
		}
	}
	encode(tree)
	b, err := enc.Bytes()
	require.NoError(t, err)
	return b
}

// notShortest lists the vectors whose value has a shorter form, which the encoder prefers.
var notShortest = map[string]bool{"anjay_float64_neg42000": true, "nonminimal_length_field": true, "nonminimal_id_field": true}

// checkValues reads the values of v by their types, and encodes them again.
func checkValues(t *testing.T, v *vector, data []byte) {
	if len(v.Meaning.Values) == 0 {
		return
	}
	got := 0
	walk(t, v.Path, tlv.NewDecoder(data), func(path string, e tlv.Element) {
		want, ok := v.Meaning.Values[path]
		if !ok {
			return
		}
		got++
		enc := tlv.NewEncoder(nil)
		require.JSONEq(t, string(want.Value), typed(t, want.Type, e, &enc), path)
		again, err := enc.Bytes()
		require.NoError(t, err)
		if !notShortest[v.Name] {
			size := len(e.Value)
			require.Equal(t, e.Value, again[len(again)-size:], path)
		}
	})
	empty := 0
	for _, want := range v.Meaning.Values {
		if want.Type == "" {
			empty++
		}
	}
	require.Equal(t, len(v.Meaning.Values)-empty, got, "values found")
}

// walk calls f for each value, with its path; request is the path of the request.
func walk(t *testing.T, request string, d tlv.Decoder, f func(string, tlv.Element)) {
	levels := strings.Split(strings.Trim(request, "/"), "/")
	for e, err := range d.All() {
		require.NoError(t, err)
		depth := map[tlv.Kind]int{tlv.ObjectInstance: 1, tlv.MultipleResource: 2, tlv.Resource: 2, tlv.ResourceInstance: 3}[e.Kind]
		path := "/" + strings.Join(append(levels[:depth:depth], fmt.Sprint(e.ID)), "/")
		if e.Kind == tlv.ObjectInstance || e.Kind == tlv.MultipleResource {
			walk(t, path, e.Decoder(), f)
		} else {
			f(path, e)
		}
	}
}

// typed reads e as a value of the given type, encodes it with enc, and returns it in JSON.
func typed(t *testing.T, typ string, e tlv.Element, enc *tlv.Encoder) string {
	var v any
	var err error
	switch typ {
	case "int":
		var i int64
		i, err = e.Int()
		v = i
		enc.Int(e.Kind, e.ID, i)
	case "uint":
		var u uint64
		u, err = e.Uint()
		v = u
		enc.Uint(e.Kind, e.ID, u)
	case "float":
		var f float64
		f, err = e.Float()
		v = f
		enc.Float(e.Kind, e.ID, f)
	case "bool":
		var b bool
		b, err = e.Bool()
		v = b
		enc.Bool(e.Kind, e.ID, b)
	case "time":
		var i int64
		i, err = e.Int()
		v = i
		enc.Int(e.Kind, e.ID, i)
	case "objlnk":
		o, i, lerr := e.ObjectLink()
		v, err = fmt.Sprintf("%d:%d", o, i), lerr
		enc.ObjectLink(e.Kind, e.ID, o, i)
	case "opaque":
		v = hex.EncodeToString(e.Value)
		enc.Opaque(e.Kind, e.ID, e.Value)
	case "string", "corelnk":
		var s string
		s, err = e.Text()
		v = s
		enc.Text(e.Kind, e.ID, s)
	default:
		t.Fatalf("type %q", typ)
	}
	require.NoError(t, err)
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// TestCaptured reads bodies that real clients sent, and checks that they are in canonical form too.
func TestCaptured(t *testing.T) {
	var file struct {
		Vectors []struct{ Name, Path, Hex, Decoded string }
	}
	loadJSON(t, "testdata/captured.json", &file)
	require.NotEmpty(t, file.Vectors)
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			data := unhex(t, v.Hex)
			require.NoError(t, tlv.Validate(data))
			tree, err := decodeTree(tlv.NewDecoder(data))
			require.NoError(t, err)
			require.Equal(t, data, encodeTree(t, tree))
			var want any
			require.NoError(t, json.Unmarshal([]byte(v.Decoded), &want))
			require.Equal(t, want, listing(tree))
		})
	}
}

// listing converts a tree to the form of testdata/captured.json.
func listing(nodes []node) any {
	short := map[string]string{"object_instance": "inst", "multiple_resource": "multi", "resource_instance": "ri", "resource": "res"}
	list := []any{}
	for _, n := range nodes {
		var v any = "h'" + n.ValueHex + "'"
		if n.Children != nil {
			v = listing(n.Children)
		}
		list = append(list, map[string]any{fmt.Sprintf("%s %d", short[n.Kind], n.ID): v})
	}
	return list
}
