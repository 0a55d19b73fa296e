package lwm2m_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// serveBlocks answers requests for blocks of 1024 bytes, piggybacked, until the socket is closed.
func serveBlocks(conn net.PacketConn, answer func(num uint32) message.Message) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		asked := message.Message{Options: make(message.Options, 0, 16)}
		if _, err := coder.DefaultCoder.Decode(buf[:n], &asked); err != nil || asked.Type != message.Confirmable {
			continue
		}
		value, _ := asked.Options.GetUint32(message.Block2)
		reply := answer(value >> 4)
		reply.Type, reply.MessageID, reply.Token = message.Acknowledgement, asked.MessageID, asked.Token
		out := make([]byte, 2048)
		if n, err = coder.DefaultCoder.Encode(reply, out); err == nil {
			_, _ = conn.WriteTo(out[:n], from)
		}
	}
}

// blockReply is block num of body, marked as the last one if last is set.
func blockReply(body []byte, num uint32, last bool, size2 int) message.Message {
	m := message.Message{Code: codes.Content, Payload: body[min(int(num)<<10, len(body)):min(int(num+1)<<10, len(body))]}
	v := num<<4 | 6
	if !last {
		v |= 8
	}
	m.Options = m.Options.Add(message.Option{ID: message.ETag, Value: []byte("tag")})
	m.Options = m.Options.Add(message.Option{ID: message.Block2, Value: []byte{byte(v >> 8), byte(v)}})
	if size2 > 0 {
		m.Options = m.Options.Add(message.Option{ID: message.Size2, Value: []byte{byte(size2 >> 8), byte(size2)}})
	}
	return m
}

// TestFetchEndsEarly fetches from servers that end before the whole is sent: Fetch fails, also when
// it resumes with a known size.
func TestFetchEndsEarly(t *testing.T) {
	body := randomBytes(5 << 10)
	part := lwm2m.FetchConfig{Offset: 2048, ETag: []byte("tag"), Size: 5 << 10}
	for _, test := range []struct {
		name   string
		config lwm2m.FetchConfig
		answer func(num uint32) message.Message
		want   error
	}{
		{"good", lwm2m.FetchConfig{}, func(num uint32) message.Message { return blockReply(body, num, num == 4, 5<<10) }, nil},
		{"good, goes on", part, func(num uint32) message.Message { return blockReply(body, num, num == 4, 0) }, nil},
		{"good, all but the end is there", lwm2m.FetchConfig{Offset: 5 << 10, ETag: []byte("tag"), Size: 5 << 10},
			func(num uint32) message.Message {
				m := blockReply(body, 4, true, 0)
				m.Payload = m.Payload[1024-16:]
				v := uint32(5<<10-16) / 16 << 4
				return blockOption(m, v)
			}, nil},
		{"last block too early", lwm2m.FetchConfig{}, func(num uint32) message.Message { return blockReply(body, num, num == 2, 5<<10) }, lwm2m.ErrMalformed},
		{"last block too early, goes on", part, func(num uint32) message.Message { return blockReply(body, num, num == 3, 0) }, lwm2m.ErrMalformed},
		{"without block, goes on", part, func(uint32) message.Message {
			return message.Message{Code: codes.Content, Payload: body[2048:3072], Options: message.Options{{ID: message.ETag, Value: []byte("tag")}}}
		}, lwm2m.ErrChanged},
		{"another size, goes on", part, func(num uint32) message.Message { return blockReply(body, num, num == 4, 5<<10+1) }, lwm2m.ErrChanged},
		{"2.03", lwm2m.FetchConfig{}, func(uint32) message.Message { return message.Message{Code: codes.Valid} }, lwm2m.ErrMalformed},
		{"longer than announced", lwm2m.FetchConfig{}, func(num uint32) message.Message { return blockReply(body, num, num == 4, 4<<10) }, lwm2m.ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				conn, err := w.net.Listen("10.0.0.9:5683")
				require.NoError(t, err)
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					serveBlocks(conn, test.answer)
				}()
				config := test.config
				config.Listen = fetchConfig(w).Listen
				var got bytes.Buffer
				got.Write(body[:config.Offset])
				result, err := lwm2m.Fetch(t.Context(), "coap://10.0.0.9/fw", &got, config)
				require.ErrorIs(t, err, test.want)
				require.True(t, bytes.HasPrefix(body, got.Bytes()))
				require.EqualValues(t, got.Len(), config.Offset+result.Written)
				require.Equal(t, test.want == nil, got.Len() == len(body))
				conn.Close()
				<-ended
			})
		})
	}
	for _, wrong := range []lwm2m.FetchConfig{{Size: -1}, {Offset: 5, Size: 4, ETag: []byte("tag")}} {
		_, err := lwm2m.Fetch(t.Context(), "coap://127.0.0.1:1/fw", &bytes.Buffer{}, wrong)
		require.ErrorIs(t, err, lwm2m.ErrBadRequest)
	}
}

// blockOption gives m another Block2.
func blockOption(m message.Message, v uint32) message.Message {
	m.Options = m.Options.Set(message.Option{ID: message.Block2, Value: []byte{byte(v >> 8), byte(v)}})
	return m
}
