package senml_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/senml"
)

// vector is one entry of testdata/senml_json.json or senml_cbor.json.
type vector struct {
	Name    string
	Path    *string
	Text    string
	Hex     string
	Use     string
	Valid   bool
	Error   string
	Meaning struct{ Records []meaning }
}

// meaning is a resolved record.
type meaning struct {
	Name  string
	Field string
	Value json.RawMessage
	Time  *json.Number
	Unit  string
	Sum   *json.Number
}

// codec returns the Codec for the vector.
func (v *vector) codec() senml.Codec {
	c := senml.Codec{LwM2M: v.Path != nil}
	switch {
	case strings.HasPrefix(v.Use, "Read-Composite"):
		c.Pack = senml.Fetch
	case strings.Contains(v.Use, "ETCH"):
		c.Pack = senml.Patch
	}
	return c
}

// format is JSON or CBOR.
type format struct {
	name   string
	append func(senml.Codec, []byte, []senml.Record) ([]byte, error)
	decode func(senml.Codec, []senml.Record, []byte) ([]senml.Record, error)
}

var formats = []format{
	{"json", senml.Codec.AppendJSON, senml.Codec.DecodeJSON},
	{"cbor", senml.Codec.AppendCBOR, senml.Codec.DecodeCBOR},
}

func (f *format) payload(t testing.TB, v *vector) []byte {
	if f.name == "json" {
		return []byte(v.Text)
	}
	b, err := hex.DecodeString(v.Hex)
	require.NoError(t, err)
	return b
}

