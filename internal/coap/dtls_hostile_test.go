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
// its own, the server does too, though the handshake is over for it. It does so
// once for a flight, in however many datagrams that comes, and with new record
// numbers.
func TestLostLastFlight(t *testing.T) {
	certs := newCertificates(t)
	both := pskOf(testIdentity, testKey)
	both.Certificate, both.ClientCAs = &certs.server, certs.roots
	for name, secure := range map[string]coap.DTLSConfig{
		"PSK":                       pskClient(),
		"PSK without Connection ID": {Identity: []byte(testIdentity), Key: testKey, NoConnectionID: true},
		"certificates":              {Certificate: &certs.device, RootCAs: certs.roots, ServerName: "server"},
		"PSK, the same records":     pskClient(), // there are clients that count no further
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for repetitions
			server := serveDTLS(t, coap.Config{}, both)
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			require.NoError(t, err)
			lost := &lossy{PacketConn: conn, lose: 2}
			var finished []byte // the client's first
			split := tamper{struct{ net.PacketConn }{lost}, func(b []byte) (records [][]byte) {
				for len(b) > 13 {
					end := len(b)
					if b[0] != 25 {
						end = 13 + int(binary.BigEndian.Uint16(b[11:]))
					}
					record := b[:end]
					b = b[end:]
					if record[4] == 1 && finished == nil {
						finished = record
					}
					if record[4] == 1 && lost.lost() && name == "PSK, the same records" {
						record = finished
					}
					records = append(records, record)
				}
				return records
			}}
			client := coap.New(coap.Config{})
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			peer, err := client.DialDTLS(ctx, split, server.addr, secure)
			require.NoError(t, err)
			_, err = client.Do(t.Context(), peer, &coap.Request{Code: coap.GET})
			require.NoError(t, err)
			lost.mu.Lock()
			defer lost.mu.Unlock()
			require.Len(t, lost.flights, 3, "two were lost, and one arrived")
			numbers := make(map[[2]uint64]bool)
			for _, b := range lost.flights {
				require.Len(t, b, len(lost.flights[0]))
				for _, at := range []int{3, 14 + 3} { // ChangeCipherSpec, then Finished
					number := [2]uint64{uint64(at), binary.BigEndian.Uint64(b[at:])}
					require.False(t, numbers[number], "record number %v again", number)
					numbers[number] = true
				}
			}
		})
	}
}

// lossy loses the first datagrams that begin with a ChangeCipherSpec.
type lossy struct {
	net.PacketConn
	lose    int
	mu      sync.Mutex
	flights [][]byte
}

// lost reports whether no last flight has arrived yet.
func (l *lossy) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flights) <= l.lose
}

func (l *lossy) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := l.PacketConn.ReadFrom(b)
	if err != nil || n == 0 || b[0] != 20 {
		return n, addr, err
	}
	l.mu.Lock()
	l.flights = append(l.flights, bytes.Clone(b[:n]))
	lost := len(l.flights) <= l.lose
	l.mu.Unlock()
	if lost {
		return l.ReadFrom(b)
	}
	return n, addr, nil
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
