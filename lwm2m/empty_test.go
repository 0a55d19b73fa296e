package lwm2m_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// TestAnswersWithoutValues reads paths without values, in each form that the answer may have.
func TestAnswersWithoutValues(t *testing.T) {
	for name, answer := range map[string]*coap.Response{
		"nothing":              {Code: coap.Content},
		"TLV":                  content(11542, ""),
		"old TLV":              content(1542, ""),
		"SenML JSON":           content(110, "[]"),
		"SenML JSON, empty":    content(110, ""),
		"SenML CBOR":           content(112, "\x80"),
		"SenML CBOR, streamed": content(112, "\x9f\xff"),
		"SenML CBOR, empty":    content(112, ""),
		"LwM2M CBOR":           content(11544, "\xa0"),
		"LwM2M CBOR, streamed": content(11544, "\xbf\xff"),
		"LwM2M CBOR, empty":    content(11544, ""),
		"JSON":                 content(11543, `{"e":[]}`),
		"JSON with base":       content(11543, `{"bn":"/5/0/3","e":[]}`),
		"CBOR, empty":          content(60, ""),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				w.foreign("</5/0>", nil, func(*coap.IncomingRequest) *coap.Response { return answer })
				for _, path := range []lwm2m.Path{
					lwm2m.NewPath(5), lwm2m.NewPath(5, 0), lwm2m.NewPath(5, 0, 3), lwm2m.NewPath(5, 0, 8), lwm2m.NewPath(5, 0, 8, 1),
					lwm2m.NewPath(5, 0, 1), lwm2m.NewPath(26241, 0, 0),
				} {
					if name == "JSON with base" && path != lwm2m.NewPath(5, 0, 3) {
						continue
					}
					entries, err := w.server.Read(t.Context(), endpointName, path)
					require.NoError(t, err, path)
					require.Empty(t, entries, path)
				}
			})
		})
	}
}

// TestEmptyValues reads values that exist and are empty.
func TestEmptyValues(t *testing.T) {
	uri, pkg := lwm2m.NewPath(5, 0, 1), lwm2m.NewPath(5, 0, 0)
	for _, test := range []struct {
		format uint16
		path   lwm2m.Path
		want   lwm2m.Value
	}{
		{0, uri, lwm2m.String("")}, {42, pkg, lwm2m.Opaque(nil)}, {0, pkg, lwm2m.Opaque(nil)},
		{0, lwm2m.NewPath(26241, 0, 0), lwm2m.String("")}, {42, lwm2m.NewPath(26241, 0, 0), lwm2m.Opaque(nil)},
	} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			w.foreign("</5/0>", nil, func(*coap.IncomingRequest) *coap.Response { return content(test.format, "") })
			entries, err := w.server.Read(t.Context(), endpointName, test.path)
			require.NoError(t, err)
			require.Equal(t, []lwm2m.Entry{{Path: test.path, Value: test.want}}, entries)
		})
	}
}
