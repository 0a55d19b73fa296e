package coap_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// An exclusive request waits until the peer owes nothing, has it for itself, and
// then lets those go first who came first. One that is cancelled while it waits
// stands in nobody's way.
func TestExclusiveTakesItsTurn(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		done := make(chan string, 10)
		do := func(ctx context.Context, path string, exclusive bool) {
			go func() {
				req := &coap.Request{Code: coap.PUT, Path: []string{path}, Exclusive: exclusive, BlockSize: 16, Payload: make([]byte, 10)}
				if exclusive {
					req.Payload = make([]byte, 30)
				}
				_, err := e.Do(ctx, r.peer(), req)
				require.True(t, err == nil || ctx.Err() != nil)
				done <- path
			}()
			synctest.Wait()
		}
		next := func(path string) message.Message {
			t.Helper()
			m := r.receive()
			got, err := m.Options.Path()
			require.NoError(t, err)
			require.Equal(t, "/"+path, got)
			return m
		}
		answer := func(m message.Message) {
			reply := message.Message{Type: ack, Code: codes.Changed, MessageID: m.MessageID, Token: m.Token}
			if b, ok := blockOf(m, message.Block1); ok {
				if b.More {
					reply.Code = codes.Continue
				}
				reply = withBlock(reply, message.Block1, b)
			}
			r.send(reply)
			synctest.Wait()
		}

		do(t.Context(), "first", false)
		first := next("first")
		r.send(message.Message{Type: ack, MessageID: first.MessageID})
		synctest.Wait()
		do(t.Context(), "alone", true)
		ctx, cancel := context.WithCancel(t.Context())
		do(ctx, "cancelled", true)
		do(t.Context(), "after", false)
		do(t.Context(), "alone too", true)
		do(t.Context(), "last", false)
		r.silence(time.Second) // the first one is owed a response
		cancel()
		synctest.Wait()
		require.Equal(t, "cancelled", <-done)

		r.send(message.Message{Type: non, Code: codes.Changed, MessageID: 1, Token: first.Token})
		require.Equal(t, "first", <-done)
		for _, path := range []string{"alone", "alone", "after", "alone too", "alone too", "last"} {
			m := next(path)
			r.silence(time.Second)
			answer(m)
		}
		for _, path := range []string{"alone", "after", "alone too", "last"} {
			require.Equal(t, path, <-done)
		}
	})
}
