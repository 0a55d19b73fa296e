package lwm2m_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// vector is a payload of testdata/vectors and its meaning. Not every file uses every field.
type vector struct {
	Name          string
	Path          string
	ContentFormat lwm2m.ContentFormat `json:"content_format"`
	Hex           string
	Text          *string
	Fill          *struct {
		Byte  string
		Count int
	} `json:"hex_fill"`
	Valid     bool
	Error     string
	Canonical bool
	Use       string
	Meaning   json.RawMessage
	Values    []vectorValue
	Paths     []string
}

// vectorValue is a value as the vectors state it; Type is "" where the content format gives it.
type vectorValue struct {
	Path  string
	Type  string
	Value json.RawMessage
	Time  float64
}

func (v vector) payload(t testing.TB) []byte {
	if v.Text != nil {
		return []byte(*v.Text)
	}
	b, err := hex.DecodeString(v.Hex)
	require.NoError(t, err)
	if v.Fill != nil {
		f, err := hex.DecodeString(v.Fill.Byte)
		require.NoError(t, err)
		b = append(b, bytes.Repeat(f, v.Fill.Count)...)
	}
	return b
}

func loadVectors(t testing.TB, name string) []vector {
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	require.NoError(t, err)
	var file struct{ Vectors []vector }
	require.NoError(t, json.Unmarshal(b, &file))
	require.NotEmpty(t, file.Vectors)
	return file.Vectors
}

func mustPath(t testing.TB, s string) lwm2m.Path {
	p, err := lwm2m.ParsePath(s)
	require.NoError(t, err)
	return p
}

// requireValue compares a value with that of a vector.
func requireValue(t testing.TB, want vectorValue, got lwm2m.Value) {
	t.Helper()
	if want.Type != "" {
		require.Equal(t, want.Type, vectorTypes[got.Type()], "type at %s", want.Path)
	}
	dec := json.NewDecoder(bytes.NewReader(want.Value))
	dec.UseNumber()
	var x any
	require.NoError(t, dec.Decode(&x))
	switch x := x.(type) {
	case nil:
		require.True(t, got.Type() == lwm2m.TypeNull, "%s is %v", want.Path, got)
	case bool:
		b, ok := got.Bool()
		require.True(t, ok)
		require.Equal(t, x, b, want.Path)
	case json.Number:
		if got.Type() == lwm2m.TypeFloat {
			f, _ := x.Float64()
			g, _ := got.Float64()
			require.Equal(t, f, g, want.Path)
		} else {
			require.Equal(t, strings.TrimSuffix(x.String(), ".0"), got.String(), want.Path)
		}
	case string:
		if b, ok := got.Bytes(); ok {
			require.Equal(t, x, hex.EncodeToString(b), want.Path)
		} else {
			require.Equal(t, x, got.String(), want.Path)
		}
	case map[string]any:
		if h, ok := x["hex"].(string); ok {
			b, isBytes := got.Bytes()
			require.True(t, isBytes)
			require.Equal(t, h, hex.EncodeToString(b), want.Path)
		} else {
			require.True(t, got == lwm2m.Value{}, "%s is %v", want.Path, got)
		}
	}
}

var vectorTypes = map[lwm2m.Type]string{
	lwm2m.TypeString: "string", lwm2m.TypeInteger: "integer", lwm2m.TypeUnsigned: "unsigned",
	lwm2m.TypeFloat: "float", lwm2m.TypeBoolean: "boolean", lwm2m.TypeOpaque: "opaque",
	lwm2m.TypeTime: "time", lwm2m.TypeObjectLink: "objlnk", lwm2m.TypeCoreLink: "corelnk",
}

func requireEntries(t testing.TB, want []vectorValue, got []lwm2m.Entry) {
	t.Helper()
	require.Len(t, got, len(want), "entries %v", got)
	for i, w := range want {
		require.Equal(t, w.Path, got[i].Path.String())
		requireValue(t, w, got[i].Value)
		switch at := got[i].Time; {
		case w.Time == 0:
			require.True(t, at.IsZero(), "time of %s", w.Path)
		case w.Time >= 1<<28:
			require.InDelta(t, w.Time, float64(at.UnixNano())/1e9, 1e-5, "time of %s", w.Path)
		default:
			require.False(t, at.IsZero(), "time of %s", w.Path)
		}
	}
}

