package interop_test

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/net/blockwise"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/peers"
)

// go-coap's client never repeats a block after the first. Its transfer fails; our server drops the
// blocks that arrived, and accepts the next attempt.
func TestGoCoAPGivesUpOnLostBlock(t *testing.T) {
	peers.Mark(t, "go-coap", "client", "coap", "PUT again after one that it gave up")
	aborted, whole := make(chan error, 1), make(chan []byte, 1)
	e := coap.New(coap.Config{
		UploadIdle: time.Second,
		Sinks:      func(*coap.IncomingRequest) (coap.Sink, *coap.Response) { return &sink{aborted: aborted}, nil },
		Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
			whole <- r.Sink.(*sink).Bytes()
			return &coap.Response{Code: coap.Changed}
		}),
	})
	_, at := startLossy(t, serveEndpoint(t, e), func(up bool, n int) bool { return up && n == 6 })
	body := bodyOf(20_000)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := dialGoCoAP(t, at, blockwise.SZX1024).Put(ctx, "/r1", message.AppOctets, bytes.NewReader(body))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, <-aborted, coap.ErrTimeout)

	putGoCoAP(t, at, "r1", body, 1024)
	require.True(t, bytes.Equal(body, <-whole))
}

// sink stores a body.
type sink struct {
	bytes.Buffer
	aborted chan error
}

func (s *sink) Abort(err error) { s.aborted <- err }

// go-coap's server requests smaller blocks than ours.
func TestGoCoAPServerAsksForSmallerBlocks(t *testing.T) {
	peers.Mark(t, "go-coap", "server", "coap", "blocks smaller than asked for")
	for _, szx := range []blockwise.SZX{blockwise.SZX16, blockwise.SZX256} {
		e, to := dial(t, serveGoCoAPAt(t, "127.0.0.1:0", szx), coap.Config{})
		body := bodyOf(5000)
		put(t, e, to, &coap.Request{Path: []string{"r1"}, Payload: body})
		require.True(t, bytes.Equal(body, get(t, e, to, &coap.Request{Path: []string{"r1"}})))
	}
}

// go-coap's server answers an unknown notification with 4.04 instead of a Reset: in the
// acknowledgement, or in a confirmable message. That must end the observation, too.
func TestGoCoAPForgetsObservation(t *testing.T) {
	peers.Mark(t, "go-coap", "client", "coap", "observation that it has forgotten")
	for name, confirmable := range map[string]bool{"CON": true, "NON": false} {
		t.Run(name, func(t *testing.T) {
			observers := make(chan *coap.Observer, 1)
			at := serveEndpoint(t, coap.New(coap.Config{Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
				if o := r.Accept(); o != nil {
					observers <- o
				}
				return &coap.Response{Code: coap.Content, Payload: []byte("text")}
			})}))
			conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
			require.NoError(t, err)
			local := conn.LocalAddr().String()
			_, err = conn.Write([]byte{0x41, 1, 0, 1, 7, 0x60}) // GET, Observe: 0
			require.NoError(t, err)
			o := <-observers
			_, err = conn.Read(make([]byte, 100))
			require.NoError(t, err)
			require.NoError(t, conn.Close())

			serveGoCoAPAt(t, local, blockwise.SZX1024) // the device has restarted
			o.Notify(&coap.Response{Code: coap.Content, Payload: []byte("more")}, confirmable)
			select {
			case <-o.Done():
			case <-time.After(15 * time.Second): // a lost confirmable notification takes 60 s
				t.Fatal("goes on notifying")
			}
		})
	}
}
