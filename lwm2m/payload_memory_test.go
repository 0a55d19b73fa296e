package lwm2m_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestPayloadMemory decodes the most expensive payloads: as many entries as 64 KiB can hold, or can
// claim to hold.
func TestPayloadMemory(t *testing.T) {
	const size = 64 << 10
	for name, tc := range map[string]struct {
		format  lwm2m.ContentFormat
		base    string
		payload string
		// times is how many bytes may be allocated for each byte of input; with the race detector
		// slices.Grow allocates twice as much.
		times int
	}{
		"TLV": {lwm2m.FormatTLV, "/100/0", manyIDs(size/3, func(i int) string {
			return string([]byte{0xe0, byte(i >> 8), byte(i)})
		}), 30},
		"LwM2M CBOR, ascending":  {lwm2m.FormatLwM2MCBOR, "/", "\xbf" + nestedMaps(24, 0) + "\xff", 90},
		"LwM2M CBOR, descending": {lwm2m.FormatLwM2MCBOR, "/", "\xbf" + nestedMaps(24, 23) + "\xff", 140},
		"LwM2M CBOR, claims": {
			lwm2m.FormatLwM2MCBOR, "/", "\xa1\x05\xa1\x00\xbf\x01\x01\x02\x01\x04\x01\x05\x5a\x00\x00\xff\x00" + strings.Repeat("x", 0xff00), 10,
		},
		"SenML CBOR, short names": {
			lwm2m.FormatSenMLCBOR, "/", "\x9f\xa3\x21\x65/100/\x00\x63" + "0/0\x02\x00" + strings.Repeat("\xa2\x00\x630/0\x02\x00", size/8) + "\xff", 100,
		},
		"SenML CBOR, no names": {
			lwm2m.FormatSenMLCBOR, "/", "\x9f\xa2\x21\x68/100/0/0\x02\x00" + strings.Repeat("\xa1\x02\x00", size/3) + "\xff", 100,
		},
		"SenML JSON, long base name": {
			lwm2m.FormatSenMLJSON, "/", `[{"bn":"/100/0/` + strings.Repeat("0", size/2) + `","n":"0","v":1}` +
				strings.Repeat(`,{"n":"1","v":1}`, size/32) + "]", 20,
		},
		"old JSON": {lwm2m.FormatJSON, "/", `{"bn":"/100/0/0","e":[{"v":1}` + strings.Repeat(`,{"v":1}`, size/8) + "]}", 90},
	} {
		t.Run(name, func(t *testing.T) {
			payload := []byte(tc.payload)
			base := mustPath(t, tc.base)
			got := uint64(math.MaxUint64)
			for range 5 { // the runtime counts some allocations late, also earlier ones
				got = min(got, allocated(func() { _, _ = lwm2m.DecodePayload(tc.format, base, payload, nil) }))
			}
			require.LessOrEqual(t, got, uint64(tc.times*len(payload)+64<<10))
		})
	}
}

func manyIDs(n int, f func(int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i + 256))
	}
	return b.String()
}

// nestedMaps returns n objects with n instances with n resources, each in two bytes. The
// identifiers descend from flip unless it is 0.
func nestedMaps(n, flip int) string {
	level := func(f func(id byte) []byte) []byte {
		var b []byte
		for i := range n {
			id := i
			if flip > 0 {
				id = flip - i
			}
			b = append(b, f(byte(id))...)
		}
		return b
	}
	resources := level(func(id byte) []byte { return []byte{id, 0} })
	instances := level(func(id byte) []byte { return bytes.Join([][]byte{{id, 0xbf}, resources, {0xff}}, nil) })
	return string(level(func(id byte) []byte { return bytes.Join([][]byte{{0x18, 100 + id, 0xbf}, instances, {0xff}}, nil) }))
}
