package lwm2m

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRefusalsBounds: however many names a host claims, its refusals push out only its own while it
// has its share of the list, and the list and its texts are bounded.
func TestRefusalsBounds(t *testing.T) {
	var l refusals
	note := func(host int, endpoint string) {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(host >> 8), byte(host)}), 5683)
		l.note(Refusal{What: "registration", Endpoint: endpoint, Address: at}, errors.New(strings.Repeat("ä", maxReason)), time.Now())
	}
	note(1, "honest")
	for i := range 10 * maxRefusals {
		note(2, fmt.Sprintf("loud-%d", i))
	}
	list := l.latest()
	require.Len(t, list, maxHostRefusals+1)
	require.Equal(t, "honest", list[maxHostRefusals].Endpoint)
	require.Equal(t, fmt.Sprintf("loud-%d", 10*maxRefusals-1), list[0].Endpoint)
	require.LessOrEqual(t, len(list[0].Reason), maxReason+3)
	for i := range 2 * maxRefusals {
		note(100+i, fmt.Sprintf("other-%d", i))
	}
	list = l.latest()
	require.Len(t, list, maxRefusals)
	require.Equal(t, "other-256", list[maxRefusals-1].Endpoint, "the earliest one goes first")

	long := strings.Repeat("n", 60_000)
	l.note(Refusal{Endpoint: long, Identity: Identity{IdentityPSK, long}}, errors.New(long), time.Now())
	require.Len(t, l.latest()[0].Endpoint, maxEndpoint)
	require.Len(t, l.latest()[0].Identity.Name, maxIdentity)
	require.Len(t, l.latest()[0].Reason, maxReason)

	// A handshake without an identity is known by its host and the reason.
	for _, port := range []uint16{1, 2} {
		l.note(Refusal{What: "handshake", Address: netip.AddrPortFrom(netip.MustParseAddr("10.9.9.9"), port)}, errors.New("alert"), time.Now())
	}
	require.EqualValues(t, 2, l.latest()[0].Count)
	require.EqualValues(t, 2, l.latest()[0].Address.Port())
}
