package coap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// scripted runs a request against a raw peer that answers each message with answer, until the
// request is done.
func scripted(t *testing.T, req *coap.Request, answer func(m message.Message) message.Message, check func(t *testing.T, resp *coap.Response, err error, took time.Duration)) {
	t.Helper()
	inRaw(t, coap.Config{Transmission: coap.Transmission{RandomFactor: 1}}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		type result struct {
			resp *coap.Response
			err  error
			took time.Duration
		}
		done := make(chan result, 1)
		start := time.Now()
		go func() {
			resp, err := e.Do(t.Context(), r.peer(), req)
			done <- result{resp, err, time.Since(start)}
		}()
		for {
			synctest.Wait()
			select {
			case res := <-done:
				check(t, res.resp, res.err, res.took)
				return
			default:
			}
			m, ok := r.receiveWithin(time.Second)
			if !ok {
				continue
			}
			reply := answer(m)
			reply.Type, reply.MessageID, reply.Token = ack, m.MessageID, m.Token
			r.send(reply)
		}
	})
}

func blockOf(m message.Message, id message.OptionID) (coap.BlockFields, bool) {
	v, err := m.Options.GetBytes(id)
	if err != nil {
		return coap.BlockFields{}, false
	}
	b, err := coap.ParseBlock(v)
	return b, err == nil
}

func withBlock(m message.Message, id message.OptionID, b coap.BlockFields) message.Message {
	m.Options = m.Options.Add(message.Option{ID: id, Value: coap.AppendBlock(b)})
	return m
}

// TestUploadSizeReducedAtAnyBlock lowers the block size at each block of an upload.
func TestUploadSizeReducedAtAnyBlock(t *testing.T) {
	body := bodyOf(5*1024 + 100)
	for at := range uint32(6) {
		for szx := range uint8(6) {
			t.Run(fmt.Sprintf("to %d at %d", 16<<szx, at), func(t *testing.T) {
				var got []byte
				reduced := false
				req := &coap.Request{Code: coap.PUT, Payload: body}
				scripted(t, req, func(m message.Message) message.Message {
					b, _ := blockOf(m, message.Block1)
					if b.Offset != int64(len(got)) {
						t.Errorf("block at %d, not %d", b.Offset, len(got))
					}
					got = append(got, m.Payload...)
					reply := message.Message{Code: codes.Continue}
					if !b.More {
						reply.Code = codes.Changed
					} else if b.Num == at && !reduced {
						reduced = true
						b.SZX = szx
					}
					return withBlock(reply, message.Block1, b)
				}, func(t *testing.T, resp *coap.Response, err error, _ time.Duration) {
					require.NoError(t, err)
					require.Equal(t, coap.Changed, resp.Code)
					require.True(t, bytes.Equal(body, got))
				})
			})
		}
	}
}

// TestDownloadSizeReducedAtAnyBlock lowers the block size at each block of a download.
func TestDownloadSizeReducedAtAnyBlock(t *testing.T) {
	body := bodyOf(5*1024 + 100)
	for at := range 6 {
		for szx := range uint8(6) {
			t.Run(fmt.Sprintf("to %d at %d", 16<<szx, at), func(t *testing.T) {
				var got bytes.Buffer
				n := 0
				req := &coap.Request{Code: coap.GET, Into: &got}
				scripted(t, req, func(m message.Message) message.Message {
					b, _ := blockOf(m, message.Block2)
					if n++; n > at && b.SZX > szx {
						b.Num <<= b.SZX - szx
						b.SZX = szx
					}
					size := int64(16 << b.SZX)
					end := min(b.Offset+size, int64(len(body)))
					b.More = end < int64(len(body))
					reply := message.Message{Code: codes.Content, Payload: body[b.Offset:end]}
					return withBlock(reply, message.Block2, b)
				}, func(t *testing.T, resp *coap.Response, err error, _ time.Duration) {
					require.NoError(t, err)
					require.True(t, bytes.Equal(body, got.Bytes()))
				})
			})
		}
	}
}

