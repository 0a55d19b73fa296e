package senml_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/senml"
)

// codecOf makes every kind of Codec from a number.
func codecOf(options uint8) senml.Codec {
	c := senml.Codec{LwM2M: options&1 != 0, Pack: senml.Pack(options >> 1 & 3 % 3)}
	if options&8 != 0 {
		c.Root = "/lwm2m"
	}
	return c
}

func addSeeds(f *testing.F, from *format) {
	for _, v := range loadVectors(f, from) {
		c := v.codec()
		options := uint8(c.Pack) << 1
		if c.LwM2M {
			options |= 1
		}
		f.Add(from.payload(f, &v), options)
	}
}

// checkProperties checks what holds for any accepted pack, and for errors.
func checkProperties(t *testing.T, c senml.Codec, data []byte, records []senml.Record, err error) {
	if err != nil {
		syntax, ok := errors.AsType[*senml.SyntaxError](err)
		require.True(t, ok, "%T", err)
		require.True(t, syntax.Offset >= 0 && syntax.Offset <= len(data), "offset %d of %d", syntax.Offset, len(data))
		require.Nil(t, records)
		return
	}
	checkRoundTrips(t, c, records)
	resolved, err := c.Resolve(records)
	require.NoError(t, err, "a decoded pack resolves")
	for _, r := range resolved {
		require.Empty(t, r.BaseName)
		require.NotEmpty(t, r.Name)
	}
	again, err := c.Resolve(append([]senml.Record(nil), resolved...))
	if c.Pack != senml.Fetch || len(resolved) > 0 {
		require.NoError(t, err)
		requireSame(t, resolved, again)
	}
}

// FuzzJSON compares DecodeJSON with encoding/json.
func FuzzJSON(f *testing.F) {
	addSeeds(f, &formats[0])
	f.Add([]byte(`[{"n":"a","v":-12.5e-3,"x":[{"y":null}],"u":"\ud83d\ude00\/"}]`), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, options uint8) {
		c := codecOf(options)
		records, err := c.DecodeJSON(nil, data)
		checkJSON(t, c, data, records, err)
		checkProperties(t, c, data, records, err)
	})
}

func checkJSON(t *testing.T, c senml.Codec, data []byte, records []senml.Record, err error) {
	if !json.Valid(data) {
		require.Error(t, err)
		return
	}
	var oracle []map[string]json.RawMessage
	oracleErr := json.Unmarshal(data, &oracle)
	if err != nil {
		if errors.Is(err, senml.ErrSyntax) || errors.Is(err, senml.ErrTruncated) || errors.Is(err, senml.ErrTrailing) {
			require.True(t, oracleErr != nil || strict(data) || bytes.Contains(data, []byte("null")), "%v", err)
		}
		return
	}
	require.NoError(t, oracleErr)
	require.Len(t, records, len(oracle))
	for i, fields := range oracle {
		r := &records[i]
		for label, number := range numbersOf(r) {
			raw, present := fields[label]
			if c.Pack == senml.Fetch && !strings.Contains("t bt", label) {
				require.False(t, number.IsSet())
				continue
			}
			if label == "v" && string(bytes.TrimSpace(raw)) == "null" {
				require.Equal(t, senml.NullKind, r.Value.Kind())
				continue
			}
			require.Equal(t, present, number.IsSet(), label)
			if present {
				requireExact(t, string(bytes.TrimSpace(raw)), number)
			}
		}
		requireText(t, fields["n"], r.Name)
		requireText(t, fields["u"], r.Unit)
		requireText(t, fields["bn"], r.BaseName)
		requireText(t, fields["bu"], r.BaseUnit)
		switch r.Value.Kind() {
		case senml.StringKind:
			requireText(t, fields["vs"], r.Value.Text())
		case senml.LinkKind:
			requireText(t, fields["vlo"], r.Value.Text())
		case senml.BoolKind:
			require.Equal(t, string(bytes.TrimSpace(fields["vb"])) == "true", r.Value.Bool())
		case senml.DataKind:
			var s string
			require.NoError(t, json.Unmarshal(fields["vd"], &s))
			s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
			want, err := base64.RawURLEncoding.DecodeString(s)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, r.Value.Data()))
		}
	}
}