// requireMalformed checks that an error is typed and points into the payload.
func requireMalformed(t testing.TB, err error, payload []byte) {
	t.Helper()
	require.ErrorIs(t, err, lwm2m.ErrMalformed)
	fe, ok := errors.AsType[*lwm2m.FormatError](err)
	require.True(t, ok)
	require.NotEmpty(t, fe.Reason)
	require.GreaterOrEqual(t, fe.Offset, 0)
	require.LessOrEqual(t, fe.Offset, len(payload))
}

func TestVectorsLwM2MCBOR(t *testing.T) {
	for _, v := range loadVectors(t, "lwm2m_cbor.json") {
		t.Run(v.Name, func(t *testing.T) {
			payload := v.payload(t)
			base := mustPath(t, v.Path)
			entries, err := lwm2m.DecodePayload(v.ContentFormat, base, payload, nil)
			if !v.Valid {
				requireMalformed(t, err, payload)
				return
			}
			require.NoError(t, err)
			var meaning struct{ Values []vectorValue }
			require.NoError(t, json.Unmarshal(v.Meaning, &meaning))
			requireEntries(t, meaning.Values, entries)
			requireRoundTrip(t, v.ContentFormat, base, entries)
		})
	}
}

// requireRoundTrip checks that entries survive encoding and decoding.
func requireRoundTrip(t testing.TB, f lwm2m.ContentFormat, base lwm2m.Path, entries []lwm2m.Entry) {
	t.Helper()
	b, err := lwm2m.AppendPayload(nil, f, base, entries, nil)
	require.NoError(t, err)
	again, err := lwm2m.DecodePayload(f, base, b, nil)
	require.NoError(t, err, "%x", b)
	sorted := slices.SortedStableFunc(slices.Values(entries), func(a, b lwm2m.Entry) int { return a.Path.Compare(b.Path) })
	slices.SortStableFunc(again, func(a, b lwm2m.Entry) int { return a.Path.Compare(b.Path) })
	require.Len(t, again, len(sorted))
	for i := range again {
		require.Equal(t, sorted[i].Path, again[i].Path)
		require.Equal(t, sorted[i].Value, again[i].Value)
	}
}

// TestVectorsCaptured decodes payloads that clients sent.
func TestVectorsCaptured(t *testing.T) {
	for _, v := range loadVectors(t, "captured.json") {
		t.Run(v.Name, func(t *testing.T) {
			payload := v.payload(t)
			switch {
			case v.ContentFormat == lwm2m.FormatLink:
				links, err := lwm2m.ParseLinks(payload)
				require.NoError(t, err)
				var targets []string
				for _, l := range links {
					targets = append(targets, l.Target)
				}
				require.Equal(t, v.Paths, targets)
				require.Equal(t, string(payload), string(lwm2m.AppendLinks(nil, links)))
				return
			case v.Paths != nil:
				paths, err := lwm2m.DecodePaths(v.ContentFormat, payload)
				require.NoError(t, err)
				var got []string
				for _, p := range paths {
					got = append(got, p.String())
				}
				require.Equal(t, v.Paths, got)
				return
			}
			base := mustPath(t, v.Path)
			entries, err := lwm2m.DecodePayload(v.ContentFormat, base, payload, nil)
			require.NoError(t, err)
			requireEntries(t, v.Values, entries)
			requireRoundTrip(t, v.ContentFormat, base, entries)
		})
	}
}

func TestVectorsLinkFormat(t *testing.T) {
	for _, v := range loadVectors(t, "link_format.json") {
		t.Run(v.Name, func(t *testing.T) {
			payload := v.payload(t)
			links, err := lwm2m.ParseLinks(payload)
			if !v.Valid {
				requireMalformed(t, err, payload)
				return
			}
			require.NoError(t, err)
			var meaning struct {
				Links []struct {
					URI   string
					Attrs []struct {
						Name   string
						Value  *string
						Quoted bool
					}
				}
			}
			require.NoError(t, json.Unmarshal(v.Meaning, &meaning))
			var want []lwm2m.Link
			for _, l := range meaning.Links {
				link := lwm2m.Link{Target: l.URI}
				for _, a := range l.Attrs {
					attr := lwm2m.LinkAttribute{Name: a.Name, Quoted: a.Quoted}
					if a.Value != nil {
						attr.Value, attr.HasValue = *a.Value, true
					}
					link.Attributes = append(link.Attributes, attr)
				}
				want = append(want, link)
			}
			require.Equal(t, want, links)
			require.Equal(t, string(payload), string(lwm2m.AppendLinks(nil, links)))
		})
	}
}