func TestUploadRefusals(t *testing.T) {
	body := bodyOf(5 * 1024)
	tests := []struct {
		name    string
		request func(*coap.Request)
		// answer to the n-th message with block b; zero goes on
		answer   func(n int, b coap.BlockFields) message.Message
		code     coap.Code
		limit    int64 // of a 4.13
		err      error
		sent     int
		took     time.Duration
		restarts int // after 4.08
	}{
		{
			name: "4.13 that asks for less at the first block",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n > 0 {
					return message.Message{}
				}
				return withBlock(message.Message{Code: codes.RequestEntityTooLarge}, message.Block1, coap.BlockFields{SZX: 4})
			},
			code: coap.Changed, sent: 1 + 20,
		},
		{
			name: "4.13 to every size",
			answer: func(n int, b coap.BlockFields) message.Message {
				return withBlock(message.Message{Code: codes.RequestEntityTooLarge}, message.Block1, b)
			},
			code: coap.RequestEntityTooLarge, limit: -1, sent: 7, // 1024, 512, ... 16
		},
		{
			name: "4.13 to blocks of 1024",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n > 0 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityTooLarge}
			},
			code: coap.Changed, sent: 1 + 10,
		},
		{
			name: "4.13 to blocks of more than 16",
			answer: func(n int, b coap.BlockFields) message.Message {
				if b.Size == 16 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityTooLarge}
			},
			code: coap.Changed, sent: 6 + 320,
		},
		{
			name: "4.13 to blocks of more than 64, from the third on",
			answer: func(n int, b coap.BlockFields) message.Message {
				if b.Size <= 64 || b.Num < 2 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityTooLarge}
			},
			code: coap.Changed, sent: 4*3 + 80, restarts: 4,
		},
		{
			name: "4.13 in the middle that asks for less",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n != 2 {
					return message.Message{}
				}
				return withBlock(message.Message{Code: codes.RequestEntityTooLarge}, message.Block1, coap.BlockFields{SZX: 4})
			},
			code: coap.Changed, sent: 3 + 20, restarts: 1,
		},
		{
			name: "4.13 to what is more than 3000 bytes in all",
			answer: func(n int, b coap.BlockFields) message.Message {
				if b.Offset+int64(b.Size) <= 3000 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityTooLarge}
			},
			code: coap.RequestEntityTooLarge, limit: -1, sent: 3 + 6, restarts: 1,
		},
		{
			name: "4.13 with room enough",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n > 0 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityTooLarge, Options: message.Options{option(message.Size1, 0x14, 0)}}
			},
			code: coap.Changed, sent: 1 + 10,
		},
		{
			name: "4.13 with too little room",
			answer: func(n int, b coap.BlockFields) message.Message {
				return message.Message{Code: codes.RequestEntityTooLarge, Options: message.Options{option(message.Size1, 0x13, 0xff)}}
			},
			code: coap.RequestEntityTooLarge, limit: 0x13ff, sent: 1,
		},
		{
			name: "4.13 from the third message on",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n < 2 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityTooLarge}
			},
			code: coap.RequestEntityTooLarge, limit: -1, sent: 3 + 6, restarts: 1,
		},
		{
			name: "4.08 once",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n != 2 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityIncomplete}
			},
			code: coap.Changed, sent: 3 + 5, restarts: 1,
		},
		{
			name: "4.08 to the last block",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n != 4 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityIncomplete}
			},
			code: coap.Changed, sent: 5 + 5, restarts: 1,
		},
		{
			name: "4.08 to the last block, sent again",
			answer: func(n int, b coap.BlockFields) message.Message {
				switch n {
				case 4: // as if the answer were lost and the device still busy
					return message.Message{Code: codes.ServiceUnavailable}
				case 5:
					return message.Message{Code: codes.RequestEntityIncomplete}
				}
				return message.Message{}
			},
			err: coap.ErrTimeout, sent: 6, took: 2 * time.Second,
		},
		{
			name: "4.08 for ever",
			answer: func(n int, b coap.BlockFields) message.Message {
				if b.Num < 2 {
					return message.Message{}
				}
				return message.Message{Code: codes.RequestEntityIncomplete}
			},
			code: coap.RequestEntityIncomplete, sent: 4 * 3, restarts: 3,
		},
		{
			name:    "4.08, no restarts",
			request: func(r *coap.Request) { r.Restarts = -1 },
			answer: func(n int, b coap.BlockFields) message.Message {
				return message.Message{Code: codes.RequestEntityIncomplete}
			},
			code: coap.RequestEntityIncomplete, sent: 1,
		},
		{
			name: "5.03 with Max-Age",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n != 2 {
					return message.Message{}
				}
				return message.Message{Code: codes.ServiceUnavailable, Options: message.Options{option(message.MaxAge, 30)}}
			},
			code: coap.Changed, sent: 5 + 1, took: 30 * time.Second,
		},
		{
			name: "5.03 without Max-Age for as long as Anjay is locked",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n < 13 {
					return message.Message{Code: codes.ServiceUnavailable}
				}
				return message.Message{}
			},
			// 2+4+8+16 and then each 30 s
			code: coap.Changed, sent: 13 + 5, took: 30*time.Second + 9*30*time.Second,
		},
		{
			name:    "5.03 for ever",
			request: func(r *coap.Request) { r.BusyRetry = 20 * time.Second },
			answer: func(n int, b coap.BlockFields) message.Message {
				return message.Message{Code: codes.ServiceUnavailable}
			},
			code: coap.ServiceUnavailable, sent: 4, took: 14 * time.Second,
		},
		{
			name: "2.31 at the end",
			answer: func(n int, b coap.BlockFields) message.Message {
				return withBlock(message.Message{Code: codes.Continue}, message.Block1, b)
			},
			err: coap.ErrProtocol, sent: 5,
		},
		{
			name: "4.01 in the middle",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n < 1 {
					return message.Message{}
				}
				return message.Message{Code: codes.Unauthorized}
			},
			code: coap.Unauthorized, sent: 2,
		},
		{
			name: "4.01 with Echo",
			answer: func(n int, b coap.BlockFields) message.Message {
				if n > 0 {
					return message.Message{}
				}
				return message.Message{Code: codes.Unauthorized, Options: message.Options{option(message.Echo, 1, 2)}}
			},
			code: coap.Changed, sent: 6,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			req := &coap.Request{Code: coap.PUT, Payload: body}
			if test.request != nil {
				test.request(req)
			}
			n := 0
			var got []byte
			tokens := map[string]bool{}
			scripted(t, req, func(m message.Message) message.Message {
				tokens[m.Token.String()] = true
				b, _ := blockOf(m, message.Block1)
				reply := test.answer(n, b)
				n++
				if reply.Code != codes.Empty {
					return reply
				}
				got = append(got[:min(int(b.Offset), len(got))], m.Payload...)
				if b.More {
					return withBlock(message.Message{Code: codes.Continue}, message.Block1, b)
				}
				return withBlock(message.Message{Code: codes.Changed}, message.Block1, b)
			}, func(t *testing.T, resp *coap.Response, err error, took time.Duration) {
				require.Equal(t, test.sent, n)
				require.Equal(t, test.took, took)
				require.Len(t, tokens, 1+test.restarts, "a token for each attempt")
				if test.err != nil {
					require.ErrorIs(t, err, test.err)
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.code, resp.Code)
				if test.code == coap.RequestEntityTooLarge {
					require.Equal(t, test.limit, resp.Limit)
				}
				if test.code == coap.Changed {
					require.True(t, bytes.Equal(body, got))
				}
			})
		})
	}
}

