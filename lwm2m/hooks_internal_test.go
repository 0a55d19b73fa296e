package lwm2m

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestHandshakesThatFail: the server reports failed handshakes, up to the bound while a function is
// slow, and none after stop.
func TestHandshakesThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := MustServer(ServerConfig{})
		addr, err := netip.MustParseAddrPort("10.0.0.2:1"), errors.New("who?")
		s.handshakeFailed(coap.DTLS, addr, "", err) // there is no function yet
		hold, count := make(chan struct{}), 0
		stop := s.OnHandshakeFailed(func(a netip.AddrPort, e error) {
			require.Equal(t, addr, a)
			require.Equal(t, err, e)
			count++
			<-hold
			panic("and goes on")
		})
		for range 2 * maxHandshakes {
			s.handshakeFailed(coap.DTLS, addr, "", err)
		}
		synctest.Wait()
		require.Equal(t, 1, count)
		close(hold)
		synctest.Wait()
		require.Equal(t, maxHandshakes, count)
		s.handshakeFailed(coap.DTLS, addr, "", err)
		synctest.Wait()
		require.Equal(t, maxHandshakes+1, count)
		stop()
		s.handshakeFailed(coap.DTLS, addr, "", err)
		synctest.Wait()
		require.Equal(t, maxHandshakes+1, count)
	})
}

// TestLimitOfTooLarge: a 4.13 carries the size that the device accepts.
func TestLimitOfTooLarge(t *testing.T) {
	for _, test := range []struct {
		code        coap.Code
		limit, want int64
	}{
		{coap.RequestEntityTooLarge, 5000, 5000}, {coap.RequestEntityTooLarge, -1, 0}, {coap.BadRequest, 5000, 0},
	} {
		err := responseError(&coap.Response{Code: test.code, Limit: test.limit}, NewPath(5, 0, 0))
		var re *ResponseError
		require.ErrorAs(t, err, &re)
		require.Equal(t, test.want, re.Limit)
	}
}
