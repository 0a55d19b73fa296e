package lwm2m_test

import (
	"errors"
	"math"
	"runtime/metrics"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// addSeeds calls add with all vectors.
func addSeeds(f *testing.F, add func(vector, []byte)) {
	for _, name := range []string{"lwm2m_cbor.json", "tlv.json", "senml_json.json", "senml_cbor.json", "captured.json"} {
		for _, v := range loadVectors(f, name) {
			if payload := v.payload(f); len(payload) < 1<<12 {
				add(v, payload)
			}
		}
	}
}

// allocated returns the bytes that f allocates, roughly.
func allocated(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// A decoder may allocate allocFactor bytes for each byte of input, and allocFixed for errors,
// tables made on first use, and allocations that the runtime counts late.
const (
	allocFactor = 120
	allocFixed  = 1 << 20
)

func FuzzDecodePayload(f *testing.F) {
	addSeeds(f, func(v vector, payload []byte) {
		f.Add(uint16(v.ContentFormat), v.Path, payload)
	})
	for _, text := range []string{"0", "true", "-5", "1.5e3", "AA==", "5:0", "a\xffb"} {
		f.Add(uint16(lwm2m.FormatText), "/5/0/3", []byte(text))
		f.Add(uint16(lwm2m.FormatText), "/5/0/0", []byte(text))
	}
	f.Fuzz(func(t *testing.T, format uint16, path string, payload []byte) {
		base, err := lwm2m.ParsePath(path)
		if err != nil {
			return
		}
		cf := lwm2m.ContentFormat(format)
		var entries []lwm2m.Entry
		size := allocated(func() { entries, err = lwm2m.DecodePayload(cf, base, payload, nil) })
		require.LessOrEqual(t, size, uint64(len(payload)*allocFactor+allocFixed))
		if err != nil {
			requireTyped(t, err, payload)
			return
		}
		for _, e := range entries {
			require.True(t, base.Contains(e.Path))
		}
		out, err := lwm2m.AppendPayload(nil, cf, base, entries, nil)
		require.NoError(t, err)
		again, err := lwm2m.DecodePayload(cf, base, out, nil)
		require.NoError(t, err, "%q", out)
		requireSameValues(t, entries, again)
	})
}

// requireTyped checks that an error of a decoder is a documented one.
func requireTyped(t *testing.T, err error, payload []byte) {
	t.Helper()
	if !errors.Is(err, lwm2m.ErrUnsupportedFormat) {
		requireMalformed(t, err, payload)
	}
}

// requireSameValues compares entries in the order of their paths.
func requireSameValues(t *testing.T, want, got []lwm2m.Entry) {
	t.Helper()
	require.Len(t, got, len(want))
	order := func(a, b lwm2m.Entry) int { return a.Path.Compare(b.Path) }
	want, got = slices.Clone(want), slices.Clone(got)
	slices.SortStableFunc(want, order)
	slices.SortStableFunc(got, order)
	for i := range want {
		require.Equal(t, want[i].Path, got[i].Path)
		v := want[i].Value
		if v.Type() == lwm2m.TypeTime && got[i].Value.Type() == lwm2m.TypeInteger {
			v, _ = v.As(lwm2m.TypeInteger) // without a model the encoder does not write the tag of the type
		}
		require.Equal(t, v, got[i].Value, want[i].Path)
	}
}

func FuzzDecodePaths(f *testing.F) {
	addSeeds(f, func(v vector, payload []byte) { f.Add(uint16(v.ContentFormat), payload) })
	f.Add(uint16(lwm2m.FormatLwM2MCBOR), []byte("\x82\x83\x05\x00\x03\x81\x03"))
	f.Fuzz(func(t *testing.T, format uint16, payload []byte) {
		cf := lwm2m.ContentFormat(format)
		paths, err := lwm2m.DecodePaths(cf, payload)
		if err != nil {
			requireTyped(t, err, payload)
			return
		}
		out, err := lwm2m.AppendPaths(nil, cf, paths)
		require.NoError(t, err)
		again, err := lwm2m.DecodePaths(cf, out)
		require.NoError(t, err)
		require.Equal(t, paths, again)
	})
}

// FuzzCBOR compares the reader of CBOR values with fxamacker/cbor.
func FuzzCBOR(f *testing.F) {
	addSeeds(f, func(v vector, payload []byte) {
		if v.ContentFormat == lwm2m.FormatCBOR {
			f.Add(payload)
		}
	})
	for _, s := range []string{
		"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", "\xf9\x7e\x01", "\xf9\x00\x01", "\xfa\x7f\xc0\x00\x01",
		"\x5f\x41a\x40\xff", "\xf5", "\xf7", "\xc1\x01", "\xc4\x82\x20\x0f", "\xfb\x7f\xf8\x00\x00\x00\x00\x00\x01", "\xf9\x80\x00", "\xfb\x80\x00\x00\x00\x00\x00\x00\x00", "\x7f\x61\xc3\x61\xa9\xff",
	} {
		f.Add([]byte(s))
	}
	path := lwm2m.NewPath(26241, 0, 0) // without a model, so that any type fits
	f.Fuzz(func(t *testing.T, payload []byte) {
		entries, err := lwm2m.DecodePayload(lwm2m.FormatCBOR, path, payload, nil)
		var want any
		oracle := cbor.Unmarshal(payload, &want)
		if err != nil {
			if oracle == nil {
				require.False(t, isPlain(want), "%x is %v and refused: %v", payload, want, err)
			}
			return
		}
		require.NoError(t, cbor.Wellformed(payload), "%x", payload)
		if oracle != nil || payload[0]>>5 == 6 {
			return // a tag whose content fxamacker treats differently
		}
		requireOracle(t, want, entries[0].Value)

		out, err := lwm2m.AppendPayload(nil, lwm2m.FormatCBOR, path, entries, nil)
		require.NoError(t, err)
		require.NoError(t, cbor.Unmarshal(out, &want))
		requireOracle(t, want, entries[0].Value)
	})
}

// isPlain reports whether a value from fxamacker is of a type that LwM2M has.
func isPlain(x any) bool {
	switch x.(type) {
	case uint64, int64, float64, bool, string, []byte:
		return true
	default:
		return false
	}
}

func requireOracle(t *testing.T, want any, got lwm2m.Value) {
	t.Helper()
	switch want := want.(type) {
	case uint64:
		u, ok := got.Uint64()
		require.True(t, ok)
		require.Equal(t, want, u)
	case int64:
		i, ok := got.Int64()
		require.True(t, ok)
		require.Equal(t, want, i)
	case float64:
		f, ok := got.Float64()
		require.True(t, ok)
		if math.IsNaN(want) {
			require.True(t, math.IsNaN(f))
		} else {
			require.InDelta(t, want, f, 0, "%x is not %x", math.Float64bits(f), math.Float64bits(want)) // -0 is 0, a whole number
		}
	case bool:
		b, ok := got.Bool()
		require.True(t, ok)
		require.Equal(t, want, b)
	case string:
		require.Equal(t, want, got.String())
	case []byte:
		b, ok := got.Bytes()
		require.True(t, ok)
		require.Equal(t, string(want), string(b))
	case nil:
		require.True(t, got.Type() == lwm2m.TypeNull)
	default:
		t.Fatalf("%T", want)
	}
}

// FuzzLwM2MCBOR compares LwM2M CBOR with fxamacker/cbor: accepted payloads are well-formed, the
// decoder reads fxamacker's encoding of the tree as the same entries, and fxamacker reads our
// encoding as the same tree.
func FuzzLwM2MCBOR(f *testing.F) {
	addSeeds(f, func(v vector, payload []byte) {
		if v.ContentFormat == lwm2m.FormatLwM2MCBOR {
			f.Add(payload)
		}
	})
	mode, err := cbor.EncOptions{Sort: cbor.SortCoreDeterministic, NaNConvert: cbor.NaNConvert7e00}.EncMode()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, payload []byte) {
		entries, err := lwm2m.DecodePayload(lwm2m.FormatLwM2MCBOR, lwm2m.Path{}, payload, nil)
		if err != nil {
			requireMalformed(t, err, payload)
			return
		}
		require.NoError(t, cbor.Wellformed(payload), "%x", payload)
		tree := make(map[uint64]any)
		for _, e := range entries {
			plant(tree, e)
		}
		out, err := mode.Marshal(tree)
		require.NoError(t, err)
		again, err := lwm2m.DecodePayload(lwm2m.FormatLwM2MCBOR, lwm2m.Path{}, out, nil)
		require.NoError(t, err, "%x", out)
		requireSameValues(t, entries, again)

		ours, err := lwm2m.AppendPayload(nil, lwm2m.FormatLwM2MCBOR, lwm2m.Path{}, entries, nil)
		require.NoError(t, err)
		requireTree(t, mode, tree, ours)
	})
}

