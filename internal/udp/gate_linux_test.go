package udp

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGate: nothing leaves while the gate is closed, neither at once nor with others.
func TestGate(t *testing.T) {
	for name, busy := range map[string]bool{"at once": false, "with others": true} {
		t.Run(name, func(t *testing.T) {
			peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			require.NoError(t, err)
			defer peer.Close()
			socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			require.NoError(t, err)
			c := New(socket)
			var open atomic.Bool
			c.SetGate(open.Load)
			to := peer.LocalAddr().(*net.UDPAddr).AddrPort()
			to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
			if busy && c.batch != nil {
				c.batch.setBusy()
			}
			send := func(b string) {
				require.NoError(t, c.WriteTo([]byte(b), to, nil))
			}
			send("a")
			open.Store(true)
			send("b")
			open.Store(false)
			if c.batch != nil {
				c.batch.rest() // b was accepted, and has not left
			}
			open.Store(true)
			send("c")
			require.NoError(t, peer.SetReadDeadline(time.Now().Add(20*time.Second)))
			buffer := make([]byte, 9)
			n, err := peer.Read(buffer)
			require.NoError(t, err)
			got := string(buffer[:n])
			if !busy || c.batch == nil {
				require.Equal(t, "b", got)
				n, err = peer.Read(buffer)
				require.NoError(t, err)
				got = string(buffer[:n])
			}
			require.Equal(t, "c", got)
			c.Close()
		})
	}
}
