package door

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/files"
)

// caller is a connection from an address.
type caller struct {
	net.Conn
	addr   string
	closed bool
}

func (c *caller) Close() error { c.closed = true; return nil }
func (c *caller) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.addr))
}

// TestKeeper: a new connection replaces the one that has waited longest, of the same address if
// that has its share.
func TestKeeper(t *testing.T) {
	k := NewKeeper(4)
	come := func(addr string) *caller {
		c := &caller{addr: addr + ":1"}
		k.State(c, http.StateNew)
		return c
	}
	a, b, c := come("192.0.2.1"), come("192.0.2.1"), come("192.0.2.2")
	d := come("192.0.2.1")
	require.True(t, a.closed, "the first of the address, which has half")
	require.False(t, b.closed || c.closed || d.closed)
	k.State(b, http.StateActive)
	k.State(d, http.StateActive)
	e := come("192.0.2.1")
	require.True(t, e.closed, "the others of the address work")
	f := come("192.0.2.3")
	require.False(t, f.closed)
	g := come("192.0.2.4")
	require.False(t, g.closed)
	require.True(t, c.closed, "the one that has waited longest")
	k.State(b, http.StateIdle)
	k.State(f, http.StateActive)
	k.State(g, http.StateActive)
	h := come("192.0.2.5")
	require.True(t, b.closed, "that waits for its next request")
	k.State(h, http.StateActive)
	i := come("192.0.2.6")
	require.True(t, i.closed, "nobody waits")
	for _, c := range []*caller{a, b, c, d, e, f, g, h, i} {
		k.State(c, http.StateClosed)
	}
	require.Empty(t, k.all)
	require.Empty(t, k.from)
	require.Zero(t, k.waiting.Len())
	require.Zero(t, k.working.Len())

	for same, other := range map[string]string{"[2001:db8::1]:1": "[2001:db8::ffff]:2", "192.0.2.1:1": "[::ffff:192.0.2.1]:2"} {
		require.Equal(t, SourceOf(same), SourceOf(other))
	}
	require.NotEqual(t, SourceOf("[2001:db8:0:1::1]:1"), SourceOf("[2001:db8:0:2::1]:1"))
	require.NotEqual(t, SourceOf("192.0.2.1:1"), SourceOf("192.0.2.2:1"))
	require.Zero(t, SourceOf("@"))
	require.Zero(t, source(nil))
}

// TestKeeperShares: a few addresses, whatever they do, can neither keep out other addresses nor
// close their connections.
func TestKeeperShares(t *testing.T) {
	const total, addresses = 60, 20
	for _, states := range [][]http.ConnState{{}, {http.StateActive}, {http.StateActive, http.StateIdle}} {
		k := NewKeeper(total)
		come := func(addr string, states ...http.ConnState) *caller {
			c := &caller{addr: addr}
			for _, state := range append([]http.ConnState{http.StateNew}, states...) {
				k.State(c, state)
			}
			return c
		}
		flood := func() {
			for i := range 10 * total {
				come(fmt.Sprintf("192.0.2.%d:1", i%addresses), states...)
			}
		}
		flood()
		at := come("198.51.100.1:1")
		require.False(t, at.closed, "it has none yet")
		flood()
		require.False(t, at.closed, "the others have more")
		k.State(at, http.StateActive)
		flood()
		require.False(t, at.closed)
		k.State(at, http.StateIdle)
		flood()
		require.False(t, at.closed)
		k.State(at, http.StateActive)
		second := come("198.51.100.1:2")
		flood()
		require.False(t, at.closed || second.closed)
	}
}

// TestKeeperBounds checks the bounds with connections that change state at random.
func TestKeeperBounds(t *testing.T) {
	const total = 10
	k := NewKeeper(total)
	random := rand.New(rand.NewPCG(1, 2))
	var open []*caller
	for range 20_000 {
		if len(open) == 0 || random.IntN(3) == 0 {
			c := &caller{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(4))}), 1).String()}
			k.State(c, http.StateNew)
			open = append(open, c)
		} else {
			i := random.IntN(len(open))
			state := []http.ConnState{http.StateActive, http.StateIdle, http.StateClosed, http.StateHijacked}[random.IntN(4)]
			k.State(open[i], state)
			if state >= http.StateHijacked {
				open = append(open[:i], open[i+1:]...)
			}
		}
		sum := 0
		for _, n := range k.from {
			require.LessOrEqual(t, n, total/2)
			require.Positive(t, n)
			sum += n
		}
		for _, v := range k.all {
			require.False(t, v.conn.(*caller).closed)
		}
		require.Equal(t, len(k.all), sum)
		require.Equal(t, sum, k.waiting.Len()+k.working.Len())
		require.LessOrEqual(t, sum, total)
	}
	require.LessOrEqual(t, Room(), most)
	require.Greater(t, files.Limit(), Room())
}
