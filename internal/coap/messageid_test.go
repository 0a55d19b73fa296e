package coap_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// A quick transfer uses its message ids again within EXCHANGE_LIFETIME. A peer that recognizes
// messages by their ids alone then repeats the answer to a much earlier block. The transfer loses
// time, but no block.
func TestMessageIDsComeAgain(t *testing.T) {
	const blocks = 1<<16 + 500
	body := bodyOf(16 * blocks)
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		const lifetime = 247 * time.Second
		type reply struct {
			at time.Time
			m  message.Message
		}
		known := make(map[int32]reply)
		var got bytes.Buffer
		done := make(chan error, 1)
		go func() {
			resp, err := e.Do(t.Context(), r.peer(), &coap.Request{Code: coap.PUT, Path: []string{"x"}, Payload: body, BlockSize: 16})
			if err == nil && resp.Code != coap.Changed {
				t.Errorf("answer %v", resp.Code)
			}
			done <- err
		}()
		again := 0
		for got.Len() < len(body) {
			m, ok := r.receiveWithin(time.Minute)
			require.True(t, ok, "gave up at %d", got.Len()/16)
			if old, ok := known[m.MessageID]; ok && time.Since(old.at) < lifetime {
				again++
				r.send(old.m)
				continue
			}
			b, ok := blockOf(m, message.Block1)
			require.True(t, ok)
			require.EqualValues(t, got.Len()/16, b.Num, "a block was left out")
			got.Write(m.Payload)
			answer := message.Message{Type: ack, MessageID: m.MessageID, Token: m.Token, Code: codes.Continue}
			if !b.More {
				answer.Code = codes.Changed
			}
			answer = withBlock(answer, message.Block1, b)
			known[m.MessageID] = reply{time.Now(), answer}
			r.send(answer)
		}
		require.NoError(t, <-done)
		synctest.Wait()
		require.Positive(t, again, "the ids did not come again")
		require.True(t, bytes.Equal(body, got.Bytes()))
	})
}
