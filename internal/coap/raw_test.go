package coap_test

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// raw is a peer that sends and checks single datagrams, with go-coap's codec.
type raw struct {
	t    *testing.T
	conn *simnet.Conn
	to   net.Addr

	spoofed uint32 // number of addresses used
}

// inRaw runs f with a serving endpoint and a raw peer.
func inRaw(t *testing.T, config coap.Config, f func(t *testing.T, e *coap.Endpoint, r *raw)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		conn, err := network.Listen(serverAddr.String())
		require.NoError(t, err)
		peer, err := network.Listen(deviceHost.String() + ":1000")
		require.NoError(t, err)
		e := coap.New(config)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { e.ServePacket(ctx, conn) })
		synctest.Wait()
		defer func() {
			cancel()
			group.Wait()
			e.Close()
			peer.Close()
		}()
		f(t, e, &raw{t: t, conn: peer, to: net.UDPAddrFromAddrPort(serverAddr)})
	})
}

// peer returns the endpoint's Peer for r.
func (r *raw) peer() coap.Peer {
	return coap.Peer{Transport: coap.UDP, Addr: r.conn.AddrPort(), ID: uint64(serverAddr.Port())}
}

func (r *raw) sendBytes(b []byte) {
	r.t.Helper()
	_, err := r.conn.WriteTo(b, r.to)
	require.NoError(r.t, err)
}

func (r *raw) send(m message.Message) {
	r.t.Helper()
	buf := make([]byte, 2000)
	n, err := coder.DefaultCoder.Encode(m, buf)
	require.NoError(r.t, err)
	r.sendBytes(buf[:n])
}

// receiveWithin returns the next message that arrives within d.
func (r *raw) receiveWithin(d time.Duration) (message.Message, bool) {
	r.t.Helper()
	require.NoError(r.t, r.conn.SetReadDeadline(time.Now().Add(d)))
	buf := make([]byte, 2000)
	n, _, err := r.conn.ReadFrom(buf)
	if err != nil {
		require.ErrorIs(r.t, err, os.ErrDeadlineExceeded)
		return message.Message{}, false
	}
	m := message.Message{Options: make(message.Options, 0, 32)}
	_, err = coder.DefaultCoder.Decode(buf[:n], &m)
	require.NoError(r.t, err)
	return m, true
}

func (r *raw) receive() message.Message {
	r.t.Helper()
	m, ok := r.receiveWithin(time.Second / 2)
	require.True(r.t, ok, "no answer")
	return m
}

// answerTo skips messages until the one with an id.
func (r *raw) answerTo(mid int32) message.Message {
	r.t.Helper()
	for {
		if m := r.receive(); m.MessageID == mid {
			return m
		}
	}
}

func (r *raw) silence(d time.Duration) {
	r.t.Helper()
	m, ok := r.receiveWithin(d)
	require.False(r.t, ok, "unexpected: %v", m)
}

// request makes a request with a path.
func request(typ message.Type, code codes.Code, mid int32, path string, opts ...message.Option) message.Message {
	m := message.Message{Type: typ, Code: code, MessageID: mid, Token: message.Token{byte(mid), 0x55}}
	m.Options = append(m.Options, message.Option{ID: message.URIPath, Value: []byte(path)})
	for _, o := range opts {
		m.Options = m.Options.Add(o)
	}
	return m
}

func option(id message.OptionID, value ...byte) message.Option {
	return message.Option{ID: id, Value: value}
}