// A late response to an earlier block has the token of the transfer.
func TestLateResponseToAnEarlierBlock(t *testing.T) {
	body := bodyOf(3 * 1024)
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		done := make(chan error, 1)
		go func() {
			_, err := e.Do(t.Context(), r.peer(), &coap.Request{Code: coap.PUT, Payload: body})
			done <- err
		}()
		var got []byte
		for i := range int32(3) {
			m := r.receive()
			got = append(got, m.Payload...)
			b, _ := blockOf(m, message.Block1)
			r.send(message.Message{Type: ack, MessageID: m.MessageID})
			if i > 0 {
				late := b
				late.Num--
				late.More = true
				r.send(withBlock(message.Message{Type: non, Code: codes.Continue, MessageID: 50 + i, Token: m.Token}, message.Block1, late))
			}
			r.silence(time.Second)
			reply := message.Message{Type: non, Code: codes.Continue, MessageID: 90 + i, Token: m.Token}
			if !b.More {
				reply.Code = codes.Changed
			}
			r.send(withBlock(reply, message.Block1, b))
		}
		require.NoError(t, <-done)
		require.True(t, bytes.Equal(body, got))
	})
}

// The options that begin an observation or make the first request conditional are not in the
// following requests.
func TestFollowingRequestsAreBare(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		req := &coap.Request{Code: coap.GET, Path: []string{"x"}, Accept: coap.FormatOf(112), Options: coap.Options{
			{ID: coap.IfMatch, Value: []byte{1}}, {ID: coap.ETag, Value: []byte{2}},
		}}
		go e.Observe(t.Context(), r.peer(), req, func(*coap.Response) {})
		m := r.receive()
		for _, id := range []message.OptionID{message.IfMatch, message.ETag, message.Observe, message.Accept} {
			require.True(t, m.Options.HasOption(id), id)
		}
		reply := message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token, Payload: make([]byte, 1024)}
		reply.Options = message.Options{option(message.Observe, 1)}
		r.send(withBlock(reply, message.Block2, coap.BlockFields{More: true, SZX: 6}))
		next := r.receive()
		require.NotEqual(t, m.Token, next.Token, "another token")
		for _, id := range []message.OptionID{message.IfMatch, message.ETag, message.Observe} {
			require.False(t, next.Options.HasOption(id), id)
		}
		require.True(t, next.Options.HasOption(message.Accept))
		require.Equal(t, "1/0/1024", shorthand(next.Options, message.Block2))
	})
}

// Each request for a block of the response to a FETCH has the body of the first, if that fits into
// one message.
func TestFetchRepeatsItsBody(t *testing.T) {
	for size, want := range map[int]int{1: 1, 1024: 1024, 1025: 0} {
		n := 0
		scripted(t, &coap.Request{Code: coap.FETCH, Payload: bodyOf(size)}, func(m message.Message) message.Message {
			if b, ok := blockOf(m, message.Block1); ok && b.More {
				return withBlock(message.Message{Code: codes.Continue}, message.Block1, b)
			}
			b, asked := blockOf(m, message.Block2)
			if asked {
				n++
				require.Len(t, m.Payload, want, "a body of %d", size)
			}
			b.SZX, b.More = 6, b.Num < 2
			return withBlock(message.Message{Code: codes.Content, Payload: bodyOf(1024)}, message.Block2, b)
		}, func(t *testing.T, resp *coap.Response, err error, _ time.Duration) {
			require.NoError(t, err)
			require.Len(t, resp.Payload, 3072)
			require.Equal(t, 2, n)
		})
	}
}

