package senml_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/senml"
)

// TestTaggedTimes: RFC 8428 has only the tag of decimal fractions; for LwM2M the decoder accepts
// those of times too.
func TestTaggedTimes(t *testing.T) {
	for _, item := range []string{"\xc1\x07", "\xc0\x741970-01-01T00:00:07Z"} {
		for _, label := range []string{"\x02", "\x02\x01\x06", "\x02\x01\x22"} {
			fields := byte(0xa2 + (len(label)-1)/2)
			pack := "\x81" + string([]byte{fields}) + "\x00\x66/5/0/3" + label + item
			_, err := senml.Codec{}.DecodeCBOR(nil, []byte(pack))
			require.ErrorIs(t, err, senml.ErrType, "%x", pack)
			records, err := senml.Codec{LwM2M: true}.DecodeCBOR(nil, []byte(pack))
			require.NoError(t, err, "%x", pack)
			got := records[0].Value.Number()
			if label != "\x02" {
				got = records[0].Time.Add(records[0].BaseTime)
			}
			seconds, ok := got.Int64()
			require.True(t, ok)
			require.EqualValues(t, 7, seconds, "%x", pack)
		}
	}
}
