package interop_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/peers"
)

// hasty has short retransmission times, so that losses cost us little time.
var hasty = coap.Transmission{ACKTimeout: 20 * time.Millisecond, MaxRetransmit: 8}

// Our client pushes to and pulls from foreign servers through a network that loses datagrams in
// both directions. go-coap's server does not retransmit; it answers repeated requests.
func TestLossToServersOfOthers(t *testing.T) {
	for _, p := range others {
		for nth, size := range map[int]int{3: 20_000, 10: 200_000} {
			t.Run(p.name, func(t *testing.T) {
				peers.Mark(t, p.name, "server", "coap", "block-wise PUT and GET, datagrams lost")
				t.Parallel()
				proxy, at := startLossy(t, p.serve(t), everyNth(nth))
				e, to := dial(t, at, coap.Config{MaxBody: 1 << 20, Transmission: hasty})
				body := bodyOf(size)
				put(t, e, to, &coap.Request{Path: []string{"r1"}, Payload: body})
				require.True(t, bytes.Equal(body, get(t, e, to, &coap.Request{Path: []string{"r1"}})))
				require.Greater(t, proxy.losses(), 2*size/1024/nth)
			})
		}
	}
}

// Foreign clients push to our server and pull from it through such a network. They wait 2 to 3 s
// for each loss. go-coap's client, which repeats only the first block, has a test of its own.
func TestLossFromClientsOfOthers(t *testing.T) {
	for _, p := range others {
		if p.name == "go-coap" {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			peers.Mark(t, p.name, "client", "coap", "block-wise PUT and GET, datagrams lost")
			t.Parallel()
			at, _ := serve(t, coap.Config{MaxBody: 1 << 20})
			proxy, at := startLossy(t, at, everyNth(6))
			body := bodyOf(6_000)
			p.put(t, at, "r1", body, 1024)
			require.True(t, bytes.Equal(body, p.get(t, at, "r1", 1024)))
			require.GreaterOrEqual(t, proxy.losses(), 2)
		})
	}
}
