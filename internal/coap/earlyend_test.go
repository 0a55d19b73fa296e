package coap

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A download is complete only when consecutive blocks have arrived up to the announced size.
// Whatever a server answers, a download that is reported as complete is the body.
func TestDownloadEndsEarly(t *testing.T) {
	const size = 4096 + 100
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i >> 4)
	}
	type reply = wireMessage
	// serve answers a request for a block; n counts the requests.
	serve := func(b block, announce bool) reply {
		b.szx = min(b.szx, maxSZX) // requested or not
		end := min(b.offset()+int64(b.size()), size)
		b.more = end < size
		m := reply{code: Content, payload: body[b.offset():end]}
		m.options = AppendUint(m.options, ETag, 7)
		m.options = AppendUint(m.options, Block2, b.value())
		if announce {
			m.options = AppendUint(m.options, Size2, size)
		}
		return m
	}
	set := func(m reply, id OptionID, v uint32) reply {
		var opts Options
		for _, o := range m.options {
			if o.ID != id {
				opts = append(opts, o)
			}
		}
		m.options = AppendUint(opts, id, v)
		return m
	}
	without := func(m reply, id OptionID) reply {
		m = set(m, id, 0)
		var opts Options
		for _, o := range m.options {
			if o.ID != id {
				opts = append(opts, o)
			}
		}
		m.options = opts
		return m
	}
	second := func(b block) bool { return b.offset() == 2048 }
	for _, test := range []struct {
		name   string
		answer func(n int, b block) reply
		err    error // nil: complete
		resume error // the same for a download that continues at 2048
	}{
		{"good", func(_ int, b block) reply { return serve(b, true) }, nil, nil},
		{"good, announced once", func(_ int, b block) reply { return serve(b, b.num == 0) }, nil, nil},
		{"good, never announced", func(_ int, b block) reply { return serve(b, false) }, nil, nil},
		{"good, announced as 0", func(_ int, b block) reply { return set(serve(b, true), Size2, 0) }, nil, nil},
		{"good, announced late", func(_ int, b block) reply { return serve(b, b.num > 0) }, nil, nil},
		{"no block for a block", func(_ int, b block) reply {
			if second(b) {
				return without(serve(b, true), Block2)
			}
			return serve(b, true)
		}, ErrProtocol, ErrETagChanged},
		{"the whole for a block", func(_ int, b block) reply {
			if second(b) {
				return reply{code: Content, payload: body[:1900], options: AppendUint(nil, ETag, 7)}
			}
			return serve(b, true)
		}, ErrProtocol, ErrETagChanged},
		{"a whole that is less than announced", func(_ int, b block) reply {
			return without(serve(b, true), Block2)
		}, ErrProtocol, ErrETagChanged},
		{"last block too early", func(_ int, b block) reply {
			m := serve(b, true)
			if second(b) {
				m = set(m, Block2, (block{num: b.num, szx: 6}).value())
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"last block too early, announced by the first", func(_ int, b block) reply {
			m := serve(b, b.num == 0)
			if second(b) {
				m = set(m, Block2, (block{num: b.num, szx: 6}).value())
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"last block too early, announced by the second", func(_ int, b block) reply {
			m := serve(b, b.num == 1)
			if second(b) {
				m = set(m, Block2, (block{num: b.num, szx: 6}).value())
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"first block is the last, of more", func(_ int, b block) reply {
			return set(serve(b, true), Block2, (block{num: b.num, szx: 6}).value())
		}, ErrProtocol, ErrProtocol},
		{"last block is shorter than announced", func(_ int, b block) reply {
			m := serve(b, true)
			if b.num == 4 {
				m.payload = m.payload[:99]
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"last block is longer than announced", func(_ int, b block) reply {
			m := serve(b, true)
			if b.num == 4 {
				m.payload = append(bytes.Clone(m.payload), 1)
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"goes on for ever", func(_ int, b block) reply {
			m := serve(block{num: min(b.num, 3), szx: 6}, true)
			return set(m, Block2, (block{num: b.num, szx: 6, more: true}).value())
		}, ErrProtocol, ErrProtocol},
		{"another number than asked, as the last", func(_ int, b block) reply {
			m := serve(b, true)
			if second(b) {
				m = set(m, Block2, (block{num: b.num + 1, szx: 6}).value())
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"a short block in the middle", func(_ int, b block) reply {
			m := serve(b, true)
			if second(b) {
				m.payload = m.payload[:1000]
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"an empty block in the middle", func(_ int, b block) reply {
			m := serve(b, true)
			if second(b) {
				m.payload = nil
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"2.03 for a block", func(_ int, b block) reply {
			m := serve(b, true)
			if second(b) {
				m = set(m, Block2, (block{num: b.num, szx: 6}).value())
				m.code, m.payload = Valid, nil
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"2.04 for a block", func(_ int, b block) reply {
			m := serve(b, true)
			if second(b) {
				m.code = Changed
			}
			return m
		}, ErrProtocol, ErrProtocol},
		{"2.31 for all", func(int, block) reply { return reply{code: Continue} }, ErrProtocol, ErrProtocol},
		{"2.03 for all", func(int, block) reply { return reply{code: Valid, options: AppendUint(nil, ETag, 7)} }, ErrProtocol, ErrProtocol},
		{"the entity-tag changes", func(_ int, b block) reply {
			m := serve(b, true)
			if second(b) {
				m = set(m, ETag, 8)
			}
			return m
		}, ErrETagChanged, ErrETagChanged},
		{"another size than before", func(_ int, b block) reply { return set(serve(b, true), Size2, size-1) }, ErrProtocol, ErrETagChanged},
	} {
		for _, from := range []int64{0, 2048} {
			t.Run(fmt.Sprintf("%s, from %d", test.name, from), func(t *testing.T) {
				inTransports(t, Config{}, nil, func(t *testing.T, w *wirePeer) {
					var into bytes.Buffer
					into.Write(body[:from])
					req := &Request{Code: GET, Into: &into, Offset: from}
					want := test.err
					if from > 0 {
						req.ETag, req.Total, want = []byte{7}, size, test.resume
					}
					n := 0
					got := w.answerAll(req, func(m *wireMessage) wireMessage {
						b, _, err := findBlock(m.options, Block2)
						require.NoError(t, err)
						if n++; n > 20 || b.offset() >= size {
							return wireMessage{code: BadRequest}
						}
						return test.answer(n, b)
					})
					require.ErrorIs(t, got.err, want)
					require.True(t, bytes.HasPrefix(body, into.Bytes()), "what was written is not of the body")
					if want == nil {
						require.Equal(t, Content, got.resp.Code)
						require.EqualValues(t, size, got.resp.Size)
						require.Equal(t, size, into.Len())
					}
				})
			})
		}
	}
}

// A body that is collected in memory, such as the answer to a read, is complete, too.
func TestCollectedBodyEndsEarly(t *testing.T) {
	for _, announced := range []uint32{2049, 2047, 5000} {
		inTransports(t, Config{}, nil, func(t *testing.T, w *wirePeer) {
			got := w.answerAll(&Request{Code: GET}, func(m *wireMessage) wireMessage {
				b, _, err := findBlock(m.options, Block2)
				require.NoError(t, err)
				b.szx, b.more = 6, b.num == 0
				opts := AppendUint(AppendUint(nil, Block2, b.value()), Size2, announced)
				return wireMessage{code: Content, payload: make([]byte, 1024), options: opts}
			})
			require.ErrorIs(t, got.err, ErrProtocol)
		})
	}
	inTransports(t, Config{}, nil, func(t *testing.T, w *wirePeer) {
		got := w.answerAll(&Request{Code: GET}, func(*wireMessage) wireMessage {
			return wireMessage{code: Content, payload: make([]byte, 1024), options: AppendUint(nil, Size2, 2000)}
		})
		require.ErrorIs(t, got.err, ErrProtocol)
	})
}

// A body that is collected in memory has the requested offset and entity-tag, also when it comes in
// one message.
func TestCollectedBodyIsTheOneAskedFor(t *testing.T) {
	for _, test := range []struct {
		req Request
		err error
	}{
		{Request{Code: GET, Offset: 16}, ErrETagChanged},
		{Request{Code: GET, ETag: []byte{1}}, ErrETagChanged},
		{Request{Code: GET, Total: 40}, ErrProtocol},
		{Request{Code: GET, ETag: []byte{2}, Total: 20}, nil},
	} {
		inTransports(t, Config{}, nil, func(t *testing.T, w *wirePeer) {
			got := w.answerAll(&test.req, func(*wireMessage) wireMessage {
				return wireMessage{code: Content, payload: make([]byte, 20), options: AppendUint(nil, ETag, 2)}
			})
			require.ErrorIs(t, got.err, test.err)
			if test.err == nil {
				require.Len(t, got.resp.Payload, 20)
			}
		})
	}
}
