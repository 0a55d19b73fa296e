package coap_test

import (
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"context"

	"github.com/otago-iot/otago/internal/coap"
)

// TestConfirm uses Confirm to verify that the peer is at its address.
func TestConfirm(t *testing.T) {
	for _, test := range []struct {
		name   string
		typ    message.Type
		answer *message.Message
		want   error
	}{
		{name: "acknowledged", typ: con, answer: &message.Message{Type: ack}},
		{name: "acknowledged, of a NON", typ: non, answer: &message.Message{Type: ack}},
		{name: "rejected", typ: con, answer: &message.Message{Type: rst}, want: coap.ErrReset},
		{name: "nobody there", typ: con, want: coap.ErrTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			confirmed := make(chan error, 2)
			config := coap.Config{Handler: coap.HandlerFunc(func(context.Context, *coap.IncomingRequest) *coap.Response {
				return &coap.Response{Code: coap.Created, Confirm: func(err error) { confirmed <- err }}
			})}
			inRaw(t, config, func(t *testing.T, _ *coap.Endpoint, r *raw) {
				r.send(request(test.typ, codes.POST, 1, "x"))
				if test.typ == con {
					m := r.receive()
					require.Equal(t, []any{ack, codes.Empty, int32(1)}, []any{m.Type, m.Code, m.MessageID})
					r.send(request(con, codes.POST, 1, "x"))
				}
				m := r.receive()
				if m.Type == ack { // of the duplicate
					m = r.receive()
				}
				require.Equal(t, []any{con, codes.Created, message.Token{1, 0x55}}, []any{m.Type, m.Code, m.Token})
				require.Empty(t, confirmed)
				if test.answer != nil {
					r.send(message.Message{Type: test.answer.Type, Code: codes.Empty, MessageID: m.MessageID})
				}
				pass(5 * time.Minute)
				require.Len(t, confirmed, 1)
				require.ErrorIs(t, <-confirmed, test.want)
			})
		})
	}
}
