package coap_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

const (
	con = message.Confirmable
	non = message.NonConfirmable
	ack = message.Acknowledgement
	rst = message.Reset
)

func hello() coap.Config {
	return coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Payload: []byte("hello")}
	})}
}

// Each datagram gets one message as the answer, or none.
func TestMessageLayer(t *testing.T) {
	type answer struct {
		typ  message.Type
		code codes.Code
	}
	silent := (*answer)(nil)
	raws := []struct {
		name   string
		bytes  []byte
		answer *answer
	}{
		{"ping", []byte{0x40, 0, 1, 2}, &answer{rst, codes.Empty}},
		{"empty NON", []byte{0x50, 0, 1, 2}, silent},
		{"empty with token", []byte{0x41, 0, 1, 2, 9}, &answer{rst, codes.Empty}},
		{"empty with payload", []byte{0x40, 0, 1, 2, 0xff, 1}, &answer{rst, codes.Empty}},
		{"stray ACK", []byte{0x60, 0, 1, 2}, silent},
		{"stray RST", []byte{0x70, 0, 1, 2}, silent},
		{"truncated header", []byte{0x40, 1, 1}, silent},
		{"nothing", []byte{}, silent},
		{"version 0", []byte{0x00, 1, 1, 2}, silent},
		{"version 2", []byte{0x80, 1, 1, 2}, silent},
		{"token length 9", []byte{0x49, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}, &answer{rst, codes.Empty}},
		{"truncated token", []byte{0x44, 1, 1, 2, 0}, &answer{rst, codes.Empty}},
		{"truncated token in NON", []byte{0x54, 1, 1, 2, 0}, silent},
		{"marker without payload", []byte{0x40, 1, 1, 2, 0xff}, &answer{rst, codes.Empty}},
		{"reserved delta", []byte{0x40, 1, 1, 2, 0xf0}, &answer{rst, codes.Empty}},
		{"reserved length", []byte{0x40, 1, 1, 2, 0xbf}, &answer{rst, codes.Empty}},
		{"truncated option", []byte{0x40, 1, 1, 2, 0xb5, 'a'}, &answer{rst, codes.Empty}},
		{"option number too large", []byte{0x40, 1, 1, 2, 0xe0, 0xff, 0xff}, &answer{rst, codes.Empty}},
		{"code class 1", []byte{0x40, 0x21, 1, 2}, &answer{rst, codes.Empty}},
		{"code class 7 in NON", []byte{0x50, 0xe1, 1, 2}, silent},
		{"signal in CON", []byte{0x40, 0xe1, 1, 2}, &answer{rst, codes.Empty}},
		{"request as ACK", []byte{0x60, 1, 1, 2}, silent},
		{"request as RST", []byte{0x70, 1, 1, 2}, silent},
		{"response nobody waits for, CON", []byte{0x41, 0x45, 1, 2, 9}, &answer{rst, codes.Empty}},
		{"response nobody waits for, NON", []byte{0x51, 0x45, 1, 2, 9}, &answer{rst, codes.Empty}},
		{"response nobody waits for, ACK", []byte{0x61, 0x45, 1, 2, 9}, silent},
		{"GET", []byte{0x41, 1, 1, 2, 9}, &answer{ack, codes.Content}},
		{"GET without token", []byte{0x40, 1, 1, 2}, &answer{ack, codes.Content}},
		{"GET NON", []byte{0x51, 1, 1, 2, 9}, &answer{non, codes.Content}},
	}
	for _, test := range raws {
		t.Run(test.name, func(t *testing.T) {
			inRaw(t, hello(), func(t *testing.T, _ *coap.Endpoint, r *raw) {
				r.sendBytes(test.bytes)
				if test.answer == nil {
					r.silence(time.Minute)
					return
				}
				got := r.receive()
				require.Equal(t, *test.answer, answer{got.Type, got.Code})
				if got.Type == ack || got.Type == rst {
					require.EqualValues(t, 0x0102, got.MessageID)
				}
				r.silence(time.Minute)
			})
		})
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		name   string
		opts   []message.Option
		answer codes.Code // to a CON; Empty for none
		silent bool       // for NON
	}{
		{"unknown elective", []message.Option{option(65000, 1)}, codes.Content, false},
		{"unknown critical", []message.Option{option(65001, 1)}, codes.BadOption, true},
		{"OSCORE", []message.Option{option(9, 1)}, codes.BadOption, true},
		{"Q-Block1", []message.Option{option(19, 1)}, codes.BadOption, true},
		{"Q-Block2", []message.Option{option(31, 1)}, codes.BadOption, true},
		{"Proxy-Uri", []message.Option{option(35, 'c')}, codes.ProxyingNotSupported, false},
		{"Proxy-Scheme", []message.Option{option(39, 'c')}, codes.ProxyingNotSupported, false},
		{"Block2 of 4 bytes", []message.Option{option(23, 1, 0, 0, 14)}, codes.BadOption, true},
		{"Block2 twice", []message.Option{option(23, 6), option(23, 6)}, codes.BadOption, true},
		{"Accept twice", []message.Option{option(17, 6), option(17, 6)}, codes.BadOption, true},
		{"Block2 SZX 7", []message.Option{option(23, 7)}, codes.BadRequest, false},
		{"Block1 SZX 7", []message.Option{option(27, 7)}, codes.BadRequest, false},
		{"Block2 past the end", []message.Option{option(23, 0x16)}, codes.BadRequest, false},
		{"Block2 of a later number, never begun", []message.Option{option(23, 0x10)}, codes.BadRequest, false},
		{"several If-Match", []message.Option{option(1, 1), option(1, 2)}, codes.Content, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inRaw(t, hello(), func(t *testing.T, _ *coap.Endpoint, r *raw) {
				r.send(request(con, codes.GET, 1, "x", test.opts...))
				require.Equal(t, test.answer, r.receive().Code)
				r.send(request(non, codes.GET, 2, "x", test.opts...))
				if test.silent {
					r.silence(time.Second)
					return
				}
				require.Equal(t, test.answer, r.receive().Code)
			})
		})
	}
}