func TestUploadGoesOn(t *testing.T) {
	body := bodyOf(5*1024 + 9)
	for _, from := range []int64{1024, 4096, 4096 + 64, 5 * 1024} {
		t.Run(fmt.Sprint(from), func(t *testing.T) {
			got := append([]byte(nil), body[:from]...)
			req := &coap.Request{Code: coap.PUT, Body: bytes.NewReader(body), Size: int64(len(body)), BodyOffset: from}
			scripted(t, req, func(m message.Message) message.Message {
				b, _ := blockOf(m, message.Block1)
				if b.Offset != int64(len(got)) {
					t.Errorf("block at %d, not %d", b.Offset, len(got))
				}
				got = append(got, m.Payload...)
				if b.More {
					return withBlock(message.Message{Code: codes.Continue}, message.Block1, b)
				}
				return withBlock(message.Message{Code: codes.Changed}, message.Block1, b)
			}, func(t *testing.T, resp *coap.Response, err error, _ time.Duration) {
				require.NoError(t, err)
				require.True(t, bytes.Equal(body, got))
			})
		})
	}
}

func TestDownloadFaults(t *testing.T) {
	body := bodyOf(5 * 1024)
	serve := func(b coap.BlockFields) message.Message {
		end := min(b.Offset+1024, int64(len(body)))
		b.SZX, b.More = 6, end < int64(len(body))
		return withBlock(message.Message{Code: codes.Content, Payload: body[b.Offset:end]}, message.Block2, b)
	}
	tests := []struct {
		name    string
		request func(*coap.Request)
		answer  func(n int, b coap.BlockFields) message.Message
		code    coap.Code
		err     error
		done    int64
	}{
		{
			name: "entity-tag changes", err: coap.ErrETagChanged, done: 2048,
			answer: func(n int, b coap.BlockFields) message.Message {
				m := serve(b)
				m.Options = m.Options.Add(option(message.ETag, byte(n/2)))
				return m
			},
		},
		{
			name: "entity-tag disappears", err: coap.ErrETagChanged, done: 1024,
			answer: func(n int, b coap.BlockFields) message.Message {
				m := serve(b)
				if n == 0 {
					m.Options = m.Options.Add(option(message.ETag, 1))
				}
				return m
			},
		},
		{
			name: "another entity-tag than expected", err: coap.ErrETagChanged,
			request: func(r *coap.Request) { r.Offset, r.ETag = 2048, []byte{9} },
			answer: func(n int, b coap.BlockFields) message.Message {
				m := serve(b)
				m.Options = m.Options.Add(option(message.ETag, 1))
				return m
			},
		},
		{
			name: "short block", err: coap.ErrProtocol, done: 1024,
			answer: func(n int, b coap.BlockFields) message.Message {
				m := serve(b)
				if n == 1 {
					m.Payload = m.Payload[:1000]
				}
				return m
			},
		},
		{
			name: "always the first block", err: coap.ErrProtocol, done: 1024,
			answer: func(n int, b coap.BlockFields) message.Message { return serve(coap.BlockFields{}) },
		},
		{
			name: "wrong block once", code: coap.Content,
			answer: func(n int, b coap.BlockFields) message.Message {
				if n == 2 {
					return serve(coap.BlockFields{Num: 0})
				}
				return serve(b)
			},
		},
		{
			name: "no block in the middle", err: coap.ErrProtocol, done: 1024,
			answer: func(n int, b coap.BlockFields) message.Message {
				if n == 1 {
					return message.Message{Code: codes.Content, Payload: []byte("all")}
				}
				return serve(b)
			},
		},
		{
			name: "larger than allowed", err: coap.ErrTooLarge, done: 3072,
			request: func(r *coap.Request) { r.MaxBody = 4000 },
			answer:  func(n int, b coap.BlockFields) message.Message { return serve(b) },
		},
		{
			name: "announced larger than allowed", err: coap.ErrTooLarge,
			request: func(r *coap.Request) { r.MaxBody = 4000 },
			answer: func(n int, b coap.BlockFields) message.Message {
				m := serve(b)
				m.Options = m.Options.Add(option(message.Size2, 0x20, 0))
				return m
			},
		},
		{
			name: "4.04 in the middle", code: coap.NotFound,
			answer: func(n int, b coap.BlockFields) message.Message {
				if n == 2 {
					return message.Message{Code: codes.NotFound}
				}
				return serve(b)
			},
		},
		{
			name: "5.03 in the middle", code: coap.Content,
			answer: func(n int, b coap.BlockFields) message.Message {
				if n == 2 {
					return message.Message{Code: codes.ServiceUnavailable}
				}
				return serve(b)
			},
		},
		{
			name: "from an offset", code: coap.Content,
			request: func(r *coap.Request) { r.Offset = 2048 },
			answer:  func(n int, b coap.BlockFields) message.Message { return serve(b) },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got bytes.Buffer
			req := &coap.Request{Code: coap.GET, Into: &got}
			if test.request != nil {
				test.request(req)
			}
			n := 0
			scripted(t, req, func(m message.Message) message.Message {
				b, _ := blockOf(m, message.Block2)
				n++
				return test.answer(n-1, b)
			}, func(t *testing.T, resp *coap.Response, err error, _ time.Duration) {
				if test.err != nil {
					require.ErrorIs(t, err, test.err)
					failed, ok := errors.AsType[*coap.ExchangeError](err)
					require.True(t, ok)
					require.Equal(t, max(test.done, req.Offset), failed.Done)
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.code, resp.Code)
				if test.code == coap.Content {
					require.True(t, bytes.Equal(body[req.Offset:], got.Bytes()))
				}
			})
		})
	}
}

