package coap_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestWildcardAnswersFromTheAddressAsked uses a socket on the wildcard address at several local
// addresses, with clients that accept answers from the requested address only: answers, separate
// responses, Resets, and all of DTLS.
func TestWildcardAnswersFromTheAddressAsked(t *testing.T) {
	for _, wildcard := range []string{"0.0.0.0:0", ":0"} {
		acknowledged := make(chan struct{})
		server := coap.New(coap.Config{AckDelay: 20 * time.Millisecond, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			if r.Path() == "/slow" {
				<-acknowledged
			}
			return &coap.Response{Code: coap.Content, Payload: []byte(r.LocalAddr().String())}
		})})
		at := serveUDP(t, server, wildcard, coap.ListenConfig{})
		for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.77.0.9"} {
			to := netip.AddrPortFrom(netip.MustParseAddr(host), at.Port())
			conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, net.UDPAddrFromAddrPort(to))
			require.NoError(t, err)
			defer conn.Close()
			send := func(m message.Message) {
				b := make([]byte, 1500)
				n, err := coder.DefaultCoder.Encode(m, b)
				require.NoError(t, err)
				_, err = conn.Write(b[:n])
				require.NoError(t, err)
			}
			receive := func() (answer message.Message) {
				b := make([]byte, 1500)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
				n, err := conn.Read(b)
				require.NoError(t, err, "no answer from %v", to)
				answer.Options = make(message.Options, 0, 8)
				_, err = coder.DefaultCoder.Decode(b[:n], &answer)
				require.NoError(t, err)
				return answer
			}
			ask := func(m message.Message) message.Message {
				send(m)
				return receive()
			}
			separate := func() string {
				answer := receive()
				send(message.Message{Type: ack, Code: codes.Empty, MessageID: answer.MessageID})
				return string(answer.Payload)
			}
			get := func(m message.Message) string {
				answer := ask(m)
				if answer.Code == codes.Empty { // a busy machine took longer than AckDelay
					return separate()
				}
				return string(answer.Payload)
			}
			require.Equal(t, rst, ask(message.Message{Type: con, Code: codes.Empty, MessageID: 1}).Type, "a stranger's ping")
			require.Equal(t, to.String(), get(request(con, codes.GET, 2, "x")))
			require.Equal(t, codes.Empty, ask(request(con, codes.GET, 3, "slow")).Code)
			acknowledged <- struct{}{}
			require.Equal(t, to.String(), separate())
			require.Equal(t, to.String(), string(ask(request(non, codes.GET, 4, "x")).Payload))
		}
	}
	conn, err := net.ListenPacket("udp", ":0")
	require.NoError(t, err)
	secure := coap.New(coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Payload: []byte(r.LocalAddr().String())}
	})})
	go secure.ServeDTLS(t.Context(), conn, pskOf(testIdentity, testKey))
	t.Cleanup(func() { secure.Close() })
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	client, peer, err := dialDTLS(t, to, coap.Config{}, pskClient())
	require.NoError(t, err)
	resp, err := client.Do(limit(t), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
	require.Equal(t, to.String(), string(resp.Payload))
}

// TestWildcardWithManyAddresses answers from more addresses than the socket remembers.
func TestWildcardWithManyAddresses(t *testing.T) {
	server := coap.New(coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Payload: []byte(r.LocalAddr().String())}
	})})
	at := serveUDP(t, server, "0.0.0.0:0", coap.ListenConfig{})
	for i := range 300 {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), at.Port())
		device, peer := dial(t, to, coap.Config{})
		resp, err := device.Do(limit(t), peer, &coap.Request{Code: coap.GET})
		require.NoError(t, err)
		require.Equal(t, to.String(), string(resp.Payload))
		require.NoError(t, device.Close())
	}
}
