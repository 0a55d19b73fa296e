package lwm2m_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

var typedFormats = []lwm2m.ContentFormat{
	lwm2m.FormatCBOR, lwm2m.FormatLwM2MCBOR, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR, lwm2m.FormatJSON,
	lwm2m.FormatText, lwm2m.FormatTLV, lwm2m.FormatOpaque,
}

// TestTypesWithoutModel holds the table of DecodePayload: the type of each value, sent in each
// format, for a receiver without a model.
func TestTypesWithoutModel(t *testing.T) {
	const none = lwm2m.TypeNone // the format cannot carry the value
	integer, unsigned, float, boolean := lwm2m.TypeInteger, lwm2m.TypeUnsigned, lwm2m.TypeFloat, lwm2m.TypeBoolean
	text, opaque, link := lwm2m.TypeString, lwm2m.TypeOpaque, lwm2m.TypeObjectLink
	path := lwm2m.NewPath(26241, 0, 1)
	for _, test := range []struct {
		name  string
		value lwm2m.Value
		want  [8]lwm2m.Type // by typedFormats
	}{
		{"String", lwm2m.String("a"), [8]lwm2m.Type{text, text, text, text, text, text, opaque, none}},
		{"String that looks like a number", lwm2m.String("21"), [8]lwm2m.Type{text, text, text, text, text, text, opaque, none}},
		{"String that looks like a link", lwm2m.String("3:0"), [8]lwm2m.Type{text, text, text, text, text, text, opaque, none}},
		{"Corelnk", lwm2m.CoreLink("</3>"), [8]lwm2m.Type{text, text, text, text, text, text, opaque, none}},
		{"Integer", lwm2m.Integer(21), [8]lwm2m.Type{integer, integer, integer, integer, integer, text, opaque, none}},
		{"Integer below 0", lwm2m.Integer(math.MinInt64), [8]lwm2m.Type{integer, integer, integer, integer, integer, text, opaque, none}},
		{"Unsigned Integer", lwm2m.Unsigned(21), [8]lwm2m.Type{integer, integer, integer, integer, integer, text, opaque, none}},
		{"large Unsigned Integer", lwm2m.Unsigned(math.MaxUint64), [8]lwm2m.Type{unsigned, unsigned, unsigned, unsigned, unsigned, text, opaque, none}},
		{"Float", lwm2m.Float(21.5), [8]lwm2m.Type{float, float, float, float, float, text, opaque, none}},
		{"whole Float", lwm2m.Float(21), [8]lwm2m.Type{integer, integer, integer, integer, integer, text, opaque, none}},
		{"Float of minus 0", lwm2m.Float(math.Copysign(0, -1)), [8]lwm2m.Type{integer, integer, integer, integer, integer, text, opaque, none}},
		{"large Float", lwm2m.Float(1e15), [8]lwm2m.Type{integer, integer, integer, integer, integer, text, opaque, none}},
		{"Float above 63 bits", lwm2m.Float(1e19), [8]lwm2m.Type{unsigned, unsigned, unsigned, unsigned, unsigned, text, opaque, none}},
		{"Float above 64 bits", lwm2m.Float(1e300), [8]lwm2m.Type{float, float, float, float, float, text, opaque, none}},
		{"small Float", lwm2m.Float(1e-300), [8]lwm2m.Type{float, float, float, float, float, text, opaque, none}},
		{"not a number", lwm2m.Float(math.NaN()), [8]lwm2m.Type{float, float, none, none, none, none, opaque, none}},
		{"Boolean", lwm2m.Boolean(true), [8]lwm2m.Type{boolean, boolean, boolean, boolean, boolean, text, opaque, none}},
		{"Time", lwm2m.Time(time.Unix(1700000000, 0)), [8]lwm2m.Type{integer, integer, integer, integer, integer, text, opaque, none}},
		{"Opaque", lwm2m.Opaque([]byte{1, 0xff}), [8]lwm2m.Type{opaque, opaque, opaque, opaque, text, text, opaque, opaque}},
		{"Objlnk", lwm2m.ObjectLink(3, 0), [8]lwm2m.Type{text, text, link, link, link, text, opaque, none}},
	} {
		for i, f := range typedFormats {
			payload, err := lwm2m.AppendPayload(nil, f, path, []lwm2m.Entry{{Path: path, Value: test.value}}, nil)
			if test.want[i] == none {
				require.Error(t, err, "%s in %s", test.name, f)
				continue
			}
			require.NoError(t, err, "%s in %s", test.name, f)
			entries, err := lwm2m.DecodePayload(f, path, payload, nil)
			require.NoError(t, err, "%s in %s", test.name, f)
			require.Equal(t, test.want[i], entries[0].Value.Type(), "%s in %s", test.name, f)
			// A program that knows the type gets the value that was sent.
			value, ok := entries[0].Value.As(test.value.Type())
			require.True(t, ok, "%s in %s", test.name, f)
			if test.value != lwm2m.Float(math.Copysign(0, -1)) {
				require.Equal(t, test.value, value, "%s in %s", test.name, f)
			}
		}
	}
}

// TestWholeNumbersWithoutModel: it does not matter how a sender writes a whole number.
func TestWholeNumbersWithoutModel(t *testing.T) {
	path := lwm2m.NewPath(26241, 0, 1)
	for f, payloads := range map[lwm2m.ContentFormat][]string{
		lwm2m.FormatCBOR:      {"\x15", "\xf9\x4d\x40", "\xfa\x41\xa8\x00\x00", "\xfb\x40\x35\x00\x00\x00\x00\x00\x00", "\xc4\x82\x20\x18\xd2"},
		lwm2m.FormatLwM2MCBOR: {"\xa1\x83\x19\x66\x81\x00\x01\x15", "\xa1\x83\x19\x66\x81\x00\x01\xf9\x4d\x40"},
		lwm2m.FormatSenMLJSON: {`[{"n":"/26241/0/1","v":21}]`, `[{"n":"/26241/0/1","v":21.0}]`, `[{"n":"/26241/0/1","v":2.1e1}]`},
		lwm2m.FormatSenMLCBOR: {"\x81\xa2\x00\x6a/26241/0/1\x02\x15", "\x81\xa2\x00\x6a/26241/0/1\x02\xf9\x4d\x40"},
		lwm2m.FormatJSON:      {`{"bn":"/26241/0/1","e":[{"v":21}]}`, `{"bn":"/26241/0/1","e":[{"v":21.0}]}`, `{"bn":"/26241/0/1","e":[{"v":2.1e1}]}`},
	} {
		for _, payload := range payloads {
			entries, err := lwm2m.DecodePayload(f, path, []byte(payload), nil)
			require.NoError(t, err, "%s %q", f, payload)
			require.Equal(t, lwm2m.Integer(21), entries[0].Value, "%s %q", f, payload)
		}
	}
	// With a model the type is that of the model, and no zero loses its sign.
	models := new(lwm2m.Models)
	require.NoError(t, models.Add(&lwm2m.ObjectModel{ID: 26241, Version: version(1, 0), Resources: []lwm2m.ResourceModel{{ID: 1, Type: lwm2m.TypeFloat}}}))
	entries, err := lwm2m.DecodePayload(lwm2m.FormatCBOR, path, []byte("\xf9\x80\x00"), models)
	require.NoError(t, err)
	require.Equal(t, lwm2m.Float(math.Copysign(0, -1)), entries[0].Value)
}
