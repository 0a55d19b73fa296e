package senml_test

import (
	"encoding/hex"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/senml"
)

var epoch = time.Unix(1_700_000_000, 0).UTC()

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		name, pack, want string
		codec            senml.Codec
	}{
		{name: "base fields persist until replaced",
			pack: `[{"bn":"a/","bt":1000000000,"bu":"V","n":"x","v":1},{"n":"y","t":5,"u":"A","v":2},{"bn":"b/","bu":"W","bt":1,"n":"z","v":3}]`,
			want: `[{"n":"a/x","u":"V","t":1000000000,"v":1},{"n":"a/y","u":"A","t":1000000005,"v":2},{"n":"b/z","u":"W","t":1,"v":3}]`},
		{name: "an empty base field ends the one before",
			pack: `[{"bn":"a/","bu":"V","n":"x","v":1},{"bn":"","bu":"","n":"y","v":2}]`,
			want: `[{"n":"a/x","u":"V","v":1},{"n":"y","v":2}]`},
		{name: "an empty unit keeps the base unit off",
			pack: `[{"bu":"V","n":"x","v":1},{"n":"y","u":"","v":2}]`,
			want: `[{"n":"x","u":"V","v":1},{"n":"y","v":2}]`},
		{name: "base value and sum",
			pack: `[{"bn":"a","bv":10,"bs":100},{"v":1,"s":5},{"v":-2.5},{"n":"b","vs":"text"},{"n":"c"}]`,
			want: `[{"n":"a","v":11,"s":105},{"n":"a","v":7.5,"s":100},{"n":"ab","vs":"text","s":100},{"n":"ac","v":10,"s":100}]`},
		{name: "base sum alone",
			pack: `[{"bn":"a","bs":1},{"n":"b"}]`,
			want: `[{"n":"ab","s":1}]`},
		{name: "integers beyond 64 bits become floats",
			pack: `[{"n":"a","v":18446744073709551616},{"n":"b","v":18446744073709551615},{"n":"c","v":-9223372036854775809}]`,
			want: `[{"n":"a","v":18446744073709552000},{"n":"b","v":18446744073709551615},{"n":"c","v":-9223372036854775808}]`},
		{name: "sum without value",
			pack: `[{"n":"a","s":1.5}]`,
			want: `[{"n":"a","s":1.5}]`},
		{name: "decimals add up exactly",
			pack: `[{"bn":"a","bt":1699877805.766,"t":0.101,"v":0.1},{"bv":0.2,"v":0.1}]`,
			want: `[{"n":"a","t":1699877805.867,"v":0.1},{"n":"a","t":1699877805.766,"v":0.3}]`},
		{name: "another version stays",
			pack: `[{"bver":5,"n":"a","v":1},{"n":"b","v":2}]`,
			want: `[{"bver":5,"n":"a","v":1},{"bver":5,"n":"b","v":2}]`},
		{name: "version 10 goes",
			pack: `[{"bver":10,"n":"a","v":1}]`,
			want: `[{"n":"a","v":1}]`},
		{name: "update time",
			pack: `[{"n":"a","v":1,"ut":60}]`,
			want: `[{"n":"a","v":1,"ut":60}]`},
		{name: "fetch: a base name alone is a record", codec: senml.Codec{Pack: senml.Fetch},
			pack: `[{"bn":"a"},{"n":"/b","t":5},{"n":"/c","bt":1,"u":"V"}]`,
			want: `[{"n":"a"},{"n":"a/b","t":5},{"n":"a/c","u":"V","t":1}]`},
		{name: "fetch: other fields are ignored", codec: senml.Codec{Pack: senml.Fetch},
			pack: `[{"n":"a","v":1,"s":2,"ut":3,"bv":4,"bs":5,"bver":10}]`,
			want: `[{"n":"a"}]`},
		{name: "patch", codec: senml.Codec{Pack: senml.Patch},
			pack: `[{"bn":"a/","n":"x","v":null},{"n":"y","v":1}]`,
			want: `[{"n":"a/x","v":null},{"n":"a/y","v":1}]`},
		{name: "alternate path", codec: senml.Codec{LwM2M: true, Root: "/lwm2m"},
			pack: `[{"bn":"/lw","n":"m2m/3/0/9","v":1},{"bn":"/lwm2m/3/0/","n":"10","v":2}]`,
			want: `[{"n":"/lwm2m/3/0/9","v":1},{"n":"/lwm2m/3/0/10","v":2}]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			records, err := tc.codec.DecodeJSON(nil, []byte(tc.pack))
			require.NoError(t, err)
			checkRoundTrips(t, tc.codec, records)
			resolved, err := tc.codec.Resolve(records)
			require.NoError(t, err)
			got, err := tc.codec.AppendJSON(nil, resolved)
			require.NoError(t, err)
			require.Equal(t, tc.want, string(got))
		})
	}
}

// TestResolveForgets: the records that Resolve drops do not keep memory alive.
func TestResolveForgets(t *testing.T) {
	pack := []senml.Record{{BaseName: "a"}, {Name: "b", Value: senml.Bool(true)}}
	resolved, err := senml.Codec{}.Resolve(pack)
	require.NoError(t, err)
	require.Len(t, resolved, 1)
	require.Equal(t, "ab", pack[0].Name)
	require.Equal(t, senml.Record{}, pack[1])
}

func TestRefused(t *testing.T) {
	plain, paths := senml.Codec{}, senml.Codec{LwM2M: true}
	fetch, patch := senml.Codec{Pack: senml.Fetch}, senml.Codec{Pack: senml.Patch}
	for _, tc := range []struct {
		codec  senml.Codec
		pack   string
		want   error
		offset int
		record int
	}{
		{plain, `[{"n":"a"}]`, senml.ErrValue, 1, 0},
		{plain, `[{"n":"a","v":1},{}]`, senml.ErrValue, 17, 1},
		{plain, `[{"n":"a","v":1},{"n":"b","v":1,"vb":true}]`, senml.ErrValue, 17, 1},
		{plain, `[{"n":"a","v":null}]`, senml.ErrType, 14, 0},
		{plain, `[{"n":"a","vlo":"1:2"}]`, senml.ErrValue, 1, 0}, // unknown, so ignored
		{plain, `[{"n":".a","v":1}]`, senml.ErrName, 1, 0},
		{plain, `[{"n":"a b","v":1}]`, senml.ErrName, 1, 0},
		{plain, `[{"n":"/3/0/9","v":1}]`, senml.ErrName, 1, 0},
		{senml.Codec{LwM2M: true, Root: `/a"b`}, `[{"n":"/a\"b/3/0/9","v":1}]`, senml.ErrName, 1, 0},
		{senml.Codec{LwM2M: true, Root: "/\xff"}, "[{\"n\":\"/\xff/3/0/9\",\"v\":1}]", senml.ErrSyntax, 7, 0},
		{senml.Codec{LwM2M: true, Root: "/é"}, `[{"n":"/é/3/0/9","v":1}]`, senml.ErrName, 1, 0},
		{plain, `[{"n":"a","v":1e999}]`, senml.ErrNumber, 14, 0},
		{plain, `[{"n":"a","v":1},{"bver":5,"n":"b","v":1}]`, senml.ErrVersion, 17, 1},
		{plain, `[{"bver":1.5,"n":"b","v":1}]`, senml.ErrType, 9, 0},
		{plain, `[{"bver":0,"n":"b","v":1}]`, senml.ErrType, 9, 0},
		{plain, `[{"n":"a","v":01}]`, senml.ErrSyntax, 15, 0},
		{plain, `[{"n":"a","v":+1}]`, senml.ErrSyntax, 14, 0},
		{plain, `[{"n":"a","v":1.}]`, senml.ErrSyntax, 16, 0},
		{plain, `[{"n":"a","v":.5}]`, senml.ErrSyntax, 14, 0},
		{plain, `[{"n":"a","v":tru}]`, senml.ErrSyntax, 14, 0},
		{plain, "[{\"n\":\"a\x01\",\"v\":1}]", senml.ErrSyntax, 8, 0},
		{plain, `[{"n":"\ud800","v":1}]`, senml.ErrSyntax, 7, 0},
		{plain, `[{"n":"a","v":1}] x`, senml.ErrTrailing, 18, -1},
		{plain, `[{"n":"a","v":1}`, senml.ErrTruncated, 16, 0},
		{plain, `[{"n":"a","v":1},{"n":"a","x_":[1]}]`, senml.ErrMustUnderstand, 26, 1},
		{plain, `[{"n":"a","v":1,"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}]`, senml.ErrTooLarge, 36, 0},
		{paths, `[{"n":"/3/0","v":1}]`, senml.ErrName, 1, 0},
		{paths, `[{"n":"3/0/9","v":1}]`, senml.ErrName, 1, 0},
		{paths, `[{"n":"/3/0/9/","v":1}]`, senml.ErrName, 1, 0},
		{paths, `[{"n":"/3//9","v":1}]`, senml.ErrName, 1, 0},
		{paths, `[{"n":"/3/0/9","s":1}]`, senml.ErrValue, 1, 0},
		{paths, `[{"n":"/3/0/9","vlo":"1:"}]`, senml.ErrType, 21, 0},
		{senml.Codec{LwM2M: true, Root: "/x"}, `[{"n":"/y/3/0/9","v":1}]`, senml.ErrName, 1, 0},
		{senml.Codec{LwM2M: true, Root: "/x"}, `[{"n":"/3/0/9","v":1}]`, senml.ErrName, 1, 0},
		{fetch, `[]`, senml.ErrValue, 2, -1},
		{fetch, `[{"t":1}]`, senml.ErrName, 1, 0},
		{patch, `[{"n":"a","vs":null}]`, senml.ErrType, 15, 0},
		{patch, `[{"n":"a"}]`, senml.ErrValue, 1, 0},
		{senml.Codec{MaxRecords: 1}, `[{"n":"a","v":1},{"n":"b","v":1}]`, senml.ErrTooLarge, 17, 1},
	} {
		t.Run(tc.pack, func(t *testing.T) {
			kept := []senml.Record{{Name: "kept"}}
			got, err := tc.codec.DecodeJSON(kept, []byte(tc.pack))
			require.Equal(t, kept, got)
			syntax, ok := errors.AsType[*senml.SyntaxError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, senml.SyntaxError{Offset: tc.offset, Record: tc.record, Err: tc.want}, *syntax)
		})
	}
}

func TestRefusedCBOR(t *testing.T) {
	for _, tc := range []struct {
		name, pack string
		want       error
		offset     int
	}{
		{"NaN", "81a200616102f97e00", senml.ErrNumber, 6},
		{"infinity", "81a200616102fa7f800000", senml.ErrNumber, 6},
		{"null", "81a200616102f6", senml.ErrType, 6},
		{"undefined", "81a200616102f7", senml.ErrType, 6},
		{"bignum", "81a200616102c24101", senml.ErrType, 6},
		{"decimal of three", "81a200616102c483010203", senml.ErrType, 6},
		{"decimal out of range", "81a200616102c482190fff01", senml.ErrNumber, 6},
		{"text form of a label", "81a1616e6161", senml.ErrLabel, 2},
		{"version as float", "81a320f94900006161" + "0201", senml.ErrType, 3},
		{"simple value in a long form", "81a200616102f810", senml.ErrSyntax, 6},
		{"value in pieces that are not UTF-8", "81a200616103" + "7f61c361bcff", senml.ErrSyntax, 7},
		{"array in pieces of another kind", "81a100" + "7f4161ff", senml.ErrSyntax, 4},
		{"string longer than the input", "81a1007bffffffffffffffff", senml.ErrTruncated, 3},
		{"array longer than the input", "9bffffffffffffffff" + "a2006161" + "0201", senml.ErrTruncated, 15},
		{"nesting", "81a30061610201" + "6178" + strings.Repeat("81", 17) + "00", senml.ErrTooLarge, 25},
		{"endless tags", "81a1" + "6178" + strings.Repeat("c1", 100) + "00", senml.ErrTooLarge, 20},
		{"record that is an array", "8180", senml.ErrSyntax, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data, err := hex.DecodeString(tc.pack)
			require.NoError(t, err)
			_, err = senml.Codec{}.DecodeCBOR(nil, data)
			require.ErrorIs(t, err, tc.want)
			syntax, _ := errors.AsType[*senml.SyntaxError](err)
			if tc.offset > 0 {
				require.Equal(t, tc.offset, syntax.Offset)
			}
		})
	}
}

