package coap

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No message to a peer on a stream is larger than it has said it takes, and it is
// sent more than one block in a message only if it said that it knows how.
func TestStreamMessageSizes(t *testing.T) {
	for _, test := range []struct {
		size      uint32 // 0: not said
		blockwise bool
		path      int // length of a path segment
		szx       uint8
	}{
		{0, true, 1, 6},
		{1152, true, 1, 6},
		{1152, true, 255, 5},
		{1151, true, 1, 5},
		{500, true, 1, 4},
		{200, true, 1, 2},
		{200, true, 100, 2},
		{1 << 20, true, 1, bert},
		{1 << 20, true, 255, bert},
		{1 << 20, false, 1, 6},
		{1<<32 - 1, true, 1, bert},
		{4000, true, 255, bert},
		{2000, true, 1, 6},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			body := make([]byte, 40<<10)
			e := New(Config{Handler: HandlerFunc(func(context.Context, *IncomingRequest) *Response {
				return &Response{Code: Content, Payload: body}
			})})
			defer e.Close()
			here, there := net.Pipe()
			defer there.Close()
			peer, err := e.DialStream(t.Context(), here)
			require.NoError(t, err)
			r := bufio.NewReader(there)
			p, err := readFrame(r)
			require.NoError(t, err)
			require.Equal(t, signalCSM, p.msg.code)
			send := func(m wireMessage) {
				_, err := there.Write(m.appendFrame(nil))
				require.NoError(t, err)
			}
			csm := wireMessage{code: signalCSM}
			limit := int(test.size)
			if test.size > 0 {
				csm.options = AppendUint(csm.options, maxMessageSize, test.size)
			} else {
				limit = defaultMessageSize
			}
			if test.blockwise {
				csm.options = AppendOption(csm.options, blockwise, nil)
			}
			send(csm)
			next := func() *packet {
				p, err := readFrame(r)
				require.NoError(t, err)
				require.LessOrEqual(t, len(p.msg.appendFrame(nil)), limit)
				return p
			}

			// A response of ours.
			send(wireMessage{code: GET, token: makeToken([]byte{7}), options: Options{{ID: Block2, Value: block{szx: bert}.append(nil)}}})
			b, _, err := findBlock(next().msg.options, Block2)
			require.NoError(t, err)
			require.Equal(t, test.szx == bert, b.szx == bert)

			// A request of ours.
			done := make(chan error, 1)
			go func() {
				resp, err := e.Do(t.Context(), peer, &Request{Code: PUT, Path: []string{strings.Repeat("x", test.path)}, Payload: body})
				if err == nil && resp.Code != Changed {
					err = fmt.Errorf("answer %v", resp.Code)
				}
				done <- err
			}()
			for got := 0; got < len(body); {
				p := next()
				b, ok, err := findBlock(p.msg.options, Block1)
				require.NoError(t, err)
				require.True(t, ok)
				require.Equal(t, test.szx, b.szx)
				require.EqualValues(t, got, b.offset())
				got += len(p.msg.payload)
				code := Continue
				if !b.more {
					code = Changed
				}
				send(wireMessage{code: code, token: p.msg.token, options: Options{{ID: Block1, Value: b.append(nil)}}})
			}
			require.NoError(t, <-done)
		})
	}
}
