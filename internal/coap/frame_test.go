package coap

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/tcp/coder"
	"github.com/stretchr/testify/require"
)

// TestFrameLengths writes frames around each step of the length encoding, and reads them with
// go-coap's decoder.
func TestFrameLengths(t *testing.T) {
	for _, n := range []int{0, 1, 11, 12, 13, 267, 268, 269, 65803, 65804, 65805, 100_000} {
		m := wireMessage{code: PUT, token: makeToken([]byte{1, 2, 3}), payload: make([]byte, n)}
		frame := m.appendFrame([]byte{0xaa})
		require.EqualValues(t, 0xaa, frame[0])
		var got message.Message
		used, err := coder.DefaultCoder.Decode(frame[1:], &got)
		require.NoError(t, err)
		require.Equal(t, len(frame)-1, used)
		require.Len(t, got.Payload, n)
		require.Equal(t, message.Token{1, 2, 3}, got.Token)
	}
}

// FuzzFrame reads streams of frames: none panics, none takes more memory than its bytes, and a
// frame that was read can be written and read again unchanged.
func FuzzFrame(f *testing.F) {
	csm := appendCSM(nil)
	f.Add(csm)
	f.Add(append(csm, 0x01, 0xe2, 0x77, 0x00, 0x00))
	big := wireMessage{code: PUT, token: makeToken([]byte{9}), payload: make([]byte, 300)}
	big.options = AppendUint(big.options, Block1, 0x0f)
	f.Add(big.appendFrame(nil))
	f.Add([]byte{0xf0, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			p, err := readFrame(r)
			if err != nil {
				if !errors.Is(err, errFormat) && !errors.Is(err, errTruncated) && !errors.Is(err, ErrTooLarge) &&
					!errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("untyped error %v", err)
				}
				return
			}
			if cap(p.buf) > max(maxDatagram, 4*len(b)+2*maxDatagram) {
				t.Fatalf("%d bytes held for %d", cap(p.buf), len(b))
			}
			again, err := readFrame(bufio.NewReader(bytes.NewReader(p.msg.appendFrame(nil))))
			if err != nil {
				t.Fatalf("own frame is refused: %v", err)
			}
			if again.msg.code != p.msg.code || again.msg.token != p.msg.token || !bytes.Equal(again.msg.payload, p.msg.payload) ||
				len(again.msg.options) != len(p.msg.options) {
				t.Fatalf("%+v became %+v", p.msg, again.msg)
			}
			again.free()
			p.free()
		}
	})
}
