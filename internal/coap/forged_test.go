package coap_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// forge sends m from a forged address, that of from, with every message id, one after the other and
// repeatedly: all of them in 6 s.
func forge(t *testing.T, from *simnet.Conn, to netip.AddrPort, m message.Message) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		buf := make([]byte, 100)
		for mid := int32(0); ; {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return
			}
			for range 110 {
				mid = (mid + 1) & 0xffff
				m.MessageID = mid
				if n, err := coder.DefaultCoder.Encode(m, buf); err == nil {
					_, _ = from.WriteTo(buf[:n], net.UDPAddrFromAddrPort(to))
				}
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// TestForgedAnswers has an attacker who knows both addresses but sees no datagram, and who answers
// whatever the server may send to a device over UDP. A push must succeed, a separate response must
// arrive, and an observation must continue.
func TestForgedAnswers(t *testing.T) {
	for name, forged := range map[string]message.Message{
		"Resets":                 {Type: rst, Code: codes.Empty},
		"acknowledgements":       {Type: ack, Code: codes.Empty},
		"refusals, acknowledged": {Type: ack, Code: codes.NotFound, Token: message.Token{9}},
		"refusals":               {Type: non, Code: codes.NotFound, Token: message.Token{9, 9, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			peers := make(chan coap.Peer, 1)
			observers := make(chan *coap.Observer, 1)
			server := coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				switch r.Path() {
				case "/slow":
					pass(3 * time.Second)
				case "/observed":
					observers <- r.Accept()
				default:
					peers <- r.Peer
				}
				return &coap.Response{Code: coap.Content}
			})}
			body := bodyOf(40 << 10)
			device := coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				if !bytes.Equal(r.Payload, body) {
					return &coap.Response{Code: coap.BadRequest}
				}
				return &coap.Response{Code: coap.Changed}
			})}
			inWorld(t, server, device, func(t *testing.T, w *world) {
				w.net.SetDefault(simnet.Conditions{Delay: 50 * time.Millisecond})
				// Datagrams to the device are sometimes lost, so that the server retransmits.
				w.net.SetLink(serverHost, deviceHost, simnet.Conditions{Delay: 50 * time.Millisecond, Loss: 0.1})
				_, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.POST})
				require.NoError(t, err)
				notified := 0
				o, _, err := w.device.Observe(t.Context(), w.toServer, &coap.Request{Code: coap.GET, Path: []string{"observed"}},
					func(*coap.Response) { notified++ })
				require.NoError(t, err)
				require.NotNil(t, o)
				observer := <-observers

				stop := forge(t, w.conn, serverAddr, forged)
				defer stop()
				for range 20 {
					observer.Notify(&coap.Response{Code: coap.Content}, false)
					pass(500 * time.Millisecond)
				}
				require.False(t, isDone(observer))
				resp, err := w.server.Do(t.Context(), <-peers, &coap.Request{Code: coap.PUT, Payload: body, BlockSize: 512})
				require.NoError(t, err)
				require.Equal(t, coap.Changed, resp.Code)
				for range 5 {
					_, err = w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.POST, Path: []string{"slow"}})
					require.NoError(t, err)
				}
				for range 5 {
					observer.Notify(&coap.Response{Code: coap.Content}, true)
					pass(3 * time.Second)
				}
				require.False(t, isDone(observer))
				synctest.Wait()
				require.Greater(t, notified, 15)
			})
		})
	}
}

// TestResetAfterAFlood checks that the endpoint believes a peer again some time after a flood of
// forged answers.
func TestResetAfterAFlood(t *testing.T) {
	config := coap.Config{Transmission: coap.Transmission{Jitter: func() float64 { return 0.5 }}}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		reset := func() time.Duration {
			start := time.Now()
			failed := make(chan error, 1)
			go func() {
				_, err := e.Do(t.Context(), r.peer(), &coap.Request{Code: coap.GET, Stall: -1})
				failed <- err
			}()
			for {
				m, ok := r.receiveWithin(time.Minute)
				if !ok {
					break
				}
				r.send(message.Message{Type: rst, Code: codes.Empty, MessageID: m.MessageID})
			}
			require.ErrorIs(t, <-failed, coap.ErrReset)
			return time.Since(start) - time.Minute
		}
		require.Zero(t, reset())
		stop := forge(t, r.conn, serverAddr, message.Message{Type: rst, Code: codes.Empty})
		pass(10 * time.Second)
		stop()
		require.Greater(t, reset(), 5*time.Second, "it is not believed yet")
		pass(time.Minute)
		require.Zero(t, reset())
	})
}
