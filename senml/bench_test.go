package senml_test

import (
	"encoding/json"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/senml"
)

// devicePack is Object 3 in the example of the LwM2M specification, 16 records, which the
// benchmarks encode and decode.
var devicePack = []senml.Record{
	{BaseName: "/3/0/", Name: "0", Value: senml.String("Open Mobile Alliance")},
	{Name: "1", Value: senml.String("Lightweight M2M Client")},
	{Name: "2", Value: senml.String("345000123")},
	{Name: "3", Value: senml.String("1.0")},
	{Name: "6/0", Value: senml.Num(senml.Int(1))},
	{Name: "6/1", Value: senml.Num(senml.Int(5))},
	{Name: "7/0", Value: senml.Num(senml.Int(3800))},
	{Name: "7/1", Value: senml.Num(senml.Int(5000))},
	{Name: "8/0", Value: senml.Num(senml.Int(125))},
	{Name: "8/1", Value: senml.Num(senml.Int(900))},
	{Name: "9", Value: senml.Num(senml.Int(100))},
	{Name: "10", Value: senml.Num(senml.Int(15))},
	{Name: "11/0", Value: senml.Num(senml.Int(0))},
	{Name: "13", Value: senml.Num(senml.Int(1367491215))},
	{Name: "14", Value: senml.String("+02:00")},
	{Name: "16", Value: senml.String("U")},
}

// plainRecord is the struct that a program would pass to encoding/json or fxamacker/cbor. Its
// number is an integer, because both encode integers faster than floats, and because their output
// is then the same as ours.
type plainRecord struct {
	BaseName    string   `json:"bn,omitempty"   cbor:"-2,keyasint,omitempty"`
	BaseTime    *float64 `json:"bt,omitempty"   cbor:"-3,keyasint,omitempty"`
	BaseUnit    string   `json:"bu,omitempty"   cbor:"-4,keyasint,omitempty"`
	BaseValue   *float64 `json:"bv,omitempty"   cbor:"-5,keyasint,omitempty"`
	BaseSum     *float64 `json:"bs,omitempty"   cbor:"-6,keyasint,omitempty"`
	BaseVersion int      `json:"bver,omitempty" cbor:"-1,keyasint,omitempty"`
	Name        string   `json:"n,omitempty"    cbor:"0,keyasint,omitempty"`
	Unit        string   `json:"u,omitempty"    cbor:"1,keyasint,omitempty"`
	Time        *float64 `json:"t,omitempty"    cbor:"6,keyasint,omitempty"`
	Value       *int64   `json:"v,omitempty"    cbor:"2,keyasint,omitempty"`
	StringValue *string  `json:"vs,omitempty"   cbor:"3,keyasint,omitempty"`
	BoolValue   *bool    `json:"vb,omitempty"   cbor:"4,keyasint,omitempty"`
	DataValue   *string  `json:"vd,omitempty"   cbor:"8,keyasint,omitempty"`
	Sum         *float64 `json:"s,omitempty"    cbor:"5,keyasint,omitempty"`
	UpdateTime  *float64 `json:"ut,omitempty"   cbor:"7,keyasint,omitempty"`
}

func plainPack() []plainRecord {
	pack := make([]plainRecord, len(devicePack))
	for i, r := range devicePack {
		pack[i] = plainRecord{BaseName: r.BaseName, Name: r.Name}
		if v, ok := r.Value.Number().Int64(); ok {
			pack[i].Value = &v
		} else {
			s := r.Value.Text()
			pack[i].StringValue = &s
		}
	}
	return pack
}

var lwm2m = senml.Codec{LwM2M: true}

func TestPlainPack(t *testing.T) {
	ours, err := lwm2m.AppendJSON(nil, devicePack)
	require.NoError(t, err)
	theirs, err := json.Marshal(plainPack())
	require.NoError(t, err)
	require.Equal(t, string(theirs), string(ours))

	ours, err = lwm2m.AppendCBOR(nil, devicePack)
	require.NoError(t, err)
	theirs, err = cbor.Marshal(plainPack())
	require.NoError(t, err)
	require.Equal(t, theirs, ours)
}

// TestWireSize: no encoding of these packs with definite lengths is shorter. The 16 records of /3/0
// take 196 bytes, and equal the example of the LwM2M specification (vector oma_device) byte for
// byte; the 7 records of RFC 8428, section 6, take 195.
func TestWireSize(t *testing.T) {
	sizes := map[string]int{"oma_device": 196, "rfc8428_6": 195}
	cborFormat := formats[1]
	for _, v := range loadVectors(t, &cborFormat) {
		size, ok := sizes[v.Name]
		if !ok {
			continue
		}
		delete(sizes, v.Name)
		data := cborFormat.payload(t, &v)
		require.Len(t, data, size)
		records, err := v.codec().DecodeCBOR(nil, data)
		require.NoError(t, err)
		again, err := v.codec().AppendCBOR(nil, records)
		require.NoError(t, err)
		require.Equal(t, data, again)
	}
	require.Empty(t, sizes, "vectors not found")
}

