package lwm2m_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// cborText is a short CBOR text string.
func cborText(s string) string { return string([]byte{0x60 + byte(len(s))}) + s }

// TestTaggedTimes: all CBOR formats accept and refuse the same tagged times, for resources of any
// type.
func TestTaggedTimes(t *testing.T) {
	const at, refused = "Time 1700000000", "refused"
	for name, tc := range map[string]struct{ item, want string }{
		"epoch":                 {"\xc1\x1a\x65\x53\xf1\x00", at},
		"epoch, long tag":       {"\xd8\x01\x1a\x65\x53\xf1\x00", at},
		"epoch, negative":       {"\xc1\x20", "Time -1"},
		"epoch, double":         {"\xc1\xfb\x41\xd9\x54\xfc\x40\x00\x00\x00", at},
		"epoch, half":           {"\xc1\xf9\x40\x00", "Time 2"},
		"epoch, fraction":       {"\xc1\xf9\x3e\x00", refused},
		"epoch, not a number":   {"\xc1\xf9\x7e\x00", refused},
		"epoch, text":           {"\xc1\x611", refused},
		"epoch, bytes":          {"\xc1\x411", refused},
		"epoch, true":           {"\xc1\xf5", refused},
		"epoch, null":           {"\xc1\xf6", refused},
		"epoch in epoch":        {"\xc1\xc1\x01", refused},
		"epoch, decimal":        {"\xc1\xc4\x82\x00\x01", refused},
		"epoch, of nothing":     {"\xc1", refused},
		"epoch, above 64 bits":  {"\xc1\x1b\xff\xff\xff\xff\xff\xff\xff\xff", refused},
		"date":                  {"\xc0\x742023-11-14T22:13:20Z", at},
		"date, long tag":        {"\xd9\x00\x00\x742023-11-14T22:13:20Z", at},
		"date, in pieces":       {"\xc0\x7f\x6a2023-11-14\x6aT22:13:20Z\xff", at},
		"date, another zone":    {"\xc0\x78\x192023-11-15T00:13:20+02:00", at},
		"date, fraction":        {"\xc0\x772023-11-14T22:13:20.75Z", at},
		"date, before 1970":     {"\xc0\x741969-12-31T23:59:59Z", "Time -1"},
		"date, empty":           {"\xc0\x60", refused},
		"date, without a time":  {"\xc0\x6a2023-11-14", refused},
		"date, month 13":        {"\xc0\x742023-13-14T22:13:20Z", refused},
		"date, a number":        {"\xc0\x01", refused},
		"date in epoch":         {"\xc1\xc0\x742023-11-14T22:13:20Z", refused},
		"date, of nothing":      {"\xc0", refused},
		"date, bad UTF-8":       {"\xc0\x61\xff", refused},
		"another tag":           {"\xc2\x41\x01", refused},
		"a self-described item": {"\xd9\xd9\xf7\x01", refused},
		"no tag":                {"\x1a\x65\x53\xf1\x00", at},
	} {
		for _, path := range []string{"/3/0/13", "/3/0/9", "/5/0/13", "/3/0/0", "/5/0/14"} { // Time, Integer, Unsigned, String, Boolean
			p := mustPath(t, path)
			results := make(map[lwm2m.ContentFormat]string)
			for f, payload := range map[lwm2m.ContentFormat]string{
				lwm2m.FormatCBOR:          tc.item,
				lwm2m.FormatLwM2MCBOR:     "\xa1\x83" + string([]byte{byte(p.Object()), byte(p.Instance()), byte(p.Resource())}) + tc.item,
				lwm2m.FormatSenMLCBOR:     "\x81\xa2\x00" + cborText(path) + "\x02" + tc.item,
				lwm2m.FormatSenMLETCHCBOR: "\x81\xa2\x02" + tc.item + "\x00" + cborText(path),
			} {
				results[f] = refused
				if entries, err := lwm2m.DecodePayload(f, p, []byte(payload), nil); err == nil {
					require.Len(t, entries, 1)
					results[f] = entries[0].Value.Type().String() + " " + entries[0].Value.String()
				}
			}
			for f, result := range results {
				require.Equal(t, results[lwm2m.FormatCBOR], result, "%s at %s in %s", name, path, f)
			}
			if path == "/3/0/13" {
				require.Equal(t, tc.want, results[lwm2m.FormatSenMLCBOR], name)
			}
		}
	}
}

// TestTaggedTimesOfRecords: the time of a record may have a tag too.
func TestTaggedTimesOfRecords(t *testing.T) {
	for _, record := range []string{
		"\x06\xc1\x1a\x65\x53\xf1\x00", "\x06\xc0\x742023-11-14T22:13:20Z", "\x22\xc1\x1a\x65\x53\xf1\x00",
	} {
		payload := "\x81\xa3\x00\x66/5/0/3\x02\x01" + record
		entries, err := lwm2m.DecodePayload(lwm2m.FormatSenMLCBOR, mustPath(t, "/5/0/3"), []byte(payload), nil)
		require.NoError(t, err)
		require.Equal(t, int64(1700000000), entries[0].Time.Unix())
	}
}
