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

// No message to a peer on a stream is larger than the peer's announced limit, and a message has
// more than one block only if the peer has announced support.
func TestStreamMessageSizes(t *testing.T) {
	for _, test := range []struct {
		size      uint32 // 0: not announced
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
			limit := int(min(test.size, 1<<31-1)) // fits an int of 32 bits
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

			// A request of ours, which is large only if BlockSize says so.
			for _, large := range []int{0, 16 << 10} {
				szx := test.szx
				if large == 0 {
					szx = min(szx, maxSZX)
				}
				done := make(chan error, 1)
				go func() {
					resp, err := e.Do(t.Context(), peer, &Request{Code: PUT, Path: []string{strings.Repeat("x", test.path)}, Payload: body, BlockSize: large})
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
					require.Equal(t, szx, b.szx)
					require.EqualValues(t, got, b.offset())
					got += len(p.msg.payload)
					code := Continue
					if !b.more {
						code = Changed
					}
					send(wireMessage{code: code, token: p.msg.token, options: Options{{ID: Block1, Value: b.append(nil)}}})
				}
				require.NoError(t, <-done)
			}
		})
	}
}

// A peer on a stream gets no message larger than a block unless it asked for that, whatever the
// message and the announced size.
func TestStreamMessagesAreSmall(t *testing.T) {
	body := make([]byte, 5000)
	config := Config{Handler: HandlerFunc(func(_ context.Context, r *IncomingRequest) *Response {
		if o := r.Accept(); o != nil {
			o.Notify(&Response{Code: Content, Payload: body}, true)
		}
		return &Response{Code: Content, Payload: body}
	})}
	csm := Options{{ID: maxMessageSize, Value: []byte{255, 255, 255, 255}}, {ID: blockwise}}
	for _, test := range []struct {
		name    string
		options Options
		most    int
	}{
		{"answer", nil, 1024},
		{"notification", Options{{ID: Observe}}, 1024},
		{"blocks of 1024 asked for", Options{{ID: Block2, Value: []byte{6}}}, 1024},
		{"blocks of 64 asked for", Options{{ID: Block2, Value: []byte{2}}}, 64},
		{"many asked for", Options{{ID: Block2, Value: []byte{7}}}, 5000},
	} {
		t.Run(test.name, func(t *testing.T) {
			inPipe(t, config, csm, func(t *testing.T, w *wirePeer) {
				w.send(wireMessage{code: GET, options: test.options})
				messages := 1
				if test.name == "notification" {
					messages = 2
				}
				for range messages {
					require.Len(t, w.next().msg.payload, test.most)
				}
			})
		})
	}
	for _, code := range []Code{PUT, POST, FETCH, IPATCH} {
		t.Run(code.String(), func(t *testing.T) {
			inPipe(t, Config{}, csm, func(t *testing.T, w *wirePeer) {
				got := w.answerAll(&Request{Code: code, Payload: body}, func(m *wireMessage) wireMessage {
					b, ok, err := findBlock(m.options, Block1)
					require.True(t, ok && err == nil && len(m.payload) <= 1024 && b.szx == maxSZX)
					if b.more {
						return wireMessage{code: Continue, options: Options{{ID: Block1, Value: b.append(nil)}}}
					}
					return wireMessage{code: Changed, options: Options{{ID: Block1, Value: b.append(nil)}}}
				})
				require.NoError(t, got.err)
			})
		})
	}
}

// Each block but the last has the size that it announces, and a BERT message a multiple of 1024
// bytes.
func TestBlocksOfWrongSize(t *testing.T) {
	config := Config{Handler: HandlerFunc(func(context.Context, *IncomingRequest) *Response { return &Response{Code: Changed} })}
	for _, test := range []struct {
		szx  uint8
		more bool
		n    int
		want Code
	}{
		{maxSZX, true, 0, BadRequest},
		{maxSZX, true, 1023, BadRequest},
		{maxSZX, true, 1024, Continue},
		{maxSZX, false, 0, Changed},
		{maxSZX, false, 1024, Changed},
		{5, true, 513, BadRequest},
		{5, false, 513, BadRequest},
		{bert, true, 0, BadRequest},
		{bert, true, 1, BadRequest},
		{bert, true, 1024, Continue},
		{bert, true, 2047, BadRequest},
		{bert, true, 2048, Continue},
		{bert, false, 0, Changed},
		{bert, false, 2047, Changed},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			inTransports(t, config, nil, func(t *testing.T, w *wirePeer) {
				if test.szx == bert && !w.stream {
					t.Skip("no such blocks in datagrams")
				}
				b := block{more: test.more, szx: test.szx}
				w.send(wireMessage{code: PUT, options: Options{{ID: Block1, Value: b.append(nil)}}, payload: make([]byte, test.n)})
				require.Equal(t, test.want, w.next().msg.code)
			})
		})
	}
}
