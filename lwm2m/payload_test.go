package lwm2m_test

import (
	"encoding/hex"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// firmwareObject is /5/0 as a client with a downloaded image reports it.
var firmwareObject = []lwm2m.Entry{
	{Path: lwm2m.NewPath(5, 0, 1), Value: lwm2m.String("coaps://fw.example.org/img/2")},
	{Path: lwm2m.NewPath(5, 0, 3), Value: lwm2m.Integer(2)},
	{Path: lwm2m.NewPath(5, 0, 5), Value: lwm2m.Integer(0)},
	{Path: lwm2m.NewPath(5, 0, 6), Value: lwm2m.String("sensor")},
	{Path: lwm2m.NewPath(5, 0, 7), Value: lwm2m.String("1.1.0")},
	{Path: lwm2m.NewPath(5, 0, 8, 0), Value: lwm2m.Integer(0)},
	{Path: lwm2m.NewPath(5, 0, 8, 1), Value: lwm2m.Integer(1)},
	{Path: lwm2m.NewPath(5, 0, 9), Value: lwm2m.Integer(2)},
	{Path: lwm2m.NewPath(5, 0, 12), Value: lwm2m.Time(time.Unix(1700000000, 0))},
}

var (
	allFormats = []lwm2m.ContentFormat{
		lwm2m.FormatText, lwm2m.FormatOpaque, lwm2m.FormatCBOR, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR,
		lwm2m.FormatSenMLETCHJSON, lwm2m.FormatSenMLETCHCBOR, lwm2m.FormatTLV, lwm2m.FormatJSON, lwm2m.FormatLwM2MCBOR,
		lwm2m.FormatOldText, lwm2m.FormatOldTLV, lwm2m.FormatOldJSON,
	}
	// treeFormats are the formats that carry paths and several values.
	treeFormats = []lwm2m.ContentFormat{
		lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR, lwm2m.FormatTLV, lwm2m.FormatJSON, lwm2m.FormatLwM2MCBOR,
	}
)

func entry(path string, v lwm2m.Value) lwm2m.Entry {
	p, err := lwm2m.ParsePath(path)
	if err != nil {
		panic(err)
	}
	return lwm2m.Entry{Path: p, Value: v}
}

func entryAt(path string, v lwm2m.Value, at time.Time) lwm2m.Entry {
	e := entry(path, v)
	e.Time = at
	return e
}

func TestPayloadTextForms(t *testing.T) {
	at := time.Unix(1700000000, 0)
	for _, tc := range []struct {
		name    string
		format  lwm2m.ContentFormat
		base    string
		entries []lwm2m.Entry
		want    string
	}{
		{"text", lwm2m.FormatText, "/5/0/3", []lwm2m.Entry{entry("/5/0/3", lwm2m.Integer(2))}, "2"},
		{"SenML resource", lwm2m.FormatSenMLJSON, "/5/0/3", []lwm2m.Entry{entry("/5/0/3", lwm2m.Integer(2))}, `[{"bn":"/5/0/3","v":2}]`},
		{
			"SenML instance", lwm2m.FormatSenMLJSON, "/5/0",
			[]lwm2m.Entry{entry("/5/0/3", lwm2m.Integer(2)), entry("/5/0/8/1", lwm2m.Integer(1))},
			`[{"bn":"/5/0/","n":"3","v":2},{"n":"8/1","v":1}]`,
		},
		{
			"SenML history", lwm2m.FormatSenMLJSON, "/",
			[]lwm2m.Entry{
				entryAt("/5/0/3", lwm2m.Integer(0), at),
				entryAt("/5/0/3", lwm2m.Integer(1), at.Add(1500*time.Millisecond)),
				entryAt("/3/0/3", lwm2m.String("1.0"), at.Add(1500*time.Millisecond)),
				entry("/3/0/9", lwm2m.Integer(50)),
			},
			`[{"bt":1700000000,"n":"/5/0/3","v":0},{"bt":1700000001.5,"n":"/5/0/3","v":1},` +
				`{"n":"/3/0/3","vs":"1.0"},{"bt":0,"n":"/3/0/9","v":50}]`,
		},
		{"SenML empty", lwm2m.FormatSenMLJSON, "/5/0/8", nil, `[]`},
		{
			"SenML removal", lwm2m.FormatSenMLETCHJSON, "/",
			[]lwm2m.Entry{entry("/1/0/25/3", lwm2m.Null()), entry("/1/0/1", lwm2m.Integer(60))},
			`[{"n":"/1/0/25/3","v":null},{"n":"/1/0/1","v":60}]`,
		},
		{
			"old JSON resource instances", lwm2m.FormatJSON, "/5/0/8",
			[]lwm2m.Entry{entry("/5/0/8/0", lwm2m.Integer(0)), entry("/5/0/8/1", lwm2m.Integer(1))},
			`{"bn":"/5/0/8","e":[{"n":"/0","v":0},{"n":"/1","v":1}]}`,
		},
		{
			"old JSON types", lwm2m.FormatOldJSON, "/",
			[]lwm2m.Entry{
				entry("/1/0/6", lwm2m.Boolean(true)),
				entry("/3/0/22/0", lwm2m.ObjectLink(66, 0)),
				entry("/5/0/0", lwm2m.Opaque([]byte{0})),
				entryAt("/6/0/0", lwm2m.Float(-1.5), at.Add(time.Millisecond)),
			},
			`{"bn":"/","e":[{"n":"1/0/6","bv":true},{"n":"3/0/22/0","ov":"66:0"},` +
				`{"n":"5/0/0","sv":"AA=="},{"n":"6/0/0","t":1700000000.001,"v":-1.5}]}`,
		},
		{"old JSON empty", lwm2m.FormatJSON, "/5/0", nil, `{"bn":"/5/0/","e":[]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := lwm2m.AppendPayload([]byte("x"), tc.format, mustPath(t, tc.base), tc.entries, nil)
			require.NoError(t, err)
			require.Equal(t, "x"+tc.want, string(b))
			again, err := lwm2m.DecodePayload(tc.format, mustPath(t, tc.base), b[1:], nil)
			require.NoError(t, err)
			require.Len(t, again, len(tc.entries))
			for i, e := range tc.entries {
				require.Equal(t, e.Path, again[i].Path)
				require.Equal(t, e.Value, again[i].Value)
			}
		})
	}
}

func TestPayloadBinaryForms(t *testing.T) {
	unsorted := []lwm2m.Entry{firmwareObject[8], firmwareObject[1], firmwareObject[6], firmwareObject[2], firmwareObject[5]}
	before := slices.Clone(unsorted)
	for _, tc := range []struct {
		format lwm2m.ContentFormat
		base   string
		want   string
	}{
		{lwm2m.FormatTLV, "/5/0", "c10302c105008608410000410101c40c6553f100"},
		{lwm2m.FormatTLV, "/5", "080014c10302c105008608410000410101c40c6553f100"},
		{lwm2m.FormatLwM2MCBOR, "/5/0", "a1820500a40302050008a2000001010c1a6553f100"},
		{lwm2m.FormatLwM2MCBOR, "/", "a1820500a40302050008a2000001010c1a6553f100"},
	} {
		b, err := lwm2m.AppendPayload(nil, tc.format, mustPath(t, tc.base), unsorted, nil)
		require.NoError(t, err)
		require.Equal(t, tc.want, hex.EncodeToString(b), "%s %s", tc.format, tc.base)
		require.Equal(t, before, unsorted, "the caller's slice keeps its order")
	}
	composite := []lwm2m.Entry{entry("/3/0/3", lwm2m.String("1")), entry("/5/0/3", lwm2m.Integer(2))}
	b, err := lwm2m.AppendPayload(nil, lwm2m.FormatLwM2MCBOR, lwm2m.Path{}, composite, nil)
	require.NoError(t, err)
	require.Equal(t, "a203a100a103613105a100a10302", hex.EncodeToString(b))
}

func TestPayloadRoundTrip(t *testing.T) {
	for _, f := range treeFormats {
		for _, base := range []string{"/5", "/5/0"} {
			requireRoundTrip(t, f, mustPath(t, base), firmwareObject)
		}
	}
	for _, e := range firmwareObject[:5] {
		for _, f := range append(slices.Clone(treeFormats), lwm2m.FormatText, lwm2m.FormatCBOR) {
			requireRoundTrip(t, f, e.Path, []lwm2m.Entry{e})
		}
	}
	image := entry("/5/0/0", lwm2m.Opaque([]byte{0, 255, '<', '"'}))
	for _, f := range allFormats {
		requireRoundTrip(t, f, image.Path, []lwm2m.Entry{image})
	}
}

// TestPayloadAtTheBase encodes a value at the path of the request beside others: the same one at
// another time, one below it, and itself again. Formats that cannot tell them apart refuse them.
func TestPayloadAtTheBase(t *testing.T) {
	base, at := mustPath(t, "/26241/0/7"), time.Unix(1700000000, 0).UTC()
	one, other := entry("/26241/0/7", lwm2m.String("a")), entry("/26241/0/7/3", lwm2m.String("b"))
	for _, entries := range [][]lwm2m.Entry{
		{one, one}, {one, other}, {other, one}, {one, entryAt("/26241/0/7", lwm2m.String("c"), at)},
	} {
		for _, f := range allFormats {
			b, err := lwm2m.AppendPayload(nil, f, base, entries, nil)
			if err != nil {
				require.NotContains(t, []lwm2m.ContentFormat{lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR, lwm2m.FormatJSON}, f)
				continue
			}
			again, err := lwm2m.DecodePayload(f, base, b, nil)
			require.NoError(t, err, "%s %s", f, b)
			for i := range again {
				require.True(t, entries[i].Time.Equal(again[i].Time))
				again[i].Time = entries[i].Time
			}
			require.Equal(t, entries, again, "%s %s", f, b)
		}
	}
}

// TestPayloadTypes checks that values are encoded as the type of their resource.
func TestPayloadTypes(t *testing.T) {
	m := modelsFor(t, map[string]string{"/26241/0/0": "float"})
	in := []lwm2m.Entry{entry("/26241/0/0", lwm2m.Integer(1)), entry("/26241/0/1", lwm2m.Integer(1))}
	b, err := lwm2m.AppendPayload(nil, lwm2m.FormatTLV, lwm2m.NewPath(26241, 0), in, m)
	require.NoError(t, err)
	require.Equal(t, "c4003f800000c10101", hex.EncodeToString(b))
	require.Equal(t, lwm2m.Integer(1), in[0].Value, "the caller's entries stay")

	for path, v := range map[string]lwm2m.Value{
		"/5/0/3": lwm2m.String("2"), "/5/0/1": lwm2m.Integer(2), "/5/0/13": lwm2m.Integer(-1), "/5/0/0": lwm2m.String("AA=="),
		"/5/0/14": lwm2m.Integer(1), "/3/0/22/0": lwm2m.String("5:0"), "/3/0/13": lwm2m.Float(0.5),
	} {
		for _, f := range treeFormats {
			_, err := lwm2m.AppendPayload(nil, f, mustPath(t, path), []lwm2m.Entry{entry(path, v)}, nil)
			require.ErrorIs(t, err, lwm2m.ErrNotEncodable, "%s %s", path, f)
		}
	}
}

// TestPayloadEmpties encodes empty instances and resources, which only some formats can express.
func TestPayloadEmpties(t *testing.T) {
	entries := []lwm2m.Entry{entry("/33629/0/16", lwm2m.Value{}), entry("/33629/1", lwm2m.Value{})}
	for _, f := range []lwm2m.ContentFormat{lwm2m.FormatTLV, lwm2m.FormatLwM2MCBOR} {
		b, err := lwm2m.AppendPayload(nil, f, lwm2m.NewPath(33629), entries, nil)
		require.NoError(t, err)
		again, err := lwm2m.DecodePayload(f, lwm2m.NewPath(33629), b, nil)
		require.NoError(t, err)
		require.Equal(t, entries, again)
	}
	for _, f := range treeFormats {
		for _, base := range []string{"/33629", "/33629/0", "/33629/0/16"} {
			b, err := lwm2m.AppendPayload(nil, f, mustPath(t, base), nil, nil)
			require.NoError(t, err)
			again, err := lwm2m.DecodePayload(f, mustPath(t, base), b, nil)
			require.NoError(t, err, "%s %s %q", f, base, b)
			require.Empty(t, again)
		}
	}
	b, err := lwm2m.AppendPayload(nil, lwm2m.FormatSenMLJSON, lwm2m.NewPath(33629), entries, nil)
	require.NoError(t, err)
	require.Equal(t, "[]", string(b), "SenML leaves them out")
}

func TestPayloadTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for payload, want := range map[string]time.Time{
			`[{"n":"/6/0/0","v":1}]`:                               {},
			`[{"n":"/6/0/0","v":1,"t":-10}]`:                       now.Add(-10 * time.Second),
			`[{"bn":"/6/0/0","bt":1700000000,"t":0.5,"v":1}]`:      time.Unix(1700000000, 5e8),
			`[{"bn":"/6/0/0","bt":1700000000,"t":-1.7e9,"v":1}]`:   now,
			`{"bn":"/6/0/0","e":[{"v":1}]}`:                        {},
			`{"bn":"/6/0/0","e":[{"v":1,"t":-10}]}`:                now.Add(-10 * time.Second),
			`{"bn":"/6/0/0","bt":1700000000,"e":[{"v":1,"t":-5}]}`: time.Unix(1699999995, 0),
		} {
			f := lwm2m.FormatSenMLJSON
			if payload[0] == '{' {
				f = lwm2m.FormatJSON
			}
			entries, err := lwm2m.DecodePayload(f, lwm2m.NewPath(6, 0, 0), []byte(payload), nil)
			require.NoError(t, err, payload)
			require.Truef(t, want.Equal(entries[0].Time), "%s: %s, want %s", payload, entries[0].Time, want)
		}
	})
}

func TestPaths(t *testing.T) {
	paths := []lwm2m.Path{lwm2m.NewPath(5, 0, 3), lwm2m.NewPath(3), {}, lwm2m.NewPath(5, 0, 8, 1)}
	for f, want := range map[lwm2m.ContentFormat]string{
		lwm2m.FormatSenMLJSON: `[{"n":"/5/0/3"},{"n":"/3"},{"n":"/"},{"n":"/5/0/8/1"}]`,
		lwm2m.FormatLwM2MCBOR: "\x84\x83\x05\x00\x03\x81\x03\x80\x84\x05\x00\x08\x01",
		lwm2m.FormatSenMLCBOR: "\x84\xa1\x00\x66/5/0/3\xa1\x00\x62/3\xa1\x00\x61/\xa1\x00\x68/5/0/8/1",
	} {
		b, err := lwm2m.AppendPaths([]byte("x"), f, paths)
		require.NoError(t, err)
		require.Equal(t, "x"+want, string(b))
		again, err := lwm2m.DecodePaths(f, b[1:])
		require.NoError(t, err)
		require.Equal(t, paths, again)
		for n := range len(b) - 1 {
			_, err := lwm2m.DecodePaths(f, b[1:1+n])
			requireMalformed(t, err, b[1:1+n])
		}
	}
	_, err := lwm2m.AppendPaths(nil, lwm2m.FormatTLV, paths)
	require.ErrorIs(t, err, lwm2m.ErrUnsupportedFormat)
	_, err = lwm2m.DecodePaths(lwm2m.FormatText, nil)
	require.ErrorIs(t, err, lwm2m.ErrUnsupportedFormat)
	for _, bad := range []string{"\xa0", "\x81\x05", "\x81\x81\x20", "\x81\x81\x19\xff\xff", "\x81\x85\x01\x02\x03\x04\x05", "\x80\x00"} {
		_, err := lwm2m.DecodePaths(lwm2m.FormatLwM2MCBOR, []byte(bad))
		requireMalformed(t, err, []byte(bad))
	}
}

func TestPayloadAllocations(t *testing.T) {
	buf := make([]byte, 0, 512)
	for _, f := range []lwm2m.ContentFormat{lwm2m.FormatLwM2MCBOR, lwm2m.FormatTLV} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, err := lwm2m.AppendPayload(buf, f, lwm2m.NewPath(5, 0), firmwareObject, nil); err != nil {
				t.Fatal(err)
			}
		}), f)
	}
	one := firmwareObject[1:2]
	for _, f := range []lwm2m.ContentFormat{lwm2m.FormatText, lwm2m.FormatCBOR} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, err := lwm2m.AppendPayload(buf, f, one[0].Path, one, nil); err != nil {
				t.Fatal(err)
			}
		}), f)
	}
}
