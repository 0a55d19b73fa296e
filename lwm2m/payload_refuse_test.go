package lwm2m_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

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