// A block that was acknowledged and did not arrive is requested again, but not for ever.
func TestAcknowledgedBlockThatDoesNotCome(t *testing.T) {
	body := bodyOf(3 * 1024)
	for name, gone := range map[string]bool{"lost": false, "gone": true} {
		t.Run(name, func(t *testing.T) {
			inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
				var got bytes.Buffer
				start := time.Now()
				done := make(chan error, 1)
				go func() {
					_, err := e.Do(t.Context(), r.peer(), &coap.Request{Code: coap.GET, Path: []string{"x"}, Into: &got, Idle: 30 * time.Second})
					done <- err
				}()
				asked := 0
				for {
					m, ok := r.receiveWithin(40 * time.Second)
					if !ok {
						break
					}
					b, _ := blockOf(m, message.Block2)
					if b.Num == 1 {
						asked++
					}
					if b.Num == 1 && (gone || asked == 1) {
						r.send(message.Message{Type: ack, MessageID: m.MessageID})
						continue
					}
					b.SZX, b.More = 6, b.Num < 2
					reply := message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token, Payload: body[b.Offset : b.Offset+1024]}
					r.send(withBlock(reply, message.Block2, b))
				}
				err := <-done
				if !gone {
					require.NoError(t, err)
					require.Equal(t, 2, asked)
					require.True(t, bytes.Equal(body, got.Bytes()))
					return
				}
				require.ErrorIs(t, err, coap.ErrTimeout)
				require.Equal(t, 10, asked, "300 s by 30 s")
				require.Less(t, time.Since(start), 6*time.Minute)
			})
		})
	}
}

// A download is given up if the body changes with each block.
func TestBodyThatKeepsChanging(t *testing.T) {
	asked := 0
	scripted(t, &coap.Request{Code: coap.GET}, func(m message.Message) message.Message {
		asked++
		b, _ := blockOf(m, message.Block2)
		b.SZX, b.More = 0, asked < 1000
		reply := message.Message{Code: codes.Content, Payload: make([]byte, 16)}
		reply.Options = reply.Options.Add(option(message.ETag, byte(asked>>8), byte(asked)))
		return withBlock(reply, message.Block2, b)
	}, func(t *testing.T, _ *coap.Response, err error, _ time.Duration) {
		require.ErrorIs(t, err, coap.ErrETagChanged)
		require.LessOrEqual(t, asked, 8)
	})
}

// A download is given up if the peer never sends the requested block.
func TestOtherBlockThanAsked(t *testing.T) {
	asked := 0
	scripted(t, &coap.Request{Code: coap.GET}, func(m message.Message) message.Message {
		asked++
		reply := message.Message{Code: codes.Content, Payload: make([]byte, 16)}
		return withBlock(reply, message.Block2, coap.BlockFields{Num: 5, More: asked < 1000})
	}, func(t *testing.T, _ *coap.Response, err error, _ time.Duration) {
		require.ErrorIs(t, err, coap.ErrProtocol)
		require.LessOrEqual(t, asked, 5)
	})
}

func TestChangedBodyIsFetchedAgain(t *testing.T) {
	bodies := [][]byte{bodyOf(3000), bytes.Repeat([]byte("new "), 800)}
	n := 0
	scripted(t, &coap.Request{Code: coap.GET}, func(m message.Message) message.Message {
		b, _ := blockOf(m, message.Block2)
		version := min(n/2, 1)
		n++
		body := bodies[version]
		end := min(b.Offset+1024, int64(len(body)))
		b.SZX, b.More = 6, end < int64(len(body))
		reply := withBlock(message.Message{Code: codes.Content, Payload: body[b.Offset:end]}, message.Block2, b)
		reply.Options = reply.Options.Add(option(message.ETag, byte(version)))
		return reply
	}, func(t *testing.T, resp *coap.Response, err error, _ time.Duration) {
		require.NoError(t, err)
		require.True(t, bytes.Equal(bodies[1], resp.Payload))
		require.Equal(t, []byte{1}, resp.ETag)
	})
}