// TestTolerated covers the tolerances that doc.go lists.
func TestTolerated(t *testing.T) {
	want := `[{"n":"a","vd":"-_8"}]`
	for _, pack := range []string{
		`[{"n":"a","vd":"-_8="}]`, `[{"n":"a","vd":"+/8="}]`, `[{"n":"a","vd":"+\/8"}]`, ` [ {"vd" : "-_8" , "\u006e":"a"} ] `,
	} {
		records, err := senml.Codec{}.DecodeJSON(nil, []byte(pack))
		require.NoError(t, err, pack)
		got, err := senml.Codec{}.AppendJSON(nil, records)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for pack, want := range map[string]string{
		"81a2006161021b0000000000000001":             `[{"n":"a","v":1}]`, // long forms
		"98019800":                                   "",
		"9fbf007f61616162ff02fb3ff8000000000000ffff": `[{"n":"ab","v":1.5}]`,
		"81a2006161085f41014102ff":                   `[{"n":"a","vd":"AQI"}]`,
		"81a218006161180201":                         `[{"n":"a","v":1}]`,
		"81a200616102f94d00":                         `[{"n":"a","v":20}]`,
		"81a200616102c4822018ea":                     `[{"n":"a","v":23.4}]`,
		"81a200616102c49f2018eaff":                   `[{"n":"a","v":23.4}]`,
		"81a300616102016178d9d9f7a16179820102":       `[{"n":"a","v":1}]`, // an unknown field
		"80":                                         `[]`,
	} {
		data, err := hex.DecodeString(pack)
		require.NoError(t, err)
		records, err := senml.Codec{}.DecodeCBOR(nil, data)
		if want == "" {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err, pack)
		got, err := senml.Codec{}.AppendJSON(nil, records)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// TestAppendRefuses: packs that a decoder would refuse are not encoded.
func TestAppendRefuses(t *testing.T) {
	one := senml.Num(senml.Int(1))
	for name, tc := range map[string]struct {
		codec  senml.Codec
		record senml.Record
		want   error
	}{
		"nothing":       {record: senml.Record{}, want: senml.ErrValue},
		"no value":      {record: senml.Record{Name: "a"}, want: senml.ErrValue},
		"no name":       {record: senml.Record{Value: one}, want: senml.ErrName},
		"bad name":      {record: senml.Record{Name: "ä", Value: one}, want: senml.ErrName},
		"NaN":           {record: senml.Record{Name: "a", Value: senml.Num(senml.Float(math.NaN()))}, want: senml.ErrNumber},
		"infinite time": {record: senml.Record{Name: "a", Value: one, Time: senml.Float(math.Inf(-1))}, want: senml.ErrNumber},
		"huge decimal":  {record: senml.Record{Name: "a", Value: senml.Num(senml.Decimal(1, 399))}, want: senml.ErrNumber},
		"bad UTF-8":     {record: senml.Record{Name: "a", Value: senml.String("\xff")}, want: senml.ErrSyntax},
		"bad unit":      {record: senml.Record{Name: "a", Value: one, Unit: "\xff"}, want: senml.ErrSyntax},
		"bad base name": {record: senml.Record{BaseName: "\xff"}, want: senml.ErrSyntax},
		"version":       {record: senml.Record{Name: "a", Value: one, BaseVersion: 11}, want: senml.ErrVersion},
		"link":          {record: senml.Record{Name: "a", Value: senml.Link("1:2")}, want: senml.ErrValue},
		"null":          {record: senml.Record{Name: "a", Value: senml.Null()}, want: senml.ErrValue},
		"bad link":      {codec: senml.Codec{LwM2M: true}, record: senml.Record{Name: "/1/2/3", Value: senml.Link("1-2")}, want: senml.ErrType},
		"fetched value": {codec: senml.Codec{Pack: senml.Fetch}, record: senml.Record{Name: "a", Value: one}, want: senml.ErrValue},
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range formats {
				b, err := f.append(tc.codec, []byte("kept"), []senml.Record{tc.record})
				require.Equal(t, "kept", string(b))
				syntax, ok := errors.AsType[*senml.SyntaxError](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, senml.SyntaxError{Offset: -1, Record: 0, Err: tc.want}, *syntax)
			}
		})
	}
}

func TestOwnership(t *testing.T) {
	for _, f := range formats {
		data, err := f.append(senml.Codec{}, nil, []senml.Record{
			{Name: "a", Unit: "V", Value: senml.String("text")}, {Name: "b", Value: senml.Data([]byte("data"))},
		})
		require.NoError(t, err)
		records, err := f.decode(senml.Codec{}, nil, data)
		require.NoError(t, err)
		clear(data)
		require.Equal(t, "text", records[0].Value.Text())
		require.Equal(t, "a", records[0].Name)
		require.Equal(t, "data", string(records[1].Value.Data()))
	}
}

// TestReuse: earlier content of a slice does not show in the records decoded into it.
func TestReuse(t *testing.T) {
	full := senml.Record{
		BaseName: "a", BaseUnit: "V", BaseTime: senml.Int(1), BaseValue: senml.Int(2), BaseSum: senml.Int(3),
		BaseVersion: 5, Name: "b", Unit: "A", Value: senml.Data([]byte("data")), Sum: senml.Int(4),
		Time: senml.Int(5), UpdateTime: senml.Int(6),
	}
	want := []senml.Record{{Name: "x", Value: senml.Bool(true)}, {Name: "y", Value: senml.Bool(false)}, {Name: "z", Value: senml.Bool(true)}}
	for _, f := range formats {
		data, err := f.append(senml.Codec{}, nil, want)
		require.NoError(t, err)
		for room := range 5 {
			used := slices.Repeat([]senml.Record{full}, room)
			got, err := f.decode(senml.Codec{}, used[:0], data)
			require.NoError(t, err)
			require.Equal(t, want, got)
			got, err = f.decode(senml.Codec{}, used, data)
			require.NoError(t, err)
			require.Equal(t, want, got[room:])
		}
	}
}

// TestAllocationBound: a hostile pack costs a small multiple of its size, whatever it claims, and
// at most MaxRecords records. That includes the cost of Resolve.
func TestAllocationBound(t *testing.T) {
	const size = 64 << 10
	for name, tc := range map[string]struct {
		f    format
		data string
		// times is how often the bytes of the input may be allocated, in addition to the records
		// that a pack may have.
		times   int
		records int
	}{
		"claims 2^64 records":     {formats[1], "\x9b\xff\xff\xff\xff\xff\xff\xff\xff" + strings.Repeat("\x00", size), 2, 16},
		"claims 2^64 bytes":       {formats[1], "\x81\xa1\x00\x5b\xff\xff\xff\xff\xff\xff\xff\xff" + strings.Repeat("\x00", size), 2, 16},
		"opens and never ends":    {formats[0], strings.Repeat(`[{"n":`, size/6), 2, 16},
		"nests unknown arrays":    {formats[0], `[{"x":` + strings.Repeat("[", size), 2, 16},
		"pieces of one byte":      {formats[1], "\x81\xa1\x00\x7f" + strings.Repeat("\x61a", size/2) + "\xff", 4, 16},
		"escapes":                 {formats[0], `[{"n":"a","vs":"` + strings.Repeat(`\n`, size/2) + `"}]`, 4, 16},
		"base64":                  {formats[0], `[{"n":"a","vd":"` + strings.Repeat("AAAA", size/4) + `"}]`, 3, 16},
		"long names":              {formats[0], `[{"bn":"` + strings.Repeat("a", size/2) + `","n":"b","v":1}` + strings.Repeat(`,{"n":"c","v":1}`, size/32) + "]", 4, size / 32},
		"names as long as may be": {formats[0], `[{"bn":"` + strings.Repeat("a", 450) + `","n":"b","v":1}` + strings.Repeat(`,{"n":"c","v":1}`, size/16) + "]", 48, size / 16},
		"tiny records":            {formats[1], "\x9f\xa1\x21\x61a" + strings.Repeat("\xa1\x02\x00", size/3) + "\xff", 2, 10000},
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte(tc.data)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if records, err := tc.f.decode(senml.Codec{}, nil, data); err == nil {
				_, _ = senml.Codec{}.Resolve(records)
			}
			runtime.ReadMemStats(&after)
			const recordSize = 256
			limit := tc.times*len(data) + tc.records*recordSize*2 + 16<<10 // twice, for growing
			require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(limit))
		})
	}
}
