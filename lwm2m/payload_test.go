package lwm2m_test

import (
	"encoding/hex"
	"math"
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

func TestPayloadRefusesToEncode(t *testing.T) {
	unsupported, notEncodable := lwm2m.ErrUnsupportedFormat, lwm2m.ErrNotEncodable
	formats := func(f ...lwm2m.ContentFormat) []lwm2m.ContentFormat { return f }
	single := formats(lwm2m.FormatText, lwm2m.FormatCBOR)
	nested := formats(lwm2m.FormatTLV, lwm2m.FormatLwM2MCBOR)
	state := []lwm2m.Entry{entry("/5/0/3", lwm2m.Integer(2))}
	for _, tc := range []struct {
		name    string
		formats []lwm2m.ContentFormat
		base    string
		entries []lwm2m.Entry
		want    error
	}{
		{"unknown format", formats(1, lwm2m.FormatLink, 65535), "/5/0/3", state, unsupported},
		{"outside", treeFormats, "/5/1", state, notEncodable},
		{"TLV of the root", formats(lwm2m.FormatTLV), "/", state, unsupported},
		{"no path for an instance", single, "/5/0", state, unsupported},
		{"no path for instances", single, "/5/0/8", firmwareObject[5:7], unsupported},
		{"several where one fits", single, "/5/0/3", append(state, state...), unsupported},
		{"opaque integer", formats(lwm2m.FormatOpaque), "/5/0/3", state, unsupported},
		{"value of an instance", treeFormats, "/5", []lwm2m.Entry{entry("/5/0", lwm2m.Integer(1))}, notEncodable},
		{"bad text", treeFormats, "/5/0", []lwm2m.Entry{entry("/5/0/1", lwm2m.String("\xff"))}, notEncodable},
		{
			"null", append(formats(lwm2m.FormatTLV, lwm2m.FormatJSON, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR), single...),
			"/5/0/3", []lwm2m.Entry{entry("/5/0/3", lwm2m.Null())}, notEncodable,
		},
		{
			"infinity", formats(lwm2m.FormatJSON, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR, lwm2m.FormatText),
			"/6/0/0", []lwm2m.Entry{entry("/6/0/0", lwm2m.Float(math.Inf(1)))}, notEncodable,
		},
		{"twice", nested, "/5/0", append(state, state...), notEncodable},
		{"value and instances", nested, "/5/0", []lwm2m.Entry{entry("/5/0/8", lwm2m.Integer(1)), firmwareObject[5]}, notEncodable},
		{"empty object", nested[1:], "/", []lwm2m.Entry{entry("/5", lwm2m.Value{})}, notEncodable},
		{"empty resource instance", nested, "/5/0", []lwm2m.Entry{entry("/5/0/8/0", lwm2m.Value{})}, notEncodable},
		{"no value", single, "/5/0/3", []lwm2m.Entry{entry("/5/0/3", lwm2m.Value{})}, notEncodable},
		{
			"time that would be relative", formats(lwm2m.FormatJSON, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR), "/5/0/3",
			[]lwm2m.Entry{entryAt("/5/0/3", lwm2m.Integer(1), time.Unix(1<<28-1, 0))}, notEncodable,
		},
	} {
		for _, f := range tc.formats {
			b, err := lwm2m.AppendPayload([]byte("x"), f, mustPath(t, tc.base), tc.entries, nil)
			require.ErrorIs(t, err, tc.want, "%s %s", tc.name, f)
			require.Equal(t, "x", string(b))
		}
	}
}

func TestPayloadRefusesToDecode(t *testing.T) {
	for _, tc := range []struct {
		format  lwm2m.ContentFormat
		base    string
		payload string
	}{
		{lwm2m.FormatText, "/5/0/3", ""},
		{lwm2m.FormatText, "/5/0/3", "1 "},
		{lwm2m.FormatText, "/5/0/3", "1.0"},
		{lwm2m.FormatText, "/5/0/1", "ab\xff"},
		{lwm2m.FormatText, "/5/0/0", "not base64"},
		{lwm2m.FormatText, "/5/0/14", "2"},
		{lwm2m.FormatText, "/5/0/14", "true"},
		{lwm2m.FormatSenMLJSON, "/3/0/22/0", `[{"n":"/3/0/22/0","vs":"66:0"}]`},
		{lwm2m.FormatText, "/5/0/13", "-1"},
		{lwm2m.FormatText, "/3/0/22/0", "1:2:3"},
		{lwm2m.FormatCBOR, "/5/0/3", ""},
		{lwm2m.FormatCBOR, "/5/0/3", "\x00\x00"},
		{lwm2m.FormatCBOR, "/5/0/3", "\xf6"},                 // null
		{lwm2m.FormatCBOR, "/5/0/3", "\x61\x31"},             // "1"
		{lwm2m.FormatCBOR, "/5/0/3", "\xf9\x3e\x00"},         // 1.5
		{lwm2m.FormatCBOR, "/5/0/1", "\x61\xff"},             // not UTF-8
		{lwm2m.FormatCBOR, "/5/0/1", "\x7f\x41\x00\xff"},     // bytes in a text
		{lwm2m.FormatCBOR, "/5/0/1", "\x7f\x7f\x60\xff\xff"}, // chunks in chunks
		{lwm2m.FormatCBOR, "/5/0/0", "\x5b\xff\xff\xff\xff\xff\xff\xff\xff"},
		{lwm2m.FormatCBOR, "/5/0/3", "\xc2\x41\x01"}, // a big number
		{lwm2m.FormatCBOR, "/5/0/3", "\x3b\xff\xff\xff\xff\xff\xff\xff\xff"},
		{lwm2m.FormatCBOR, "/5/0/3", "\xf8\x14"}, // true in two bytes
		{lwm2m.FormatCBOR, "/5/0/3", "\x1c"},
		{lwm2m.FormatCBOR, "/5/0/3", "\xff"},
		{lwm2m.FormatCBOR, "/6/0/0", "\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01"}, // 10 to the 2^63
		{lwm2m.FormatTLV, "/5/0", "\x00\x01"},                                            // another instance, empty
		{lwm2m.FormatTLV, "/5/0/8", "\x80\x09"},                                          // another resource, empty
		{lwm2m.FormatTLV, "/5/0/3", "\xc1\x05\x02"},                                      // another resource
		{lwm2m.FormatTLV, "/5/0/8/1", "\x83\x08\x41\x02\x00"},
		{lwm2m.FormatTLV, "/5/0/3", ""},
		{lwm2m.FormatTLV, "/5/0/3", "\x80\x03"}, // no instances of a single resource
		{lwm2m.FormatJSON, "/5/0", `{}`},
		{lwm2m.FormatJSON, "/5/0", "{\"bn\":\"/5/0/\",\"e\":[{\"n\":\"1\",\"sv\":\"\xff\"}]}"},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/0/","e":[{"n":"3","n":"5","v":1}]}`},
		{lwm2m.FormatJSON, "/5/0", `[]`},
		{lwm2m.FormatJSON, "/5/0", `{"e":[]} x`},
		{lwm2m.FormatJSON, "/5/0", `{"e":[`},
		{lwm2m.FormatJSON, "/5/0", `{"e":[{]}`},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/0/","e":[{"n":"3"}]}`},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/0/","e":[{"n":"3","v":1,"sv":"x"}]}`},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/0/","e":[{"n":"3","v":"1"}]}`},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/0/","e":[{"n":"3","v":1e999}]}`},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/0/","e":[{"n":"3","v":1,"v":1}]}`},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/1/","e":[{"n":"3","v":1}]}`},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/0/","e":[{"n":"0","sv":"?"}]}`},
		{lwm2m.FormatJSON, "/5/0", `{"bn":"/5/0","e":[{"v":1}]}`},
		{lwm2m.FormatSenMLJSON, "/5/0", `[{"n":"/5/0/3","vs":"1"}]`},
		{lwm2m.FormatSenMLJSON, "/5/0", `[{"bn":"/5/0/"},{"n":"3","v":1},{"n":"9","vb":true}]`},
		{lwm2m.FormatLwM2MCBOR, "/5/0", "\xa1\x05\xa1\x00\xa2\x08\x01\x08\xa1\x00\x01"}, // 8 and 8/0
		{lwm2m.FormatLwM2MCBOR, "/5/0", "\xa1\x82\x05\x00\xa2\x08\xa1\x00\x01\x08\x01"}, // 8/0 and 8
		{lwm2m.FormatLwM2MCBOR, "/5/0", "\xa1\x82\x05\x00\xa3\x03\x01\x05\x01\x03\x01"}, // 3, 5, 3
		{lwm2m.FormatLwM2MCBOR, "/", "\xa1\x05\xa0"},
	} {
		_, err := lwm2m.DecodePayload(tc.format, mustPath(t, tc.base), []byte(tc.payload), nil)
		require.ErrorIs(t, err, lwm2m.ErrMalformed, "%s %s %q", tc.format, tc.base, tc.payload)
		requireMalformed(t, err, []byte(tc.payload))
	}
	for _, tc := range []struct {
		format lwm2m.ContentFormat
		base   string
	}{
		{1, "/5/0/3"}, {lwm2m.FormatLink, "/5/0/3"}, {lwm2m.FormatText, "/5/0"}, {lwm2m.FormatText, "/5/0/8"},
		{lwm2m.FormatOpaque, "/5/0/3"}, {lwm2m.FormatTLV, "/"},
	} {
		_, err := lwm2m.DecodePayload(tc.format, mustPath(t, tc.base), nil, nil)
		require.ErrorIs(t, err, lwm2m.ErrUnsupportedFormat, "%s %s", tc.format, tc.base)
	}
}