func TestNoResponseOption(t *testing.T) {
	inRaw(t, hello(), func(t *testing.T, _ *coap.Endpoint, r *raw) {
		r.send(request(non, codes.GET, 1, "x", option(message.NoResponse, 2)))
		r.silence(time.Second)
		r.send(request(con, codes.GET, 2, "x", option(message.NoResponse, 2)))
		require.Equal(t, codes.Empty, r.receive().Code)
		r.send(request(con, codes.GET, 3, "x", option(message.NoResponse, 8)))
		require.Equal(t, codes.Content, r.receive().Code)
	})
}

func TestDuplicatesAreNotServedTwice(t *testing.T) {
	var calls atomic.Int32
	config := coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Changed, Payload: []byte{byte(calls.Add(1))}}
	})}
	inRaw(t, config, func(t *testing.T, _ *coap.Endpoint, r *raw) {
		r.send(request(con, codes.POST, 1, "x"))
		first := r.receive()
		pass(240 * time.Second)
		r.send(request(con, codes.POST, 1, "x"))
		again := r.receive()
		require.Equal(t, first, again)

		r.send(request(non, codes.POST, 2, "x"))
		r.receive()
		r.send(request(non, codes.POST, 2, "x"))
		r.silence(time.Minute)
		require.EqualValues(t, 2, calls.Load())

		pass(300 * time.Second)
		r.send(request(con, codes.POST, 1, "x"))
		r.receive()
		require.EqualValues(t, 3, calls.Load(), "the id is free again after EXCHANGE_LIFETIME")
	})
}

// A device that has rebooted, with the same port, may reuse message ids.
func TestReusedMessageIDIsNotADuplicate(t *testing.T) {
	config := coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Payload: []byte(r.Path())}
	})}
	inRaw(t, config, func(t *testing.T, _ *coap.Endpoint, r *raw) {
		for _, path := range []string{"before", "after", "after"} {
			r.send(request(con, codes.POST, 1, path))
			require.Equal(t, "/"+path, string(r.receive().Payload))
		}
	})
}

