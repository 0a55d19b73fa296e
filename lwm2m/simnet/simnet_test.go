package simnet_test

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m/simnet"
)

var (
	hostA = netip.MustParseAddr("10.0.0.1")
	hostB = netip.MustParseAddr("10.0.0.2")
)

func pair(t *testing.T, n *simnet.Network) (a, b *simnet.Conn) {
	t.Helper()
	a, err := n.Listen("10.0.0.1:5683")
	require.NoError(t, err)
	b, err = n.Listen("10.0.0.2:0")
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// receive returns what arrives within a minute.
func receive(t *testing.T, c *simnet.Conn) []string {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	var got []string
	buf := make([]byte, 100)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return got
		}
		got = append(got, string(buf[:n]))
	}
}

func send(t *testing.T, from, to *simnet.Conn, n int) (sent []string) {
	t.Helper()
	for i := range n {
		s := string(rune('a' + i%26))
		sent = append(sent, s)
		_, err := from.WriteTo([]byte(s), net.UDPAddrFromAddrPort(to.Outside()))
		require.NoError(t, err)
	}
	return sent
}

func TestPerfectLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, simnet.New(1))
		sent := send(t, a, b, 100)
		require.Equal(t, sent, receive(t, b))
	})
}

func TestDelayKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		n.SetDefault(simnet.Conditions{Delay: 40 * time.Millisecond})
		a, b := pair(t, n)
		start := time.Now()
		sent := send(t, a, b, 100)
		buf := make([]byte, 10)
		_, from, err := b.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, "10.0.0.1:5683", from.String())
		require.Equal(t, 40*time.Millisecond, time.Since(start))
		require.Equal(t, sent[1:], receive(t, b))
	})
}

func TestChancesFollowTheSeed(t *testing.T) {
	run := func(t *testing.T, seed uint64) (got []string) {
		synctest.Test(t, func(t *testing.T) {
			n := simnet.New(seed)
			n.SetLink(hostA, hostB, simnet.Conditions{Loss: 0.2, Duplicate: 0.1, Reorder: 0.1, Jitter: time.Millisecond})
			a, b := pair(t, n)
			sent := send(t, a, b, 1000)
			back := send(t, b, a, 10)
			got = receive(t, b)
			require.NotEqual(t, sent, got)
			require.InDelta(t, 800*1.1, len(got), 100)
			require.Equal(t, back, receive(t, a), "the other direction is perfect")
		})
		return got
	}
	first := run(t, 7)
	require.Equal(t, first, run(t, 7))
	require.NotEqual(t, first, run(t, 8))
}

func TestDropAndTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		n.SetDefault(simnet.Conditions{Drop: func(p simnet.Packet) bool { return p.Seq == 1 }})
		var lost []bool
		n.Tap(func(p simnet.Packet) { lost = append(lost, p.Lost) })
		a, b := pair(t, n)
		send(t, a, b, 3)
		require.Equal(t, []string{"a", "c"}, receive(t, b))
		require.Equal(t, []bool{false, true, false}, lost)
	})
}

func TestPartitionAndRebind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := pair(t, n)
		n.Partition(hostA, hostB, true)
		send(t, a, b, 1)
		n.Partition(hostA, hostB, false)
		require.Empty(t, receive(t, b))

		old := net.UDPAddrFromAddrPort(b.Outside())
		b.Rebind(netip.MustParseAddrPort("10.9.9.9:1000"))
		_, err := a.WriteTo([]byte("lost"), old)
		require.NoError(t, err)
		send(t, a, b, 1)
		require.Equal(t, []string{"a"}, receive(t, b))
		send(t, b, a, 1)
		_, from, err := a.ReadFrom(make([]byte, 10))
		require.NoError(t, err)
		require.Equal(t, "10.9.9.9:1000", from.String())
	})
}

func TestCloseEndsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, err := n.Listen("10.0.0.1:5683")
		require.NoError(t, err)
		_, err = n.Listen("10.0.0.1:5683")
		require.Error(t, err)
		done := make(chan error)
		go func() {
			_, _, err := a.ReadFrom(make([]byte, 10))
			done <- err
		}()
		synctest.Wait()
		require.NoError(t, a.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
		_, err = n.Listen("10.0.0.1:5683")
		require.NoError(t, err)
	})
}