// TestPayloadOffsets checks the offsets of errors.
func TestPayloadOffsets(t *testing.T) {
	for _, tc := range []struct {
		format  lwm2m.ContentFormat
		base    string
		payload string
		offset  int
	}{
		{lwm2m.FormatText, "/5/0/1", "ab\xffc", 2},
		{lwm2m.FormatSenMLJSON, "/5/0", `[{"bn":"/5/0/"},{"n":"3","v":1},{"n":"9","vb":true}]`, 32},
		{lwm2m.FormatSenMLJSON, "/5/0", `[{"n":"/5/0/3","v":1},{"n":"/6/0/3","v":1}]`, 22},
		{lwm2m.FormatSenMLCBOR, "/5/0", "\x82\xa2\x00\x66/5/0/3\x02\x01\xa2\x00\x66/6/0/3\x02\x01", 12},
		{lwm2m.FormatLwM2MCBOR, "/5/0", "\xa1\x82\x05\x00\xa2\x03\x01\x03\x01", 7},
		{lwm2m.FormatTLV, "/5/0", "\xc1\x03\x02\xc3\x05\x00\x00\x00", 5},
		{lwm2m.FormatJSON, "/5/0", `{"e":[{"n":"/5/0/3","v":1},{"n":"/6/0/3","v":1}]}`, 26},
	} {
		_, err := lwm2m.DecodePayload(tc.format, mustPath(t, tc.base), []byte(tc.payload), nil)
		var fe *lwm2m.FormatError
		require.ErrorAs(t, err, &fe)
		require.Equal(t, tc.offset, fe.Offset, "%s %q: %v", tc.format, tc.payload, err)
	}
}