func TestSeparateResponse(t *testing.T) {
	var calls atomic.Int32
	done := make(chan time.Time, 1)
	config := coap.Config{Handler: coap.HandlerFunc(func(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
		calls.Add(1)
		pass(3 * time.Second)
		return &coap.Response{Code: coap.Changed, After: func() { done <- time.Now() }}
	})}
	inRaw(t, config, func(t *testing.T, _ *coap.Endpoint, r *raw) {
		start := time.Now()
		r.send(request(con, codes.POST, 1, "x"))
		pass(500 * time.Millisecond)
		r.send(request(con, codes.POST, 1, "x"))
		r.silence(400 * time.Millisecond)
		m := r.receive()
		require.Equal(t, []any{ack, codes.Empty, int32(1)}, []any{m.Type, m.Code, m.MessageID})
		require.Equal(t, time.Second, time.Since(start))
		r.send(request(con, codes.POST, 1, "x"))
		m = r.receive()
		require.Equal(t, []any{ack, codes.Empty, int32(1)}, []any{m.Type, m.Code, m.MessageID}, "a duplicate is acknowledged again")

		m, ok := r.receiveWithin(time.Minute)
		require.True(t, ok)
		require.Equal(t, []any{con, codes.Changed, message.Token{1, 0x55}}, []any{m.Type, m.Code, m.Token})
		require.Equal(t, 3*time.Second, time.Since(start))
		again, ok := r.receiveWithin(3 * time.Second)
		require.True(t, ok, "retransmitted")
		require.Equal(t, m, again)
		require.Empty(t, done)
		r.send(message.Message{Type: ack, Code: codes.Empty, MessageID: m.MessageID})
		r.silence(time.Minute)
		require.Len(t, done, 1)
		require.EqualValues(t, 1, calls.Load())
	})
}

