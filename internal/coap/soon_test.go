package coap

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestSoon makes a handler answer with Soon. Over UDP nothing is sent, and the handler runs again
// when the request is retransmitted. On a stream, and after a Block1 body, the response is sent.
func TestSoon(t *testing.T) {
	asked := 0
	early := HandlerFunc(func(context.Context, *IncomingRequest) *Response {
		asked++
		return &Response{Code: ServiceUnavailable, Soon: asked%2 == 1}
	})
	inTransports(t, Config{Handler: early}, nil, func(t *testing.T, w *wirePeer) {
		asked = 0
		m := wireMessage{code: POST, token: makeToken([]byte{1})}
		w.send(m)
		if !w.stream {
			synctest.Wait()
			w.mid-- // the same message again
			w.send(m)
		}
		require.Equal(t, ServiceUnavailable, w.next().msg.code)
		require.Equal(t, map[bool]int{true: 1, false: 2}[w.stream], asked)
		require.Nil(t, w.next())
	})
	inUDP(t, Config{Handler: early}, func(t *testing.T, w *wirePeer) {
		asked = 0
		w.send(wireMessage{code: POST, token: makeToken([]byte{1}), options: Options{{ID: Block1, Value: []byte{0}}}, payload: []byte("x")})
		require.Equal(t, ServiceUnavailable, w.next().msg.code)
	})
}