// A body is refused if block numbers cannot reach its end.
func TestUnreachableBody(t *testing.T) {
	scripted(t, &coap.Request{Code: coap.PUT, Body: endless{}, Size: 17 << 20}, func(m message.Message) message.Message {
		b, _ := blockOf(m, message.Block1)
		b.SZX = 0
		return withBlock(message.Message{Code: codes.Continue}, message.Block1, b)
	}, func(t *testing.T, resp *coap.Response, err error, _ time.Duration) {
		require.ErrorIs(t, err, coap.ErrTooLarge)
	})
}

type endless struct{}

func (endless) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }

// send1 sends a block of a body.
func (r *raw) send1(mid int32, num uint32, more bool, size int, body []byte, opts ...message.Option) message.Message {
	b := coap.BlockFields{Num: num, More: more}
	for 16<<b.SZX < size {
		b.SZX++
	}
	m := withBlock(request(con, codes.PUT, mid, "x", opts...), message.Block1, b)
	at := int(num) * size
	m.Payload = body[min(at, len(body)):min(at+size, len(body))]
	r.send(m)
	return r.receive()
}

func TestIncomingUploads(t *testing.T) {
	body := bodyOf(2500)
	type blockMsg struct {
		num  uint32
		more bool
		code codes.Code
		opts []message.Option
	}
	cbor := []message.Option{option(message.ContentFormat, 60)}
	tests := []struct {
		name     string
		blocks   []blockMsg
		complete int
	}{
		{"in order", []blockMsg{{0, true, codes.Continue, nil}, {1, true, codes.Continue, nil}, {2, false, codes.Changed, nil}}, 1},
		{"repeated block", []blockMsg{{0, true, codes.Continue, nil}, {1, true, codes.Continue, nil}, {1, true, codes.Continue, nil}, {2, false, codes.Changed, nil}}, 1},
		{"repeated first block", []blockMsg{{0, true, codes.Continue, nil}, {0, true, codes.Continue, nil}, {1, true, codes.Continue, nil}, {2, false, codes.Changed, nil}}, 1},
		{"begun anew", []blockMsg{{0, true, codes.Continue, nil}, {1, true, codes.Continue, nil}, {0, true, codes.Continue, nil}, {1, true, codes.Continue, nil}, {2, false, codes.Changed, nil}}, 1},
		{"gap", []blockMsg{{0, true, codes.Continue, nil}, {2, false, codes.RequestEntityIncomplete, nil}, {1, true, codes.Continue, nil}, {2, false, codes.Changed, nil}}, 1},
		{"not begun", []blockMsg{{1, true, codes.RequestEntityIncomplete, nil}}, 0},
		{"format changes", []blockMsg{{0, true, codes.Continue, nil}, {1, true, codes.RequestEntityIncomplete, cbor}}, 0},
		{"two with different Request-Tag", []blockMsg{
			{0, true, codes.Continue, nil},
			{0, true, codes.Continue, []message.Option{option(message.RequestTag, 1)}},
			{1, true, codes.Continue, nil},
			{1, true, codes.Continue, []message.Option{option(message.RequestTag, 1)}},
			{2, false, codes.Changed, []message.Option{option(message.RequestTag, 1)}},
			{2, false, codes.Changed, nil},
		}, 2},
		{"after the end", []blockMsg{{0, true, codes.Continue, nil}, {1, true, codes.Continue, nil}, {2, false, codes.Changed, nil}, {1, true, codes.RequestEntityIncomplete, nil}}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			complete := 0
			config := coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				complete++
				if !bytes.Equal(body, r.Payload) {
					t.Errorf("%d of %d bytes", len(r.Payload), len(body))
				}
				return &coap.Response{Code: coap.Changed}
			})}
			inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
				for i, b := range test.blocks {
					m := r.send1(int32(i+1), b.num, b.more, 1024, body, b.opts...)
					require.Equal(t, b.code, m.Code, "block %d", i)
				}
				require.Equal(t, test.complete, complete)
			})
		})
	}
}