// strict reports whether data has bad UTF-8 or half surrogate pairs, which encoding/json replaces
// and this package refuses.
func strict(data []byte) bool {
	return !utf8.Valid(data) || bytes.Contains(bytes.ToLower(data), []byte(`\ud`))
}

func numbersOf(r *senml.Record) map[string]senml.Number {
	return map[string]senml.Number{
		"v": r.Value.Number(), "s": r.Sum, "t": r.Time, "ut": r.UpdateTime,
		"bt": r.BaseTime, "bv": r.BaseValue, "bs": r.BaseSum,
	}
}

func requireText(t *testing.T, raw json.RawMessage, got string) {
	want := ""
	if raw != nil {
		require.NoError(t, json.Unmarshal(raw, &want))
	}
	require.Equal(t, want, got)
}

// requireExact: integers of 64 bits are exact, all other numbers as close as float64 is.
func requireExact(t *testing.T, text string, got senml.Number) {
	if i, ok := new(big.Int).SetString(text, 10); ok && (i.IsInt64() || i.IsUint64()) {
		require.Equal(t, i.String(), got.String())
		return
	}
	var want float64
	require.NoError(t, json.Unmarshal([]byte(text), &want))
	require.Equal(t, want, got.Float64()+0, text) // + 0 turns -0 into 0
	var back float64
	require.NoError(t, json.Unmarshal([]byte(got.String()), &back))
	require.Equal(t, want, back, "String is exact")
}

// FuzzCBOR compares DecodeCBOR with fxamacker/cbor.
func FuzzCBOR(f *testing.F) {
	addSeeds(f, &formats[1])
	f.Add([]byte("\x81\xa4\x00\x61a\x02\xc4\x82\x20\x19\x01\x00\x61x\x9f\xff\x01\x7f\x61a\x61b\xff"), uint8(0))
	mode, err := cbor.DecOptions{
		IntDec: cbor.IntDecConvertNone, BigIntDec: cbor.BigIntDecodePointer, IndefLength: cbor.IndefLengthAllowed,
	}.DecMode()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte, options uint8) {
		c := codecOf(options)
		records, err := c.DecodeCBOR(nil, data)
		checkCBOR(t, mode, c, data, records, err)
		checkProperties(t, c, data, records, err)
	})
}

func checkCBOR(t *testing.T, mode cbor.DecMode, c senml.Codec, data []byte, records []senml.Record, err error) {
	if mode.Wellformed(data) != nil {
		require.Error(t, err)
		return
	}
	if err != nil {
		require.NotErrorIs(t, err, senml.ErrTruncated)
		require.NotErrorIs(t, err, senml.ErrTrailing)
		return
	}
	var oracle []map[any]any
	if oracleErr := mode.Unmarshal(data, &oracle); oracleErr != nil {
		// fxamacker/cbor reads the fields that we skip, and refuses some of them.
		require.NotContains(t, oracleErr.Error(), "UTF-8")
		return
	}
	require.Len(t, records, len(oracle))
	for i, fields := range oracle {
		r := &records[i]
		for label, number := range numbersOf(r) {
			key := map[string]any{"v": uint64(2), "s": uint64(5), "t": uint64(6), "ut": uint64(7), "bt": int64(-3), "bv": int64(-5), "bs": int64(-6)}[label]
			want, present := fields[key]
			if c.Pack == senml.Fetch && !strings.Contains("t bt", label) || want == nil {
				require.False(t, number.IsSet())
				continue
			}
			require.Equal(t, present, number.IsSet(), label)
			requireCBORNumber(t, want, number)
		}
		for key, got := range map[any]string{uint64(0): r.Name, uint64(1): r.Unit, int64(-2): r.BaseName, int64(-4): r.BaseUnit} {
			if want, ok := fields[key]; ok {
				require.Equal(t, want, got)
			} else {
				require.Empty(t, got)
			}
		}
		switch v := r.Value; v.Kind() {
		case senml.StringKind:
			require.Equal(t, fields[uint64(3)], v.Text())
		case senml.LinkKind:
			require.Equal(t, fields["vlo"], v.Text())
		case senml.BoolKind:
			require.Equal(t, fields[uint64(4)], v.Bool())
		case senml.DataKind:
			require.True(t, bytes.Equal(fields[uint64(8)].([]byte), v.Data()))
		}
	}
}

