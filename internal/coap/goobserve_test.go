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

// GoObserve has the results of Observe and delivers no notification before them. GoCancel ends the
// observation without waiting.
func TestGoObserve(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		var n notices
		var o *coap.Observation
		proceed := make(chan struct{})
		e.GoObserve(r.peer(), &coap.Request{Code: coap.GET, Notice: n.notice}, func(resp *coap.Response) { n.add(string(resp.Payload)) },
			func(got *coap.Observation, resp *coap.Response, err error) {
				require.NoError(t, err)
				o = got
				<-proceed
				n.add("done " + string(resp.Payload))
			})
		m := r.receive()
		notify := func(seq byte, payload string) {
			reply := message.Message{Type: non, Code: codes.Content, MessageID: int32(seq), Token: m.Token, Payload: []byte(payload)}
			reply.Options = message.Options{option(message.Observe, seq)}
			r.send(reply)
			synctest.Wait()
		}
		notify(1, "first")
		notify(2, "second")
		close(proceed)
		synctest.Wait()
		notify(3, "third")
		require.Equal(t, []string{"sent", "done first", "second", "third"}, n.words())

		var ended []error
		o.GoCancel(func(err error) { ended = append(ended, err) })
		cancel := r.receive()
		v, err := cancel.Options.GetUint32(message.Observe)
		require.NoError(t, err)
		require.EqualValues(t, 1, v)
		require.Equal(t, m.Token, cancel.Token)
		r.send(message.Message{Type: ack, Code: codes.Content, MessageID: cancel.MessageID, Token: cancel.Token})
		synctest.Wait()
		require.Equal(t, []error{nil}, ended)
		notify(4, "late")
		require.Equal(t, rst, r.receive().Type)
		require.Len(t, n.words(), 4)
		o.GoCancel(nil).Cancel(errEnough)
		synctest.Wait()
		require.Zero(t, coap.Underway(e))
	})
}

// A cancelled registration leaves nothing here, and a later notification is rejected.
func TestGoObserveCancelled(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		var failed error
		calls := 0
		c := e.GoObserve(r.peer(), &coap.Request{Code: coap.GET}, func(*coap.Response) { t.Error("notified") },
			func(o *coap.Observation, resp *coap.Response, err error) {
				require.Nil(t, o)
				calls++
				failed = err
			})
		m := r.receive()
		c.Cancel(errEnough)
		synctest.Wait()
		require.Equal(t, 1, calls)
		require.ErrorIs(t, failed, errEnough)
		late := message.Message{Type: con, Code: codes.Content, MessageID: 9, Token: m.Token}
		late.Options = message.Options{option(message.Observe, 1)}
		r.send(late)
		require.Equal(t, rst, r.receive().Type)
	})
}

// The rest of a large notification is fetched without a waiting goroutine, and no longer once the
// observation is forgotten.
func TestForgetEndsTheFetch(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		var o *coap.Observation
		var got []byte
		e.GoObserve(r.peer(), &coap.Request{Code: coap.GET}, func(resp *coap.Response) { got = resp.Payload },
			func(made *coap.Observation, _ *coap.Response, err error) { o = made })
		m := r.receive()
		body := bodyOf(40)
		block := func(typ message.Type, mid int32, token message.Token, num uint32) message.Message {
			reply := message.Message{Type: typ, Code: codes.Content, MessageID: mid, Token: token, Payload: body[num*16 : min(num*16+16, 40)]}
			if typ == non {
				reply.Options = message.Options{option(message.Observe, byte(mid))}
			}
			return withBlock(reply, message.Block2, coap.BlockFields{Num: num, More: num < 2})
		}
		first := message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token}
		first.Options = message.Options{option(message.Observe, 1)}
		r.send(first)
		synctest.Wait()
		require.NotNil(t, o)

		r.send(block(non, 2, m.Token, 0))
		for num := range uint32(2) {
			ask := r.receive()
			r.send(block(ack, ask.MessageID, ask.Token, num+1))
		}
		synctest.Wait()
		require.True(t, bytes.Equal(body, got))

		got = nil
		r.send(block(non, 3, m.Token, 0))
		r.receive()
		o.Forget()
		r.silence(10 * time.Minute)
		synctest.Wait()
		require.Nil(t, got)
		require.Zero(t, coap.Underway(e))
	})
}