// TestResponses tests the client's side of each kind of response.
func TestResponses(t *testing.T) {
	tests := []struct {
		name   string
		script func(r *raw, m message.Message)
		err    error
		after  time.Duration
	}{
		{"piggybacked", func(r *raw, m message.Message) {
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token})
		}, nil, 0},
		{"separate", func(r *raw, m message.Message) {
			r.send(message.Message{Type: ack, Code: codes.Empty, MessageID: m.MessageID})
			pass(50 * time.Second)
			r.send(message.Message{Type: con, Code: codes.Content, MessageID: 77, Token: m.Token})
			got := r.receive()
			require.Equal(r.t, []any{ack, codes.Empty, int32(77)}, []any{got.Type, got.Code, got.MessageID})
			r.send(message.Message{Type: con, Code: codes.Content, MessageID: 77, Token: m.Token})
			got = r.receive()
			require.Equal(r.t, []any{ack, codes.Empty, int32(77)}, []any{got.Type, got.Code, got.MessageID})
		}, nil, 50 * time.Second},
		{"separate before the acknowledgement", func(r *raw, m message.Message) {
			r.send(message.Message{Type: con, Code: codes.Content, MessageID: 77, Token: m.Token})
			require.Equal(r.t, ack, r.receive().Type)
			r.silence(time.Minute)
		}, nil, 0},
		{"NON", func(r *raw, m message.Message) {
			r.send(message.Message{Type: non, Code: codes.Content, MessageID: 77, Token: m.Token})
			r.silence(time.Minute)
		}, nil, 0},
		{"reset", func(r *raw, m message.Message) {
			r.send(message.Message{Type: rst, Code: codes.Empty, MessageID: m.MessageID})
			require.Equal(r.t, m, r.receive(), "it may be forged; who has rejected the request does so again")
			r.send(message.Message{Type: rst, Code: codes.Empty, MessageID: m.MessageID})
		}, coap.ErrReset, 0},
		{"reset, forged", func(r *raw, m message.Message) {
			r.send(message.Message{Type: rst, Code: codes.Empty, MessageID: m.MessageID})
			require.Equal(r.t, m, r.receive())
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token})
		}, nil, 0},
		{"reset after the acknowledgement", func(r *raw, m message.Message) {
			r.send(message.Message{Type: ack, Code: codes.Empty, MessageID: m.MessageID})
			r.send(message.Message{Type: rst, Code: codes.Empty, MessageID: m.MessageID})
			r.send(message.Message{Type: rst, Code: codes.Empty, MessageID: m.MessageID})
			r.silence(time.Second / 2)
			r.send(message.Message{Type: non, Code: codes.Content, MessageID: 77, Token: m.Token})
		}, nil, time.Second / 2},
		{"critical option nobody knows, in a separate response", func(r *raw, m message.Message) {
			bad := message.Message{Type: con, Code: codes.Content, MessageID: 77, Token: m.Token, Options: message.Options{option(65001)}}
			r.send(bad)
			require.Equal(r.t, rst, r.receive().Type)
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token})
		}, nil, 0},
		{"critical option nobody knows, piggybacked", func(r *raw, m message.Message) {
			bad := message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token, Options: message.Options{option(9)}}
			r.send(bad)
			_, ok := r.receiveWithin(3 * time.Second)
			require.True(r.t, ok, "ignored")
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token})
		}, nil, 2 * time.Second},
		{"elective option nobody knows", func(r *raw, m message.Message) {
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token, Options: message.Options{option(65000)}})
		}, nil, 0},
		{"wrong token", func(r *raw, m message.Message) {
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: message.Token{1}})
			_, ok := r.receiveWithin(3 * time.Second)
			require.True(r.t, ok, "retransmitted")
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token})
		}, nil, 2 * time.Second},
		{"wrong id", func(r *raw, m message.Message) {
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID + 1, Token: m.Token})
			_, ok := r.receiveWithin(3 * time.Second)
			require.True(r.t, ok, "retransmitted")
			r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token})
		}, nil, 2 * time.Second},
		{"acknowledged only", func(r *raw, m message.Message) {
			r.send(message.Message{Type: ack, Code: codes.Empty, MessageID: m.MessageID})
		}, coap.ErrTimeout, 62 * time.Second},
		{"nothing", func(r *raw, m message.Message) {
			for range 4 {
				again, ok := r.receiveWithin(time.Minute)
				require.True(r.t, ok)
				require.Equal(r.t, m, again)
			}
			r.silence(time.Hour)
		}, coap.ErrTimeout, 62 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := coap.Config{Transmission: coap.Transmission{RandomFactor: 1}}
			inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
				start := time.Now()
				errs := make(chan error, 1)
				go func() {
					_, err := e.Do(t.Context(), r.peer(), &coap.Request{Code: coap.GET, Path: []string{"x"}})
					require.Equal(t, test.after, time.Since(start))
					errs <- err
				}()
				test.script(r, r.receive())
				err := <-errs
				if test.err == nil {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, test.err)
			})
		})
	}
}

func TestOneUnacknowledgedRequestAtATime(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		for range 3 {
			go e.Do(t.Context(), r.peer(), &coap.Request{Code: coap.GET})
		}
		first := r.receive()
		r.silence(time.Second)
		r.send(message.Message{Type: ack, Code: codes.Empty, MessageID: first.MessageID})
		second := r.receive()
		require.NotEqual(t, first.MessageID, second.MessageID)
		r.silence(time.Second)
		r.send(message.Message{Type: ack, Code: codes.Content, MessageID: second.MessageID, Token: second.Token})
		third := r.receive()
		r.send(message.Message{Type: rst, Code: codes.Empty, MessageID: third.MessageID})
		require.Equal(t, third, r.receive())
		r.send(message.Message{Type: rst, Code: codes.Empty, MessageID: third.MessageID})
		r.send(message.Message{Type: non, Code: codes.Content, MessageID: 5, Token: first.Token})
		r.silence(time.Minute)
	})
}

func TestCancelledRequest(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.Do(ctx, r.peer(), &coap.Request{Code: coap.POST})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, coap.ErrDeliveryUnknown)
		r.receive()
		r.silence(time.Minute)

		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = e.Do(gone, r.peer(), &coap.Request{Code: coap.POST})
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, coap.ErrDeliveryUnknown)
		r.silence(time.Minute)
	})
}