func requireCBORNumber(t *testing.T, want any, got senml.Number) {
	switch w := want.(type) {
	case uint64:
		u, ok := got.Uint64()
		require.True(t, ok)
		require.Equal(t, w, u)
	case int64:
		i, ok := got.Int64()
		require.True(t, ok)
		require.Equal(t, w, i)
	case *big.Int:
		f, _ := new(big.Float).SetInt(w).Float64()
		require.Equal(t, f, got.Float64())
	case float64:
		require.Equal(t, w, got.Float64()+0)
	case time.Time: // tagged
		require.InDelta(t, float64(w.UnixNano())/1e9, got.Float64(), 1)
	case cbor.Tag:
		require.EqualValues(t, 4, w.Number)
		parts := w.Content.([]any)
		m, e := asInt(parts[1]), asInt(parts[0])
		if e.IsInt64() && e.Int64() > -350 && e.Int64() < 320 {
			f, _, err := big.ParseFloat(m.String()+"e"+e.String(), 10, 2000, big.ToNearestEven)
			require.NoError(t, err)
			w, _ := f.Float64()
			require.Equal(t, w, got.Float64())
		}
	default:
		require.Fail(t, "number", "%T %v", want, want)
	}
}

func asInt(v any) *big.Int {
	switch v := v.(type) {
	case uint64:
		return new(big.Int).SetUint64(v)
	case int64:
		return big.NewInt(v)
	}
	return v.(*big.Int)
}

// FuzzNumber: arithmetic on numbers agrees with that of package big.
func FuzzNumber(f *testing.F) {
	f.Add(int64(5), 0, int64(-7), -3)
	f.Add(int64(math.MaxInt64), 0, int64(math.MaxInt64), 0)
	f.Add(int64(math.MinInt64), -2, int64(math.MinInt64), 2)
	f.Fuzz(func(t *testing.T, m1 int64, e1 int, m2 int64, e2 int) {
		e1, e2 = e1%30, e2%30
		a, b := senml.Decimal(m1, e1), senml.Decimal(m2, e2)
		x, y := exact(m1, e1), exact(m2, e2)
		require.Equal(t, nearest(x), a.Float64())
		got, want := a.Add(b), nearest(new(big.Rat).Add(x, y))
		require.InDelta(t, want, got.Float64(), math.Max(math.Abs(nearest(x)), math.Abs(nearest(y)))*1e-15)
		require.True(t, got.Equal(b.Add(a)))
		if i, ok := got.Int64(); ok && e1 == 0 && e2 == 0 {
			require.Zero(t, new(big.Rat).SetInt64(i).Cmp(new(big.Rat).Add(x, y)))
		}
		for _, n := range []senml.Number{a, b, got} {
			back, ok := new(big.Rat).SetString(n.String())
			require.True(t, ok, n.String())
			require.Equal(t, nearest(back), n.Float64())
		}
		r := senml.Record{Time: a}
		_ = r.Timestamp(epoch)
	})
}

func exact(m int64, e int) *big.Rat {
	r := new(big.Rat).SetInt64(m)
	ten := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(e, -e))), nil))
	if e < 0 {
		return r.Quo(r, ten)
	}
	return r.Mul(r, ten)
}

func nearest(r *big.Rat) float64 {
	f, _ := r.Float64()
	return f
}
