package backend

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReachable(t *testing.T) {
	for _, tt := range []struct{ bound, used, want string }{
		{"127.0.0.1:8081", "127.0.0.1", "127.0.0.1:8081"},
		{"127.0.0.1:8081", "192.0.2.1", ""}, // the device is on another machine
		{"127.0.0.1:8081", "", "127.0.0.1:8081"},
		{"0.0.0.0:8081", "192.0.2.1", "192.0.2.1:8081"},
		{"[::]:8081", "192.0.2.1", "192.0.2.1:8081"},
		{"[::]:8081", "::ffff:192.0.2.1", "192.0.2.1:8081"},
		{"[::]:8081", "2001:db8::1", "[2001:db8::1]:8081"},
		{"[::]:8081", "fe80::1%eth0", "[fe80::1]:8081"}, // the zone is valid on this host only
		{"[::]:8081", "", "127.0.0.1:8081"},             // no device has used an address yet
		{"192.0.2.9:8081", "192.0.2.1", "192.0.2.9:8081"},
	} {
		bound := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.bound))
		var used netip.Addr
		if tt.used != "" {
			used = netip.MustParseAddr(tt.used)
		}
		require.Equal(t, tt.want, reachable(bound, used), "%s %s", tt.bound, tt.used)
	}
}

func TestIsLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "192.0.2.1:1": false, "localhost.example:1": false, "127.0.0.1": false,
	} {
		require.Equal(t, want, IsLoopback(address), address)
	}
}