func TestAllocations(t *testing.T) {
	buf := make([]byte, 0, 4096)
	records := make([]senml.Record, 0, 64)
	asJSON, err := lwm2m.AppendJSON(nil, devicePack)
	require.NoError(t, err)
	asCBOR, err := lwm2m.AppendCBOR(nil, devicePack)
	require.NoError(t, err)
	mixed := []senml.Record{
		{BaseName: "a", BaseTime: senml.Decimal(1276020076001, -3), BaseUnit: "A", BaseValue: senml.Float(1.5),
			BaseSum: senml.Int(1), BaseVersion: 5, Name: "b", Unit: "V", Time: senml.Int(-5),
			Value: senml.Data([]byte("bytes")), Sum: senml.Float(0.1), UpdateTime: senml.Uint(1 << 63)},
		{Value: senml.Bool(true)},
		{Value: senml.Num(senml.Decimal(-123456789012345678, -9))},
		{Value: senml.String("a \"quoted\" string\nin two lines")},
	}
	for name, tc := range map[string]struct {
		allocs float64
		f      func()
	}{
		"encode JSON":       {0, func() { buf, err = lwm2m.AppendJSON(buf[:0], devicePack) }},
		"encode CBOR":       {0, func() { buf, err = lwm2m.AppendCBOR(buf[:0], devicePack) }},
		"encode mixed JSON": {0, func() { buf, err = senml.Codec{}.AppendJSON(buf[:0], mixed) }},
		"encode mixed CBOR": {0, func() { buf, err = senml.Codec{}.AppendCBOR(buf[:0], mixed) }},
		// one allocation: the copy of the input
		"decode JSON": {1, func() { records, err = lwm2m.DecodeJSON(records[:0], asJSON) }},
		"decode CBOR": {1, func() { records, err = lwm2m.DecodeCBOR(records[:0], asCBOR) }},
		// and one for the names
		"resolve": {2, func() {
			records, _ = lwm2m.DecodeCBOR(records[:0], asCBOR)
			records, err = lwm2m.Resolve(records)
		}},
	} {
		require.Equal(t, tc.allocs, testing.AllocsPerRun(100, tc.f), name)
		require.NoError(t, err, name)
	}
}

func BenchmarkEncodeJSON(b *testing.B) {
	buf := make([]byte, 0, 4096)
	plain := plainPack()
	run(b, "otago", func() (err error) { buf, err = lwm2m.AppendJSON(buf[:0], devicePack); return err })
	run(b, "encoding-json", func() error { _, err := json.Marshal(plain); return err })
}

func BenchmarkDecodeJSON(b *testing.B) {
	data, _ := lwm2m.AppendJSON(nil, devicePack)
	records := make([]senml.Record, 0, 16)
	run(b, "otago", func() (err error) { records, err = lwm2m.DecodeJSON(records[:0], data); return err })
	run(b, "otago-fresh", func() error { _, err := lwm2m.DecodeJSON(nil, data); return err })
	run(b, "otago-resolve", func() (err error) {
		if records, err = lwm2m.DecodeJSON(records[:0], data); err == nil {
			records, err = lwm2m.Resolve(records)
		}
		return err
	})
	run(b, "encoding-json", func() error { var plain []plainRecord; return json.Unmarshal(data, &plain) })
}

func BenchmarkEncodeCBOR(b *testing.B) {
	buf := make([]byte, 0, 4096)
	plain := plainPack()
	run(b, "otago", func() (err error) { buf, err = lwm2m.AppendCBOR(buf[:0], devicePack); return err })
	run(b, "fxamacker", func() error { _, err := cbor.Marshal(plain); return err })
}

func BenchmarkDecodeCBOR(b *testing.B) {
	data, _ := lwm2m.AppendCBOR(nil, devicePack)
	records := make([]senml.Record, 0, 16)
	run(b, "otago", func() (err error) { records, err = lwm2m.DecodeCBOR(records[:0], data); return err })
	run(b, "otago-fresh", func() error { _, err := lwm2m.DecodeCBOR(nil, data); return err })
	run(b, "otago-resolve", func() (err error) {
		if records, err = lwm2m.DecodeCBOR(records[:0], data); err == nil {
			records, err = lwm2m.Resolve(records)
		}
		return err
	})
	run(b, "fxamacker", func() error { var plain []plainRecord; return cbor.Unmarshal(data, &plain) })
}

func run(b *testing.B, name string, f func() error) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