func TestSinks(t *testing.T) {
	body := bodyOf(3000)
	tests := map[string]struct {
		fail    error
		refuse  *coap.Response
		answers []codes.Code
		aborted bool
	}{
		"complete": {answers: []codes.Code{codes.Continue, codes.Continue, codes.Changed}},
		"refused":  {refuse: &coap.Response{Code: coap.NotFound}, answers: []codes.Code{codes.NotFound, codes.RequestEntityIncomplete}},
		"fails":    {fail: errors.New("disk"), answers: []codes.Code{codes.InternalServerError, codes.RequestEntityIncomplete}, aborted: true},
		"full":     {fail: coap.ErrTooLarge, answers: []codes.Code{codes.RequestEntityTooLarge}, aborted: true},
		"status": {
			fail:    fmt.Errorf("verify: %w", &coap.StatusError{Code: coap.UnprocessableEntity}),
			answers: []codes.Code{codes.UnprocessableEntity}, aborted: true,
		},
		"abandoned": {answers: []codes.Code{codes.Continue, codes.Continue}, aborted: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			sink := &recorder{fail: test.fail}
			config := coap.Config{
				UploadIdle: 30 * time.Second,
				Sinks:      func(r *coap.IncomingRequest) (coap.Sink, *coap.Response) { return sink, test.refuse },
				Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
					if r.Sink != sink || r.Size != 3000 || !bytes.Equal(body, sink.bytes()) {
						t.Error("incomplete")
					}
					return &coap.Response{Code: coap.Changed}
				}),
			}
			inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
				for i, code := range test.answers {
					require.Equal(t, code, r.send1(int32(i+1), uint32(i), i < 2, 1024, body).Code)
				}
				pass(31 * time.Second)
				synctest.Wait()
				require.Equal(t, test.aborted, sink.abortedWith() != nil)
				h := coap.Holds(e)
				require.Zero(t, h.Uploads)
			})
		})
	}
}

// The handler is not called for each block, unless the kept response is gone.
func TestDownloadsWithoutHandler(t *testing.T) {
	body := bodyOf(3000)
	calls := 0
	var closed atomic.Int32
	config := coap.Config{
		DownloadIdle: 20 * time.Second,
		Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			calls++
			return &coap.Response{Code: coap.Content, Body: closing{bytes.NewReader(body), &closed}, Size: 3000, ETag: []byte{1}}
		}),
	}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		get := func(mid int32, num uint32) message.Message {
			r.send(withBlock(request(con, codes.GET, mid, "x"), message.Block2, coap.BlockFields{Num: num, SZX: 6}))
			return r.receive()
		}
		for i := range uint32(3) {
			m := get(int32(i+1), i)
			require.True(t, bytes.Equal(body[i*1024:min(i*1024+1024, 3000)], m.Payload))
			etag, err := m.Options.GetBytes(message.ETag)
			require.NoError(t, err)
			require.Equal(t, []byte{1}, etag)
		}
		require.Equal(t, 1, calls)
		require.Zero(t, closed.Load())
		pass(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 1, closed.Load())
		m := get(9, 2)
		require.True(t, bytes.Equal(body[2048:], m.Payload), "at random")
		require.Equal(t, 2, calls)
		pass(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 2, closed.Load())
	})
}

type closing struct {
	*bytes.Reader
	n *atomic.Int32
}

func (c closing) Close() error { c.n.Add(1); return nil }

func TestValidation(t *testing.T) {
	config := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Payload: []byte("x"), ETag: []byte{7}}
	})}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		r.send(request(con, codes.GET, 1, "x", option(message.ETag, 6), option(message.ETag, 7)))
		m := r.receive()
		require.Equal(t, codes.Valid, m.Code)
		require.Empty(t, m.Payload)
		r.send(request(con, codes.GET, 2, "x", option(message.ETag, 6)))
		require.Equal(t, codes.Content, r.receive().Code)
	})
}

func TestEcho(t *testing.T) {
	config := coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		if !r.AddressVerified() {
			return r.Challenge()
		}
		return &coap.Response{Code: coap.Content}
	})}
	inWorld(t, config, coap.Config{}, func(t *testing.T, w *world) {
		resp, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET})
		require.NoError(t, err)
		require.Equal(t, coap.Content, resp.Code)
	})
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		r.send(request(con, codes.GET, 1, "x"))
		v, err := r.receive().Options.GetBytes(message.Echo)
		require.NoError(t, err)
		forged := append([]byte(nil), v...)
		forged[9] ^= 1
		r.send(request(con, codes.GET, 2, "x", option(message.Echo, forged...)))
		require.Equal(t, codes.Unauthorized, r.receive().Code)
		r.send(request(con, codes.GET, 3, "x", option(message.Echo, v...)))
		require.Equal(t, codes.Content, r.receive().Code)
		pass(5 * time.Minute)
		r.send(request(con, codes.GET, 4, "x", option(message.Echo, v...)))
		require.Equal(t, codes.Unauthorized, r.receive().Code, "too old")
	})
}

