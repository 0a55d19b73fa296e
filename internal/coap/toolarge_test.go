package coap

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A peer refuses a body in one message for its size, with or without a hint: the body is then sent
// in blocks, and in smaller ones until the peer accepts them.
func TestWholeBodyIsRefused(t *testing.T) {
	for _, test := range []struct {
		name       string
		size, room int  // of the body, and of the largest accepted payload
		hint       bool // the 4.13 has a hint
		messages   int
		ok         bool
	}{
		{"fits", 700, 1024, false, 1, true},
		{"half", 700, 512, false, 1 + 2, true},
		{"a tenth", 700, 64, false, 1 + 1 + 1 + 1 + 11, true},
		{"the smallest", 700, 16, false, 1 + 5 + 44, true},
		{"with a hint", 700, 16, true, 1 + 44, true},
		{"a power of two", 512, 500, false, 1 + 2, true},
		{"a full block", 1024, 1023, false, 1 + 2, true},
		{"nothing fits", 700, 8, false, 1 + 6, false},
		{"no smaller size", 16, 8, false, 1, false},
		{"nothing to send", 0, -1, false, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inTransports(t, Config{}, nil, func(t *testing.T, w *wirePeer) {
				body := make([]byte, test.size)
				for i := range body {
					body[i] = byte(i)
				}
				var stored []byte
				n := 0
				got := w.answerAll(&Request{Code: POST, Payload: body}, func(m *wireMessage) wireMessage {
					n++
					b, blocks, err := findBlock(m.options, Block1)
					require.NoError(t, err)
					if len(m.payload) > test.room {
						reply := wireMessage{code: RequestEntityTooLarge}
						if test.hint {
							reply.options = AppendUint(nil, Block1, uint32(szxOf(test.room)))
						}
						return reply
					}
					stored = append(stored[:min(b.offset(), int64(len(stored)))], m.payload...)
					reply := wireMessage{code: Changed}
					if b.more {
						reply.code = Continue
					}
					if blocks {
						reply.options = AppendUint(nil, Block1, b.value())
					}
					return reply
				})
				require.NoError(t, got.err)
				require.Equal(t, test.messages, n)
				if !test.ok {
					require.Equal(t, RequestEntityTooLarge, got.resp.Code)
					return
				}
				require.Equal(t, Changed, got.resp.Code)
				require.Equal(t, body, stored)
			})
		})
	}
}

// full is a Sink with limited room.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, ErrTooLarge
	}
	return len(p), nil
}

func (*full) Abort(error) {}

// A 4.13 of ours never suggests a block size that is not smaller than the one sent: some clients
// would repeat it for ever.
func TestTooLargeWithoutHint(t *testing.T) {
	refuse := func(*IncomingRequest) *Response { return &Response{Code: RequestEntityTooLarge} }
	for _, test := range []struct {
		name   string
		config Config
		size   uint32 // announced; 0 if not
		at     int    // the block that is refused
	}{
		{"announced", Config{MaxBody: 4 << 10}, 1 << 20, 0},
		{"refused by the handler", Config{Sinks: func(r *IncomingRequest) (Sink, *Response) { return nil, refuse(r) }}, 0, 0},
		{"refused by a smaller endpoint", Config{BlockSize: 16, Sinks: func(r *IncomingRequest) (Sink, *Response) { return nil, refuse(r) }}, 0, 0},
		{"full", Config{Sinks: func(*IncomingRequest) (Sink, *Response) { return &full{40}, nil }}, 0, 2},
		{"more than announced", Config{MaxBody: 40}, 0, 2},
		{"full at the end", Config{Sinks: func(*IncomingRequest) (Sink, *Response) { return &full{70}, nil }}, 0, 4},
		{"refused when it is whole", Config{Handler: HandlerFunc(func(_ context.Context, r *IncomingRequest) *Response { return refuse(r) })}, 0, 4},
	} {
		for _, szx := range []uint8{0, maxSZX, bert} {
			t.Run(fmt.Sprint(test.name, " in blocks of ", szx), func(t *testing.T) {
				check := func(t *testing.T, w *wirePeer) {
					if szx == bert && !w.stream {
						t.Skip("no such blocks in datagrams")
					}
					size := block{szx: szx}.size()
					if szx != 0 && test.at > 0 { // the limits above are for blocks of 16
						t.Skip("the same as in blocks of 16")
					}
					for n := range test.at + 1 {
						b := block{num: uint32(n), more: n < 4, szx: szx}
						m := wireMessage{code: PUT, options: Options{{ID: Block1, Value: b.append(nil)}}, payload: make([]byte, size)}
						if test.size > 0 {
							m.options = AppendUint(m.options, Size1, test.size)
						}
						w.send(m)
						got := w.next()
						if n < test.at {
							require.Equal(t, Continue, got.msg.code)
							continue
						}
						require.Equal(t, RequestEntityTooLarge, got.msg.code)
						_, has := Bytes(got.msg.options, Block1)
						require.False(t, has)
					}
				}
				inTransports(t, test.config, Options{{ID: maxMessageSize, Value: []byte{1, 0, 0}}, {ID: blockwise}}, check)
			})
		}
	}
}

// The response to a truncated datagram has a hint, unless no smaller blocks than those of the
// request would help.
func TestOversizeHint(t *testing.T) {
	for _, test := range []struct {
		sent Options
		hint Options
	}{
		{nil, Options{{ID: Block1, Value: []byte{6}}}},
		{Options{{ID: Block1, Value: []byte{0x0e}}}, Options{{ID: Block1, Value: []byte{5}}}},
		{Options{{ID: Block1, Value: []byte{0x19}}}, Options{{ID: Block1, Value: []byte{}}}},
		{Options{{ID: Block1, Value: []byte{0x18}}}, nil},
	} {
		inUDP(t, Config{}, func(t *testing.T, w *wirePeer) {
			w.send(wireMessage{code: PUT, token: makeToken([]byte{5}), options: test.sent, payload: make([]byte, 2*maxDatagram)})
			got := w.next().msg
			require.Equal(t, RequestEntityTooLarge, got.code)
			require.Equal(t, makeToken([]byte{5}), got.token)
			require.Len(t, got.options, len(test.hint))
			for i := range test.hint {
				require.Equal(t, test.hint[i].ID, got.options[i].ID)
				require.True(t, bytes.Equal(test.hint[i].Value, got.options[i].Value))
			}
		})
	}
}

// A 2.03 has no body and no Block2 option, whether the endpoint makes it for a response that the
// peer has, or a handler returns it.
func TestValidWithoutBlock(t *testing.T) {
	has := []byte{1, 2}
	for _, resp := range []*Response{
		{Code: Content, ETag: has, Payload: make([]byte, 3000)},
		{Code: Content, ETag: has, Body: bytes.NewReader(make([]byte, 3000)), Size: 3000},
		{Code: Valid, ETag: has},
	} {
		for _, opts := range []Options{nil, {{ID: Block2, Value: []byte{6}}}, {{ID: Block2, Value: []byte{2}}, {ID: Size2}}} {
			config := Config{Handler: HandlerFunc(func(context.Context, *IncomingRequest) *Response { return resp })}
			inTransports(t, config, nil, func(t *testing.T, w *wirePeer) {
				w.send(wireMessage{code: GET, options: append(Options{{ID: ETag, Value: has}}, opts...)})
				got := w.next().msg
				require.Equal(t, Valid, got.code)
				require.Empty(t, got.payload)
				require.Len(t, got.options, 1)
				require.Equal(t, ETag, got.options[0].ID)
			})
		}
	}
}