// TestPayloadTolerances checks the tolerances of DecodePayload.
func TestPayloadTolerances(t *testing.T) {
	at := lwm2m.Time(time.Unix(1700000000, 0))
	for _, tc := range []struct {
		name    string
		format  lwm2m.ContentFormat
		path    string
		payload string
		want    lwm2m.Value
	}{
		{"tag 1", lwm2m.FormatCBOR, "/3/0/13", "\xc1\x1a\x65\x53\xf1\x00", at},
		{"tag 1 with a float", lwm2m.FormatCBOR, "/3/0/13", "\xc1\xfb\x41\xd9\x54\xfc\x40\x00\x00\x00", at},
		{"tag 0", lwm2m.FormatCBOR, "/3/0/13", "\xc0\x74" + "2023-11-14T22:13:20Z", at},
		{"whole float", lwm2m.FormatCBOR, "/5/0/3", "\xf9\x40\x00", lwm2m.Integer(2)},
		{"decimal fraction", lwm2m.FormatCBOR, "/5/0/3", "\xc4\x82\x01\x14", lwm2m.Integer(200)},
		{"decimal fraction in an open array", lwm2m.FormatCBOR, "/5/0/3", "\xc4\x9f\x20\x14\xff", lwm2m.Integer(2)},
		{"long integer", lwm2m.FormatCBOR, "/5/0/3", "\x1b\x00\x00\x00\x00\x00\x00\x00\x02", lwm2m.Integer(2)},
		{"text in chunks", lwm2m.FormatCBOR, "/5/0/1", "\x7f\x61a\x61b\xff", lwm2m.String("ab")},
		{"base name without slash", lwm2m.FormatJSON, "/5/0/3", `{"bn":"5/0/","e":[{"n":"3","v":2}]}`, lwm2m.Integer(2)},
		{"unknown members", lwm2m.FormatOldJSON, "/5/0/3", `{"x":{"e":[1]},"e":[{"n":"/5/0/3","v":2.0,"u":"%"}]}`, lwm2m.Integer(2)},
		{"instance around a resource", lwm2m.FormatOldTLV, "/5/0/3", "\x03\x00\xc1\x03\x02", lwm2m.Integer(2)},
		{"leading zeros", lwm2m.FormatSenMLJSON, "/5/0/3", `[{"n":"/05/00/3","v":2}]`, lwm2m.Integer(2)},
		{"resources where instances are due", lwm2m.FormatTLV, "/9", "\xc3\x000.1", lwm2m.String("0.1")},
	} {
		entries, err := lwm2m.DecodePayload(tc.format, mustPath(t, tc.path), []byte(tc.payload), nil)
		require.NoError(t, err, tc.name)
		require.Len(t, entries, 1, tc.name)
		require.Equal(t, tc.want, entries[0].Value, tc.name)
	}
}

func TestPayloadUnknownResources(t *testing.T) {
	path := lwm2m.NewPath(26241, 0, 1)
	for f, tc := range map[lwm2m.ContentFormat]struct {
		payload string
		want    lwm2m.Value
	}{
		lwm2m.FormatTLV:       {"\xc1\x01\x02", lwm2m.Opaque([]byte{2})},
		lwm2m.FormatText:      {"2", lwm2m.String("2")},
		lwm2m.FormatOpaque:    {"2", lwm2m.Opaque([]byte("2"))},
		lwm2m.FormatCBOR:      {"\x02", lwm2m.Integer(2)},
		lwm2m.FormatSenMLJSON: {`[{"n":"/26241/0/1","v":2.5}]`, lwm2m.Float(2.5)},
		lwm2m.FormatLwM2MCBOR: {"\xa1\x83\x19\x66\x81\x00\x01\x1b\xff\xff\xff\xff\xff\xff\xff\xff", lwm2m.Unsigned(math.MaxUint64)},
	} {
		entries, err := lwm2m.DecodePayload(f, path, []byte(tc.payload), nil)
		require.NoError(t, err, f)
		require.Equal(t, []lwm2m.Entry{{Path: path, Value: tc.want}}, entries, f)
	}
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
