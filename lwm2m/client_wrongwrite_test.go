package lwm2m_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// TestWrongWrites writes values that do not fit the client's objects, in each format: the client
// refuses all.
func TestWrongWrites(t *testing.T) {
	const text, tlv, json, senml, cbor, lwm2mCBOR = 0, 11542, 110, 112, 60, 11544
	cases := []struct {
		name   string
		code   coap.Code
		path   string
		format uint16
		body   string
		want   coap.Code
	}{
		{"an instance of a single resource, in TLV", coap.PUT, "/1/0", tlv, "\x83\x01\x41\x00\x05", coap.NotFound},
		{"the same, added", coap.POST, "/1/0", tlv, "\x83\x01\x41\x00\x05", coap.NotFound},
		{"the same, to the resource", coap.PUT, "/1/0/1", tlv, "\x83\x01\x41\x00\x05", coap.NotFound},
		{"an instance of a single resource, in JSON", coap.PUT, "/1/0", json, `[{"bn":"/1/0/1/0","v":77}]`, coap.NotFound},
		{"another one", coap.POST, "/1/0", json, `[{"bn":"/1/0/1/7","v":77}]`, coap.NotFound},
		{"an instance of a single resource, in SenML CBOR", coap.POST, "/1/0", senml, "\x81\xa2\x00\x68/1/0/1/0\x02\x01", coap.NotFound},
		{"an instance of a single resource, in LwM2M CBOR", coap.POST, "/1/0", lwm2mCBOR, "\xa1\x84\x01\x00\x01\x00\x18\x4d", coap.NotFound},
		{"an instance of a single resource, composite", coap.IPATCH, "", senml, "\x81\xa2\x00\x68/1/0/1/0\x02\x01", coap.NotFound},
		{"an unknown resource beside a good one", coap.POST, "/1/0", json, `[{"bn":"/1/0/","n":"1","v":77},{"n":"99","v":1}]`, coap.NotFound},
		{"one that is read only", coap.PUT, "/1/0", json, `[{"bn":"/1/0/","n":"1","v":77},{"n":"0","v":1}]`, coap.MethodNotAllowed},
		{"one that is executed", coap.POST, "/1/0", json, `[{"bn":"/1/0/","n":"1","v":77},{"n":"8","v":1}]`, coap.MethodNotAllowed},
		{"one that this client has not", coap.POST, "/1/0", json, `[{"bn":"/1/0/","n":"1","v":77},{"n":"5","v":1}]`, coap.NotFound},
		{"another object", coap.POST, "/1/0", json, `[{"bn":"/3/0/1","vs":"x"}]`, coap.BadRequest},
		{"pmin above pmax", coap.POST, "/1/0", json, `[{"bn":"/1/0/","n":"1","v":77},{"n":"2","v":77},{"n":"3","v":8}]`, coap.BadRequest},
		{"text as a number, in TLV", coap.POST, "/1/0", tlv, "\xc3\x01abc", coap.BadRequest},
		{"a fraction", coap.PUT, "/1/0/1", json, `[{"bn":"/1/0/1","v":300.5}]`, coap.BadRequest},
		{"text as a number, in JSON", coap.PUT, "/1/0/1", json, `[{"bn":"/1/0/1","vs":"77"}]`, coap.BadRequest},
		{"text as a number, in CBOR", coap.PUT, "/1/0/1", cbor, "\x6277", coap.BadRequest},
		{"no number", coap.PUT, "/1/0/1", cbor, "\xf9\x7e\x00", coap.BadRequest},
		{"other digits", coap.PUT, "/1/0/1", text, "٧", coap.BadRequest},
		{"a lifetime of 0", coap.PUT, "/1/0/1", text, "0", coap.BadRequest},
		{"a negative lifetime", coap.PUT, "/1/0/1", text, "-1", coap.BadRequest},
		{"a lifetime of 2^32", coap.PUT, "/1/0/1", text, "4294967296", coap.BadRequest},
		{"a lifetime of 2^64", coap.PUT, "/1/0/1", text, "18446744073709551693", coap.BadRequest},
	}
	withPicky(t, func(*coap.IncomingRequest) *coap.Response { return nil }, nil, func(t *testing.T, p *picky, _ *lwm2m.Client) {
		for _, tc := range cases {
			req := &coap.Request{Code: tc.code, ContentFormat: coap.FormatOf(tc.format), Payload: []byte(tc.body)}
			if tc.path != "" {
				req.Path = strings.Split(tc.path, "/")[1:]
			}
			resp, err := p.endpoint.Do(t.Context(), p.device(), req)
			require.NoError(t, err)
			require.Equal(t, tc.want, resp.Code, "%s: %s", tc.name, resp.Payload)
			require.Equal(t, "300", p.read("/1/0/1"), tc.name)
		}
	})
}