func TestVectorsSenML(t *testing.T) {
	for _, file := range []string{"senml_json.json", "senml_cbor.json"} {
		for _, v := range loadVectors(t, file) {
			t.Run(v.Name+" "+v.ContentFormat.String(), func(t *testing.T) { testSenML(t, v) })
		}
	}
}

func testSenML(t *testing.T, v vector) {
	payload := v.payload(t)
	base := mustPath(t, v.Path)
	if strings.HasPrefix(v.Use, "Read-Composite") {
		paths, err := lwm2m.DecodePaths(v.ContentFormat, payload)
		if !v.Valid {
			requireMalformed(t, err, payload)
			return
		}
		require.NoError(t, err)
		var names []string
		for _, p := range paths {
			names = append(names, p.String())
		}
		var meaning struct{ Records []struct{ Name string } }
		require.NoError(t, json.Unmarshal(v.Meaning, &meaning))
		var want []string
		for _, r := range meaning.Records {
			want = append(want, r.Name)
		}
		require.Equal(t, want, names)
		b, err := lwm2m.AppendPaths(nil, v.ContentFormat, paths)
		require.NoError(t, err)
		again, err := lwm2m.DecodePaths(v.ContentFormat, b)
		require.NoError(t, err)
		require.Equal(t, paths, again)
		return
	}
	entries, err := lwm2m.DecodePayload(v.ContentFormat, base, payload, new(lwm2m.Models))
	if !v.Valid {
		requireMalformed(t, err, payload)
		return
	}
	require.NoError(t, err)
	var meaning struct {
		Records []struct {
			Name  string
			Value json.RawMessage
			Time  float64
		}
	}
	require.NoError(t, json.Unmarshal(v.Meaning, &meaning))
	var want []vectorValue
	for _, r := range meaning.Records {
		path := strings.Replace(r.Name, "/00", "/0", 1) // a name with a leading zero, which is tolerated
		want = append(want, vectorValue{Path: path, Value: r.Value, Time: r.Time})
	}
	requireEntries(t, want, entries)
	requireRoundTrip(t, v.ContentFormat, base, entries)
}

func TestFloatForms(t *testing.T) {
	base := lwm2m.NewPath(13, 26, 1)
	models := new(lwm2m.Models)
	require.NoError(t, models.Add(&lwm2m.ObjectModel{ID: 13, Version: version(1, 0), Resources: []lwm2m.ResourceModel{{ID: 1, Type: lwm2m.TypeFloat}}}))
	for _, tc := range []struct {
		f    float64
		want string
	}{
		{0, "f90000"}, {math.Copysign(0, -1), "f98000"}, {1.5, "f93e00"}, {65504, "f97bff"}, {65536, "fa47800000"}, {1.00048828125, "fa3f801000"},
		{5.960464477539063e-8, "f90001"}, {0.00006103515625, "f90400"}, {1.401298464324817e-45, "fa00000001"},
		{1.1, "fb3ff199999999999a"}, {math.Inf(1), "f97c00"}, {math.Inf(-1), "f9fc00"}, {math.NaN(), "f97e00"},
	} {
		b, err := lwm2m.AppendPayload(nil, lwm2m.FormatCBOR, base, []lwm2m.Entry{{Path: base, Value: lwm2m.Float(tc.f)}}, nil)
		require.NoError(t, err)
		require.Equal(t, tc.want, hex.EncodeToString(b), "%v", tc.f)
		entries, err := lwm2m.DecodePayload(lwm2m.FormatCBOR, base, b, models)
		require.NoError(t, err)
		f, ok := entries[0].Value.Float64()
		require.True(t, ok)
		if math.IsNaN(tc.f) {
			require.True(t, math.IsNaN(f))
		} else {
			require.Equal(t, math.Float64bits(tc.f), math.Float64bits(f))
		}
	}
}
