package lwm2m_test

import (
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// firmwareCBOR is firmwareObject for fxamacker/cbor, without the key [5, 0], which its map types
// cannot have.
type firmwareCBOR struct {
	URI       string            `cbor:"1,keyasint"`
	State     int64             `cbor:"3,keyasint"`
	Result    int64             `cbor:"5,keyasint"`
	Name      string            `cbor:"6,keyasint"`
	Version   string            `cbor:"7,keyasint"`
	Protocols map[uint16]uint64 `cbor:"8,keyasint"`
	Delivery  int64             `cbor:"9,keyasint"`
	Changed   int64             `cbor:"12,keyasint"`
}

var firmwareStruct = firmwareCBOR{
	URI: "coaps://fw.example.org/img/2", State: 2, Name: "sensor", Version: "1.1.0",
	Protocols: map[uint16]uint64{0: 0, 1: 1}, Delivery: 2, Changed: 1700000000,
}

const firmwareKey = "\xa1\x82\x05\x00" // {[5, 0]: ...}

// TestBenchmarkedBytes checks that both sides of the benchmarks produce the same bytes.
func TestBenchmarkedBytes(t *testing.T) {
	ours, err := lwm2m.AppendPayload(nil, lwm2m.FormatLwM2MCBOR, lwm2m.NewPath(5, 0), firmwareObject, nil)
	require.NoError(t, err)
	mode, err := cbor.CoreDetEncOptions().EncMode()
	require.NoError(t, err)
	theirs, err := mode.Marshal(firmwareStruct)
	require.NoError(t, err)
	require.Equal(t, firmwareKey+string(theirs), string(ours))
}

func BenchmarkLwM2MCBOREncode(b *testing.B) {
	b.Run("otago", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 256)
		for b.Loop() {
			if _, err := lwm2m.AppendPayload(buf, lwm2m.FormatLwM2MCBOR, lwm2m.NewPath(5, 0), firmwareObject, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fxamacker", func(b *testing.B) {
		b.ReportAllocs()
		mode, err := cbor.CoreDetEncOptions().EncMode()
		require.NoError(b, err)
		for b.Loop() {
			if _, err := mode.Marshal(&firmwareStruct); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkLwM2MCBORDecode(b *testing.B) {
	payload, err := lwm2m.AppendPayload(nil, lwm2m.FormatLwM2MCBOR, lwm2m.NewPath(5, 0), firmwareObject, nil)
	require.NoError(b, err)
	b.Run("otago", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := lwm2m.DecodePayload(lwm2m.FormatLwM2MCBOR, lwm2m.NewPath(5, 0), payload, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fxamacker", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v firmwareCBOR
			if err := cbor.Unmarshal(payload[len(firmwareKey):], &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPayload compares the content formats, for /5/0.
func BenchmarkPayload(b *testing.B) {
	base := lwm2m.NewPath(5, 0)
	for _, f := range treeFormats {
		payload, err := lwm2m.AppendPayload(nil, f, base, firmwareObject, nil)
		require.NoError(b, err)
		b.Run("encode/"+f.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			buf := make([]byte, 0, 1024)
			for b.Loop() {
				if _, err := lwm2m.AppendPayload(buf, f, base, firmwareObject, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("decode/"+f.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if _, err := lwm2m.DecodePayload(f, base, payload, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseObjectList(b *testing.B) {
	payload := []byte(`</>;rt="oma.lwm2m";ct="110 112",</1>;ver=1.1,</1/0>,</3>;ver=1.1,</3/0>,</5>;ver=1.1,</5/0>`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := lwm2m.ParseObjectList(payload); err != nil {
			b.Fatal(err)
		}
	}
}