// plant puts an entry into nested maps.
func plant(tree map[uint64]any, e lwm2m.Entry) {
	for n := 1; n < e.Path.Len(); n++ {
		id := lastID(e.Path.Prefix(n))
		below, ok := tree[id].(map[uint64]any)
		if !ok {
			below = make(map[uint64]any)
			tree[id] = below
		}
		tree = below
	}
	tree[lastID(e.Path)] = oracleValue(e.Value)
}

func lastID(p lwm2m.Path) uint64 {
	return uint64([]uint16{p.Object(), p.Instance(), p.Resource(), p.ResourceInstance()}[p.Len()-1])
}

func oracleValue(v lwm2m.Value) any {
	switch v.Type() {
	case lwm2m.TypeNone:
		return map[uint64]any{}
	case lwm2m.TypeNull:
		return nil
	case lwm2m.TypeInteger, lwm2m.TypeTime:
		i, _ := v.Int64()
		return i
	case lwm2m.TypeUnsigned:
		u, _ := v.Uint64()
		return u
	case lwm2m.TypeFloat:
		f, _ := v.Float64()
		return f
	case lwm2m.TypeBoolean:
		b, _ := v.Bool()
		return b
	case lwm2m.TypeOpaque:
		b, _ := v.Bytes()
		return b
	default:
		return v.String()
	}
}

// requireTree reads our encoding with fxamacker, which cannot have arrays as keys of maps: it reads
// the key at the top, the common path, separately.
func requireTree(t *testing.T, mode cbor.EncMode, want map[uint64]any, ours []byte) {
	t.Helper()
	var got any
	if len(ours) > 1 && ours[0] == 0xa1 && ours[1]>>5 == 4 {
		var ids []uint64
		rest, err := cbor.UnmarshalFirst(ours[1:], &ids)
		require.NoError(t, err)
		require.NoError(t, cbor.Unmarshal(rest, &got))
		for _, id := range slices.Backward(ids) {
			got = map[uint64]any{id: got}
		}
	} else {
		require.NoError(t, cbor.Unmarshal(ours, &got))
	}
	a, err := mode.Marshal(want)
	require.NoError(t, err)
	b, err := mode.Marshal(got)
	require.NoError(t, err)
	require.Equal(t, a, b)
}