// Another request can pass between two blocks.
func TestInterleaving(t *testing.T) {
	body := bodyOf(5 * 1024)
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		ctx := t.Context()
		go e.Do(ctx, r.peer(), &coap.Request{Code: coap.PUT, Payload: body})
		var order string
		for i := range 6 {
			m := r.receive()
			if i == 1 {
				go e.Do(context.WithoutCancel(ctx), r.peer(), &coap.Request{Code: coap.GET})
				synctest.Wait()
			}
			reply := message.Message{Type: ack, MessageID: m.MessageID, Token: m.Token, Code: codes.Content}
			order += "r"
			if b, ok := blockOf(m, message.Block1); ok {
				order = order[:len(order)-1] + "b"
				reply.Code = codes.Continue
				if !b.More {
					reply.Code = codes.Changed
				}
				reply = withBlock(reply, message.Block1, b)
			}
			r.send(reply)
		}
		require.Equal(t, "bbrbbb", order)
	})
}

// sparse is a body without storage: each byte is a function of its offset.
type sparse struct{}

func (sparse) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		at := off + int64(i)
		p[i] = byte(at ^ at>>10 ^ at>>20)
	}
	return len(p), nil
}

// The last blocks of the largest possible body use all 20 bits of the block number.
func TestEndOfTheLargestBody(t *testing.T) {
	const size = 1 << 30
	config := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Body: sparse{}, Size: size, ETag: []byte{1}}
	})}
	inWorld(t, config, coap.Config{}, func(t *testing.T, w *world) {
		get := func(offset int64) (*firstBytes, error) {
			got := &firstBytes{limit: 5000}
			_, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET, Into: got, Offset: offset})
			return got, err
		}
		for _, offset := range []int64{size - 4096, size - 1024, size / 2} {
			got, err := get(offset)
			if offset == size/2 {
				require.ErrorIs(t, err, errEnough)
			} else {
				require.NoError(t, err)
				require.EqualValues(t, size, offset+int64(got.Len()))
			}
			want := make([]byte, got.Len())
			_, _ = sparse{}.ReadAt(want, offset)
			require.True(t, bytes.Equal(want, got.Bytes()), "at %d", offset)
		}
		_, err := get(size - 16)
		require.ErrorIs(t, err, coap.ErrTooLarge, "no number for it in blocks so small")
	})
}

var errEnough = errors.New("enough")

// firstBytes accepts the first bytes only.
type firstBytes struct {
	bytes.Buffer
	limit int
}

func (f *firstBytes) Write(p []byte) (int, error) {
	if f.Len() >= f.limit {
		return 0, errEnough
	}
	return f.Buffer.Write(p)
}

// A block beyond the end is refused, and so is a body whose end blocks of that size cannot reach.
func TestBlockOutOfRange(t *testing.T) {
	size := int64(1024)
	config := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Body: sparse{}, Size: size}
	})}
	inRaw(t, config, func(t *testing.T, _ *coap.Endpoint, r *raw) {
		r.send(request(con, codes.GET, 1, "x", option(message.Block2, 0x16)))
		require.Equal(t, codes.BadRequest, r.receive().Code)
		r.send(request(con, codes.GET, 2, "x", option(message.Block2, 0x06)))
		require.Equal(t, codes.Content, r.receive().Code)
		size = 17 << 20
		r.send(request(con, codes.GET, 3, "x", option(message.Block2)))
		require.Equal(t, codes.BadRequest, r.receive().Code)
	})
}

// once is a body that cannot be read after Close.
type once struct {
	*bytes.Reader
	closed atomic.Int32
}

func (o *once) ReadAt(p []byte, off int64) (int, error) {
	if o.closed.Load() > 0 {
		return 0, fs.ErrClosed
	}
	return o.Reader.ReadAt(p, off)
}

func (o *once) Close() error { o.closed.Add(1); return nil }

// A peer may continue in larger blocks, one of which would hold the whole body. That must not end
// the kept body.
func TestLargerBlocksEndNoBody(t *testing.T) {
	body := bodyOf(100)
	var bodies []*once
	config := coap.Config{DownloadIdle: 20 * time.Second, Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		bodies = append(bodies, &once{Reader: bytes.NewReader(body)})
		return &coap.Response{Code: coap.Content, Body: bodies[len(bodies)-1], Size: 100, ETag: []byte{1}}
	})}
	inRaw(t, config, func(t *testing.T, _ *coap.Endpoint, r *raw) {
		for i, block := range []byte{0x00, 0x16, 0x10, 0x06, 0x20} {
			r.send(request(con, codes.GET, int32(i), "x", option(message.Block2, block)))
			m := r.receive()
			if block == 0x16 {
				require.Equal(t, codes.BadRequest, m.Code, "behind the end")
				continue
			}
			require.Equal(t, codes.Content, m.Code, "block %#x", block)
			b, _ := blockOf(m, message.Block2)
			require.Equal(t, body[b.Offset:min(b.Offset+16<<b.SZX, 100)], m.Payload)
		}
		pass(time.Minute)
		synctest.Wait()
		require.Len(t, bodies, 2, "one that is kept, and one that is not")
		for _, b := range bodies {
			require.EqualValues(t, 1, b.closed.Load())
		}
	})
}
