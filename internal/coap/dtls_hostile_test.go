package coap_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// tamper is a client's socket whose datagrams are changed on their way.
type tamper struct {
	net.PacketConn
	change func(b []byte) [][]byte // what is sent instead
}

func (c tamper) WriteTo(b []byte, to net.Addr) (int, error) {
	for _, p := range c.change(bytes.Clone(b)) {
		if _, err := c.PacketConn.WriteTo(p, to); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func dialTampered(t *testing.T, addr netip.AddrPort, secure coap.DTLSConfig, change func(b []byte) [][]byte) (*coap.Endpoint, coap.Peer, error) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	client := coap.New(coap.Config{Transmission: coap.Transmission{ACKTimeout: 100 * time.Millisecond}})
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Without the methods of a UDP socket, so that WriteTo is used.
	peer, err := client.DialDTLS(ctx, tamper{struct{ net.PacketConn }{conn}, change}, addr, secure)
	return client, peer, err
}

// TestOddRecordVersion lets in a client whose ClientHello is in a record of
// version 0xfe00, as some write it.
func TestOddRecordVersion(t *testing.T) {
	server := serveDTLS(t, coap.Config{}, pskOf(testIdentity, testKey))
	odd := 0
	client, peer, err := dialTampered(t, server.addr, pskClient(), func(b []byte) [][]byte {
		if b[0] == 22 && b[13] == 1 {
			b[1], b[2] = 0xfe, 0x00
			odd++
		}
		return [][]byte{b}
	})
	require.NoError(t, err)
	require.Positive(t, odd)
	_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
}

// TestHandshakeOverBadNetwork loses the first copy of each flight, and repeats
// and reorders the rest.
func TestHandshakeOverBadNetwork(t *testing.T) {
	certs := newCertificates(t)
	secure := coap.DTLSConfig{Certificate: &certs.server, ClientCAs: certs.roots}
	server := serveDTLS(t, coap.Config{}, secure)
	n := 0
	client, peer, err := dialTampered(t, server.addr, coap.DTLSConfig{Certificate: &certs.device, RootCAs: certs.roots, ServerName: "server"},
		func(b []byte) [][]byte {
			if n++; n%3 == 1 {
				return nil
			}
			return [][]byte{b, b}
		})
	require.NoError(t, err)
	_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
}

// TestLostLastFlight loses the server's last flight: when the client repeats
// its own, the server does too, though the handshake is over for it.
func TestLostLastFlight(t *testing.T) {
	server := serveDTLS(t, coap.Config{}, pskOf(testIdentity, testKey))
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	lost := &lossy{PacketConn: conn}
	client := coap.New(coap.Config{})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	peer, err := client.DialDTLS(ctx, lost, server.addr, pskClient())
	require.NoError(t, err)
	require.True(t, lost.lost)
	_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
}

// lossy loses the first ChangeCipherSpec that comes.
type lossy struct {
	net.PacketConn
	lost bool
}

func (l *lossy) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := l.PacketConn.ReadFrom(b)
	if err == nil && n > 0 && b[0] == 20 && !l.lost {
		l.lost = true
		return l.ReadFrom(b)
	}
	return n, addr, err
}

// TestReplays sends every record of a client twice, and some again much later:
// each counts once.
func TestReplays(t *testing.T) {
	var mu sync.Mutex
	count := 0
	server := serveDTLS(t, coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		mu.Lock()
		defer mu.Unlock()
		count++
		return &coap.Response{Code: coap.Changed}
	}), Bounds: coap.Bounds{DedupEntries: 1}}, pskOf(testIdentity, testKey))
	var old [][]byte
	client, peer, err := dialTampered(t, server.addr, pskClient(), func(b []byte) [][]byte {
		if b[0] != 23 && b[0] != 25 {
			return [][]byte{b}
		}
		old = append(old, b)
		out := [][]byte{b, bytes.Clone(b)}
		forged := bytes.Clone(b)
		forged[len(forged)-1] ^= 1
		return append(out, forged, bytes.Clone(old[0]))
	})
	require.NoError(t, err)
	const requests = 200
	for range requests {
		_, err := client.Do(t.Context(), peer, &coap.Request{Code: coap.POST, NonConfirmable: true})
		require.NoError(t, err)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, requests, count)
}

// TestCloseNotify ends the association on both sides, whoever leaves.
func TestCloseNotify(t *testing.T) {
	for _, leaves := range []string{"client", "server"} {
		t.Run(leaves, func(t *testing.T) {
			closed := make(chan coap.Peer, 2)
			seen := make(chan coap.Peer, 1)
			server := serveDTLS(t, coap.Config{OnClosed: func(p coap.Peer) { closed <- p }, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				seen <- r.Peer
				return &coap.Response{Code: coap.Changed}
			})}, pskOf(testIdentity, testKey))
			gone := make(chan coap.Peer, 2)
			client, peer, err := dialDTLS(t, server.addr, coap.Config{OnClosed: func(p coap.Peer) { gone <- p }}, pskClient())
			require.NoError(t, err)
			_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.POST})
			require.NoError(t, err)
			device := <-seen
			require.NotNil(t, server.Identity(device))
			if leaves == "client" {
				client.Hangup(peer)
			} else {
				server.stop()
			}
			require.Equal(t, device, <-closed)
			require.Equal(t, peer, <-gone)
			require.Nil(t, server.Identity(device))
			_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.POST})
			require.ErrorIs(t, err, coap.ErrNoPeer)
			require.Empty(t, closed)
			require.Empty(t, gone)
		})
	}
}

// TestGarbage sends all sorts of nonsense at an association's address, and at
// the server; it goes on.
func TestGarbage(t *testing.T) {
	conn := newSpoofed(t)
	server := coap.New(coap.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.ServeDTLS(ctx, conn, pskOf(testIdentity, testKey)) }()
	local, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	client := coap.New(coap.Config{})
	peer, err := client.DialDTLS(ctx, local, conn.LocalAddr().(*net.UDPAddr).AddrPort(), pskClient())
	require.NoError(t, err)
	alert := []byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40}
	for i := range 2000 {
		b := make([]byte, i%100)
		rand.Read(b)
		if len(b) > 13 {
			b[0] = byte(20 + i%6)
			binary.BigEndian.PutUint16(b[3:], uint16(i%3))
			binary.BigEndian.PutUint16(b[11:], uint16(len(b)-13))
		}
		if i%7 == 0 {
			b = alert // which anybody can send
		}
		conn.in <- forgery{b: b, from: local.LocalAddr()}
	}
	_, err = client.Do(ctx, peer, &coap.Request{Code: coap.GET})
	require.NoError(t, err)
	require.NoError(t, client.Close())
	cancel()
	require.NoError(t, <-served)
	require.NoError(t, server.Close())
}
