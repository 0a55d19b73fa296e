package udp

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// crowd are n sockets at addresses of their own.
func crowd(t *testing.T, network, host string, n int) []*net.UDPConn {
	var all []*net.UDPConn
	for range n {
		conn, err := net.ListenUDP(network, &net.UDPAddr{IP: net.ParseIP(host)})
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		all = append(all, conn)
	}
	return all
}

// TestBatches has many datagrams arrive before the socket is read, each from an address of its own.
// Each must come to the handler with its source and content, and each answer to its sender, from
// the address that the sender used.
func TestBatches(t *testing.T) {
	for name, c := range map[string]struct{ network, bind, to, from string }{
		"IPv4":                   {"udp4", "127.0.0.1:0", "127.0.0.1", "127.0.0.2"},
		"IPv6":                   {"udp6", "[::1]:0", "::1", "::1"},
		"wildcard":               {"udp4", "0.0.0.0:0", "127.0.0.5", "127.0.0.2"},
		"IPv4 to a wildcard":     {"udp", ":0", "127.0.0.5", "127.0.0.2"},
		"IPv6 to a wildcard":     {"udp", ":0", "::1", "::1"},
		"IPv4 to an IPv6 socket": {"udp", "[::ffff:127.0.0.1]:0", "127.0.0.1", "127.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 100
			socket, err := net.ListenPacket(c.network, c.bind)
			require.NoError(t, err)
			Enlarge(socket, 1<<20)
			conn := New(socket)
			at := netip.AddrPortFrom(netip.MustParseAddr(c.to), conn.Addr().Port())
			peers := crowd(t, "udp", c.from, n)
			for i, p := range peers {
				_, err := p.WriteToUDPAddrPort([]byte("question "+strconv.Itoa(i)), at)
				require.NoError(t, err)
			}
			var bufs [MaxBatch][64]byte
			var mu sync.Mutex
			largest := 0
			var served sync.WaitGroup
			served.Go(func() {
				err = conn.Serve(netip.AddrPort{}, func(i int) []byte { return bufs[i][:] }, func(i, n int, from netip.AddrPort, local *Local) {
					answer := append([]byte("answer to "), bufs[i][:n]...)
					mu.Lock()
					largest = max(largest, i)
					mu.Unlock()
					if i%2 == 0 { // some answer at once, some from another goroutine
						_ = conn.WriteTo(answer, from, local)
					} else {
						go conn.WriteTo(answer, from, local) //nolint:errcheck // a lost answer fails the test
					}
				})
			})
			for i, p := range peers {
				var b [64]byte
				require.NoError(t, p.SetReadDeadline(time.Now().Add(20*time.Second)))
				n, from, err := p.ReadFromUDPAddrPort(b[:])
				require.NoError(t, err)
				require.Equal(t, "answer to question "+strconv.Itoa(i), string(b[:n]))
				require.Equal(t, at, Unmap(from))
			}
			conn.Close()
			served.Wait()
			require.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			require.Greater(t, largest, minWant, "the datagrams were read one by one")
		})
	}
}

// TestCloseSendsAll checks that Close loses no datagram that WriteTo has accepted, and that more
// than fits into one batch, or into its memory, gets through.
func TestCloseSendsAll(t *testing.T) {
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	conn := New(socket)
	peer := crowd(t, "udp4", "127.0.0.1", 1)[0]
	Enlarge(peer, 1<<20)
	to, _ := AddrPort(peer.LocalAddr())
	conn.batch.setBusy()
	sizes := []int{20_000, 20_000, 1100, 0, 3}
	for range 20 {
		sizes = append(sizes, 1100)
	}
	want := make(map[int]int)
	for _, n := range sizes {
		want[n]++
		require.NoError(t, conn.WriteTo(make([]byte, n), to, nil))
	}
	conn.Close()
	got := make(map[int]int)
	for range sizes {
		b := make([]byte, 1<<16)
		require.NoError(t, peer.SetReadDeadline(time.Now().Add(20*time.Second)))
		n, err := peer.Read(b)
		require.NoError(t, err)
		got[n]++
	}
	require.Equal(t, want, got)
	require.Error(t, conn.WriteTo([]byte("late"), to, nil))
}

// TestEnlarge checks that Enlarge never makes a buffer smaller, and returns what the system gave.
func TestEnlarge(t *testing.T) {
	socket := crowd(t, "udp4", "127.0.0.1", 1)[0]
	before, _, known := buffersOf(socket)
	require.True(t, known)
	require.Equal(t, before, Enlarge(socket, 1))
	require.Greater(t, Enlarge(socket, before+4096), 0)
	most := Enlarge(socket, 1<<30) // more than a system allows
	require.Less(t, most, 1<<30)
	require.GreaterOrEqual(t, most, before)
	after, send, _ := buffersOf(socket)
	require.Equal(t, most, after)
	require.Positive(t, send)
}