func loadVectors(t testing.TB, f *format) []vector {
	var file struct{ Vectors []vector }
	loadJSON(t, "testdata/senml_"+f.name+".json", &file)
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
var needsPath = map[string]bool{"bad_outside_base": true}

func TestVectors(t *testing.T) {
	for _, f := range formats {
		for _, v := range loadVectors(t, &f) {
			t.Run(f.name+"/"+v.Name, func(t *testing.T) {
				data, c := f.payload(t, &v), v.codec()
				records, err := f.decode(c, nil, data)
				if !v.Valid && !needsPath[v.Name] {
					checkRefused(t, &v, data, err)
					return
				}
				require.NoError(t, err)
				checkRoundTrips(t, c, records)
				if v.Valid {
					resolved, err := c.Resolve(records)
					require.NoError(t, err)
					checkMeaning(t, v.Meaning.Records, resolved)
				}
			})
		}
	}
}

func checkRefused(t *testing.T, v *vector, data []byte, err error) {
	var syntax *senml.SyntaxError
	require.ErrorAs(t, err, &syntax)
	require.True(t, syntax.Offset >= 0 && syntax.Offset <= len(data))
	require.Contains(t, err.Error(), fmt.Sprintf("offset %d", syntax.Offset))
	want := map[string][]error{
		"unsupported_version":    {senml.ErrVersion},
		"unknown_critical_label": {senml.ErrMustUnderstand},
		"bad_syntax":             {senml.ErrSyntax, senml.ErrTruncated},
		"reserved_id":            {senml.ErrName},
		"bad_objlnk":             {senml.ErrType},
		"unexpected_value":       {senml.ErrValue},
		"type_mismatch":          {senml.ErrType},
		"missing_value":          {senml.ErrValue},
		"multiple_values":        {senml.ErrValue},
		"not_an_array":           {senml.ErrSyntax},
		"bad_record":             {senml.ErrSyntax},
		"bad_base64":             {senml.ErrType},
		"bad_path":               {senml.ErrName},
		"missing_name":           {senml.ErrName},
		"duplicate_label":        {senml.ErrLabel},
		"bad_name":               {senml.ErrName},
		"trailing_data":          {senml.ErrTrailing},
		"truncated":              {senml.ErrTruncated},
		"unknown_label":          {senml.ErrLabel},
		"bad_utf8":               {senml.ErrSyntax},
		"bad_cbor":               {senml.ErrSyntax},
	}[v.Error]
	require.NotEmpty(t, want, "no category for %s", v.Error)
	for _, w := range want {
		if syntax.Err == w {
			return
		}
	}
	t.Errorf("%v is none of %v", err, want)
}

// checkRoundTrips encodes records in both formats and reads them back.
func checkRoundTrips(t *testing.T, c senml.Codec, records []senml.Record) {
	for _, f := range formats {
		b, err := f.append(c, []byte("x"), records)
		if errors.Is(err, senml.ErrTooLarge) {
			continue // the names are too long for the pack, which is shorter in this format
		}
		require.NoError(t, err)
		require.Equal(t, byte('x'), b[0])
		back, err := f.decode(c, nil, b[1:])
		require.NoError(t, err, "%q", b[1:])
		requireSame(t, records, back)
	}
}

// requireSame compares packs; it compares numbers by their values.
func requireSame(t *testing.T, want, got []senml.Record) {
	require.Len(t, got, len(want))
	for i := range want {
		w, g := want[i], got[i]
		require.True(t, w.Value.Equal(g.Value), "record %d: %v, want %v", i, g.Value, w.Value)
		for _, n := range [][2]senml.Number{
			{w.BaseTime, g.BaseTime}, {w.BaseValue, g.BaseValue}, {w.BaseSum, g.BaseSum},
			{w.Time, g.Time}, {w.Sum, g.Sum}, {w.UpdateTime, g.UpdateTime},
		} {
			require.True(t, n[0].Equal(n[1]), "record %d: %v, want %v", i, n[1], n[0])
		}
		for _, r := range []*senml.Record{&w, &g} {
			r.Value = senml.Value{}
			r.BaseTime, r.BaseValue, r.BaseSum = senml.Number{}, senml.Number{}, senml.Number{}
			r.Time, r.Sum, r.UpdateTime = senml.Number{}, senml.Number{}, senml.Number{}
		}
		require.Equal(t, w, g)
	}
}

func checkMeaning(t *testing.T, want []meaning, got []senml.Record) {
	require.Len(t, got, len(want))
	for i, w := range want {
		g := got[i]
		require.Equal(t, w.Name, g.Name)
		require.Equal(t, w.Unit, g.Unit)
		require.Equal(t, w.Field, fieldOf(g.Value))
		require.Empty(t, g.BaseName)
		switch g.Value.Kind() {
		case senml.NumberKind:
			requireNumber(t, string(w.Value), g.Value.Number())
		case senml.NullKind:
			require.Equal(t, "null", string(w.Value))
		case senml.BoolKind:
			require.Equal(t, string(w.Value), fmt.Sprint(g.Value.Bool()))
		case senml.StringKind, senml.LinkKind:
			require.JSONEq(t, string(w.Value), quote(g.Value.Text()))
		case senml.DataKind:
			require.JSONEq(t, string(w.Value), quote(hex.EncodeToString(g.Value.Data())))
		}
		checkOptional(t, w.Time, g.Time)
		checkOptional(t, w.Sum, g.Sum)
	}
}

func checkOptional(t *testing.T, want *json.Number, got senml.Number) {
	require.Equal(t, want != nil, got.IsSet())
	if want != nil {
		requireNumber(t, want.String(), got)
	}
}

// requireNumber compares exactly if both are integers, and as float64 otherwise.
func requireNumber(t *testing.T, want string, got senml.Number) {
	if w, ok := new(big.Int).SetString(want, 10); ok {
		require.Equal(t, w.String(), got.String())
		return
	}
	w, _, err := big.ParseFloat(want, 10, 200, big.ToNearestEven)
	require.NoError(t, err)
	f, _ := w.Float64()
	// A time of the vectors is a sum in float64; that of a Record may be exact.
	require.InDelta(t, f, got.Float64(), math.Abs(f)*1e-15)
}

func fieldOf(v senml.Value) string {
	return map[senml.Kind]string{
		senml.NumberKind: "v", senml.NullKind: "v", senml.StringKind: "vs", senml.BoolKind: "vb",
		senml.DataKind: "vd", senml.LinkKind: "vlo",
	}[v.Kind()]
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// TestTwins: a vector that exists in both formats means the same in both.
func TestTwins(t *testing.T) {
	packs := map[string][]senml.Record{}
	twins := 0
	for _, f := range formats {
		for _, v := range loadVectors(t, &f) {
			if !v.Valid {
				continue
			}
			records, err := f.decode(v.codec(), nil, f.payload(t, &v))
			require.NoError(t, err)
			records, err = v.codec().Resolve(records)
			require.NoError(t, err)
			if other, ok := packs[v.Name]; ok && !strings.HasPrefix(v.Name, "leshan_opaque") {
				requireSame(t, other, records)
				twins++
			}
			packs[v.Name] = records
		}
	}
	require.Greater(t, twins, 20)
}

// TestCaptured reads packs that real clients sent.
func TestCaptured(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name          string
			Path          string
			Hex           string
			ContentFormat int `json:"content_format"`
		}
	}
	loadJSON(t, "testdata/captured.json", &file)
	require.NotEmpty(t, file.Vectors)
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			data, err := hex.DecodeString(v.Hex)
			require.NoError(t, err)
			f, c := formats[0], senml.Codec{LwM2M: true}
			if v.ContentFormat == 112 {
				f = formats[1]
			}
			if strings.HasSuffix(v.Name, "_request") {
				c.Pack = senml.Fetch
			}
			records, err := f.decode(c, nil, data)
			require.NoError(t, err)
			checkRoundTrips(t, c, records)
			again, err := f.append(c, nil, records)
			require.NoError(t, err)
			if !keyOrder[v.Name] {
				require.Equal(t, string(data), string(again), "the same bytes")
			}
			resolved, err := c.Resolve(records)
			require.NoError(t, err)
			require.NotEmpty(t, resolved)
			for _, r := range resolved {
				require.True(t, v.Path == "/dp" || strings.HasPrefix(r.Name, strings.TrimSuffix(v.Path, "/")), r.Name)
			}
		})
	}
}

// keyOrder lists the packs with another order of fields than ours: Anjay puts the base time after
// the name.
var keyOrder = map[string]bool{
	"anjay_v1.2_observe_5_0_accept_110_initial": true,
	"anjay_v1.2_observe_5_0_accept_112_initial": true,
	"anjay_send_dp_0": true,
	"anjay_send_dp_2": true,
}
